from penumbra.config.models import Source
from penumbra.data.download import download
from penumbra.workflow.job import job

with job(snakemake):
    download(
        Source.model_validate(snakemake.params.source),
        snakemake.wildcards.dataset,
        snakemake.output[0],
        snakemake.params.seed,
    )
