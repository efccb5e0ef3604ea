"""The table every table part makes: candidates in rows, data set > metric > class in columns, and how it is filled."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from penumbra.metrics.rows import IMAGE
from penumbra.reporting.context import CandidateInfo, DatasetInfo, StudyContext, StudyData, target_title
from penumbra.reporting.estimators import UNIT_FACTORS, Estimate, estimate_of, significance_marks
from penumbra.reporting.numbers import CellIndex, Shown, row_filter
from penumbra.reporting.rows import Source

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
    published : name in the published table, where ``{target}`` stands for the column's class, and ``published_note``
        what stands in the way of a direct comparison.
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
    marks: tuple[Shown, ...] = ()


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


@dataclass(frozen=True)
class _Summary:
    """Mean and std over splits of one candidate's run means in one column, and the rows that they are made of."""

    source: Source
    where: str
    estimate: Estimate
    n_undefined: int
    n_rows: int

    @property
    def missing(self) -> bool:
        """Whether there is not one row."""
        return self.n_rows == 0

    @property
    def n_cases(self) -> int:
        """Number of defined values."""
        return self.n_rows - self.n_undefined


@dataclass(frozen=True)
class _Undefined:
    """What is told below the table of a cell that lacks values."""

    where: str
    column: str
    candidate: str
    splits: int
    summary: _Summary


def _summarise(source: Source, where: str) -> _Summary:
    values = source.rows(where).numbers()
    return _Summary(
        source=source,
        where=where,
        estimate=estimate_of(source, "mean_over_splits", where),
        n_undefined=sum(v != v for v in values),
        n_rows=len(values),
    )


def _pick(frame: pd.DataFrame, **equal: Any) -> pd.DataFrame:
    for key, value in equal.items():
        frame = frame[frame[key] == value]
    return frame


def _tested(column: Column, candidate: str) -> str | None:
    """The filter of a cell's test against the reference; None where values of bins are not tested."""
    if column.quantity.bin is not None:
        return None
    return row_filter(
        view="split",
        dataset=column.dataset.name,
        target=column.target,
        metric=column.quantity.metric,
        candidate=candidate,
    )


def _significant_digits(values: Sequence[float], scale: float) -> int:
    largest = max((abs(v) * scale for v in values if math.isfinite(v)), default=0.0)
    return 1 if largest == 0.0 else min(max(2 - math.floor(math.log10(largest)), 0), 6)


def _published(published: pd.DataFrame | None, tables: Sequence[str], column: Column) -> pd.DataFrame | None:
    if published is None or published.empty or column.quantity.published is None:
        return None
    name, metric = column.dataset.published_name, column.quantity.published
    of_class = metric.format(target=column.target)
    rows = _pick(published, dataset=name, metric=of_class)
    # What a paper gives of the image as a whole, all classes and cases, it lists under either name; and what names its
    # class in the metric under the latter.
    everything = column.target == IMAGE or of_class != metric
    rows = rows[rows["target"].isin({column.target, "all"} if everything else {column.target})]
    return rows[rows["table"].astype(str).isin(tables)]


MOST_NOTES = 12
"""So many cells that lack values are told below a table."""
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
        self.undefined: dict[str, _Undefined] = {}
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
        source = self.data.rows_of(dataset.name)
        summaries = {
            c.name: _summarise(
                source,
                row_filter(
                    dataset=dataset.name, candidate=c.name, metric=quantity.metric, target=target, bin=quantity.bin
                ),
            )
            for c in candidates
        }
        means = {name: summary.estimate.value for name, summary in summaries.items()}
        decimals = quantity.decimals
        if decimals is None:
            decimals = _significant_digits(list(means.values()), quantity.scale)
        column = Column(dataset, quantity, target, decimals)
        distance = {
            name: abs(round(mean * quantity.scale, decimals) - quantity.optimum * quantity.scale)
            for name, mean in means.items()
            if math.isfinite(mean) and quantity.optimum is not None
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
        mean, std, n = summary.estimate
        tests, tested = self.data.tested, _tested(column, candidate.name)
        p = p_holm = math.nan
        if tests is not None and tested is not None and len(tests.frame) and len(found := tests.rows(tested)):
            p, p_holm = float(found.first("p")), float(found.first("p_holm"))
            self.has_tests = True
        significant = p < self.context.level
        status = "missing" if summary.missing else "ok" if n else "undefined"
        told: dict[str, Any] = {
            "row": candidate.label,
            "column": str(column),
            "dataset": dataset.name,
            "candidate": candidate.name,
        }
        told |= {"target": column.target, "metric": quantity.metric}
        shown = self.index.number(
            "mean_over_splits",
            summary.source,
            summary.where,
            estimate=summary.estimate,
            scale=quantity.scale,
            decimals=column.decimals,
            unit=quantity.unit,
            n_expected=dataset.splits,
            n_cases=summary.n_cases,
            n_undefined=summary.n_undefined,
            p=p,
            p_holm=p_holm,
            significant=bool(significant),
            best=best,
            status=status,
            **told,
        )
        marks: tuple[Shown, ...] = ()
        if significance_marks(p, p_holm, self.context.level):
            marks += (
                self.index.number("significance", tests, str(tested), argument={"level": self.context.level}, **told),
            )
        if summary.n_undefined or n < dataset.splits:
            reserve = {"splits": dataset.splits}
            marks += (self.index.number("reserve", summary.source, summary.where, argument=reserve, **told),)
            where = f"{candidate.label}, {dataset.short}, {quantity.heading} of {target_title(column.target)}"
            self.undefined.setdefault(where, _Undefined(where, str(column), candidate.label, dataset.splits, summary))
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
                "mean": mean,
                "std": std,
                "n_splits": n,
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
            shown = self.index.number(
                "as_printed",
                self.data.printed,
                row_filter(**{key: row[key] for key in ("table", "dataset", "method", "target", "metric")}),
                row=f"published: {row['method']}",
                column=str(column),
                scale=factor,
                decimals=max(len(str(row[k]).partition(".")[2]) for k in ("mean", "std")),
                dataset=column.dataset.name,
                candidate=row["method"],
                target=column.target,
                metric=row["metric"],
                unit=row["unit"],
                significant=row["significant"] == "yes",
                status=" ".join(notes) or "ok",
            )
            self.published_tables.add(str(row["table"]))
            marks = (Shown("**"),) * (row["significant"] == "yes")
            for note in notes:
                mark = NOTE_MARKS[len(self.published_notes) % len(NOTE_MARKS)]
                marks += (Shown(self.published_notes.setdefault(note, mark)),)
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
                    bound = smallest_p_shown(self.index, d)
                    notes.append(
                        f"{d.short}: with {d.splits} split{'s' * (d.splits != 1)} that test cannot give less than "
                        f"p = {bound}, so no mark can appear."
                    )
        else:
            notes.append("No tests against the reference were given.")
        if self.published_tables:
            notes.append(
                "Lines 'published' repeat the paper's own numbers (table or section "
                f"{', '.join(sorted(self.published_tables))}), in the columns whose data set is the paper's."
            )
            notes += [f"{mark} {note.removesuffix('.')}." for note, mark in self.published_notes.items()]
        cells = list(self.undefined.values())
        notes += [f"‡ {self.reserve(cell)}." for cell in cells[:MOST_NOTES]]
        if len(cells) > MOST_NOTES:
            notes.append("‡ More cells lack values; the csv tells which.")
        return notes

    def reserve(self, cell: _Undefined) -> str:
        """What a cell lacks, in words."""
        summary = cell.summary
        if summary.missing:
            return f"{cell.where}: no metrics, the run is missing or failed"

        def number(estimator: str) -> Shown:
            return self.index.number(
                estimator, summary.source, summary.where, row=cell.candidate, column=f"{cell.column}, note", decimals=0
            )

        why = f" ({number('reasons_of_undefined')})" if summary.n_undefined else ""
        return (
            f"{cell.where}: {number('count_of_undefined')} of {number('count_of_values')} values undefined{why}, "
            f"{number('count_of_splits')} of {cell.splits} splits used"
        )

    def table(self, title: str, caption: str, blocks: Sequence[Block]) -> Table:
        """The finished table of blocks that this builder filled."""
        import pandas as pd

        tidy = pd.DataFrame(self.tidy).astype({"bin": "Int64"})
        return Table(self.index.exhibit, title, caption, tuple(blocks), tuple(self.notes()), tidy, self.index)


def smallest_p(n: int) -> float:
    """The smallest p-value a two-sided signed-rank test of ``n`` pairs can give: ``2 / 2**n``, at most 1."""
    return estimate_of(None, "smallest_p", argument={"pairs": n}).value


def smallest_p_shown(index: CellIndex, dataset: DatasetInfo) -> Shown:
    """The smallest p-value that a data set's number of splits allows, with all its digits (1 or 0.5, 0.25, ...)."""
    return index.number(
        "smallest_p", None, row=dataset.name, column="smallest p", argument={"pairs": dataset.splits},
        decimals=min(max(dataset.splits - 1, 0), 6), dataset=dataset.name,
    )  # fmt: skip


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
    "smallest_p_shown",
]
