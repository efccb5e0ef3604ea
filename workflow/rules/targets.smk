# The menu: `snakemake --list-target-rules` shows these and `all`, with their docstrings.


rule tables:
    """The tables alone."""
    input:
        [file for study in plan.settings.studies for file in plan.tables(study)],


rule figures:
    """The figures alone."""
    input:
        [file for study in plan.settings.studies for file in plan.figures(study)],


rule final:
    """A paper's final tables and figures: from a clean checkout alone, and verified down to the raw files."""
    input:
        plan.seals(),


rule metrics:
    """The metrics of all runs, one parquet file a data set; no table or figure."""
    input:
        [file for study in plan.settings.studies for file in plan.study_metrics(study)],


rule datasets:
    """Every chosen data set downloaded, checked and prepared; nothing is trained."""
    input:
        sorted(
            {
                plan.path(paths.PREPARED, dataset=dataset)
                for study in plan.settings.studies
                for dataset in plan.study_datasets(study)
            }
        ),


localrules:
    tables,
    figures,
    final,
    metrics,
    datasets,
