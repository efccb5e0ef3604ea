"""Evaluating one run: every metric of every test case and class, one row each, also where it is undefined."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from penumbra.data.case import read_class_map
from penumbra.errors import PenumbraError
from penumbra.files import write_table
from penumbra.metrics import overlap, uncertainty, volume
from penumbra.metrics.binarisation import BINARISATIONS, most_probable_class
from penumbra.metrics.calibration import Reliability
from penumbra.metrics.measurement import EMPTY_BIN, NO_THRESHOLD, NOT_FINITE, OK, Measurement, undefined
from penumbra.metrics.rows import ALL_CASES, COLUMNS, IMAGE, KEY, read_rows, row_names
from penumbra.splits._make import read_split

if TYPE_CHECKING:
    from penumbra.config.models import Dataset

BINARY = {
    "dice": overlap.dice,
    "precision": overlap.precision,
    "recall": overlap.recall,
    "avd": volume.avd,
    "rvd": volume.rvd,
}
SOFT = {"brier": uncertainty.brier, "brier_depthless": uncertainty.brier_depthless}
ENTROPY = {
    "entropy": lambda probability, reference: uncertainty.entropy(probability),
    "entropy_reference": lambda probability, reference: uncertainty.entropy(reference),
    "entropy_error": uncertainty.entropy_error,
    "entropy_error_per_voxel": uncertainty.entropy_error_per_voxel,
}
BINS = 10
INFER = "remove the run's predictions, so that its inference is done again"
FUSE = "the reference must be a fusion with one label map a case; remove its labels folder, so that it is fused again"


def measure_case(
    probabilities: np.ndarray, hard: np.ndarray, soft: np.ndarray, thresholds: np.ndarray, binarisation: str
) -> Iterator[tuple[int | None, str, Measurement]]:
    """Every metric of one case, as (class index or None for the whole image, metric, measurement).

    Parameters
    ----------
    probabilities : ``(K, X, Y, Z)`` in [0, 1]; where a value is not finite, every metric but ``entropy_reference`` of
        the case is undefined.
    hard : ``(K, X, Y, Z)`` booleans, the hard reference of overlap and volume metrics.
    soft : ``(K, X, Y, Z)`` in [0, 1], the soft reference of Brier score and entropy.
    thresholds : ``(K,)``; where they are used, a NaN leaves that class' binary metrics undefined.
    binarisation : a key of :data:`penumbra.metrics.binarisation.BINARISATIONS`.
    """
    finite = bool(np.isfinite(probabilities).all())
    binary, binarised = BINARISATIONS[binarisation](probabilities, thresholds)
    for k in range(len(probabilities)):
        for name, overlap_metric in BINARY.items():
            if not finite:
                yield k, name, undefined(NOT_FINITE)
            elif not binarised[k]:
                yield k, name, undefined(NO_THRESHOLD)
            else:
                yield k, name, overlap_metric(binary[k], hard[k])
        for name, soft_metric in (SOFT | ENTROPY).items():
            known = finite or name == "entropy_reference"
            yield k, name, Measurement(soft_metric(probabilities[k], soft[k])) if known else undefined(NOT_FINITE)
    for name, image_metric in ENTROPY.items():
        known = finite or name == "entropy_reference"
        yield None, name, Measurement(image_metric(probabilities, soft)) if known else undefined(NOT_FINITE)


def measure_calibration(
    reliability: Reliability, *, not_finite: int = 0
) -> Iterator[tuple[str, int | None, Measurement, int]]:
    """Calibration of one run as (metric, bin or None, measurement, number of voxels), in both conventions.

    ``not_finite`` : how many cases could not be added since their prediction is not finite; then all is undefined.
    """
    reason = f"{NOT_FINITE} in {not_finite} cases" if not_finite else None
    for suffix, closed in (("", False), ("_closed", True)):
        voxels, confidence, accuracy = reliability.table(closed=closed)
        error = undefined(reason) if reason else reliability.expected_calibration_error(closed=closed)
        yield f"ece{suffix}", None, error, int(voxels.sum())
        for k in range(reliability.bins):
            n = int(voxels[k])
            yield f"reliability_count{suffix}", k, undefined(reason) if reason else Measurement(float(n)), n
            for name, value in (("confidence", confidence[k]), ("accuracy", accuracy[k])):
                measured = undefined(reason or EMPTY_BIN) if reason or n == 0 else Measurement(float(value))
                yield f"reliability_{name}{suffix}", k, measured, n
    dropped = undefined(reason) if reason else Measurement(reliability.certain / reliability.voxels)
    yield "ece_dropped", None, dropped, reliability.voxels


def _read_map(folder: Path, case: str, classes: list[str], what: str, cure: str) -> np.ndarray:
    """One case's class map, ``(K, X, Y, Z)`` float64 clipped to [0, 1]; NaN where a value is not finite."""
    path = folder / f"{case}.nii.gz"
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
    return np.where(finite, np.clip(array.astype(np.float64), 0.0, 1.0), np.nan)


def _read_reference(folder: Path, case: str, classes: list[str], what: str) -> np.ndarray:
    reference = _read_map(folder, case, classes, what, FUSE)
    if not np.isfinite(reference).all():
        problem = f"the {what} holds values that are not finite"
        raise PenumbraError(problem, file=folder / f"{case}.nii.gz", case=case, cure=FUSE)
    return reference


def _read_thresholds(path: Path, classes: list[str]) -> np.ndarray:
    try:
        table = pd.read_csv(path, dtype={"class": str})
        thresholds = dict(zip(table["class"], table["threshold"].astype(float), strict=True))
        return np.array([thresholds[name] for name in classes])
    except (OSError, KeyError, ValueError) as error:
        problem = f"no thresholds can be read for {', '.join(classes)}: {error}"
        raise PenumbraError(problem, file=path, cure=INFER) from error


def _test_cases(split: Path) -> list[str]:
    cases = read_split(split, "test")["test"]
    if not cases:
        raise PenumbraError("the split has no test case", file=split, cure="give the test set more of the cases")
    return sorted(cases)


def evaluate(
    *,
    predictions: str | Path,
    threshold: str | Path,
    hard_labels: str | Path,
    soft_labels: str | Path,
    split: str | Path,
    dataset: Dataset,
    dataset_name: str,
    candidate_name: str,
    split_index: int,
    out: str | Path,
) -> pd.DataFrame:
    """Evaluate the predictions of one run on the split's test cases, in the cases' native grid, and write ``out``.

    Every metric of every test case and class gets a row: value (float64; NaN where undefined), ``n`` and ``status``
    (``"ok"``, or why it is undefined). Calibration is pooled over all voxels of all test cases (scope ``"run"``, case
    ``"*"``, target ``"image"``). Names and units are in :data:`penumbra.metrics.rows.METRICS`. ``n`` is the number of
    voxels of the case, of a bin, or of all bins.

    Parameters
    ----------
    predictions : folder of ``<case>.nii.gz``, ``(X, Y, Z, K)`` probabilities.
    threshold : csv with columns ``class``, ``threshold``; used with ``binarisation: threshold`` only.
    hard_labels : folder of the hard reference fusion's native maps; binarised at >= 0.5.
    soft_labels : folder of the soft reference fusion's native maps.
    split : json with the list ``test``.
    dataset : its classes and its ``evaluation.binarisation`` are used.
    dataset_name, candidate_name, split_index : written into each row.
    out : the parquet file to write.

    Raises
    ------
    PenumbraError : a test case has no prediction or reference, shapes differ, or values lie outside [0, 1].
    """
    predictions, hard_labels, soft_labels = Path(predictions), Path(hard_labels), Path(soft_labels)
    classes = list(dataset.classes)
    thresholds = _read_thresholds(Path(threshold), classes)

    rows: list[tuple[Any, ...]] = []
    reliability, not_finite = Reliability(BINS), 0
    for case in _test_cases(Path(split)):
        probabilities = _read_map(predictions, case, classes, "prediction", INFER)
        hard = _read_reference(hard_labels, case, classes, "hard reference") >= 0.5
        soft = _read_reference(soft_labels, case, classes, "soft reference")
        if not probabilities.shape == hard.shape == soft.shape:
            raise PenumbraError(
                f"shapes (K, X, Y, Z) differ: prediction {probabilities.shape}, hard reference {hard.shape}, "
                f"soft reference {soft.shape}",
                file=predictions / f"{case}.nii.gz",
                case=case,
                cure="predictions and labels come from different ingests of the case: run inference and fusion again",
            )
        if np.isfinite(probabilities).all():
            reliability.add(probabilities, most_probable_class(hard))
        else:
            not_finite += 1
        measured = measure_case(probabilities, hard, soft, thresholds, dataset.evaluation.binarisation)
        for k, metric, (value, status) in measured:
            target = IMAGE if k is None else classes[k]
            rows.append((case, "case", target, metric, None, value, hard[0].size, status))
    for metric, bin_, (value, status), n in measure_calibration(reliability, not_finite=not_finite):
        rows.append((ALL_CASES, "run", IMAGE, metric, bin_, value, n, status))
    columns = ["case", "scope", "target", "metric", "bin", "value", "n", "status"]
    table = pd.DataFrame(rows, columns=columns).assign(
        dataset=dataset_name, candidate=candidate_name, split=int(split_index)
    )
    table = table.astype({"bin": "Int64", "value": "float64", "n": "int64", "split": "int64"})[COLUMNS]
    assert ((table["status"] == OK) == table["value"].notna()).all()
    write_table(out, table)
    return table


def collect(metric_files: Iterable[str | Path], out: str | Path) -> pd.DataFrame:
    """Put the metrics of all runs of one data set into one table with a stable name for each row, and write ``out``.

    The column ``row`` is ``<dataset>/<candidate>/<split>/<case>/<target>/<metric>[/<bin>]``. Rows are sorted by data
    set, candidate, split, case, target, metric and bin, whatever the order of the files.

    Raises
    ------
    PenumbraError : a run's file is missing, empty, holds rows of no or several runs or not the expected columns, or two
        files hold the same row.
    """
    cure = "remove the file, so that the run is evaluated again"
    tables: list[pd.DataFrame] = []
    origin: dict[tuple[Any, ...], str | Path] = {}
    for path in metric_files:
        table = read_rows(path, cure)
        runs = table[["dataset", "candidate", "split"]].drop_duplicates()
        if len(runs) != 1:
            raise PenumbraError(f"a run's metrics must hold one run, this file holds {len(runs)}", file=path, cure=cure)
        run = tuple(runs.iloc[0])
        if run in origin:
            raise PenumbraError(f"the run {'/'.join(map(str, run))} is also in {origin[run]}", file=path, cure=cure)
        origin[run] = path
        tables.append(table[COLUMNS])
    if not tables:
        raise PenumbraError("there are no runs to collect", file=out, cure="name at least one candidate and one split")
    table = pd.concat(tables, ignore_index=True)
    table = table.sort_values(KEY, kind="stable", na_position="first", ignore_index=True)
    table.insert(0, "row", row_names(table))
    twice = table.loc[table["row"].duplicated(), "row"]
    if len(twice):
        raise PenumbraError(f"{len(twice)} rows occur twice, first {twice.iloc[0]}", file=out, cure=cure)
    write_table(out, table)
    return table
