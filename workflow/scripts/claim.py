from penumbra.claims.judge import write_claims
from penumbra.workflow.job import job

with job(snakemake):
    write_claims(
        told=snakemake.params.told,
        claims=snakemake.params.claims,
        metrics=list(snakemake.input.metrics),
        seed=snakemake.params.seed,
        out=snakemake.output[0],
    )
