"""Segmentation performance of the binarised predictions (thesis tables 4.3, 4.4, 4.5, 5.3a and 5.3b).

By class, against the hard reference: Dice score, precision, recall, absolute and relative volume difference (AVD, RVD;
RVD is positive where the prediction is smaller than the reference), mean squared error (MSE), and where lesions are
counted their true positive and false discovery rate (LTPR, LFDR), also by size of lesion.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from penumbra.reporting.context import StudyContext, StudyData
from penumbra.tables._layout import Table, TableFunction, fill
from penumbra.tables._quantities import LESION_METRICS, quantities

NEEDS = ("metrics", "tests", "published")


def build(
    *,
    metrics: Annotated[
        tuple[Literal["dice", "precision", "recall", "avd", "rvd", "mse", "lfdr", "ltpr"], ...], Field(min_length=1)
    ] = ("dice", "precision", "recall", "avd", "rvd"),
    sizes: bool = False,
) -> TableFunction:
    """The table of chosen ``metrics``, in their order; ``sizes`` adds lesion rates by size of lesion."""

    def table(data: StudyData, context: StudyContext, exhibit: str, title: str) -> Table:
        return fill(
            data,
            context,
            exhibit,
            title,
            lambda dataset: quantities(dataset, metrics, sizes=sizes),
            caption=_caption(context, metrics, sizes),
            published_tables=("4.3", "4.4", "4.5", "5.3a", "5.3b"),
        )

    return table


def _caption(context: StudyContext, metrics: Sequence[str], sizes: bool) -> str:
    references = sorted({d.hard_reference for d in context.datasets.values()})
    sentences = [
        "Segmentation performance. All metrics are computed on the binarised predictions against the "
        f"{' or '.join(references)} fusion of the raters, in the native resolution."
    ]
    for dataset in context.datasets.values():
        if (smallest := dataset.evaluation.get("remove_small", 0)) > 1:
            sentences.append(
                f"{dataset.short}: components of fewer than {smallest} voxels are taken out of prediction and "
                "reference first."
            )
    if {"avd", "rvd"} & set(metrics):
        sentences.append(
            "AVD, RVD: absolute and relative volume difference, as a share of the reference's volume; RVD is positive "
            "where the prediction is smaller."
        )
    if "mse" in metrics:
        sentences.append("MSE: squared error summed over the voxels, " + _divisors(context) + ".")
    for dataset in context.datasets.values():
        if set(LESION_METRICS) & set(metrics) and (lesions := dataset.evaluation.get("lesions")):
            sentences.append(
                "LTPR: share of the reference's lesions that are found. LFDR: false lesions as a share of found and "
                f"false ones. {dataset.short}: lesions are components of connectivity {lesions['connectivity']}, "
                f"matched by the convention '{lesions['convention']}' at an overlap of {lesions['overlap']} voxels."
            )
    if sizes:
        sentences.append("By size: of lesions of that many voxels; cases without one are undefined.")
    return " ".join(dict.fromkeys(sentences))


def _divisors(context: StudyContext) -> str:
    words = {
        "mse_depthless": "divided by the voxels of one slice, as the released code does",
        "mse": "divided by all voxels",
    }
    found: dict[str, list[str]] = {}
    for dataset in context.datasets.values():
        found.setdefault(words[dataset.headline("mse")], []).append(dataset.short)
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(f"{', '.join(names)}: {word}" for word, names in found.items())
