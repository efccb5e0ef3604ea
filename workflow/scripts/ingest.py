from penumbra.config.models import Dataset, Part
from penumbra.data.ingest import ingest
from penumbra.workflow.job import job

with job(snakemake):
    ingest(
        raw=snakemake.input.raw,
        cases_folder=snakemake.output.cases,
        cases_table=snakemake.output.table,
        faults_table=snakemake.params.faults,
        dataset=Dataset.model_validate(snakemake.params.dataset),
        adapter=Part.model_validate(snakemake.params.adapter),
        seed=snakemake.params.seed,
        name=snakemake.wildcards.dataset,
    )
