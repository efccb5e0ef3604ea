from penumbra.config.models import Part
from penumbra.splits._make import make_split
from penumbra.workflow.job import job

with job(snakemake):
    make_split(
        snakemake.input.table,
        Part.model_validate(snakemake.params.part),
        snakemake.output[0],
        dataset=snakemake.params.dataset,
        seed=snakemake.params.seed,
        index=int(snakemake.wildcards.split),
    )
