from penumbra.toy_problem.outputs import write_fit
from penumbra.workflow.job import job

with job(snakemake):
    write_fit(
        snakemake.output[0],
        rank=int(snakemake.wildcards.rank),
        index=int(snakemake.wildcards.fit),
        seed=snakemake.params.seed,
    )
