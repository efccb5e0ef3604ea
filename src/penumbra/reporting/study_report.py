"""The report of one study as one Markdown file: what ran, its tables and figures, and what the tests say."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penumbra import parts
from penumbra.claims.section import claims_section
from penumbra.errors import PenumbraError
from penumbra.files import write_table, write_text
from penumbra.metrics.rows import METRICS
from penumbra.reporting.context import StudyContext, target_title
from penumbra.reporting.data import read_tests
from penumbra.reporting.estimators import better_or_worse, significance_marks
from penumbra.reporting.numbers import CellIndex, Shown, row_filter
from penumbra.reporting.rows import Source
from penumbra.reporting.sources import results_folder, told_source
from penumbra.reporting.verdicts import read_verdicts

if TYPE_CHECKING:
    import pandas as pd

TOLD = ("dice", "avd", "mse", "ltpr", "lfdr", "brier", "entropy_error", "ece", "composite")
"""Metrics whose tests are told in words: the classes' own where there are any; all others are counted only.

Of a metric with two conventions, the one that the data set shows.
"""

CELLS_SUFFIX = ".cells.csv"
"""The report's own numbers are indexed in ``report.cells.csv`` beside ``report.md``."""


@dataclass(frozen=True)
class _Unit:
    """How a metric's values are told in words: multiplied by ``scale``, in ``name``."""

    scale: float
    name: str


_PERCENT = _Unit(100.0, " percentage points")
_UNITS = {
    "fraction": _PERCENT,
    "fraction of reference volume": _PERCENT,
    "probability squared": _Unit(1e3, " × 10⁻³"),
    "probability squared x slices": _Unit(1e3, " × 10⁻³"),
    "fraction of reference lesions": _PERCENT,
    "share of voxels": _PERCENT,
    "share of voxels x slices": _PERCENT,
    "nat": _Unit(1.0, " nats"),
    "nat per voxel": _Unit(1e3, " × 10⁻³ nats per voxel"),
    "sum of z-scores": _Unit(1.0, " standard deviations"),
}


def _escape(text: Any) -> str:
    return "".join(f"\\{c}" if c in "\\*_`<>[]|#" else c for c in str(text)).replace("\n", " ")


def _digits(value: float, scale: float) -> int:
    size = abs(value) * scale
    return 1 if not math.isfinite(size) or size == 0 else min(max(1 - math.floor(math.log10(size)), 1), 6)


def flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A nested mapping as ``{"loss.name": "dice", ...}``; a part ``{"name": "dice"}`` stands as ``loss: dice``.

    Booleans and null are spelled as in YAML, lists as ``a, b``.
    """
    flat: dict[str, str] = {}
    for key, value in content.items():
        name = prefix if key == "name" and prefix else f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping):
            flat |= flatten(value, name) or {name: "{}"}
        elif isinstance(value, bool) or value is None:
            flat[name] = {True: "true", False: "false", None: "null"}[value]
        elif isinstance(value, list | tuple):
            flat[name] = ", ".join(map(str, value))
        else:
            flat[name] = str(value)
    return flat


def _table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    lines = ["| " + " | ".join(heads) + " |", "|" + ":---|" * len(heads)]
    return [*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows), ""]


def _datasets(context: StudyContext) -> list[str]:
    rows = []
    for dataset in context.datasets.values():
        evaluation = context.dataset_configuration[dataset.name].get("evaluation", {})
        rows.append(
            [
                f"`{dataset.name}`",
                _escape(dataset.title),
                f"`{dataset.preset}`",
                ", ".join(_escape(target_title(c)) for c in dataset.classes),
                ", ".join(_escape(c) for c in dataset.contrasts),
                dataset.splits,
                f"{dataset.hard_reference} / {dataset.soft_reference}",
                evaluation.get("binarisation", ""),
            ]
        )
    heads = ("data set", "title", "preset", "classes", "contrasts", "splits", "hard / soft reference", "binarisation")
    return ["## Data sets", "", *_table(heads, rows)]


def _spelled(value: Any) -> str:
    return next(iter(flatten({"value": value}).values()))


def _choices(context: StudyContext) -> list[str]:
    """The preset of every data set and candidate, each choice as it fell, and what deviates."""
    if not context.decisions:
        return []
    lines = [
        "## Presets and deviations",
        "",
        "Where a paper's text and its released code part, a *preset* says what is taken; `config/choices.yaml` holds "
        "every such choice. A data set's file, a recipe or the user may say otherwise: that is a **deviation**.",
        "",
    ]
    for dataset in context.datasets.values():
        described = context.presets.get(dataset.preset, "")
        lines += [f"### {_escape(dataset.short)}: preset `{dataset.preset}`", ""]
        lines += [_escape(described), ""] if described else []
        fell: dict[tuple[str, str, str, bool], list[str]] = {}
        for who, decisions in {
            "": context.decided(dataset.name),
            **{c: context.decided(dataset.name, c) for c in context.candidates},
        }.items():
            for d in decisions:
                key = (d["choice"], _spelled(d["expected"]), _spelled(d["used"]), d["deviates"])
                fell.setdefault(key, []).append(who)
        deviating = [key[0] for key in fell if key[3]]
        rows = [
            (
                f"`{choice}`",
                _escape(context.choices.get(choice, {}).get("title", "")),
                _whose(context, who),
                _escape(expected),
                f"**{_escape(used)}**" if deviates else _escape(used),
            )
            for (choice, expected, used, deviates), who in sorted(fell.items(), key=lambda item: not item[0][3])
        ]
        lines += _table(("choice", "what is decided", "of", f"`{dataset.preset}` takes", "used"), rows)
        lines += [_deviation_sentence(context, dataset.name), ""]
        for choice in dict.fromkeys(deviating):
            content = context.choices.get(choice, {})
            if content:
                lines.append(f"- `{choice}`: {_escape(content['note'])} ({_escape(content['source'])})")
        lines += [""] * bool(deviating)
    return lines


def _whose(context: StudyContext, who: Sequence[str]) -> str:
    if who == [""]:
        return "data set"
    if len(who) == len(context.candidates):
        return "all candidates"
    return ", ".join(_escape(context.candidates[c].label) for c in who)


def _deviation_sentence(context: StudyContext, dataset: str) -> str:
    """Who deviates from the preset, and who follows it in everything."""
    decided = {"the data set": context.decided(dataset)}
    decided |= {_escape(c.label): context.decided(dataset, name) for name, c in context.candidates.items()}
    deviating = [who for who, decisions in decided.items() if any(d["deviates"] for d in decisions)]
    if not deviating:
        return "No deviation: the data set and every candidate follow the preset."
    following = [who for who in decided if who not in deviating]
    rest = f" Following it in everything: {', '.join(following)}." if following else ""
    return f"Deviating from the preset, in what is bold: {', '.join(deviating)}.{rest}"


def _candidates(context: StudyContext) -> list[str]:
    lines = ["## Candidates", ""]
    lines += _table(
        ("candidate", "framework", "in tables and figures"),
        [
            (
                f"`{c.name}`" + (" (reference)" if c.name == context.reference else ""),
                _escape(c.group) or "-",
                _escape(c.label),
            )
            for c in context.candidates.values()
        ],
    )
    lines += [
        "Every choice as it was resolved for these runs: the candidate's file, the data set's recipe, and what the "
        "user laid over them. Where a paper's text and its code differ, the choice is one of these options.",
        "",
    ]
    for dataset in context.datasets.values():
        flat = {c: flatten(recipe) for c, recipe in context.recipes[dataset.name].items()}
        keys = [k for k in dict.fromkeys(k for f in flat.values() for k in f) if k != "label"]
        differing = [k for k in keys if len({f.get(k) for f in flat.values()}) > 1]
        lines += [f"### {_escape(dataset.short)}: what differs between the candidates", ""]
        heads = ("choice", *(_escape(context.candidates[c].label) for c in flat))
        lines += _table(heads, [(f"`{k}`", *(_escape(f.get(k, "-")) for f in flat.values())) for k in differing])
        lines += [f"<details><summary>{_escape(dataset.short)}: what all candidates share</summary>", ""]
        shared = next(iter(flat.values()), {})
        lines += _table(
            ("choice", "value"), [(f"`{k}`", _escape(shared.get(k, "-"))) for k in keys if k not in differing]
        )
        configuration = flatten(
            {
                k: v
                for k, v in context.dataset_configuration[dataset.name].items()
                if k not in ("title", "contrasts", "classes")
            }
        )
        lines += _table(("data set", "value"), [(f"`{k}`", _escape(v)) for k, v in configuration.items()])
        lines += ["</details>", ""]
    return lines


def _reading(context: StudyContext) -> list[str]:
    reference = _escape(context.candidates[context.reference].label)
    return [
        "## How to read the numbers",
        "",
        "- **mean ± std**: a metric is averaged over the test cases of a training first; mean and standard deviation "
        "(ddof = 1) are then taken over trainings, one a split. One training alone has no deviation: n/a.",
        "- **undefined**: a metric that cannot be computed (no reference voxel, a prediction that is not finite) is "
        "left out of the mean and counted below its table, never set to zero.",
        "- **[preset]** behind a data set's name: it was prepared, split, trained and shown under that preset; without "
        "one, under `published`.",
        f"- **tests**: two-sided Wilcoxon signed-rank test of each candidate against {reference}, paired by split, on "
        f"the trainings' means. \\*\\* marks p < {context.level:g} without correction, as the thesis does; † marks "
        "that it stays below after Holm's correction over the candidates.",
        "- **ECE**: expected calibration error over ten bins of the highest class probability, background included. As "
        "published, the bins are open on the right, so that voxels of confidence exactly 1, most of the background, "
        "count nowhere; `closed` counts them in the last bin. The two differ widely. Which comes first, or stands "
        "alone, is what the data set's `evaluation.last_bin` says.",
        "- **MSE**: squared error of the binarised prediction against the hard reference. Published values divide it "
        "by the voxels of one slice, so that it grows with the number of slices; `evaluation.squared_error: voxels` "
        "divides by all.",
        "- **entropy**: natural logarithm, one term −p log p a voxel and class, summed (Eq. 5.1); per voxel divided by "
        "the number of voxels. The thesis leaves the normalisation of its own values open.",
        "- **where a number comes from**: `.cells.csv` beside every table and this report, and the `.csv` of every "
        "figure, name for each number the metrics file, the filter of its rows, their digest and the estimator.",
        "",
    ]


def _relative(path: Path, out: Path) -> str:
    return Path(os.path.relpath(path, out.parent)).as_posix()


def _tables(exhibits: Mapping[str, Any], files: Sequence[Path], out: Path) -> list[str]:
    lines = ["## Tables", ""]
    for name in exhibits:
        path = _find(files, f"{name}.md")
        links = ", ".join(
            f"[{suffix}]({_relative(path.with_suffix('.' + suffix), out)})" for suffix in ("csv", "tex", "cells.csv")
        )
        lines += [path.read_text(encoding="utf-8").rstrip(), "", f"`{name}`: {links}", ""]
    return lines


def _figures(exhibits: Mapping[str, Any], files: Sequence[Path], out: Path, context: StudyContext) -> list[str]:
    lines = ["## Figures", ""]
    for name, exhibit in exhibits.items():
        path = _find(files, f"{name}.png")
        part = parts.build("figure", exhibit["part"], exhibit.get("options") or {})
        links = ", ".join(f"[{suffix}]({_relative(path.with_suffix('.' + suffix), out)})" for suffix in ("pdf", "csv"))
        lines += [
            f"### {_escape(exhibit['title'])}",
            "",
            f"![{_escape(exhibit['title'])}]({_relative(path, out)})",
            "",
            _escape(part.caption(context.only(exhibit.get("datasets")))),
            "",
            f"`{name}`: {links}",
            "",
        ]
    return lines


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def _find(files: Sequence[Path], name: str) -> Path:
    found = [f for f in files if f.name == name]
    if not found:
        raise PenumbraError(f"{name} was not given to the report", cure="let the study's tables and figures be made")
    return found[0]


class _Sentences:
    """What the tests say, in words; every number goes through the cell index."""

    def __init__(self, context: StudyContext, index: CellIndex, source: Source) -> None:
        self.context, self.index, self.source = context, index, source

    def shown(self, row: Mapping[str, Any], estimator: str, column: str, **more: Any) -> Shown:
        """What an estimator makes of one line of ``tests.csv``."""
        told: dict[str, Any] = {k: row[k] for k in ("dataset", "target", "metric", "candidate")}
        return self.index.number(
            estimator,
            self.source,
            row_filter(view="split", **told),
            row=f"{row['metric']} of {row['target']}, {row['candidate']} against {row['reference']}",
            column=column,
            **told,
            **more,
        )

    def number(self, row: Mapping[str, Any], key: str, *, scale: float = 1.0, decimals: int = 1) -> str:
        """One number of one line of ``tests.csv``, as text."""
        argument = {"column": key}
        return str(self.shown(row, "column_of_tests", key, argument=argument, scale=scale, decimals=decimals))

    def probability(self, row: Mapping[str, Any], key: str) -> str:
        """A p-value: three decimals, more where it is small."""
        value = float(row[key])
        small = 0.0 < value < 0.001
        return self.number(row, key, decimals=1 - math.floor(math.log10(value)) if small else 3)

    def mark(self, row: Mapping[str, Any], key: str) -> str:
        """The mark that stands behind p (``**``) or the corrected p (``†``), with a space before it, or nothing."""
        level = self.context.level
        marks = significance_marks(float(row["p"]), float(row["p_holm"]), level)
        if len(marks) < {"p": 2, "p_holm": 3}[key]:
            return ""
        shown = self.shown(row, "significance", f"mark of {key}", argument={"level": level, "of": key})
        return f" {shown.marked(_escape(shown.plain))}"

    def difference(self, row: Mapping[str, Any]) -> str:
        """A candidate against the reference in one sentence."""
        metric = METRICS[row["metric"]]
        unit = _UNITS.get(metric.unit, _Unit(1.0, ""))
        difference = float(row["mean_difference"])
        decimals = _digits(difference, unit.scale)
        low, high = (self.number(row, k, scale=unit.scale, decimals=decimals) for k in ("ci_low", "ci_high"))
        candidate = _escape(self.context.candidates[row["candidate"]].label)
        reference = _escape(self.context.candidates[row["reference"]].label)
        mean = self.number(row, "mean_difference", scale=unit.scale, decimals=decimals)
        verdict = ""
        if better_or_worse(row, metric.better):
            verdict = f" ({self.shown(row, 'better_or_worse', 'verdict', argument={'better': metric.better})})"
        of = "" if row["target"] == "image" else f" of {_escape(target_title(row['target']))}"
        return (
            f"{metric.label}{of}: {candidate} minus {reference} is {mean}{unit.name}{verdict}, "
            f"{100 * (1 - self.context.level):g} % interval {low} to {high}, p = {self.probability(row, 'p')}"
            f"{self.mark(row, 'p')}, after Holm's correction {self.probability(row, 'p_holm')}"
            f"{self.mark(row, 'p_holm')}, n = {self.number(row, 'n', decimals=0)} splits."
        )


def _test_counts(context: StudyContext, index: CellIndex, source: Source, dataset: str) -> dict[str, Shown]:
    """How many tests a data set has, how many of them could not be made, and how many are below the level."""
    counts: dict[str, tuple[str, dict[str, Any] | None]] = {
        "comparisons": ("count_of_tests", None),
        "undefined": ("count_of_untested", None),
        "below the level": ("count_of_tests", {"column": "p", "below": context.level}),
        "below after Holm": ("count_of_tests", {"column": "p_holm", "below": context.level}),
    }
    where = row_filter(view="split", dataset=dataset, metric=list(METRICS), candidate=list(context.candidates))
    return {
        column: index.number(
            estimator, source, where, row=dataset, column=column, argument=argument, decimals=0, dataset=dataset
        )
        for column, (estimator, argument) in counts.items()
    }


def _tests(context: StudyContext, tests: pd.DataFrame | None, index: CellIndex, name: str) -> list[str]:
    lines = ["## Tests", ""]
    if tests is None or tests.empty:
        return [*lines, "There are no tests: the study has one candidate only.", ""]
    source = Source(tests, name)
    words = _Sentences(context, index, source)
    view = tests[(tests["view"] == "split") & tests["metric"].isin(list(METRICS))]
    view = view[view["candidate"].isin(list(context.candidates))]
    order = {metric: i for i, metric in enumerate(METRICS)}
    for dataset in context.datasets.values():
        here = view[view["dataset"] == dataset.name]
        here = here.assign(order=here["metric"].map(order)).sort_values(["order", "target", "p"], kind="stable")
        shown = _test_counts(context, index, source, dataset.name)
        names = {dataset.headline(metric) for metric in TOLD}
        told = here[here["metric"].isin(names) & ((here["metric"] != "entropy_error") | (here["target"] == "image"))]
        told = told[told["mean_difference"].notna()]
        smallest = min(1.0, 2.0 / 2.0**dataset.splits)
        lines += [
            f"### {_escape(dataset.short)}",
            "",
            f"{shown['comparisons']} comparisons with {_escape(context.candidates[context.reference].label)}: p < "
            f"{context.level:g} in {shown['below the level']}, of which {shown['below after Holm']} after Holm's "
            f"correction; {shown['undefined']} could not be tested. All are in `tests.csv`.",
            "",
        ]
        if smallest >= context.level:
            bound = index.number(
                "smallest_p", None, row=dataset.name, column="smallest p", argument={"pairs": dataset.splits},
                decimals=4, dataset=dataset.name,
            )  # fmt: skip
            lines += [
                f"With {dataset.splits} split{'s' * (dataset.splits != 1)} the test cannot give less than p = {bound}: "
                "that nothing is marked says nothing about the candidates. All differences told in words "
                f"({_listed(told)}):",
                "",
            ]
        else:
            told = told[told["p"] < context.level]
            lines += [
                "Differences among these, of the metrics that are told in words"
                + (f" ({_listed(told)}):" if len(told) else ":"),
                "",
            ]
        lines += [f"- {words.difference(row)}" for row in _records(told)] or ["- none"]
        lines.append("")
    return lines


def _listed(told: pd.DataFrame) -> str:
    """The metrics told, in the order of the table of metrics."""
    here = set(told["metric"])
    return "; ".join(metric.label for name, metric in METRICS.items() if name in here)


def write_report(
    *,
    told: Mapping[str, Any],
    tests: str | Path | None,
    tables: Sequence[str | Path],
    figures: Sequence[str | Path],
    out: str | Path,
    claims: str | Path | None = None,
) -> list[Path]:
    """Write ``report.md`` of one study, and ``report.cells.csv`` with the origin of every number in its text.

    Parameters
    ----------
    told : the study as plain data, as :meth:`StudyContext.from_told` takes it; ``study`` with its ``tables`` and
        ``figures``.
    tests : the study's ``tests.csv``, or None.
    tables, figures : the files of its tables and figures; those ending in ``.md`` and ``.png`` are shown.
    out : ``studies/<study>/report.md``; links are relative to its folder.
    claims : the study's ``claims.csv``, or None.

    Raises
    ------
    PenumbraError : a table or figure of the study is not among the files, or a file cannot be written.
    """
    out = Path(out)
    results = results_folder(out)
    study = told["study"]
    context = StudyContext.from_told(told)
    index = CellIndex("report")
    lines = [f"# {_escape(study['title'])}", "", f"Study `{told['name']}`. Paper: {_escape(study['paper'])}."]
    if study.get("published"):
        lines[-1] += (
            f" The paper's numbers are in `config/published/{study['published']}.csv`; they stand in the tables of the "
            "data sets that are the paper's own."
        )
    lines.append("")
    lines += _datasets(context)
    lines += _choices(context)
    lines += _candidates(context)
    lines += _reading(context)
    lines += [] if claims is None else claims_section(read_verdicts(claims), index, told_source(claims, results))
    lines += _tables(study.get("tables") or {}, [Path(p) for p in tables], out)
    lines += _figures(study.get("figures") or {}, [Path(p) for p in figures], out, context)
    lines += _tests(context, read_tests(tests), index, "" if tests is None else told_source(tests, results))
    cells = out.with_suffix(CELLS_SUFFIX)
    text = index.place("\n".join(lines).rstrip() + "\n")
    write_table(cells, index.frame())
    write_text(out, text)
    return [out, cells]
