"""Segmentation performance of the binarised predictions (thesis tables 5.3a and 5.3b).

Dice score, precision, recall, absolute and relative volume difference (AVD, RVD) against the hard reference, by class.
RVD is positive where the prediction is smaller than the reference.
"""

from __future__ import annotations

from penumbra.reporting.context import StudyContext, StudyData
from penumbra.tables._layout import Quantity, Table, TableFunction, fill

NEEDS = ("metrics", "tests", "published")

_QUANTITIES = {
    "dice": Quantity("dice", "Dice", "%", 1.0, 100.0, 1, published="dice"),
    "precision": Quantity("precision", "Precision", "%", 1.0, 100.0, 1, published="precision"),
    "recall": Quantity("recall", "Recall", "%", 1.0, 100.0, 1, published="recall"),
    "avd": Quantity("avd", "AVD", "%", 0.0, 100.0, 1, published="avd"),
    "rvd": Quantity("rvd", "RVD", "%", 0.0, 100.0, 1, published="rvd"),
}


def build(*, metrics: list = ["dice", "precision", "recall", "avd", "rvd"]) -> TableFunction:  # noqa: B006 - a literal, never changed
    """The table of thesis tables 5.3a and 5.3b; ``metrics`` picks and orders its columns."""
    from penumbra.errors import PenumbraError

    unknown = [m for m in metrics if m not in _QUANTITIES]
    if unknown:
        raise PenumbraError(
            f"segmentation_performance knows no metric {', '.join(map(repr, unknown))}",
            cure=f"choose among {', '.join(_QUANTITIES)}",
        )
    quantities = [_QUANTITIES[m] for m in metrics]

    def table(data: StudyData, context: StudyContext, exhibit: str, title: str) -> Table:
        references = sorted({d.hard_reference for d in context.datasets.values()})
        caption = (
            "Segmentation performance. All metrics are computed on the binarised predictions against the "
            f"{' or '.join(references)} fusion of the raters, in the native resolution. AVD, RVD: absolute and "
            "relative volume difference, as a share of the reference's volume; RVD is positive where the prediction is "
            "smaller."
        )
        return fill(data, context, exhibit, title, quantities, caption=caption, published_tables=("5.3a", "5.3b"))

    return table
