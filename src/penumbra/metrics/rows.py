"""The long table of metrics: its columns, the stable name of each row, and the metrics that it may hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from penumbra.errors import PenumbraError

if TYPE_CHECKING:
    import pandas as pd

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
    "composite": Metric("Composite score", "sum of z-scores", "high"),
}


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
