from penumbra.config.models import Dataset
from penumbra.metrics.evaluate import evaluate
from penumbra.workflow.job import job

with job(snakemake):
    evaluate(
        predictions=snakemake.input.predictions,
        threshold=snakemake.input.threshold,
        threshold_curve=snakemake.input.threshold_curve,
        hard_labels=snakemake.input.hard_labels,
        soft_labels=snakemake.input.soft_labels,
        cases_folder=snakemake.input.cases,
        split=snakemake.input.split,
        dataset=Dataset.model_validate(snakemake.params.dataset),
        dataset_name=snakemake.wildcards.dataset,
        candidate_name=snakemake.wildcards.candidate,
        split_index=int(snakemake.wildcards.split),
        out=snakemake.output[0],
    )
