"""Gathering the metrics of many runs. Apart from their measuring, so that it need not read images and start late."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from penumbra.errors import PenumbraError
from penumbra.files import write_table
from penumbra.metrics.rows import COLUMNS, KEY, read_rows, row_names


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
