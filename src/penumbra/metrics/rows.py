"""The long table of metrics: its columns, the stable name of each row, and the metrics that it may hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from penumbra.errors import PenumbraError

if TYPE_CHECKING:
    import pandas as pd

    from penumbra.config.models import Evaluation

COLUMNS = ["dataset", "candidate", "split", "case", "scope", "target", "metric", "bin", "value", "n", "status"]
KEY = ["dataset", "candidate", "split", "case", "target", "metric", "bin"]
IMAGE = "image"
ALL_CASES = "*"


@dataclass(frozen=True)
class Metric:
    """What a metric is called, what it is measured in, and what is best.

    ``optimum`` is the best value there is; ``better`` tells which of two values is better: the higher, the lower, the
    one nearer to zero, or neither (``"none"``: the metric describes and does not judge).
    """

    label: str
    unit: str
    better: Literal["high", "low", "zero", "none"]
    optimum: float | None = None


METRICS: dict[str, Metric] = {
    "dice": Metric("Dice score", "fraction", "high", 1.0),
    "precision": Metric("Precision", "fraction", "high", 1.0),
    "recall": Metric("Recall", "fraction", "high", 1.0),
    "avd": Metric("Absolute volume difference", "fraction of reference volume", "low", 0.0),
    "rvd": Metric("Relative volume difference", "fraction of reference volume", "zero", 0.0),
    "mse": Metric("Squared error of the binary prediction", "share of voxels", "low", 0.0),
    "mse_depthless": Metric(
        "Squared error of the binary prediction without depth", "share of voxels x slices", "low", 0.0
    ),
    "mse_soft": Metric("Squared error", "probability squared", "low", 0.0),
    "mse_soft_depthless": Metric("Squared error without depth", "probability squared x slices", "low", 0.0),
    "ltpr": Metric("Lesion true positive rate", "fraction of reference lesions", "high", 1.0),
    "lfdr": Metric("Lesion false discovery rate", "fraction", "low", 0.0),
    "ltpr_by_size": Metric("Lesion true positive rate by size", "fraction of reference lesions", "none"),
    "lfdr_by_size": Metric("Lesion false discovery rate by size", "fraction", "none"),
    "lesion_count": Metric("Lesions of the reference", "lesion", "none"),
    "lesion_count_predicted": Metric("Lesions predicted", "lesion", "none"),
    "brier": Metric("Brier score", "probability squared", "low", 0.0),
    "brier_depthless": Metric("Brier score without depth", "probability squared x slices", "low", 0.0),
    "entropy": Metric("Entropy of the prediction", "nat", "none"),
    "entropy_reference": Metric("Entropy of the soft reference", "nat", "none"),
    "entropy_error": Metric("Absolute error of the entropy", "nat", "low", 0.0),
    "entropy_error_per_voxel": Metric("Absolute error of the entropy per voxel", "nat per voxel", "low", 0.0),
    "ece": Metric("Expected calibration error", "fraction", "low", 0.0),
    "ece_closed": Metric("Expected calibration error, last bin closed", "fraction", "low", 0.0),
    "ece_dropped": Metric("Voxels that the expected calibration error leaves out", "fraction", "none"),
    "reliability_count": Metric("Voxels in bin", "voxel", "none"),
    "reliability_confidence": Metric("Mean confidence in bin", "fraction", "none"),
    "reliability_accuracy": Metric("Accuracy in bin", "fraction", "none"),
    "reliability_count_closed": Metric("Voxels in bin, last bin closed", "voxel", "none"),
    "reliability_confidence_closed": Metric("Mean confidence in bin, last bin closed", "fraction", "none"),
    "reliability_accuracy_closed": Metric("Accuracy in bin, last bin closed", "fraction", "none"),
    "truth_error": Metric("Error against the true fraction of mixed voxels", "fraction", "low", 0.0),
    "truth_squared_error": Metric("Squared error against the true fraction", "fraction squared", "low", 0.0),
    "volume_misplaced": Metric("Misplaced volume", "fraction of true volume", "low", 0.0),
    "volume_error_soft": Metric("Volume error of the soft map", "fraction of true volume", "zero", 0.0),
    "volume_error_binary": Metric("Volume error of the binary map", "fraction of true volume", "zero", 0.0),
    "rater_probability_error": Metric("Error against the true rater probability", "probability", "low", 0.0),
    "rater_calibration_error": Metric("Calibration error against the raters", "fraction of marked volume", "low", 0.0),
    "truth_curve_count": Metric("Voxels in bin of the true fraction", "voxel", "none"),
    "truth_curve_prediction": Metric("Mean prediction in bin of the true fraction", "fraction", "none"),
    "truth_curve_fraction": Metric("Mean true fraction in bin of the true fraction", "fraction", "none"),
    "rater_curve_count": Metric("Voxels in bin of the prediction", "voxel", "none"),
    "rater_curve_prediction": Metric("Mean prediction in bin of the prediction", "probability", "none"),
    "rater_curve_probability": Metric("Mean true rater probability in bin of the prediction", "probability", "none"),
    "nonzero_share": Metric("Voxels above 0", "fraction", "none"),
    "nonzero_intermediate": Metric("Voxels between 0.05 and 0.95 among those above 0", "fraction", "none"),
    "nonzero_count": Metric("Voxels above 0 in bin of their value", "voxel", "none"),
    "threshold_dice": Metric("Dice score by threshold, training and validation cases", "fraction", "none"),
    "threshold_dice_range": Metric("Range of the Dice score over thresholds", "fraction", "low", 0.0),
    "dice_foreground": Metric("Dice score of all classes together", "fraction", "high", 1.0),
    "ged": Metric("Squared generalised energy distance", "1 - IoU", "low", 0.0),
    "sample_diversity": Metric("Diversity of the samples", "1 - IoU", "none"),
    "reader_diversity": Metric("Diversity of the readers", "1 - IoU", "none"),
    "sample_entropy": Metric("Marginal entropy of the samples", "fraction of log C", "none"),
    "reader_entropy": Metric("Marginal entropy of the readers", "fraction of log C", "none"),
    "matched_iou": Metric("Hungarian-matched IoU", "fraction", "high", 1.0),
    "maximum_dice": Metric("Maximum Dice matching", "fraction", "high", 1.0),
    "samples_better": Metric("Samples better than the prediction", "fraction", "none"),
    "sample_dice_upper": Metric("95 % quantile of the samples' Dice score", "fraction", "high", 1.0),
    "reader_dice": Metric("Dice score against each reader", "fraction", "high", 1.0),
    "reader_dice_annotated": Metric("Dice score against each reader who marked something", "fraction", "high", 1.0),
    "composite": Metric("Composite score", "sum of z-scores", "high"),
}


HEADLINES: dict[tuple[str, str], dict[str, str]] = {
    ("last_bin", "open"): {},
    ("last_bin", "closed"): {
        name: f"{name}_closed"
        for name in ("ece", "reliability_count", "reliability_confidence", "reliability_accuracy")
    },
    ("squared_error", "voxels"): {},
    ("squared_error", "depthless"): {"mse": "mse_depthless", "mse_soft": "mse_soft_depthless"},
}


def headline(metric: str, evaluation: Mapping[str, Any] | Evaluation) -> str:
    """Which of a metric's two conventions a data set's tables and figures show first.

    Parameters
    ----------
    metric : the plain name, such as ``"ece"`` or ``"mse"``. A metric without a second convention, the name of a second
        convention, and the Brier score, whose tables pick by an option of their own, come back as they are.
    evaluation : the data set's ``evaluation``, as a model or as plain data; its ``last_bin`` decides for the
        calibration error and the reliability diagram, its ``squared_error`` for the squared errors. A key that is not
        there stands at its default (``open``, ``depthless``).
    """
    plain = evaluation if isinstance(evaluation, Mapping) else vars(evaluation)
    for key, usual in (("last_bin", "open"), ("squared_error", "depthless")):
        metric = HEADLINES[key, plain.get(key, usual)].get(metric, metric)
    return metric


def judges(metric: str) -> bool:
    """Whether candidates are compared by a metric: it judges, and has no bins."""
    return metric in METRICS and METRICS[metric].better != "none"


def read_rows(path: str | Path, cure: str = "remove the file, so that it is collected again") -> pd.DataFrame:
    """The long table in a parquet file.

    Raises
    ------
    PenumbraError : the file is missing, cannot be read, or lacks a column; ``cure`` says what to do.
    """
    import pandas as pd

    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise PenumbraError(f"the metrics cannot be read: {error}", file=path, cure=cure) from error
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise PenumbraError(f"the metrics lack the columns {', '.join(missing)}", file=path, cure=cure)
    return table


def row_names(table: pd.DataFrame) -> pd.Series[str]:
    """The stable name of each row, ``<dataset>/<candidate>/<split>/<case>/<target>/<metric>[/<bin>]``.

    ``<case>`` is ``*`` for what was pooled over all cases of a run.
    """
    names = table["dataset"].astype(str)
    for column in KEY[1:-1]:
        names = names + "/" + table[column].astype(str)
    return names.where(table["bin"].isna(), names + "/" + table["bin"].astype(str)).rename("row")
