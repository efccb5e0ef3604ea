"""The values that claims are tested on: by split or by case, of metrics and of what is derived from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from penumbra.metrics.composite import WEIGHTS, composite
from penumbra.metrics.rows import ALL_CASES, IMAGE, row_names
from penumbra.reporting.context import StudyContext, select_rows
from penumbra.reporting.numbers import row_filter, rows_digest
from penumbra.statistics.runs import run_means

Unit = Literal["split", "case"]
UNITS: dict[Unit, str] = {"split": "splits", "case": "cases"}
GAP = ("reliability_count", "reliability_confidence", "reliability_accuracy")


def confidence_gap(metrics: pd.DataFrame) -> pd.DataFrame:
    """Mean confidence minus accuracy over the voxels of a reliability diagram (Eq. 5.3 and 5.4), one row a run.

    Parameters
    ----------
    metrics : rows of the diagrams: the three metrics :data:`GAP`, or their namesakes of the closed convention.

    Returns
    -------
    Rows of scope ``"run"`` and metric ``"confidence_gap"``: a fraction in [-1, 1], positive for overconfidence,
    weighted by the voxels of each bin; NaN where no voxel is in any bin.
    """
    key = ["dataset", "candidate", "split", "target"]
    part = metrics["metric"].str.removeprefix("reliability_").str.removesuffix("_closed")
    wide = metrics.assign(part=part).pivot(index=[*key, "bin"], columns="part", values="value")
    wide = wide.reindex(columns=["count", "confidence", "accuracy"]).astype(float)
    gap = (wide["count"] * (wide["confidence"] - wide["accuracy"])).where(wide["count"] > 0, 0.0)
    sums = pd.DataFrame({"gap": gap, "count": wide["count"]}).groupby(level=key).sum(min_count=1)
    table = sums.index.to_frame(index=False)
    value = (sums["gap"] / sums["count"].where(sums["count"] > 0)).to_numpy(dtype=float)
    empty = pd.array([pd.NA] * len(table), dtype="Int64")
    return table.assign(case=ALL_CASES, scope="run", metric="confidence_gap", bin=empty, value=value)


@dataclass(frozen=True)
class _Derived:
    """How a quantity is composed: of which metrics, by what function, and whether of all candidates at once."""

    metrics: tuple[str, ...]
    compose: Callable[[pd.DataFrame], pd.DataFrame]
    relative: bool = False


DERIVED: dict[str, _Derived] = {
    "composite": _Derived(tuple(WEIGHTS), composite, relative=True),
    "confidence_gap": _Derived(GAP, confidence_gap),
}


@dataclass(frozen=True)
class Origin:
    """The rows of a metrics file that stand behind a number."""

    source: str
    filter: str
    n_rows: int
    rows_sha256: str


@dataclass(frozen=True)
class Quantities:
    """A study's metrics as tables of one value for each split or case and candidate.

    Parameters
    ----------
    metrics : the long metrics of one or several data sets.
    context : the study.
    sources : the file that holds the metrics of each data set.
    """

    metrics: pd.DataFrame
    context: StudyContext
    sources: dict[str, str] = field(default_factory=dict)
    _composed: dict[tuple[str, str], pd.DataFrame] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def _rows(self) -> pd.DataFrame:
        rows = select_rows(self.metrics, self.context)
        return rows if "row" in rows else rows.assign(row=row_names(rows))

    def plain(self, dataset: str, metric: str) -> str:
        """The name under which a metric stands in the file: a data set's convention decides between two."""
        return self.context.datasets[dataset].headline(metric)

    def _base(self, dataset: str, metric: str) -> pd.DataFrame:
        """The rows of the file that a metric is, or is composed of."""
        names = DERIVED[metric].metrics if metric in DERIVED else (metric,)
        wanted = [self.plain(dataset, name) for name in names]
        rows = self._rows[(self._rows["dataset"] == dataset) & self._rows["metric"].isin(wanted)]
        return rows if metric in DERIVED else rows[rows["bin"].isna()]

    def _long(self, dataset: str, metric: str) -> pd.DataFrame:
        if (dataset, metric) not in self._composed:
            base = self._base(dataset, metric)
            composed = DERIVED[metric].compose(base) if metric in DERIVED and len(base) else base
            self._composed[dataset, metric] = composed
        return self._composed[dataset, metric]

    def targets(self, dataset: str, which: str) -> tuple[str, ...]:
        """The targets that a test is made on: every class of a data set, or the image."""
        return (IMAGE,) if which == IMAGE else self.context.datasets[dataset].classes

    def values(self, dataset: str, metric: str, target: str, unit: Unit, candidates: Sequence[str]) -> pd.DataFrame:
        """One value a pairing unit and candidate.

        By split: the mean over the run's cases where it is defined. By case: the mean over the splits that test the
        case and in which the values of all ``candidates`` are defined, so that a case counts once; empty for what is
        measured over a whole run.

        Returns
        -------
        A row for each split (or case), sorted, a column for each of ``candidates``; NaN where undefined or missing.
        """
        long = self._long(dataset, metric)
        long = long[(long["target"] == target) & long["candidate"].isin(list(candidates))]
        if unit == "split":
            table = run_means(long).pivot(index="split", columns="candidate", values="value")
        else:
            cases = long[long["scope"] == "case"]
            here = cases.pivot_table(index=["split", "case"], columns="candidate", values="value", dropna=False)
            both = here.reindex(columns=list(candidates)).notna().all(axis=1)
            keys = pd.MultiIndex.from_frame(cases[["split", "case"]])
            cases = cases.assign(value=cases["value"].where(both.reindex(keys).to_numpy()))
            table = cases.groupby(["case", "candidate"])["value"].mean().unstack("candidate")
        return table.reindex(columns=list(candidates)).astype(np.float64)

    def origin(self, dataset: str, metrics: Sequence[str], target: str, candidates: Sequence[str]) -> Origin:
        """Where a claim's values come from; a score that is relative to all candidates rests on all of them."""
        rows = pd.concat([self._base(dataset, m) for m in metrics])
        relative = any(m in DERIVED and DERIVED[m].relative for m in metrics)
        used = list(self.context.candidates) if relative else list(candidates)
        rows = rows[(rows["target"] == target) & rows["candidate"].isin(used)]
        names: list[Any] = sorted(
            {self.plain(dataset, n) for m in metrics for n in (DERIVED[m].metrics if m in DERIVED else (m,))}
        )
        told = f"{row_filter(dataset=dataset, target=target)} and metric in {names!r} and candidate in {used!r}"
        count, digest = rows_digest(rows["row"])
        return Origin(self.sources.get(dataset, ""), told, count, digest)
