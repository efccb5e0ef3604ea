"""Expected calibration error (thesis section 5.4.3, Eq. 5.5), as published and with the last bin closed.

Ten bins of the highest class probability, background included; voxels of all test cases of a training are pooled. In
the published convention the last bin is open, so a voxel whose confidence is exactly 1 (most of the background) falls
in no bin and counts nowhere; ``closed`` counts it.
"""

from __future__ import annotations

from typing import Literal

from penumbra.reporting.context import DatasetInfo, StudyContext, StudyData
from penumbra.tables._layout import Quantity, Table, TableFunction, fill

NEEDS = ("metrics", "tests", "published")

_CAPTION = (
    "Calibration: expected calibration error (ECE) over ten bins of the confidence, the voxels of all test cases of a "
    "training pooled. Published convention: bins open on the right, so that voxels of confidence exactly 1 are left "
    "out. Closed: the last bin holds them. Of both, the one that the data set's configuration chooses comes first."
)


def build(*, convention: Literal["published", "closed", "both"] = "both") -> TableFunction:
    """A table of the ECE; ``convention`` picks the columns, of which the data set's own comes first."""
    quantities = {
        "published": Quantity("ece", "ECE, published convention", "%", 0.0, 100.0, 1, "image", published="ece"),
        "dropped": Quantity("ece_dropped", "Voxels it leaves out", "%", None, 100.0, 1, "image"),
        "closed": Quantity("ece_closed", "ECE, closed last bin", "%", 0.0, 100.0, 1, "image"),
    }
    columns = {"published": ("published", "dropped"), "closed": ("closed",), "both": tuple(quantities)}[convention]

    def chosen(dataset: DatasetInfo) -> list[Quantity]:
        first = dataset.headline("ece")
        return sorted((quantities[c] for c in columns), key=lambda quantity: quantity.metric != first)

    def table(data: StudyData, context: StudyContext, exhibit: str, title: str) -> Table:
        return fill(data, context, exhibit, title, chosen, caption=_CAPTION, published_tables=("5.4.3",))

    return table
