"""The table every table part makes: candidates in rows, data set > metric > class in columns, and how it is filled."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from penumbra.reporting.context import CandidateInfo, DatasetInfo, StudyContext, StudyData, target_title
from penumbra.reporting.numbers import MEAN_OVER_SPLITS, CellIndex, Shown, row_filter
from penumbra.statistics.runs import run_means

if TYPE_CHECKING:
    import pandas as pd

MAXIMUM_COLUMNS = 10
"""Data sets share one block of columns as long as it stays this narrow; thesis tables 5.2, 5.3a and 5.3b follow."""


@dataclass(frozen=True)
class Quantity:
    """A metric as a table shows it.

    Attributes
    ----------
    metric : its name in the long metrics.
    heading, unit : what the column says, the unit in the words of the reader (``%``, ``×10³``, ``nats``).
    optimum : the ideal value in the metric's own unit; the best candidate is the nearest to it. None: nothing is best.
    scale : what a value is multiplied by before it is shown.
    decimals : digits after the point; None shows three significant digits of the column's largest mean.
    per : one column for each class, or one for the image.
    published : name in the published table, and ``published_note`` what stands in the way of a direct comparison.
    bin : which bin of the metric, where it has any.
    """

    metric: str
    heading: str
    unit: str
    optimum: float | None
    scale: float = 1.0
    decimals: int | None = 1
    per: Literal["class", "image"] = "class"
    published: str | None = None
    published_note: str = ""
    bin: int | None = None


@dataclass(frozen=True)
class Column:
    """One column: a quantity of one target of one data set."""

    dataset: DatasetInfo
    quantity: Quantity
    target: str
    decimals: int

    @property
    def headings(self) -> tuple[str, str, str, str]:
        """Data set; metric with unit; optimal value; target."""
        quantity = self.quantity
        unit = f" [{quantity.unit}]" if quantity.unit else ""
        optimum = "" if quantity.optimum is None else f"opt. {quantity.optimum * quantity.scale:g}"
        return self.dataset.short, f"{quantity.heading}{unit}", optimum, target_title(self.target)

    def __str__(self) -> str:
        dataset, metric, _, target = self.headings
        return " > ".join((dataset, metric, target))


@dataclass(frozen=True)
class Cell:
    """One displayed number with what marks it: bold, significance, note."""

    shown: Shown | None = None
    best: bool = False
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One row: a candidate's own values, or a paper's for it."""

    group: str
    label: str
    kind: Literal["ours", "published"]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Block:
    """Columns that stand side by side, over all candidates; ``heads`` say what groups and labels of rows are."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    heads: tuple[str, str] = ("Framework", "Candidate")


@dataclass(frozen=True)
class Table:
    """A finished table: blocks to render, notes under it, the tidy numbers, and the index of its cells."""

    exhibit: str
    title: str
    caption: str
    blocks: tuple[Block, ...]
    notes: tuple[str, ...]
    tidy: pd.DataFrame
    index: CellIndex = field(repr=False)


TableFunction = Callable[[StudyData, StudyContext, str, str], Table]
"""What a table part builds: ``(data, context, exhibit id, title) -> Table``."""

Quantities = Callable[[DatasetInfo], Sequence[Quantity]]
"""The columns of a data set: data sets may follow different conventions."""


@dataclass
class _Summary:
    """Mean and std over splits of one candidate's run means in one column."""

    mean: float
    std: float
    n: int
    n_cases: int
    n_undefined: int
    reasons: tuple[str, ...]
    rows: Sequence[Any]
    missing: bool


def _summarise(rows: pd.DataFrame, means: pd.DataFrame) -> _Summary:
    defined = means["value"].dropna()
    bad = rows[rows["value"].isna()]
    return _Summary(
        mean=float(defined.mean()) if len(defined) else math.nan,
        std=float(defined.std(ddof=1)) if len(defined) > 1 else math.nan,
        n=len(defined),
        n_cases=int(rows["value"].notna().sum()),
        n_undefined=len(bad),
        reasons=tuple(sorted({str(s) for s in bad["status"]})),
        rows=rows["row"].tolist(),
        missing=rows.empty,
    )


def _pick(frame: pd.DataFrame, **equal: Any) -> pd.DataFrame:
    for key, value in equal.items():
        frame = frame[frame[key] == value]
    return frame


def _test(tests: pd.DataFrame | None, column: Column, candidate: str) -> dict[str, float]:
    if tests is None or tests.empty or column.quantity.bin is not None:
        return {}
    row = _pick(
        tests,
        dataset=column.dataset.name,
        target=column.target,
        metric=column.quantity.metric,
        view="split",
        candidate=candidate,
    )
    return {} if row.empty else {"p": float(row["p"].iloc[0]), "p_holm": float(row["p_holm"].iloc[0])}


def _significant_digits(values: Sequence[float], scale: float) -> int:
    largest = max((abs(v) * scale for v in values if math.isfinite(v)), default=0.0)
    return 1 if largest == 0.0 else min(max(2 - math.floor(math.log10(largest)), 0), 6)


def _published(published: pd.DataFrame | None, tables: Sequence[str], column: Column) -> pd.DataFrame | None:
    if published is None or published.empty or column.quantity.published is None:
        return None
    name, metric = column.dataset.published_name, column.quantity.published
    rows = _pick(published, dataset=name, target=column.target, metric=metric)
    return rows[rows["table"].astype(str).isin(tables)]


UNIT_FACTORS = {"%": 100.0, "1e-2": 1e2, "1e-3": 1e3, "1e-4": 1e4}
"""A published number is this multiple of the value it stands for."""
NOTE_MARKS = ("§", "¶", "‖", "§§", "¶¶", "‖‖")


def _blocks(datasets: Sequence[DatasetInfo], quantities: Quantities) -> list[list[tuple[DatasetInfo, Quantity, str]]]:
    blocks: list[list[tuple[DatasetInfo, Quantity, str]]] = []
    for dataset in datasets:
        columns = [
            (dataset, quantity, target)
            for quantity in quantities(dataset)
            for target in (dataset.classes if quantity.per == "class" else ("image",))
        ]
        if blocks and len(blocks[-1]) + len(columns) <= MAXIMUM_COLUMNS:
            blocks[-1].extend(columns)
        else:
            blocks.append(columns)
    return blocks


class Builder:
    """Fills the blocks of one table, recording every number in the cell index as it is formatted."""

    def __init__(self, data: StudyData, context: StudyContext, exhibit: str, tables: Sequence[str]) -> None:
        self.data, self.context, self.tables = data, context, tables
        self.index = CellIndex(exhibit)
        self.tidy: list[dict[str, Any]] = []
        self.undefined: list[str] = []
        self.published_notes: dict[str, str] = {}
        self.published_tables: set[str] = set()
        self.has_tests = False

    def block(self, layout: Sequence[tuple[DatasetInfo, Quantity, str]]) -> Block:
        """One block, column after column."""
        candidates = list(self.context.candidates.values())
        columns, ours = [], []
        for dataset, quantity, target in layout:
            column, cells = self.column(dataset, quantity, target, candidates)
            columns.append(column)
            ours.append(cells)
        rows = []
        for group, members in self.context.groups.items():
            for candidate in members:
                at = candidates.index(candidate)
                label = candidate.short + (" (ref)" if candidate.name == self.context.reference else "")
                rows.append(Row(group, label, "ours", tuple(cells[at] for cells in ours)))
                rows += self.published_row(group, columns, candidate.label, "published")
            prefix = members[0].prefix
            if prefix:
                rows += self.published_row(
                    group, columns, f"{prefix}-* (mean of {len(members)})", f"published, mean of {len(members)}"
                )
        return Block(tuple(columns), tuple(rows))

    def column(
        self, dataset: DatasetInfo, quantity: Quantity, target: str, candidates: Sequence[CandidateInfo]
    ) -> tuple[Column, list[Cell]]:
        """One column: summaries of all candidates first, since the best one and the digits depend on all of them."""
        metrics = _pick(self.data.metrics, dataset=dataset.name, metric=quantity.metric, target=target)
        if quantity.bin is not None:
            metrics = _pick(metrics, bin=quantity.bin).assign(bin=None)
        means = run_means(metrics)
        summaries = {
            c.name: _summarise(_pick(metrics, candidate=c.name), _pick(means, candidate=c.name)) for c in candidates
        }
        decimals = quantity.decimals
        if decimals is None:
            decimals = _significant_digits([s.mean for s in summaries.values()], quantity.scale)
        column = Column(dataset, quantity, target, decimals)
        distance = {
            name: abs(round(s.mean * quantity.scale, decimals) - quantity.optimum * quantity.scale)
            for name, s in summaries.items()
            if math.isfinite(s.mean) and quantity.optimum is not None
        }
        nearest = min(distance.values(), default=math.nan)
        return column, [
            self.cell(
                column,
                c,
                summaries[c.name],
                c.name in distance and math.isclose(distance[c.name], nearest, abs_tol=1e-12),
            )
            for c in candidates
        ]

    def cell(self, column: Column, candidate: CandidateInfo, summary: _Summary, best: bool) -> Cell:
        """One cell, its record, and its line of the tidy table."""
        quantity, dataset = column.quantity, column.dataset
        test = _test(self.data.tests, column, candidate.name)
        p, p_holm = test.get("p", math.nan), test.get("p_holm", math.nan)
        significant = p < self.context.level
        marks = ("**",) * significant + ("†",) * (significant and p_holm < self.context.level)
        self.has_tests |= bool(test)
        if summary.n_undefined or summary.n < dataset.splits:
            marks += ("‡",)
            where = f"{candidate.label}, {dataset.short}, {quantity.heading} of {target_title(column.target)}"
            if summary.missing:
                self.undefined.append(f"{where}: no metrics, the run is missing or failed")
            else:
                why = f" ({'; '.join(summary.reasons)})" if summary.reasons else ""
                self.undefined.append(
                    f"{where}: {summary.n_undefined} of {summary.n_cases + summary.n_undefined} values undefined{why}, "
                    f"{summary.n} of {dataset.splits} splits used"
                )
        status = "missing" if summary.missing else "ok" if summary.n else "undefined"
        shown = self.index.number(
            summary.mean,
            summary.std,
            row=candidate.label,
            column=str(column),
            estimator=MEAN_OVER_SPLITS,
            n=summary.n,
            scale=quantity.scale,
            decimals=column.decimals,
            rows=summary.rows,
            dataset=dataset.name,
            candidate=candidate.name,
            target=column.target,
            metric=quantity.metric,
            unit=quantity.unit,
            n_expected=dataset.splits,
            n_cases=summary.n_cases,
            n_undefined=summary.n_undefined,
            p=p,
            p_holm=p_holm,
            significant=bool(significant),
            best=best,
            status=status,
            source=self.data.source(dataset.name),
            filter=row_filter(candidate=candidate.name, metric=quantity.metric, target=column.target, bin=quantity.bin),
        )
        if summary.missing:
            shown = Shown("missing (n=0)")
            self.index.records[-1]["displayed"] = str(shown)
        published = _published(self.data.published, self.tables, column)
        match = None if published is None else _pick(published, method=candidate.label)
        theirs = {} if match is None or match.empty else match.iloc[0].to_dict()
        self.tidy.append(
            {
                "exhibit": self.index.exhibit,
                "dataset": dataset.name,
                "group": candidate.group,
                "candidate": candidate.name,
                "label": candidate.label,
                "metric": quantity.metric,
                "target": column.target,
                "bin": quantity.bin,
                "mean": summary.mean,
                "std": summary.std,
                "n_splits": summary.n,
                "n_splits_expected": dataset.splits,
                "n_values": summary.n_cases,
                "n_undefined": summary.n_undefined,
                "optimum": quantity.optimum,
                "best": best,
                "p": p,
                "p_holm": p_holm,
                "significant": bool(significant),
                "status": status,
                "published_mean": theirs.get("mean", math.nan),
                "published_std": theirs.get("std", math.nan),
                "published_unit": theirs.get("unit"),
                "published_significant": theirs.get("significant"),
                "published_table": theirs.get("table"),
            }
        )
        return Cell(shown, best, marks)

    def published_row(self, group: str, columns: Sequence[Column], method: str, label: str) -> list[Row]:
        """A paper's values for a method, where it has any for these data sets; its printed digits are kept."""
        cells = []
        for column in columns:
            rows = _published(self.data.published, self.tables, column)
            rows = None if rows is None else _pick(rows, method=method)
            if rows is None or rows.empty:
                cells.append(Cell())
                continue
            row = rows.iloc[0]
            factor = UNIT_FACTORS.get(str(row["unit"]), 1.0)
            remark = row.get("note")
            notes = [n for n in (column.quantity.published_note, remark if isinstance(remark, str) else "") if n]
            mean, std = float(row["mean"]) / factor, float(row["std"]) / factor
            shown = self.index.number(
                mean,
                std if math.isfinite(std) else None,
                row=f"published: {row['method']}",
                column=str(column),
                estimator=f"as printed in {row['table']}",
                n=1,
                scale=factor,
                decimals=max(len(str(row[k]).partition(".")[2]) for k in ("mean", "std")),
                dataset=column.dataset.name,
                candidate=row["method"],
                target=column.target,
                metric=row["metric"],
                unit=row["unit"],
                significant=row["significant"] == "yes",
                source=f"published table, table {row['table']}",
                status=" ".join(notes) or "ok",
            )
            self.published_tables.add(str(row["table"]))
            marks = ("**",) * (row["significant"] == "yes")
            for note in notes:
                mark = NOTE_MARKS[len(self.published_notes) % len(NOTE_MARKS)]
                marks += (self.published_notes.setdefault(note, mark),)
            cells.append(Cell(shown, False, marks))
        return [Row(group, label, "published", tuple(cells))] if any(cell.shown for cell in cells) else []

    def notes(self) -> list[str]:
        """What stands below the table: how its numbers came about, and what each mark means."""
        context = self.context
        counts = ", ".join(f"{d.short}: {d.splits}" for d in context.datasets.values())
        level = f"{context.level:g}"
        reference = context.candidates[context.reference].label
        notes = [
            f"Mean ± standard deviation (ddof = 1) over trainings, one training a split ({counts}), of the mean over "
            "the test cases of each; n/a where one training alone gives no deviation. Bold: best mean of the column, "
            "as shown."
        ]
        if self.has_tests:
            notes.append(
                f"** p < {level}, two-sided Wilcoxon signed-rank test against {reference} (ref), paired by split, not "
                f"corrected; † still below {level} after Holm's correction."
            )
            for d in context.datasets.values():
                if smallest_p(d.splits) >= context.level:
                    notes.append(
                        f"{d.short}: with {d.splits} split{'s' * (d.splits != 1)} that test cannot give less than "
                        f"p = {smallest_p(d.splits):g}, so no mark can appear."
                    )
        else:
            notes.append("No tests against the reference were given.")
        if self.published_tables:
            notes.append(
                "Lines 'published' repeat the paper's own numbers (table or section "
                f"{', '.join(sorted(self.published_tables))}), in the columns whose data set is the paper's."
            )
            notes += [f"{mark} {note.removesuffix('.')}." for note, mark in self.published_notes.items()]
        return notes + [f"‡ {line}." for line in _merged(self.undefined)]

    def table(self, title: str, caption: str, blocks: Sequence[Block]) -> Table:
        """The finished table of blocks that this builder filled."""
        import pandas as pd

        tidy = pd.DataFrame(self.tidy).astype({"bin": "Int64"})
        return Table(self.index.exhibit, title, caption, tuple(blocks), tuple(self.notes()), tidy, self.index)


def smallest_p(n: int) -> float:
    """The smallest p-value a two-sided signed-rank test of ``n`` pairs can give: ``2 / 2**n``, at most 1."""
    return min(1.0, 2.0 / 2.0**n)


def fill(
    data: StudyData,
    context: StudyContext,
    exhibit: str,
    title: str,
    quantities: Quantities,
    *,
    caption: str,
    published_tables: Sequence[str] = (),
) -> Table:
    """A table of the ``quantities`` of each data set, for all data sets and candidates of ``context``.

    The mean over the cases of a run is taken first, then mean and std (ddof=1) over splits. The best mean of each
    column as displayed is bold; ``**`` marks p < level of the two-sided Wilcoxon test against the reference, paired by
    split and not corrected, as the thesis does; ``†`` marks that it stays below the level after Holm's correction.

    Parameters
    ----------
    published_tables : names of the tables (column ``table``) of the published numbers that this table stands beside.
    """
    builder = Builder(data, context, exhibit, published_tables)
    blocks = [builder.block(layout) for layout in _blocks(list(context.datasets.values()), quantities)]
    return builder.table(title, caption, blocks)


def _merged(lines: list[str], most: int = 12) -> list[str]:
    kept = list(dict.fromkeys(lines))
    return kept if len(kept) <= most else [*kept[:most], f"and {len(kept) - most} more cells, told in the csv"]


__all__ = [
    "Block",
    "Builder",
    "Cell",
    "Column",
    "Quantities",
    "Quantity",
    "Row",
    "Table",
    "TableFunction",
    "fill",
    "smallest_p",
]
