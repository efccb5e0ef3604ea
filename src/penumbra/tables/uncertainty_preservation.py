"""How well a candidate's probabilities keep the raters' disagreement (thesis table 5.2).

Brier score against the raters' average for each class (Eq. 5.2), and the mean absolute error between the entropy of the
prediction and that of the raters' average over the image (Eq. 5.1), as the sum that Eq. 5.1 is and divided by the
number of voxels. ``brier: brier_depthless`` divides by the voxels of one slice, not of all, as the released code does.
"""

from __future__ import annotations

from typing import Literal

from penumbra.reporting.context import StudyContext, StudyData
from penumbra.tables._layout import Quantity, Table, TableFunction, fill

NEEDS = ("metrics", "tests", "published")

_CAPTION = (
    "Preservation of the inter-rater variability. Brier score of the probabilities against the average of the raters, "
    "by class; MAE: mean absolute error between the entropy of the prediction and the entropy of the average of the "
    "raters, over the whole image, as the sum over voxels of Eq. 5.1 (natural logarithm) and per voxel."
)
_DEPTHLESS = "as printed; the thesis does not say whether its Brier score divides by all voxels or those of one slice."
_ENTROPY = (
    "as printed, in its own unit: the thesis leaves the normalisation of its entropy open, so compare ratios between "
    "candidates only."
)


def build(
    *,
    brier: Literal["brier", "brier_depthless", "both"] = "brier",
    entropy: Literal["sum", "per_voxel", "both"] = "both",
) -> TableFunction:
    """The table of thesis table 5.2; options choose the normalisations shown."""
    names = ("brier", "brier_depthless") if brier == "both" else (brier,)
    headings = {"brier": "Brier score", "brier_depthless": "Brier score, slice voxels"}
    quantities = [
        Quantity(n, headings[n], "×10³", 0.0, 1e3, None, "class", "brier" if n == names[0] else None, _DEPTHLESS)
        for n in names
    ]
    if entropy in ("sum", "both"):
        quantities.append(
            Quantity(
                "entropy_error",
                "MAE",
                "nats",
                0.0,
                1.0,
                None,
                "image",
                published="entropy_mae",
                published_note=_ENTROPY,
            )
        )
    if entropy in ("per_voxel", "both"):
        theirs = "entropy_mae" if entropy == "per_voxel" else None
        quantities.append(
            Quantity("entropy_error_per_voxel", "MAE per voxel", "nats ×10³", 0.0, 1e3, None, "image", theirs, _ENTROPY)
        )

    def table(data: StudyData, context: StudyContext, exhibit: str, title: str) -> Table:
        return fill(data, context, exhibit, title, lambda _: quantities, caption=_CAPTION, published_tables=("5.2",))

    return table
