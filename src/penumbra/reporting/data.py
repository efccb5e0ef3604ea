"""Reading what a study shows: long metrics, tests, and a paper's numbers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from penumbra.errors import PenumbraError
from penumbra.metrics.rows import read_rows
from penumbra.reporting.context import StudyContext, StudyData, select_rows
from penumbra.reporting.sources import told_source

TESTS_COLUMNS = ("dataset", "target", "metric", "view", "candidate", "p", "p_holm")
PUBLISHED_COLUMNS = ("table", "dataset", "method", "target", "metric", "unit", "mean", "std", "significant")


def read_metrics(paths: Iterable[str | Path], results: Path | None = None) -> tuple[pd.DataFrame, dict[str, str]]:
    """The long metrics of one or several data sets in one table, and the file that each data set was read from.

    Files are named as in the cell index (:func:`penumbra.reporting.sources.told_source`); ``results`` is the results
    folder.

    Raises
    ------
    PenumbraError : no file is given, or one cannot be read.
    """
    frames: list[pd.DataFrame] = []
    sources: dict[str, str] = {}
    for path in paths:
        frame = read_rows(path)
        frames.append(frame)
        sources |= {str(dataset): told_source(path, results) for dataset in frame["dataset"].unique()}
    if not frames:
        raise PenumbraError("no metrics were given", cure="name at least one data set")
    return pd.concat(frames, ignore_index=True), sources


def read_published(path: str | Path | None) -> pd.DataFrame | None:
    """A paper's numbers (``config/published/<paper>.csv``), as text to keep the printed digits; None for no file.

    Raises
    ------
    PenumbraError : the file is missing or lacks a column.
    """
    if path is None:
        return None
    try:
        table = pd.read_csv(path, dtype=str)
    except (OSError, ValueError) as error:
        raise PenumbraError(
            f"cannot read the published numbers: {error}", file=path, cure="name a file of config/published"
        ) from error
    missing = set(PUBLISHED_COLUMNS) - set(table.columns)
    if missing:
        raise PenumbraError(
            f"the published numbers lack the column {', '.join(sorted(missing))}", file=path, cure="add the column"
        )
    return table


def read_tests(path: str | Path | None) -> pd.DataFrame | None:
    """A study's ``tests.csv``; None for no file.

    Raises
    ------
    PenumbraError : the file cannot be read or lacks a column.
    """
    if path is None:
        return None
    try:
        table = pd.read_csv(path, float_precision="round_trip")
        table[list(TESTS_COLUMNS)]
        return table
    except (OSError, ValueError, KeyError) as error:
        raise PenumbraError(
            f"cannot read the tests: {error}", file=path, cure="remove the file, so that it is made again"
        ) from error


def read_data(
    context: StudyContext,
    metrics: Iterable[str | Path],
    tests: str | Path | None = None,
    published: str | Path | None = None,
    results: Path | None = None,
) -> StudyData:
    """Everything a table or figure shows, restricted to the study's data sets, splits and candidates.

    ``results`` : the results folder, below which the cell index names files.
    """
    table, sources = read_metrics(metrics, results)
    return StudyData(
        metrics=select_rows(table, context),
        tests=read_tests(tests),
        published=read_published(published),
        sources=sources,
        tests_source="" if tests is None else told_source(tests, results),
        published_source="" if published is None else told_source(published, results),
    )
