"""The judged claims of a study as text: read from ``claims.csv``, told as Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penumbra.claims.judge import COLUMNS, EVERYWHERE
from penumbra.errors import PenumbraError
from penumbra.reporting.context import target_title
from penumbra.reporting.numbers import CellIndex

if TYPE_CHECKING:
    import pandas as pd

VERDICTS = ("supported", "contradicted", "undecided")
HUNDRED = ("fraction", "share")
"""Units that start so are shown in per cent, their differences in percentage points."""
TEXTS = ("against", "compared", "reason", "source", "filter", "rows_sha256")
HEADS = ("claim", "where", "here", "effect", "p", "n", "the paper")


def read_verdicts(path: str | Path) -> pd.DataFrame:
    """A study's ``claims.csv``, with the columns of :data:`penumbra.claims.judge.COLUMNS`.

    Raises
    ------
    PenumbraError : the file cannot be read or lacks a column.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype={"section": str, **dict.fromkeys(TEXTS, str)})
        table = table[list(COLUMNS)]
    except (OSError, ValueError, KeyError) as error:
        raise PenumbraError(
            f"cannot read the claims: {error}", file=path, cure="remove the file, so that it is made again"
        ) from error
    return table.assign(**{name: table[name].fillna("") for name in TEXTS})


def where(row: Mapping[str, Any]) -> str:
    """The data set and class that a verdict is about."""
    if row["dataset"] == EVERYWHERE:
        return "everywhere"
    return f"`{row['dataset']}`" + ("" if row["target"] == "image" else f", {target_title(row['target'])}")


def singles(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of single data sets and classes."""
    return frame[frame["dataset"] != EVERYWHERE]


def overall(frame: pd.DataFrame) -> pd.Series[str]:
    """One verdict a claim: over all data sets and classes, or the only one that was tested."""
    every = frame[frame["dataset"] == EVERYWHERE].set_index("claim")["verdict"]
    alone = singles(frame)
    alone = alone[~alone["claim"].isin(every.index)].sort_values("n", ascending=False, kind="stable")
    verdicts = {**every.to_dict(), **alone.drop_duplicates("claim").set_index("claim")["verdict"].to_dict()}
    return frame["claim"].drop_duplicates().map(verdicts)


def digits(value: float, scale: float) -> int:
    """Digits after the point that show two digits of a value, from 1 to 6."""
    size = abs(value) * scale
    return 1 if not math.isfinite(size) or size == 0 else min(max(1 - math.floor(math.log10(size)), 1), 6)


def scale_of(unit: str) -> float:
    """What a value is multiplied by to be shown."""
    return 100.0 if unit.startswith(HUNDRED) else 1.0


class _Cells:
    """The numbers of one row, each through the cell index."""

    def __init__(self, row: Mapping[str, Any], cells: CellIndex) -> None:
        self.row, self.cells = row, cells
        self.scale = scale_of(row["unit"])
        self.digits = digits(float(row["effect"]), self.scale)

    def number(self, key: str, *, scale: float = 1.0, decimals: int = 1) -> str:
        row = self.row
        shown = self.cells.number(
            float(row[key]),
            row=f"{row['claim']}, {row['dataset']}, {row['target']}",
            column=key,
            estimator=f"{key} of claims.csv" + (f": {row['effect_kind']}" if key == "effect" else ""),
            n=int(row["n"]),
            scale=scale,
            decimals=decimals,
            **{k: row[k] for k in ("dataset", "target", "metric", "source", "filter")},
        )
        record = self.cells.records[-1]
        record |= {"candidate": row["candidates"], "n_rows": int(row["n_rows"]), "rows_sha256": row["rows_sha256"]}
        record["unit"] = row["unit"] if key not in ("p", "n") else None
        return str(shown)

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
        return text + (f"<br>of {row['compared']}" if shown else "")

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


def claims_section(frame: pd.DataFrame, cells: CellIndex) -> list[str]:
    """Markdown: how many claims hold here, and each with its numbers beside what the paper says.

    Parameters
    ----------
    frame : a study's claims, as :func:`read_verdicts` gives them.
    cells : records the origin of every number.
    """
    lines = ["## Claims", ""]
    if frame.empty:
        return [*lines, "None of the paper's claims bears on the candidates and data sets of this study.", ""]
    verdicts = overall(frame)
    counts = {
        word: cells.number(
            float((verdicts == word).sum()), row="claims", column=word, n=len(verdicts), decimals=0,
            estimator=f"count of claims that are {word}, over all data sets and classes where tested on several",
        )
        for word in VERDICTS
    }  # fmt: skip
    total = cells.number(
        float(len(verdicts)), row="claims", column="judged", n=len(verdicts), decimals=0, estimator="count of claims"
    )
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
        told = _Cells(row, cells)
        first, last = row["claim"] != last, row["claim"]
        claim = f"{_plain(row['statement'])} ({_plain(row['section'])})" if first else ""
        paper = f"{row['published_outcome']}: {_plain(row['published'])}" if first else ""
        reason = "" if row["reason"] == "ok" else f": {_plain(row['reason'])}"
        n = f"{told.number('n', decimals=0)} {row['unit_of_n']}"
        here = f"**{row['verdict']}**{reason}"
        lines.append("| " + " | ".join((claim, where(row), here, told.effect(), told.probability(), n, paper)) + " |")
    return [*lines, ""]
