"""The one function through which every displayed number goes, and the index it leaves behind.

A number cannot be shown without a record of the rows and the estimator that gave it: :meth:`CellIndex.number` picks the
rows, computes the number, records both and returns the text in one step. The text carries the record's id between
characters that no font has; :meth:`CellIndex.place` takes them out as a page is written and notes where each number
stands. What varies with the results but is no number, such as a verdict, goes the same way.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from penumbra.reporting.estimators import Argument, Estimate, estimate_of, text_of, told_argument
from penumbra.reporting.rows import Source, row_filter, rows_digest

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "id",
    "exhibit",
    "row",
    "column",
    "displayed",
    "start",
    "end",
    "dataset",
    "candidate",
    "target",
    "metric",
    "value",
    "std",
    "unit",
    "scale",
    "decimals",
    "estimator",
    "argument",
    "n",
    "n_expected",
    "n_cases",
    "n_undefined",
    "p",
    "p_holm",
    "significant",
    "best",
    "status",
    "source",
    "filter",
    "n_rows",
    "rows_sha256",
)


MOST_DECIMALS = 6
"""A number that would need more is shown as a power of ten, with two digits."""
MISSING = "missing (n=0)"
"""What is shown where there is not one row."""

OPEN, MIDDLE, CLOSE = "\ue000", "\ue001", "\ue002"
"""Private characters of Unicode around a number and its id: OPEN id MIDDLE text CLOSE."""
_MARKED = re.compile(f"{OPEN}([^{OPEN}{MIDDLE}{CLOSE}]*){MIDDLE}([^{OPEN}{MIDDLE}{CLOSE}]*){CLOSE}")
_MARKERS = re.compile(f"[{OPEN}{MIDDLE}{CLOSE}]")


def _rounded(value: float, decimals: int) -> str:
    if decimals > MOST_DECIMALS:
        return f"{value:.1e}"
    text = f"{value:.{decimals}f}"
    return text[1:] if text.startswith("-") and not text.strip("-0.") else text


@dataclass(frozen=True)
class Shown:
    """A number as text: ``mean`` and ``std`` apart, so that a renderer can set the mean in bold.

    As a string it carries the id of its record, if it has one; :attr:`plain` is the text alone.
    """

    mean: str
    std: str | None = None
    id: str | None = None

    @property
    def plain(self) -> str:
        """The text without the id."""
        return self.mean if self.std is None else f"{self.mean} ± {self.std}"

    def marked(self, text: str) -> str:
        """Another rendering of the number (escaped, partly bold) with the id of its record."""
        return text if self.id is None else f"{OPEN}{self.id}{MIDDLE}{text}{CLOSE}"

    def __str__(self) -> str:
        return self.marked(self.plain)


def show(
    value: float, std: float | None = None, *, scale: float = 1.0, decimals: int = 1, n: int | None = None
) -> Shown:
    """Format one number. An undefined value says so, with the number of values it had to be made of.

    Parameters
    ----------
    value, std : in their own unit; ``std=None`` shows the value alone, a NaN ``± n/a`` (one training has no spread).
    scale : what both are multiplied by (100 for per cent).
    decimals : digits after the point; more than :data:`MOST_DECIMALS` give a power of ten.
    n : number of values behind it, told only where it is undefined.
    """
    if value is None or not math.isfinite(value):
        return Shown("undefined" if n is None else f"undefined (n={n})")
    spread = None if std is None else (_rounded(std * scale, decimals) if math.isfinite(std) else "n/a")
    return Shown(_rounded(value * scale, decimals), spread)


def spelled(
    source: Source | None,
    estimator: str,
    where: str,
    argument: Argument | None,
    estimate: Estimate,
    *,
    scale: float,
    decimals: int,
    missing: bool = False,
) -> Shown:
    """What is displayed for an estimate: by :func:`show`, unless the estimator has words of its own.

    ``missing`` : there were to be rows, and there is not one; shown as :data:`MISSING`.
    """
    if missing:
        return Shown(MISSING)
    text = text_of(source, estimator, where, argument, estimate)
    if text is not None:
        return Shown(text)
    return show(estimate.value, estimate.std, scale=scale, decimals=decimals, n=estimate.n)


def strip(text: str) -> str:
    """A text without the ids of its numbers."""
    return _MARKED.sub(r"\2", text)


@dataclass
class CellIndex:
    """The records of all numbers that one exhibit displays."""

    exhibit: str
    records: list[dict[str, Any]] = field(default_factory=list)

    def number(
        self,
        estimator: str,
        source: Source | None,
        where: str = "",
        *,
        row: str,
        column: str,
        argument: Argument | None = None,
        estimate: Estimate | None = None,
        scale: float = 1.0,
        decimals: int = 1,
        **more: Any,
    ) -> Shown:
        """Compute a number from its rows, format it (see :func:`show`) and record what it is made of.

        Parameters
        ----------
        estimator : a name of :data:`penumbra.reporting.estimators.ESTIMATORS`; argument : what it needs beside rows.
        source, where : the table, and the filter that picks the rows; None for what is made of no rows.
        row, column : where it stands in the exhibit, as read by a person.
        estimate : what the estimator gives, where the caller has asked for it already.
        more : any other of :data:`COLUMNS`.
        """
        unknown = set(more) - set(COLUMNS)
        if unknown:
            raise TypeError(f"the cell index has no column {sorted(unknown)}")
        found = estimate_of(source, estimator, where, argument) if estimate is None else estimate
        count, digest = (0, None) if source is None else source.digest(where)
        shown = spelled(
            source, estimator, where, argument, found, scale=scale, decimals=decimals,
            missing=more.get("status") == "missing",
        )  # fmt: skip
        record = dict.fromkeys(COLUMNS) | {
            "id": f"c{len(self.records) + 1:04d}",
            "exhibit": self.exhibit,
            "row": row,
            "column": column,
            "displayed": shown.plain,
            "value": found.value,
            "std": found.std,
            "scale": scale,
            "decimals": decimals,
            "estimator": estimator,
            "argument": told_argument(argument),
            "n": found.n,
            "status": "ok" if math.isfinite(found.value) else "undefined",
            "source": None if source is None else source.name,
            "filter": None if source is None else where,
            "n_rows": count,
            "rows_sha256": digest if count else None,
        }
        self.records.append(record | more)
        return Shown(shown.mean, shown.std, record["id"])

    def place(self, text: str) -> str:
        """The text as it is written, without ids; where each number stands in it goes into the records.

        Raises
        ------
        ValueError : an id is unknown or stands twice, a record's number is nowhere in the text, or the text holds the
            characters that ids stand between.
        """
        at = {record["id"]: record for record in self.records}
        seen: set[str] = set()
        pieces: list[str] = []
        length = position = 0
        for found in _MARKED.finditer(text):
            name, shown = found.groups()
            if name not in at or name in seen:
                raise ValueError(f"{self.exhibit} displays {shown!r} as {name!r}, which the index has not, or twice")
            seen.add(name)
            before = text[position : found.start()]
            length += len(before)
            at[name] |= {"start": length, "end": length + len(shown)}
            pieces += [before, shown]
            length += len(shown)
            position = found.end()
        written = "".join([*pieces, text[position:]])
        if _MARKERS.search(written):
            raise ValueError(f"the text of {self.exhibit} holds characters that are kept for the ids of numbers")
        if len(seen) < len(at):
            lost = next(record for name, record in at.items() if name not in seen)
            raise ValueError(f"{self.exhibit} has a record of {lost['row']}, {lost['column']}, but does not display it")
        return written

    def frame(self) -> pd.DataFrame:
        """All records as a table with the columns :data:`COLUMNS`."""
        import pandas as pd

        table = pd.DataFrame(self.records, columns=list(COLUMNS))
        return table.astype({"start": "Int64", "end": "Int64", "n_rows": "Int64"})


def displayed_at(text: str, entry: Mapping[str, Any]) -> str:
    """What stands in an exhibit's Markdown where an entry says that its number is, without escapes and bold marks."""
    piece = text[int(entry["start"]) : int(entry["end"])]
    return re.sub(r"\\(.)|\*\*", lambda found: found.group(1) or "", piece)


__all__ = [
    "COLUMNS",
    "CellIndex",
    "Shown",
    "displayed_at",
    "row_filter",
    "rows_digest",
    "show",
    "spelled",
    "strip",
]
