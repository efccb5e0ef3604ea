"""What a data set's record tells of it besides what its raw files depend on: title, licence, access, citation.

No parameter of a rule, since a licence put into other words makes no raw file anew.
"""

from __future__ import annotations

from typing import Any

TOLD = ("title", "licence", "access", "citation")


def about_dataset(snakemake: Any) -> dict[str, Any]:
    """Title, licence, access and citation of the data set that a job is of, as the configuration gives them."""
    from penumbra.config.load import Configuration
    from penumbra.provenance.code_digest import SOURCE

    configuration = Configuration.load(snakemake.config, SOURCE.parent / "config")
    dataset = configuration.dataset(snakemake.wildcards.dataset)
    return dataset.model_dump(mode="json", include=set(TOLD))
