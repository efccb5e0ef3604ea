from penumbra.config.models import Geometry
from penumbra.data.preprocess import preprocess
from penumbra.workflow.job import job

with job(snakemake):
    preprocess(
        snakemake.input.cases,
        snakemake.input.table,
        snakemake.output[0],
        Geometry.model_validate(snakemake.params.geometry),
    )
