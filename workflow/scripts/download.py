from penumbra.config.models import Source
from penumbra.data.download import download
from penumbra.workflow.about import about_dataset
from penumbra.workflow.job import job

with job(snakemake, about=about_dataset):
    download(
        Source.model_validate(snakemake.params.source),
        snakemake.wildcards.dataset,
        snakemake.output[0],
        snakemake.params.seed,
    )
