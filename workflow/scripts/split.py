from penumbra.parts import Chosen
from penumbra.splits._make import make_split
from penumbra.workflow.job import job

with job(snakemake):
    make_split(
        snakemake.input.table,
        Chosen.told(snakemake.params.part),
        snakemake.output[0],
        dataset=snakemake.params.dataset,
        seed=snakemake.params.seed,
        index=int(snakemake.wildcards.split),
    )
