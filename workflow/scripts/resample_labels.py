from penumbra.data.labels import resample_labels
from penumbra.workflow.job import job

with job(snakemake):
    resample_labels(
        snakemake.input.labels,
        snakemake.input.prepared,
        snakemake.output[0],
        snakemake.wildcards.interpolation,
    )
