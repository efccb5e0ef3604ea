from penumbra.figures._write import write
from penumbra.workflow.job import job

with job(snakemake):
    write(
        told=snakemake.params.told,
        exhibit=snakemake.wildcards.figure,
        prefix=snakemake.output.png.removesuffix(".png"),
        **dict(snakemake.input.items()),
    )
