from penumbra.statistics.study import write_tests
from penumbra.workflow.job import job

with job(snakemake):
    write_tests(
        metrics=list(snakemake.input),
        candidates=snakemake.params.candidates,
        reference=snakemake.params.reference,
        seed=snakemake.params.seed,
        level=snakemake.params.level,
        splits={dataset: range(count) for dataset, count in snakemake.params.splits.items()},
        out=snakemake.output[0],
    )
