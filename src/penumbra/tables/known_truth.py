"""Predictions against a truth that only phantoms have (docs/known-truth.md).

For each class: error against the true fraction of a voxel, misplaced volume, calibration against the true probability
that a rater marks the voxel, and the error of the volume that the soft and the binary map measure. Data sets without
known truth have no such metrics.
"""

from __future__ import annotations

from penumbra.reporting.context import DatasetInfo, StudyContext, StudyData
from penumbra.tables._layout import Quantity, Table, TableFunction, fill

NEEDS = ("metrics", "tests")

_QUANTITIES = (
    Quantity("truth_error", "Error in mixed voxels", "%", 0.0, 100.0),
    Quantity("volume_misplaced", "Misplaced volume", "%", 0.0, 100.0),
    Quantity("rater_calibration_error", "Calibration error, true raters", "%", 0.0, 100.0),
    Quantity("volume_error_soft", "Volume error, soft", "%", 0.0, 100.0),
    Quantity("volume_error_binary", "Volume error, binary", "%", 0.0, 100.0),
)
_CAPTION = (
    "Predictions against known truth, by class. Error in mixed voxels: mean absolute difference between the "
    "prediction and the share of the voxel that the class truly takes, over voxels that it takes in part. Misplaced "
    "volume: the sum of that difference over all voxels, over the true volume. Calibration error, true raters: in ten "
    "bins of the prediction, the absolute difference between the sum of the prediction and the sum of the true "
    "probability that a rater picked at random marks the voxel, summed over bins and divided by the sum of that "
    "probability over all voxels; all test cases of a training pooled. Volume error: "
    "volume of the soft map (the sum of its values) or of the binary one minus true volume, over true volume; positive "
    "means overestimated."
)


def build() -> TableFunction:
    """A table of the metrics against known truth."""

    def quantities(dataset: DatasetInfo) -> tuple[Quantity, ...]:
        return _QUANTITIES

    def table(data: StudyData, context: StudyContext, exhibit: str, title: str) -> Table:
        return fill(data, context, exhibit, title, quantities, caption=_CAPTION)

    return table
