"""What became of a paper's claims: a row a claim, its verdict on every data set and class, and the size of the effect.

Read from the study's ``claims.csv``. Verdicts are told by symbol, colour and word; beside them stands the standardised
effect (matched-pairs rank-biserial correlation, turned so that 1 is wholly as claimed) with its bootstrap interval, and
what the paper itself reports.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penumbra.figures._inputs import Drawn, FigureInputs, FigurePart, Marks, pick, row_filter
from penumbra.reporting.context import StudyContext, target_title

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from penumbra.reporting.rows import Source

NEEDS = ("claims",)

SYMBOLS = {"supported": ("o", "#2f7ebc"), "contradicted": ("X", "#c64a0c"), "undecided": ("o", "#8a8a8a")}
"""Marker and colour of a verdict; undecided is hollow. Blue, orange and grey stay apart for colour-blind readers."""

STATEMENT, CELL, EFFECT, PUBLISHED = 2.2, 0.58, 1.25, 1.45
"""Widths of the columns in inches."""
GAP, HEAD, FOOT, LINE, LEAST = 0.12, 0.42, 0.36, 0.098, 0.4
"""HEAD and LEAST are the least heights, of the columns' heads and of a claim."""
SMALL, TINY = 6.0, 5.0
CHARACTERS = 22.5
"""Characters of :data:`SMALL` type to the inch, on average."""


@dataclass(frozen=True)
class _Column:
    """Where the verdicts on one data set and target stand: centre in inches, and the letter that the effects go by."""

    x: float
    letter: str


def build() -> FigurePart:
    """The scorecard of a study's claims."""
    return Drawn(_draw, _caption)


def _caption(context: StudyContext) -> str:
    return (
        "What became of the paper's claims. One row a claim, with its section in the paper; for each data set and "
        "class the verdict and what it rests on. Supported (filled circle): the two-sided Wilcoxon signed-rank test of "
        f"the pairs gives p < {context.level:g}, or the level that the claim states, and the bootstrap interval of the "
        "mean difference lies on the claimed side. Contradicted (cross): the same on the other side. Undecided (hollow "
        "circle): anything else. Pairs are splits, or test cases where the splits are too few to reach the level. "
        "Everywhere: supported on all data sets and classes that were tested; contradicted if on some, and supported "
        "on none. Effect: matched-pairs rank-biserial correlation of the differences, 1 where every pair agrees with "
        "the claim, -1 where none does, with its percentile bootstrap interval (a point where all pairs agree); "
        "letters as in the columns. Published: whether the paper found it significant, and its numbers. No correction "
        "for the number of claims."
    )


def _shown(frame: pd.DataFrame, context: StudyContext) -> pd.DataFrame:
    """The rows of the data sets shown; verdicts over all data sets only where all are."""
    from penumbra.reporting.verdicts import EVERYWHERE

    here = frame["dataset"].isin(list(context.datasets))
    complete = (here | (frame["dataset"] == EVERYWHERE)).all()
    return frame if complete else frame[here]


def _columns(frame: pd.DataFrame, context: StudyContext) -> dict[tuple[str, str], _Column]:
    """A column for everywhere, where there is one, and for every class of a data set; the image spans its classes."""
    from penumbra.reporting.verdicts import EVERYWHERE

    columns: dict[tuple[str, str], _Column] = {}
    x = STATEMENT + GAP
    if (frame["dataset"] == EVERYWHERE).any():
        columns[EVERYWHERE, EVERYWHERE] = _Column(x + CELL / 2, "")
        x += CELL
    for letter, dataset in zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", context.datasets.values(), strict=False):
        targets = [c for c in dataset.classes if len(pick(frame, dataset=dataset.name, target=c))]
        width = CELL * max(1, len(targets))
        for k, target in enumerate(targets):
            number = f"{k + 1}" if len(targets) > 1 else ""
            columns[dataset.name, target] = _Column(x + CELL * (k + 0.5), letter + number)
        columns[dataset.name, "image"] = _Column(x + width / 2, letter)
        x += width
    return columns


def _wrapped(text: str, width: float, size: float = SMALL) -> list[str]:
    """Lines that fit into ``width`` inches; a number stays with its per cent sign."""
    return textwrap.wrap(text.replace(" %", "\u00a0%"), max(8, int(width * CHARACTERS * SMALL / size)))


def _draw(inputs: FigureInputs, context: StudyContext) -> tuple[Figure, pd.DataFrame]:
    from penumbra.figures import _style
    from penumbra.reporting.rows import Source
    from penumbra.reporting.sources import told_source
    from penumbra.reporting.verdicts import read_verdicts

    path = inputs.judged_claims
    every, marks = read_verdicts(path), Marks()
    frame, source = _shown(every, context), Source(every, told_source(path, inputs.results))
    columns = _columns(frame, context)
    claims = list(dict.fromkeys(frame["claim"]))
    first = {claim: pick(frame, claim=claim).iloc[0] for claim in claims}
    statements = {c: _wrapped(f"{r['statement']} ({r['section']})", STATEMENT) for c, r in first.items()}
    papers = {
        c: _wrapped(f"{r['published_outcome']}: {r['published']}", PUBLISHED - GAP, TINY) for c, r in first.items()
    }
    heights = {c: max(LEAST, LINE * (1 + max(len(statements[c]), len(papers[c]) * TINY / SMALL))) for c in claims}

    cells = max([STATEMENT + GAP, *(c.x + CELL / 2 for c in columns.values())])
    width = cells + GAP + EFFECT + GAP + 0.1 + PUBLISHED
    head = _head(columns, context)
    height = head + sum(heights.values()) + FOOT
    figure = _style.new_figure(width, height)
    figure.set_layout_engine("none")
    page = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    page.set(xlim=(0.0, width), ylim=(height, 0.0))
    page.set_axis_off()
    body = height - head - FOOT
    effects = figure.add_axes(((cells + GAP) / width, FOOT / height, EFFECT / width, max(body, 0.01) / height))
    effects.set(xlim=(-1.12, 1.12), ylim=(head + max(body, 0.01), head))
    _dress(effects)
    _heads(page, columns, context, cells, head)
    if not claims:
        page.text(GAP, head, "None of the paper's claims bears on this study.", va="top", fontsize=SMALL)
    top = head
    for number, claim in enumerate(claims):
        middle = top + heights[claim] / 2
        if number % 2 == 0:
            page.axhspan(top, top + heights[claim], color="#f4f4f4", lw=0, zorder=0)
        page.text(GAP / 2, middle, "\n".join(statements[claim]), va="center", fontsize=SMALL, linespacing=1.15)
        page.text(
            width - PUBLISHED, middle, "\n".join(papers[claim]), va="center", fontsize=TINY, linespacing=1.15,
            color=_style.NEUTRAL,
        )  # fmt: skip
        rows = pick(frame, claim=claim)
        measured = rows[rows["standardised"].notna()]
        step = min(0.11, 0.8 * heights[claim] / max(len(measured), 1))
        for row in _records(rows):
            _verdict(page, columns[row["dataset"], row["target"]], middle, row, marks, source)
        for k, row in enumerate(_records(measured)):
            letter = columns[row["dataset"], row["target"]].letter if len(columns) > 2 else ""
            _effect(effects, middle + step * (k - (len(measured) - 1) / 2), letter, row, marks, source)
        top += heights[claim]
    return figure, marks.frame()


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def _dress(effects: Axes) -> None:
    effects.axvspan(0, 1.12, color="#2f7ebc", alpha=0.07, lw=0, zorder=0)
    effects.axvline(0, color="#555555", lw=0.6)
    effects.set_xticks([-1, 0, 1], ["-1\nagainst", "0", "1\nas claimed"])
    effects.set_yticks([])
    effects.patch.set_alpha(0.0)
    effects.spines["left"].set_visible(False)
    effects.tick_params(axis="x", labelsize=TINY)


def _class_title(column: _Column, target: str) -> list[str]:
    return _wrapped(f"{column.letter}: {target_title(target)}", CELL, TINY)


def _titles(columns: dict[tuple[str, str], _Column], context: StudyContext) -> Iterator[tuple[str, list[str], float]]:
    """Each data set's name, the lines of its title, and how far above the first claim the last one stands."""
    for dataset in context.datasets.values():
        within = [_class_title(c, t) for (d, t), c in columns.items() if d == dataset.name and t != "image"]
        lines = _wrapped(dataset.short, CELL * max(1, len(within)))
        yield dataset.name, lines, max([0.06, *(0.1 + LINE * max(2, len(title)) for title in within)])


def _head(columns: dict[tuple[str, str], _Column], context: StudyContext) -> float:
    """How high the heads of the columns are, in inches."""
    return max([HEAD, *(place + LINE * (1 + len(lines)) for _, lines, place in _titles(columns, context))])


def _heads(
    page: Axes, columns: dict[tuple[str, str], _Column], context: StudyContext, cells: float, head: float
) -> None:
    from penumbra.reporting.verdicts import EVERYWHERE

    bold: dict[str, Any] = {"fontsize": SMALL, "fontweight": "bold", "va": "bottom"}
    page.text(GAP / 2, head - 0.06, "Claim (section)", **bold)
    page.text(cells + GAP + EFFECT / 2, head - 0.06, "Effect towards the claim", ha="center", **bold)
    page.text(cells + GAP + EFFECT + GAP + 0.1, head - 0.06, "Published", **bold)
    if (EVERYWHERE, EVERYWHERE) in columns:
        page.text(columns[EVERYWHERE, EVERYWHERE].x, head - 0.06, "everywhere", ha="center", va="bottom", fontsize=TINY)
    for (_, target), column in columns.items():
        if target not in ("image", EVERYWHERE):
            title = "\n".join(_class_title(column, target))
            page.text(column.x, head - 0.06, title, ha="center", va="bottom", fontsize=TINY)
    for dataset, lines, place in _titles(columns, context):
        where = columns[dataset, "image"].x, head - place
        page.text(*where, "\n".join(lines), ha="center", **bold | {"fontsize": TINY})


def _verdict(page: Axes, column: _Column, y: float, row: dict[str, Any], marks: Marks, source: Source) -> None:
    marker, colour = SYMBOLS[row["verdict"]]
    face = "white" if row["verdict"] == "undecided" else colour
    page.scatter([column.x], [y - 0.1], s=26, marker=marker, facecolor=face, edgecolor=colour, linewidths=0.9, zorder=3,
                 gid=f"verdict {row['claim']}")  # fmt: skip
    told: dict[str, Any] = _told(row) | {"x": column.x, "y": y}
    verdict = marks.add("verdict", "verdict_of_claim", source, _where(row), text=True, unit=row["unit"], **told)
    basis = marks.add("n", "basis_of_claim", source, _where(row), text=True, **told)
    page.text(column.x, y + 0.045, verdict.shown, ha="center", va="center", fontsize=TINY, color=colour)
    page.text(column.x, y + 0.13, basis.shown, ha="center", va="center", fontsize=TINY - 0.5, color="#666666")


def _effect(effects: Axes, y: float, letter: str, row: dict[str, Any], marks: Marks, source: Source) -> None:
    marker, colour = SYMBOLS[row["verdict"]]
    face = "white" if row["verdict"] == "undecided" else colour

    def at(mark: str, column: str) -> float:
        return marks.add(mark, "column_of_claims", source, _where(row), argument={"column": column},
                         x=lambda found: found.value, y=y, **_told(row)).value  # fmt: skip

    if math.isfinite(row["standardised_low"]):
        low, high = (at("interval", f"standardised_{side}") for side in ("low", "high"))
        effects.hlines(y, low, high, color=colour, lw=0.9)
    effects.scatter([at("effect", "standardised")], [y], s=13, marker=marker, facecolor=face, edgecolor=colour,
                    linewidths=0.8, zorder=3, clip_on=False, gid=f"effect {row['claim']}")  # fmt: skip
    if letter:
        effects.text(-1.12, y, letter, ha="right", va="center", fontsize=TINY - 1, color="#666666")


def _where(row: dict[str, Any]) -> str:
    return row_filter(claim=row["claim"], dataset=row["dataset"], target=row["target"])


def _told(row: dict[str, Any]) -> dict[str, Any]:
    """What every mark of one verdict says of it."""
    return {
        "dataset": row["dataset"],
        "panel": row["target"],
        "candidate": row["candidates"],
        "name": row["claim"],
        "status": "ok" if row["n"] else row["reason"],
    }
