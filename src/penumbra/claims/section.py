"""The judged claims of a study as text: read from ``claims.csv``, told as Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from penumbra.reporting.context import target_title
from penumbra.reporting.estimators import Argument
from penumbra.reporting.numbers import CellIndex, row_filter
from penumbra.reporting.rows import Source
from penumbra.reporting.verdicts import EVERYWHERE

if TYPE_CHECKING:
    import pandas as pd

VERDICTS = ("supported", "contradicted", "undecided")
HUNDRED = ("fraction", "share")
"""Units that start so are shown in per cent, their differences in percentage points."""
HEADS = ("claim", "where", "here", "effect", "p", "n", "the paper")


def where(row: Mapping[str, Any]) -> str:
    """The data set and class that a verdict is about."""
    if row["dataset"] == EVERYWHERE:
        return "everywhere"
    return f"`{row['dataset']}`" + ("" if row["target"] == "image" else f", {target_title(row['target'])}")


def digits(value: float, scale: float) -> int:
    """Digits after the point that show two digits of a value, from 1 to 6."""
    size = abs(value) * scale
    return 1 if not math.isfinite(size) or size == 0 else min(max(1 - math.floor(math.log10(size)), 1), 6)


def scale_of(unit: str) -> float:
    """What a value is multiplied by to be shown."""
    return 100.0 if unit.startswith(HUNDRED) else 1.0


class _Cells:
    """The numbers of one row, and what else varies with the results, each through the cell index."""

    def __init__(self, row: Mapping[str, Any], cells: CellIndex, source: Source) -> None:
        self.row, self.cells, self.source = row, cells, source
        self.scale = scale_of(row["unit"])
        self.digits = digits(float(row["effect"]), self.scale)

    def number(self, key: str, *, scale: float = 1.0, decimals: int = 1) -> str:
        """A number of the row, as text."""
        unit = self.row["unit"] if key not in ("p", "n") else None
        argument = {"column": key}
        return self.shown("column_of_claims", key, argument, scale=scale, decimals=decimals, unit=unit)

    def text(self, key: str) -> str:
        """A text of the row, fit for Markdown."""
        return self.shown("text_of_claims", key, {"column": key})

    def shown(self, estimator: str, key: str, argument: Argument | None = None, **more: Any) -> str:
        """What an estimator makes of the row, fit for Markdown."""
        row = self.row
        found = self.cells.number(
            estimator,
            self.source,
            row_filter(claim=row["claim"], dataset=row["dataset"], target=row["target"]),
            row=f"{row['claim']}, {row['dataset']}, {row['target']}",
            column=key,
            argument=argument,
            candidate=row["candidates"],
            **{k: row[k] for k in ("dataset", "target", "metric")},
            **more,
        )
        return found.marked(_plain(found.plain))

    def value(self, key: str) -> str:
        return self.number(key, scale=self.scale, decimals=self.digits)

    def effect(self) -> str:
        row = self.row
        if not math.isfinite(float(row["effect"])):
            return "-"
        unit = "percentage points" if self.scale != 1 else row["unit"]
        text = f"{self.value('effect')} {unit}"
        if math.isfinite(float(row["low"])):
            text += f" ({self.value('low')} to {self.value('high')})"
        text += f"<br>{self.value('mean_candidates')} against {self.value('mean_against')}"
        shown = row["compared"] != _whole(row)
        return text + (f"<br>of {self.text('compared')}" if shown else "")

    def probability(self) -> str:
        p = float(self.row["p"])
        if not math.isfinite(p):
            return "-"
        return self.number("p", decimals=1 - math.floor(math.log10(p)) if 0 < p < 0.001 else 3)


def _whole(row: Mapping[str, Any]) -> str:
    """The name of the comparison of all candidates of a claim at once."""
    against = f" against {row['against'].replace(', ', ' and ')}" if row["against"] else ""
    return row["candidates"].replace(", ", " and ") + against


def _plain(text: Any) -> str:
    return "".join(f"\\{c}" if c in "\\*_`<>[]|#" else c for c in str(text)).replace("\n", " ")


def claims_section(frame: pd.DataFrame, cells: CellIndex, source: str = "") -> list[str]:
    """Markdown: how many claims hold here, and each with its numbers beside what the paper says.

    Parameters
    ----------
    frame : a study's claims, as :func:`read_verdicts` gives them.
    cells : records the origin of every number. source : the file that the claims were read from, as it names it.
    """
    lines = ["## Claims", ""]
    if frame.empty:
        return [*lines, "None of the paper's claims bears on the candidates and data sets of this study.", ""]
    rows = Source(frame, source)
    counts = {
        word: cells.number("count_of_claims", rows, row="claims", column=word, argument={"verdict": word}, decimals=0)
        for word in VERDICTS
    }
    total = cells.number("count_of_claims", rows, row="claims", column="judged", decimals=0)
    lines += [
        f"Of {total} claims of the paper that bear on these candidates {counts['supported']} are supported here, "
        f"{counts['contradicted']} contradicted and {counts['undecided']} undecided. Supported: the two-sided Wilcoxon "
        "signed-rank test is significant at the level and the bootstrap interval of the mean difference lies on the "
        "claimed side; contradicted: the same on the other side. Pairs are splits where these are enough to reach the "
        "level, else test cases, which then speak of these trainings only. *Everywhere*: supported on every data set "
        "and class that was tested; contradicted where it is contradicted on some and supported on none. Where a claim "
        "needs several comparisons, the numbers are of the one that decides. Nothing is corrected for the number of "
        "claims.",
        "",
        "| " + " | ".join(HEADS) + " |",
        "|" + ":---|" * len(HEADS),
    ]
    last = None
    for record in frame.to_dict("records"):
        row = {str(key): value for key, value in record.items()}
        told = _Cells(row, cells, rows)
        first, last = row["claim"] != last, row["claim"]
        claim = f"{_plain(row['statement'])} ({_plain(row['section'])})" if first else ""
        paper = f"{row['published_outcome']}: {_plain(row['published'])}" if first else ""
        verdict = told.shown("verdict_of_claim", "verdict")
        here = f"**{verdict}**" + ("" if row["reason"] == "ok" else f": {told.text('reason')}")
        effect, p = told.effect(), told.probability()
        n = f"{told.number('n', decimals=0)} {told.text('unit_of_n')}"
        lines.append("| " + " | ".join((claim, where(row), here, effect, p, n, paper)) + " |")
    return [*lines, ""]
