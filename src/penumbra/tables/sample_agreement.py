"""How well predictions and samples stand for the readers (Monteiro et al. 2020, tables 1 and 2).

Dice score of the most probable class of each voxel with each reader (DSC), the same with readers who marked something
(DSC_nod), squared generalised energy distance between samples and readers, and diversity of the samples. ``matched``
adds the Hungarian-matched IoU and the maximum Dice matching of later work, ``entropy`` the marginal entropy of samples
and of readers, divided by log C (Eq. 9), the mean over voxels. Needs ``evaluation.readers`` of the data
sets. ``columns: classes`` shows Dice scores of each class, and of all together, instead of those with each reader.
"""

from __future__ import annotations

from typing import Literal

from penumbra.errors import PenumbraError
from penumbra.reporting.context import DatasetInfo, StudyContext, StudyData
from penumbra.tables._layout import Quantity, Table, TableFunction, fill

NEEDS = ("metrics", "tests", "published")

_READERS = (
    Quantity("reader_dice", "DSC", "%", 1.0, 100.0, 1, "image", "dsc"),
    Quantity("reader_dice_annotated", "DSC_nod", "%", 1.0, 100.0, 1, "image", "dsc_nodule"),
)
_CLASSES = (
    Quantity("dice_foreground", "DSC of all classes", "%", 1.0, 100.0, 1, "image", "dsc_whole_tumor"),
    Quantity("dice", "DSC", "%", 1.0, 100.0, 1, "class", "dsc_{target}"),
)
_SAMPLES = (
    Quantity("ged", "GED²", "1 - IoU", 0.0, 1.0, 3, "image", "ged_squared"),
    Quantity("sample_diversity", "Diversity", "1 - IoU", None, 1.0, 3, "image", "sample_diversity"),
    Quantity("reader_diversity", "Readers' diversity", "1 - IoU", None, 1.0, 3, "image"),
)
_MATCHED = (
    Quantity("matched_iou", "Matched IoU", "%", 1.0, 100.0, 1, "image"),
    Quantity("maximum_dice", "Maximum Dice", "%", 1.0, 100.0, 1, "image"),
)
_ENTROPY = (
    Quantity("sample_entropy", "Entropy", "% of log C", None, 100.0, 2, "image"),
    Quantity("reader_entropy", "Readers' entropy", "% of log C", None, 100.0, 2, "image"),
)
_OF_READERS = (
    "Agreement with each reader. DSC: Dice score of the most probable class of each voxel with each reader, pairs that "
    "are empty on both sides left out; DSC_nod: with readers who marked something only. "
)
_OF_CLASSES = (
    "Agreement with the reference. DSC: Dice score of each class with the hard reference, and of all classes together. "
)
_CAPTION = (
    "GED²: squared generalised energy distance between samples and readers, in 1 - IoU, a class that is absent from "
    "both maps counting as an IoU of 1; diversity: mean 1 - IoU of two samples, and of two readers, a map paired with "
    "itself included. A candidate whose predictor draws no samples has its prediction as the only one."
)

_OF_ENTROPY = (
    " Entropy: of the share of samples, or of readers, that give a voxel each label, in % of the logarithm of the "
    "number of labels, the mean over all voxels, background included."
)


def build(
    *, columns: Literal["readers", "classes"] = "readers", matched: bool = False, entropy: bool = False
) -> TableFunction:
    """The table; ``matched`` adds Hungarian-matched IoU and maximum Dice, ``entropy`` the mean marginal entropies."""
    scores, what = (_READERS, _OF_READERS) if columns == "readers" else (_CLASSES, _OF_CLASSES)
    caption = what + _CAPTION + (_OF_ENTROPY if entropy else "")
    shown = [*scores, *_SAMPLES, *(_MATCHED if matched else ()), *(_ENTROPY if entropy else ())]

    def chosen(dataset: DatasetInfo) -> list[Quantity]:
        if not dataset.evaluation.get("readers"):
            raise PenumbraError(
                f"the readers of {dataset.name} are to be shown, and predictions are not held against them",
                cure=f"say `evaluation: {{readers: true}}` in config/datasets/{dataset.base}.yaml",
            )
        return shown

    def table(data: StudyData, context: StudyContext, exhibit: str, title: str) -> Table:
        return fill(
            data,
            context,
            exhibit,
            title,
            chosen,
            caption=caption,
            published_tables=("1", "2"),
        )

    return table
