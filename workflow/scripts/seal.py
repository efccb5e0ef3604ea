from pathlib import Path

from penumbra.audit.seal import seal
from penumbra.workflow.job import job

with job(snakemake):
    seal(
        study=snakemake.wildcards.study,
        results=Path(snakemake.output[0]).parents[2],
        commit=snakemake.params.commit,
        out=snakemake.output[0],
    )
