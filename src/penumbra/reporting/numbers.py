"""The one function through which every displayed number goes, and the index it leaves behind.

A number cannot be shown without a record of the rows and the estimator that gave it: :meth:`CellIndex.number` returns
the text and writes the record in one step.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

MEAN_OVER_SPLITS = "mean over splits of the run mean; std with ddof=1 over splits"

COLUMNS = (
    "exhibit",
    "row",
    "column",
    "displayed",
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


def _rounded(value: float, decimals: int) -> str:
    if decimals > MOST_DECIMALS:
        return f"{value:.1e}"
    text = f"{value:.{decimals}f}"
    return text[1:] if text.startswith("-") and not text.strip("-0.") else text


@dataclass(frozen=True)
class Shown:
    """A number as text: ``mean`` and ``std`` apart, so that a renderer can set the mean in bold."""

    mean: str
    std: str | None = None

    def __str__(self) -> str:
        return self.mean if self.std is None else f"{self.mean} ± {self.std}"


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


def rows_digest(rows: Any) -> tuple[int, str]:
    """How many row ids there are, and the SHA-256 of the sorted ids, one a line."""
    ids = sorted(str(row) for row in rows)
    return len(ids), hashlib.sha256("\n".join(ids).encode()).hexdigest()


def row_filter(**equal: Any) -> str:
    """A pandas ``query`` that picks the rows behind a number out of the long metrics."""
    return " and ".join(f"{key} == {value!r}" for key, value in equal.items() if value is not None)


@dataclass
class CellIndex:
    """The records of all numbers that one exhibit displays."""

    exhibit: str
    records: list[dict[str, Any]] = field(default_factory=list)

    def number(
        self,
        value: float,
        std: float | None = None,
        *,
        row: str,
        column: str,
        estimator: str,
        n: int,
        scale: float = 1.0,
        decimals: int = 1,
        rows: Any = (),
        **more: Any,
    ) -> Shown:
        """Format a number (see :func:`show`) and record what it is made of.

        Parameters
        ----------
        row, column : where it stands in the exhibit, as read by a person.
        estimator : how it follows from its rows, in words.
        n : number of values the estimator took (splits, cases, ...).
        rows : ids (column ``row``) of the long metrics behind it.
        more : any other of :data:`COLUMNS`.
        """
        shown = show(value, std, scale=scale, decimals=decimals, n=n)
        count, digest = rows_digest(rows)
        record = dict.fromkeys(COLUMNS) | {
            "exhibit": self.exhibit,
            "row": row,
            "column": column,
            "displayed": str(shown),
            "value": value,
            "std": std,
            "scale": scale,
            "decimals": decimals,
            "estimator": estimator,
            "n": n,
            "status": "ok" if math.isfinite(value) else "undefined",
            "n_rows": count,
            "rows_sha256": digest if count else None,
        }
        unknown = set(more) - set(COLUMNS)
        if unknown:
            raise TypeError(f"the cell index has no column {sorted(unknown)}")
        self.records.append(record | more)
        return shown

    def frame(self) -> pd.DataFrame:
        """All records as a table with the columns :data:`COLUMNS`."""
        import pandas as pd

        return pd.DataFrame(self.records, columns=list(COLUMNS))
