from penumbra.reporting.study_report import write_report
from penumbra.workflow.job import job

with job(snakemake):
    write_report(
        told=snakemake.params.told,
        tests=snakemake.input.tests,
        claims=snakemake.input.get("claims"),
        tables=list(snakemake.input.tables),
        figures=list(snakemake.input.figures),
        out=snakemake.output.report,
    )
