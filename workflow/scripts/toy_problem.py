from penumbra.toy_problem.outputs import write_outputs
from penumbra.workflow.job import job

with job(snakemake):
    write_outputs(
        fits=snakemake.input.fits,
        paper=snakemake.input.paper,
        table=snakemake.output.table,
        page=snakemake.output.page,
        figure=snakemake.output.png.removesuffix(".png"),
    )
