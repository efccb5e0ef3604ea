"""Reading, and checking, what a run's evaluation needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from penumbra import paths
from penumbra.data.case import natural, read_class_map, read_nifti
from penumbra.errors import PenumbraError

INFER = "remove the run's predictions, so that its inference is done again"
FUSE = "the reference must be a fusion with one label map a case; remove its labels folder, so that it is fused again"
INGEST = "remove the data set's cases, so that they are ingested again"


def read_map(path: Path, case: str, classes: list[str], what: str, cure: str) -> np.ndarray:
    """One case's class map, ``(K, X, Y, Z)`` float64 clipped to [0, 1]; NaN where a value is not finite.

    Raises
    ------
    PenumbraError : the file is missing or unreadable, has another number of classes, or values outside [0, 1].
    """
    if not path.exists():
        raise PenumbraError(f"there is no {what} of a test case", file=path, case=case, cure=cure)
    array = read_class_map(path)
    if array.ndim != 4 or len(array) != len(classes) or array.size == 0:
        problem = f"the {what} has shape {array.shape}, expected ({len(classes)}, X, Y, Z) for {', '.join(classes)}"
        raise PenumbraError(problem, file=path, case=case, cure=cure)
    finite = np.isfinite(array)
    low, high = np.min(array, where=finite, initial=0.0), np.max(array, where=finite, initial=0.0)
    if low < -1e-6 or high > 1 + 1e-6:
        problem = f"the {what} holds values from {low:g} to {high:g}, outside [0, 1]"
        raise PenumbraError(problem, file=path, case=case, cure=cure)
    clipped = np.clip(array.astype(np.float64), 0.0, 1.0)
    return clipped if finite.all() else np.where(finite, clipped, np.nan)


def read_reference(path: Path, case: str, classes: list[str], what: str, cure: str = FUSE) -> np.ndarray:
    """Like :func:`read_map`, of a map whose values must be finite."""
    reference = read_map(path, case, classes, what, cure)
    if not np.isfinite(reference).all():
        raise PenumbraError(f"the {what} holds values that are not finite", file=path, case=case, cure=cure)
    return reference


def read_truth(folder: Path, name: str, case: str, classes: list[str]) -> np.ndarray | None:
    """The map ``true-<name>.nii.gz`` of an ingested case, read as by :func:`read_reference`; None if there is none."""
    path = folder / f"true-{name}.nii.gz"
    what = f"true {name.replace('-', ' ')}"
    return read_reference(path, case, classes, what, INGEST) if path.exists() else None


def _read_labels(path: Path, case: str, classes: list[str], what: str, cure: str) -> np.ndarray:
    """Label maps of one file, uint8 0..K."""
    array, _ = read_nifti(path)
    labels = array.astype(np.uint8)
    if array.size == 0 or not np.array_equal(labels, array) or labels.max() > len(classes):
        problem = f"the {what} holds values other than 0 .. {len(classes)} (background, {', '.join(classes)})"
        raise PenumbraError(problem, file=path, case=case, cure=cure)
    return labels


def read_readers(folder: Path, case: str, classes: list[str]) -> np.ndarray:
    """The label maps ``(R, X, Y, Z)`` uint8 of all readers of an ingested case, ``rater-<n>.nii.gz``.

    Raises
    ------
    PenumbraError : there is none, they differ in shape, or hold a label without a class.
    """
    files = sorted(folder.glob("rater-*.nii.gz"), key=lambda path: natural(path.name))
    maps = [_read_labels(path, case, classes, "reader's annotation", INGEST) for path in files]
    if not maps or len({array.shape for array in maps}) > 1:
        raise PenumbraError("the case has no rater-<n>.nii.gz of one shape", file=folder, case=case, cure=INGEST)
    return np.stack(maps)


def read_samples(predictions: Path, case: str, classes: list[str]) -> np.ndarray | None:
    """The samples ``(S, X, Y, Z)`` uint8 of a case; None where the method draws none.

    Raises
    ------
    PenumbraError : other cases have samples and this one has not, or a file holds a label without a class.
    """
    folder = predictions / paths.SAMPLES
    if not folder.exists():
        return None
    path = folder / f"{case}.nii.gz"
    if not path.exists():
        raise PenumbraError("there are no samples of a test case", file=path, case=case, cure=INFER)
    labels = _read_labels(path, case, classes, "samples", INFER)
    return np.moveaxis(labels if labels.ndim == 4 else labels[..., None], 3, 0)


def _read_table(path: Path, *numbers: str) -> pd.DataFrame:
    """A csv with ``class``, which stays text whatever it says, and columns of numbers."""
    undefined = {column: ["", "nan"] for column in numbers}
    table = pd.read_csv(path, dtype={"class": str}, keep_default_na=False, na_values=undefined)
    return table.astype(dict.fromkeys(numbers, float))


def read_thresholds(path: Path, classes: list[str]) -> np.ndarray:
    """The threshold of every class, ``(K,)``, NaN where there is none; from the columns ``class`` and ``threshold``."""
    try:
        table = _read_table(path, "threshold")
        thresholds = dict(zip(table["class"], table["threshold"], strict=True))
        return np.array([thresholds[name] for name in classes])
    except (OSError, KeyError, ValueError) as error:
        problem = f"no thresholds can be read for {', '.join(classes)}: {error}"
        raise PenumbraError(problem, file=path, cure=INFER) from error


def read_threshold_curve(path: Path, classes: list[str]) -> np.ndarray:
    """The Dice of every class at every threshold tried, ``(K, T)``, NaN where undefined; thresholds rise."""
    try:
        table = _read_table(path, "threshold", "dice")
        wide = table.pivot(index="class", columns="threshold", values="dice").sort_index(axis="columns")
        return wide.loc[classes].to_numpy(dtype=np.float64)
    except (OSError, KeyError, ValueError) as error:
        problem = f"no Dice by threshold can be read for {', '.join(classes)}: {error}"
        raise PenumbraError(problem, file=path, cure=INFER) from error
