"""Computing displayed numbers again from their rows, and saying where that gives something else.

An entry is one line of a ``.cells.csv`` or of the ``.csv`` of a figure. Values, deviations and counts must be equal to
the bit, but for estimators that state a tolerance (:class:`penumbra.reporting.estimators.Estimator`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penumbra.errors import PenumbraError
from penumbra.reporting.estimators import ESTIMATORS, Estimate, estimate_of, read_argument
from penumbra.reporting.numbers import MISSING, displayed_at, spelled
from penumbra.reporting.rows import Source
from penumbra.reporting.sources import Reader, files_digest, named_files

TEXTS = ("displayed", "argument", "source", "filter", "estimator", "status", "rows_sha256", "name", "row", "column",
         "panel", "candidate", "target", "metric", "dataset")  # fmt: skip


def read_entries(path: str | Path) -> list[dict[str, Any]]:
    """The entries of an index file; what is empty is None, numbers are exact, texts stay text.

    Raises
    ------
    PenumbraError : the file cannot be read.
    """
    import pandas as pd

    try:
        heads = pd.read_csv(path, nrows=0).columns
        texts = {column: str for column in heads if column in TEXTS}
        table = pd.read_csv(
            path, dtype=texts, keep_default_na=False, na_values=_blanks(heads), float_precision="round_trip"
        )
    except (OSError, ValueError) as error:
        raise PenumbraError(
            f"the index of numbers cannot be read: {error}",
            file=path,
            cure="let the table, figure or report be made again",
        ) from error
    records = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{str(key): value for key, value in record.items()} for record in records]


def _blanks(columns: Any) -> dict[str, list[str]]:
    return {column: [""] if column in TEXTS else ["", "nan"] for column in columns}


def _source(entry: Mapping[str, Any], read: Reader) -> Source | None:
    return read.source(entry["source"]) if entry.get("source") else None


def _files(entry: Mapping[str, Any], read: Reader) -> list[Path]:
    return [read.path(name) for name in named_files(entry.get("source") or "")]


def recompute(entry: Mapping[str, Any], read: Reader) -> Estimate:
    """What the estimator of an entry gives of its rows today: value, standard deviation or None, number of values.

    Parameters
    ----------
    entry : a line of an index. read : finds its source; keep one, so that each is read once.

    Raises
    ------
    KeyError : the estimator is not registered, or the source lacks a column.
    PenumbraError : the source cannot be read.
    ValueError : the filter cannot be applied, or the argument is not what the estimator takes.
    """
    estimator = ESTIMATORS[entry["estimator"]]
    argument = read_argument(entry.get("argument") or "")
    if estimator.deep:
        return estimator.compute(_files(entry, read), argument)
    return estimate_of(_source(entry, read), estimator.name, entry.get("filter") or "", argument)


def check(entry: Mapping[str, Any], read: Reader, *, deep: bool = False) -> list[str]:
    """What is wrong with an entry, in words; nothing where its rows give what it says.

    Compared are the rows (how many, and which), value, standard deviation, number of values, and the text displayed.
    An entry made from image files is computed again only if ``deep``; else only its text is held against its value.
    """
    name, displayed = entry.get("estimator"), entry.get("displayed")
    if name is None:
        return ["it has a value or a text, but no estimator"] if _told(entry) else []
    if name not in ESTIMATORS:
        return [f"there is no estimator {name!r}"]
    try:
        return _check(entry, read, deep, displayed)
    except PenumbraError as fault:
        return [" ".join(str(fault).split())]
    except (KeyError, ValueError, IndexError, OSError, ArithmeticError) as fault:
        return [f"it cannot be computed again: {type(fault).__name__}: {fault}"]


def _told(entry: Mapping[str, Any]) -> bool:
    return entry.get("displayed") is not None or entry.get("value") is not None


def _check(entry: Mapping[str, Any], read: Reader, deep: bool, displayed: str | None) -> list[str]:
    estimator = ESTIMATORS[entry["estimator"]]
    argument, where = read_argument(entry.get("argument") or ""), entry.get("filter") or ""
    faults: list[str] = []
    source: Source | None = None
    if estimator.deep and not deep:
        found = Estimate(_number(entry.get("value")), _number(entry.get("std")), int(entry["n"]))
    else:
        if estimator.deep:
            told: tuple[int, str | None] = files_digest(_files(entry, read))
        else:
            source = _source(entry, read)
            if source is None and estimator.reads != "nothing":
                return ["it names no source"]
            told = (0, None) if source is None else source.digest(where)
        count, digest = told
        if count != (entry.get("n_rows") or 0):
            faults.append(f"{count} rows, not {entry.get('n_rows')}")
        elif (digest if count else None) != entry.get("rows_sha256"):
            faults.append("its rows are not those that were counted: their digest differs")
        found = recompute(entry, read)
        for key, now in (("value", found.value), ("std", found.std), ("n", found.n)):
            if not _equal(now, entry.get(key), estimator.tolerance):
                faults.append(f"{key} is {_spelled(now)}, not {_spelled(entry.get(key))}")
    if displayed is not None:
        scale, decimals = _number(entry.get("scale")), _number(entry.get("decimals"))
        if math.isnan(scale) or math.isnan(decimals):
            return [*faults, "it is displayed, but has no scale or decimals"]
        shown = spelled(
            source, estimator.name, where, argument, found, scale=scale, decimals=int(decimals),
            missing=displayed == MISSING and source is not None and not len(source.rows(where)),
        ).plain  # fmt: skip
        if shown != displayed:
            faults.append(f"displayed is {displayed!r}, the rows give {shown!r}")
    return faults


def check_place(entry: Mapping[str, Any], text: str) -> list[str]:
    """What is wrong with where an entry says that its number stands in the exhibit's Markdown."""
    if entry.get("start") is None or entry.get("end") is None:
        return ["it does not say where it is displayed"]
    shown = displayed_at(text, entry)
    if shown != (entry.get("displayed") or ""):
        return [f"the text has {shown!r} where {entry.get('displayed')!r} is displayed"]
    return []


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _spelled(value: Any) -> str:
    number = _number(value)
    return "undefined" if math.isnan(number) else repr(number)


def _equal(now: Any, then: Any, tolerance: float) -> bool:
    a, b = _number(now), _number(then)
    if a == b or (math.isnan(a) and math.isnan(b)):
        return True
    return abs(a - b) <= tolerance * max(1.0, abs(a), abs(b))
