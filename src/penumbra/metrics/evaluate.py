"""Evaluating one run: every metric of every test case and class, one row each, also where it is undefined."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from penumbra.errors import PenumbraError
from penumbra.files import write_table
from penumbra.metrics.agreement import measure_readers
from penumbra.metrics.binarisation import most_probable_class
from penumbra.metrics.case import CaseMaps, measure_case
from penumbra.metrics.inputs import (
    INFER,
    read_map,
    read_readers,
    read_reference,
    read_samples,
    read_threshold_curve,
    read_thresholds,
    read_truth,
)
from penumbra.metrics.measurement import OK, Measured
from penumbra.metrics.rows import ALL_CASES, COLUMNS, IMAGE
from penumbra.metrics.run import Pool, measure_threshold_curve
from penumbra.splits._make import read_split

if TYPE_CHECKING:
    from penumbra.config.models import Dataset


def _cases(split: Path) -> tuple[list[str], int]:
    """The test cases, sorted, and how many others there are to try thresholds on."""
    sets = read_split(split)
    if not sets["test"]:
        raise PenumbraError("the split has no test case", file=split, cure="give the test set more of the cases")
    return sorted(sets["test"]), len(sets["train"]) + len(sets["validation"])


def _read_case(
    case: str, classes: list[str], predictions: Path, hard_labels: Path, soft_labels: Path, cases_folder: Path
) -> CaseMaps:
    """All maps of one case; every file is read once."""
    name = f"{case}.nii.gz"
    maps = CaseMaps(
        probabilities=read_map(predictions / name, case, classes, "prediction", INFER),
        hard=read_reference(hard_labels / name, case, classes, "hard reference") >= 0.5,
        soft=read_reference(soft_labels / name, case, classes, "soft reference"),
        fraction=read_truth(cases_folder / case, "fraction", case, classes),
        rater_probability=read_truth(cases_folder / case, "rater-probability", case, classes),
    )
    shapes = maps.shapes()
    if len(set(shapes.values())) > 1:
        raise PenumbraError(
            f"shapes (K, X, Y, Z) differ: {', '.join(f'{what} {shape}' for what, shape in shapes.items())}",
            file=predictions / name,
            case=case,
            cure="predictions and labels come from different ingests of the case: run inference and fusion again",
        )
    return maps


def _against_readers(
    case: str, maps: CaseMaps, classes: list[str], dataset: Dataset, predictions: Path, cases_folder: Path
) -> Iterator[Measured]:
    readers = read_readers(cases_folder / case, case, classes)
    samples = read_samples(predictions, case, classes)
    shapes = {readers.shape[1:], maps.soft.shape[1:], *({samples.shape[1:]} if samples is not None else ())}
    if len(shapes) > 1:
        raise PenumbraError(
            f"shapes (X, Y, Z) of readers, references and samples differ: {', '.join(map(str, sorted(shapes)))}",
            file=predictions,
            case=case,
            cure=INFER,
        )
    prediction = most_probable_class(maps.probabilities) if maps.finite else None
    yield from measure_readers(prediction, samples, readers, len(classes), by_slice=not dataset.geometry.volumetric)


def evaluate(
    *,
    predictions: str | Path,
    threshold: str | Path,
    threshold_curve: str | Path,
    hard_labels: str | Path,
    soft_labels: str | Path,
    cases_folder: str | Path,
    split: str | Path,
    dataset: Dataset,
    dataset_name: str,
    candidate_name: str,
    split_index: int,
    out: str | Path,
) -> pd.DataFrame:
    """Evaluate the predictions of one run on the split's test cases, in the cases' native grid, and write ``out``.

    Every metric of every test case and class gets a row: value (float64; NaN where undefined), ``n`` and ``status``
    (``"ok"``, or why it is undefined). What is pooled over all test cases has scope ``"run"`` and case ``"*"``. Names
    and units are in :data:`penumbra.metrics.rows.METRICS`. ``n`` is the number of voxels of the case, of a bin, or of
    all bins; of lesions in a rate's denominator; of cases that thresholds were tried on.

    Parameters
    ----------
    predictions : folder of ``<case>.nii.gz``, ``(X, Y, Z, K)`` probabilities.
    threshold : csv with columns ``class``, ``threshold``; used with ``binarisation: threshold`` only.
    threshold_curve : csv with columns ``class``, ``threshold``, ``dice``, a row for each class and threshold tried.
    hard_labels : folder of the hard reference fusion's native maps; binarised at >= 0.5.
    soft_labels : folder of the soft reference fusion's native maps.
    cases_folder : ingested cases; a phantom's true maps lie there, with ``evaluation.readers`` the readers' too.
    split : json with the lists ``train``, ``validation`` and ``test``.
    dataset : its classes, its ``evaluation`` and whether it holds volumes are used.
    dataset_name, candidate_name, split_index : written into each row.
    out : the parquet file to write.

    Raises
    ------
    PenumbraError : a test case has no prediction or reference, shapes differ, or values lie outside [0, 1].
    """
    classes = list(dataset.classes)
    thresholds = read_thresholds(Path(threshold), classes)
    curve = read_threshold_curve(Path(threshold_curve), classes)
    test, tried = _cases(Path(split))

    rows: list[tuple[Any, ...]] = []

    def note(case: str, scope: str, row: Measured) -> None:
        target = IMAGE if row.target is None else classes[row.target]
        value, status = row.measurement
        rows.append((case, scope, target, row.metric, row.bin, value, row.n, status))

    pool = Pool(len(classes))
    folders = [Path(folder) for folder in (predictions, hard_labels, soft_labels, cases_folder)]
    for case in test:
        maps = _read_case(case, classes, *folders)
        pool.add(maps)
        for row in measure_case(maps, thresholds, dataset.evaluation):
            note(case, "case", row)
        if dataset.evaluation.readers:
            for row in _against_readers(case, maps, classes, dataset, folders[0], folders[3]):
                note(case, "case", row)
    for row in (*pool.rows(), *measure_threshold_curve(curve, tried)):
        note(ALL_CASES, "run", row)
    columns = ["case", "scope", "target", "metric", "bin", "value", "n", "status"]
    table = pd.DataFrame(rows, columns=columns).assign(
        dataset=dataset_name, candidate=candidate_name, split=int(split_index)
    )
    table = table.astype({"bin": "Int64", "value": "float64", "n": "int64", "split": "int64"})[COLUMNS]
    assert ((table["status"] == OK) == table["value"].notna()).all()
    write_table(out, table)
    return table
