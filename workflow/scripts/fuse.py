from penumbra.config.models import Dataset
from penumbra.data.labels import fuse_dataset
from penumbra.workflow.job import job

with job(snakemake):
    fuse_dataset(
        snakemake.input.cases,
        snakemake.input.table,
        snakemake.input.prepared,
        snakemake.output[0],
        Dataset.model_validate(snakemake.params.dataset),
        snakemake.wildcards.fusion,
    )
