"""How well predictions and samples stand for the readers (Monteiro et al. 2020, tables 1 and 2).

Dice score of the most probable class of each voxel with each reader (DSC), the same with readers who marked something
(DSC_nod), squared generalised energy distance between samples and readers, and diversity of the samples. ``matched``
adds the Hungarian-matched IoU and the maximum Dice matching of later work. Needs ``evaluation.readers`` of the data
sets.
"""

from __future__ import annotations

from penumbra.errors import PenumbraError
from penumbra.reporting.context import DatasetInfo, StudyContext, StudyData
from penumbra.tables._layout import Quantity, Table, TableFunction, fill

NEEDS = ("metrics", "tests", "published")

_QUANTITIES = (
    Quantity("reader_dice", "DSC", "%", 1.0, 100.0, 1, "image", "dsc"),
    Quantity("reader_dice_annotated", "DSC_nod", "%", 1.0, 100.0, 1, "image", "dsc_nodule"),
    Quantity("ged", "GED²", "1 - IoU", 0.0, 1.0, 3, "image", "ged_squared"),
    Quantity("sample_diversity", "Diversity", "1 - IoU", None, 1.0, 3, "image", "sample_diversity"),
    Quantity("reader_diversity", "Readers' diversity", "1 - IoU", None, 1.0, 3, "image"),
)
_MATCHED = (
    Quantity("matched_iou", "Matched IoU", "%", 1.0, 100.0, 1, "image"),
    Quantity("maximum_dice", "Maximum Dice", "%", 1.0, 100.0, 1, "image"),
)
_CAPTION = (
    "Agreement with each reader. DSC: Dice score of the most probable class of each voxel with each reader, pairs that "
    "are empty on both sides left out; DSC_nod: with readers who marked something only. GED²: squared generalised "
    "energy distance between samples and readers, in 1 - IoU, a class that is absent from both maps counting as an IoU "
    "of 1; diversity: mean 1 - IoU of two samples, and of two readers, a map paired with itself included. A candidate "
    "whose predictor draws no samples has its prediction as the only one."
)


def build(*, matched: bool = False) -> TableFunction:
    """The table; ``matched`` adds Hungarian-matched IoU and maximum Dice."""
    shown = [*_QUANTITIES, *(_MATCHED if matched else ())]

    def chosen(dataset: DatasetInfo) -> list[Quantity]:
        if not dataset.evaluation.get("readers"):
            raise PenumbraError(
                f"the readers of {dataset.name} are to be shown, and predictions are not held against them",
                cure=f"say `evaluation: {{readers: true}}` in config/datasets/{dataset.base}.yaml",
            )
        return shown

    def table(data: StudyData, context: StudyContext, exhibit: str, title: str) -> Table:
        return fill(data, context, exhibit, title, chosen, caption=_CAPTION, published_tables=("1", "2"))

    return table
