from pathlib import Path

from penumbra.page.build import build
from penumbra.workflow.job import job

with job(snakemake) as logger:
    index = build(Path(snakemake.output[0]).parent, snakemake.output[0], studies=snakemake.params.studies)
    logger.info("open %s in a browser", index)
