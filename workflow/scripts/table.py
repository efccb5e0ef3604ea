from penumbra.tables._write import write
from penumbra.workflow.job import job

with job(snakemake):
    write(
        told=snakemake.params.told,
        exhibit=snakemake.wildcards.table,
        metrics=snakemake.input.metrics,
        tests=snakemake.input.tests,
        published=snakemake.input.get("published"),
        prefix=snakemake.output.md.removesuffix(".md"),
    )
