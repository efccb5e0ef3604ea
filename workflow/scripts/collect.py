from penumbra.metrics.collect import collect
from penumbra.workflow.job import job

with job(snakemake):
    collect(snakemake.input, snakemake.output[0])
