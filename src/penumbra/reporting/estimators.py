"""How a number follows from its rows, by name: whoever shows a number and whoever checks it use the same function.

Means and deviations are correctly rounded sums (:func:`math.fsum`), so that neither the order of rows nor the machine
changes a bit of them: what is computed again is equal, not merely close. Estimators whose sums are left to numpy state
a ``tolerance``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from penumbra.reporting.rows import Rows, Source

DEEP = "images"
"""What estimators read that go back to image files and predictions; they are computed again on request only."""
CLOSE = 1e-12
"""Tolerance of estimators that leave their sums to numpy, relative to the number, or absolute below 1."""
UNIT_FACTORS = {"%": 100.0, "1e-2": 1e2, "1e-3": 1e3, "1e-4": 1e4}
"""A published number is this multiple of the value it stands for."""

Argument = Mapping[str, Any]


class Estimate(NamedTuple):
    """A number in its metric's own unit; its standard deviation, None where there is no such thing; how many values."""

    value: float
    std: float | None
    n: int


@dataclass(frozen=True)
class Estimator:
    """How a number follows from what it is made of.

    Attributes
    ----------
    words : for a reader; ``{name}`` stands for an argument.
    reads : ``metrics``, ``tests``, ``claims``, ``published``, ``thresholds``, ``benchmarks``, ``runs``, ``images``
        (deep: from files, not rows), or ``nothing``.
    compute : ``(rows, argument) -> Estimate``; of what ``prepare`` makes of the rows, where it is given; of the list of
        files, where it reads images.
    text : ``(rows, argument, estimate) -> what is displayed``, where that is not the number alone.
    prepare : what many numbers of the same rows share.
    tolerance : largest difference, relative to the number and absolute below 1, that is no fault.
    """

    name: str
    words: str
    reads: str
    compute: Callable[[Any, Argument], Estimate]
    text: Callable[[Any, Argument, Estimate], str] | None = None
    prepare: Callable[[Rows], Any] | None = None
    tolerance: float = 0.0

    @property
    def deep(self) -> bool:
        """Whether it goes back to image files."""
        return self.reads == DEEP


ESTIMATORS: dict[str, Estimator] = {}


def _register(
    name: str,
    words: str,
    reads: str,
    compute: Callable[[Any, Argument], Estimate],
    text: Callable[[Any, Argument, Estimate], str] | None = None,
    prepare: Callable[[Rows], Any] | None = None,
    tolerance: float = 0.0,
) -> None:
    ESTIMATORS[name] = Estimator(name, words, reads, compute, text, prepare, tolerance)


_UNSAID = re.compile(r" \([^()]*\{\w+\}[^()]*\)")
_ENCODER = json.JSONEncoder(ensure_ascii=False, default=lambda value: value.item())


@lru_cache(maxsize=100_000)
def read_argument(text: str) -> Argument:
    """The column ``argument`` of the index: a JSON object, or nothing."""
    found: Argument = json.loads(text) if text else {}
    return found


def told_argument(argument: Argument | None) -> str | None:
    """An estimator's argument as it stands in the index."""
    return _ENCODER.encode(argument) if argument else None


def in_words(name: str, argument: Argument | str | None = None) -> str:
    """An estimator for a reader, its argument filled in; the name itself where it is not registered.

    What its words say in brackets of an argument that is not given is left out.
    """
    if name not in ESTIMATORS:
        return name
    content = read_argument(argument) if isinstance(argument, str) else argument or {}
    words = ESTIMATORS[name].words
    for key, value in content.items():
        words = words.replace("{" + key + "}", str(value))
    return _UNSAID.sub("", words)


def estimate_of(source: Source | None, name: str, where: str = "", argument: Argument | None = None) -> Estimate:
    """What an estimator gives of the rows of a source that a filter picks.

    Raises
    ------
    KeyError : there is no estimator of that name, or the source lacks a column.
    """
    estimator = ESTIMATORS[name]
    return estimator.compute(_taken(estimator, source, where), argument or {})


def text_of(source: Source | None, name: str, where: str, argument: Argument | None, estimate: Estimate) -> str | None:
    """What is displayed for an estimate that is not shown as a number alone; None for all others."""
    estimator = ESTIMATORS[name]
    if estimator.text is None:
        return None
    return estimator.text(_taken(estimator, source, where), argument or {}, estimate)


def _taken(estimator: Estimator, source: Source | None, where: str) -> Any:
    if source is None:
        return None
    return source.rows(where) if estimator.prepare is None else source.prepared(estimator.prepare, where)


# ---------------------------------------------------------------- arithmetic


def mean_std(values: Iterable[float]) -> Estimate:
    """Mean, standard deviation (ddof=1; NaN for a single value) and number of the defined values."""
    defined = [float(v) for v in values if v == v]
    n = len(defined)
    if n == 0:
        return Estimate(math.nan, math.nan, 0)
    try:
        mean = math.fsum(defined) / n
    except (ValueError, OverflowError):  # infinities of both signs
        return Estimate(math.nan, math.nan, n)
    std = math.sqrt(math.fsum((v - mean) ** 2 for v in defined) / (n - 1)) if n > 1 else math.nan
    return Estimate(mean, std, n)


def _run_means(splits: Iterable[Any], values: Iterable[float]) -> dict[Any, float]:
    """The mean of the defined values of each split that has any."""
    runs: dict[Any, list[float]] = {}
    for split, value in zip(splits, values, strict=True):
        if value == value:
            runs.setdefault(split, []).append(value)
    return {split: mean_std(found).value for split, found in runs.items()}


# ---------------------------------------------------------------- long metrics


def _mean_over_splits(rows: Rows, argument: Argument) -> Estimate:
    return mean_std(_run_means(rows.plain("split"), rows.numbers()).values())


def _as_measured(rows: Rows, argument: Argument) -> Estimate:
    values = rows.numbers()
    metric = argument.get("metric")
    if metric is not None:
        values = [v for v, m in zip(values, rows.plain("metric"), strict=True) if m == metric]
    value = values[0] if values else math.nan
    return Estimate(value, None, int(value == value))


def _extreme(pick: Callable[[list[float]], float]) -> Callable[[Rows, Argument], Estimate]:
    def compute(rows: Rows, argument: Argument) -> Estimate:
        defined = [v for v in rows.numbers() if v == v]
        return Estimate(pick(defined) if defined else math.nan, None, len(defined))

    return compute


def _best_threshold(rows: Rows, argument: Argument) -> Estimate:
    from penumbra.inference.threshold import thresholds

    defined = [(v, int(b)) for v, b in zip(rows.numbers(), rows.plain("bin"), strict=True) if v == v]
    if not defined:
        return Estimate(math.nan, None, 0)
    return Estimate(float(thresholds(float(argument["step"]))[max(defined)[1]]), None, 1)


def _mean_where_both(rows: Rows, argument: Argument) -> Estimate:
    found: dict[Any, dict[str, float]] = {}
    for split, metric, value in zip(rows.plain("split"), rows.plain("metric"), rows.numbers(), strict=True):
        found.setdefault(split, {})[metric] = value
    first, second = argument["metric"], argument["beside"]
    both = [f[first] for f in found.values() if all(f.get(m, math.nan) == f.get(m, 0.0) for m in (first, second))]
    return Estimate(mean_std(both).value, None, len(both))


def _ratio_over_splits(rows: Rows, argument: Argument) -> Estimate:
    means = [
        _run_means(
            [s for s, m in zip(rows.plain("split"), rows.plain("metric"), strict=True) if m == metric],
            [v for v, m in zip(rows.numbers(), rows.plain("metric"), strict=True) if m == metric],
        )
        for metric in (argument["metric"], argument["over"])
    ]
    shares = [mean / means[1][s] for s, mean in means[0].items() if means[1].get(s)]
    return Estimate(mean_std(shares).value, None, len(shares))


def _composite(rows: Rows) -> dict[str, list[tuple[Any, Any, float]]]:
    if not len(rows):
        return {}
    from penumbra.metrics.composite import composite

    scores = composite(rows.frame())
    found: dict[str, list[tuple[Any, Any, float]]] = {}
    for candidate, split, case, value in zip(
        *(scores[c].tolist() for c in ("candidate", "split", "case", "value")), strict=True
    ):
        found.setdefault(candidate, []).append((split, case, float(value)))
    return found


def composite_scores(prepared: Mapping[str, list[tuple[Any, Any, float]]], candidate: str) -> list[float]:
    """The defined composite scores of a candidate, of what the composite's estimators prepare."""
    return [value for _, _, value in prepared.get(candidate, []) if value == value]


def _composite_mean(prepared: Any, argument: Argument) -> Estimate:
    values = composite_scores(prepared, argument["candidate"])
    return Estimate(mean_std(values).value, None, len(values))


def _composite_quantile(prepared: Any, argument: Argument) -> Estimate:
    import numpy as np

    values = composite_scores(prepared, argument["candidate"])
    return Estimate(float(np.quantile(values, argument["quantile"])) if values else math.nan, None, len(values))


def _composite_case(prepared: Any, argument: Argument) -> Estimate:
    for split, case, value in prepared.get(argument["candidate"], []):
        if split == argument["split"] and case == argument["case"]:
            return Estimate(value, None, 1)
    return Estimate(math.nan, None, 0)


def _histograms(rows: Rows) -> dict[str, Any]:
    """For each candidate the sum of its runs' whole histograms ``(BINS,)``, and how many there are."""
    import numpy as np

    from penumbra.reporting.densities import BINS

    found: dict[str, dict[Any, np.ndarray]] = {}
    for candidate, split, k, value in zip(
        rows.plain("candidate"), rows.plain("split"), rows.plain("bin"), rows.numbers(), strict=True
    ):
        runs = found.setdefault(candidate, {})
        runs.setdefault(split, np.full(BINS, np.nan))[int(k)] = value
    whole = {c: [h for h in runs.values() if not np.isnan(h).any()] for c, runs in found.items()}
    totals = {c: (np.sum(h, axis=0) if h else np.zeros(BINS), len(h)) for c, h in whole.items()}
    shares = {c: float(total.sum()) / n if n else 0.0 for c, (total, n) in totals.items()}
    return {"totals": totals, "shares": shares, "everything": math.fsum(shares.values()), "curves": {}}


def _voxels(prepared: Any, argument: Argument) -> Estimate:
    n = prepared["totals"].get(argument["candidate"], (None, 0))[1]
    return Estimate(prepared["shares"][argument["candidate"]] if n else math.nan, None, n)


def _voxels_text(prepared: Any, argument: Argument, estimate: Estimate) -> str:
    if not estimate.n:
        return "undefined"
    return f"{estimate.value:,.0f}" if estimate.value > 0 else "no voxel above 0"


def bandwidth_of(prepared: Any, candidate: str, bandwidth: float) -> float:
    """The standard deviation of a candidate's kernel: as given, or by Scott's rule where that is 0."""
    from penumbra.reporting.densities import scott

    return bandwidth or scott(prepared["totals"][candidate][0])


def _density(prepared: Any, argument: Argument) -> Estimate:
    from penumbra.reporting.densities import density, grid

    candidate, bandwidth = argument["candidate"], float(argument["bandwidth"])
    key = candidate, bandwidth
    if key not in prepared["curves"]:
        at, (total, _) = grid(), prepared["totals"][candidate]
        h = bandwidth_of(prepared, candidate, bandwidth)
        curve = density(total, at, h) * prepared["shares"][candidate] / prepared["everything"]
        prepared["curves"][key] = dict(zip(at.tolist(), curve.tolist(), strict=True))
    value = prepared["curves"][key][argument["at"]]
    return Estimate(value, None, prepared["totals"][candidate][1])


_register("mean_over_splits", "mean over splits of the run mean; std with ddof=1 over splits", "metrics",
          _mean_over_splits)  # fmt: skip
_register("value_as_measured", "as measured", "metrics", _as_measured)
_register("minimum_over_runs", "minimum over trainings", "metrics", _extreme(min))
_register("maximum_over_runs", "maximum over trainings", "metrics", _extreme(max))
_register("best_threshold", "threshold with the highest Dice score, of several the largest; tried in steps of {step}",
          "metrics", _best_threshold)  # fmt: skip
_register("mean_where_both_defined", "mean of {metric} over the splits that test the case, where {beside} is defined",
          "metrics", _mean_where_both)  # fmt: skip
_register("ratio_over_splits", "mean over splits of mean {metric} / mean {over}", "metrics", _ratio_over_splits)
_COMPOSITE = "z(dice) + z(precision) + z(recall) - z(avd), ddof=0 over candidates, splits and cases"
_register("composite_of_case", f"{_COMPOSITE}; of one case", "metrics", _composite_case, None, _composite, CLOSE)
_register("composite_mean", f"{_COMPOSITE}; mean over test cases and splits", "metrics", _composite_mean, None,
          _composite, CLOSE)  # fmt: skip
_register("composite_quantile", f"{_COMPOSITE}; quantile {{quantile}} over test cases and splits", "metrics",
          _composite_quantile, None, _composite, CLOSE)  # fmt: skip
_register("voxels_above_zero", "sum over bins, mean over trainings", "metrics", _voxels, _voxels_text, _histograms)
_register("density", "Gaussian kernel density of bandwidth {bandwidth} (0: Scott's rule) at {at} x share of the voxels "
          "above 0", "metrics", _density, None, _histograms, CLOSE)  # fmt: skip


# ---------------------------------------------------------------- what is undefined


def _count_undefined(rows: Rows, argument: Argument) -> Estimate:
    values = rows.numbers()
    return Estimate(float(sum(v != v for v in values)), None, len(values))


def _count_values(rows: Rows, argument: Argument) -> Estimate:
    return Estimate(float(len(rows)), None, len(rows))


def _count_splits(rows: Rows, argument: Argument) -> Estimate:
    splits = len(_run_means(rows.plain("split"), rows.numbers()))
    return Estimate(float(splits), None, splits)


def _reasons(rows: Rows, argument: Argument, estimate: Estimate) -> str:
    told = {str(s) for s, v in zip(rows.plain("status"), rows.numbers(), strict=True) if v != v}
    return "; ".join(sorted(told))


def _reserve(rows: Rows, argument: Argument, estimate: Estimate) -> str:
    return "‡" if estimate.value or _count_splits(rows, argument).n < argument["splits"] else ""


_register("count_of_undefined", "number of undefined values", "metrics", _count_undefined)
_register("count_of_values", "number of values, defined or not", "metrics", _count_values)
_register("count_of_splits", "number of splits with a defined value", "metrics", _count_splits)
_register("reasons_of_undefined", "why values are undefined, each reason once", "metrics", _count_undefined, _reasons)
_register("reserve", "‡ where values are undefined or fewer than {splits} splits have any", "metrics", _count_undefined,
          _reserve)  # fmt: skip


# ---------------------------------------------------------------- tests.csv and claims.csv


def _number(value: Any) -> float:
    return math.nan if value is None or value == "" else float(value)


def _column(rows: Rows, argument: Argument) -> Estimate:
    if not len(rows):
        return Estimate(math.nan, None, 0)
    n = _number(rows.first("n"))
    return Estimate(_number(rows.first(argument["column"])), None, int(n) if n == n else 0)


def significance_marks(p: float, p_holm: float, level: float) -> str:
    """``**`` where p is below the level, with ``†`` where it stays below after Holm's correction; else nothing."""
    return ("**" + ("†" if p_holm < level else "")) if p < level else ""


def _significance(rows: Rows, argument: Argument, estimate: Estimate) -> str:
    if not len(rows):
        return ""
    marks = significance_marks(estimate.value, _number(rows.first("p_holm")), argument["level"])
    return {"p": marks[:2], "p_holm": marks[2:]}.get(argument.get("of", ""), marks)


def better_or_worse(row: Mapping[str, Any], better: str) -> str:
    """``better`` or ``worse``, of a candidate against the reference; empty for a metric that does not judge."""
    difference = float(row["mean_difference"])
    told = {
        "high": difference > 0,
        "low": difference < 0,
        "zero": abs(float(row["mean_candidate"])) < abs(float(row["mean_reference"])),
    }
    return "" if better not in told else "better" if told[better] else "worse"


def _better(rows: Rows, argument: Argument, estimate: Estimate) -> str:
    keys = ("mean_difference", "mean_candidate", "mean_reference")
    return better_or_worse({key: rows.first(key) for key in keys}, argument["better"])


def _count_tests(rows: Rows, argument: Argument) -> Estimate:
    if "below" not in argument:
        return Estimate(float(len(rows)), None, len(rows))
    values = rows.numbers(argument["column"])
    return Estimate(float(sum(v < argument["below"] for v in values)), None, len(values))


def _count_untested(rows: Rows, argument: Argument) -> Estimate:
    values = rows.numbers("p")
    return Estimate(float(sum(v != v for v in values)), None, len(values))


def _smallest_p(rows: Any, argument: Argument) -> Estimate:
    pairs = int(argument["pairs"])
    return Estimate(min(1.0, 2.0 / 2.0**pairs), None, pairs)


def _verdicts(rows: Rows) -> list[str]:
    from penumbra.reporting.verdicts import overall

    found: list[str] = overall(rows.frame()).tolist()
    return found


def _count_claims(verdicts: list[str], argument: Argument) -> Estimate:
    word = argument.get("verdict")
    return Estimate(float(len(verdicts) if word is None else verdicts.count(word)), None, len(verdicts))


def _text_of_column(rows: Rows, argument: Argument, estimate: Estimate) -> str:
    value = rows.first(argument["column"])
    return "" if value != value else str(value)


def _no_number(rows: Rows, argument: Argument) -> Estimate:
    return Estimate(math.nan, None, len(rows))


def _verdict(rows: Rows, argument: Argument) -> Estimate:
    return _column(rows, {"column": "effect"})


def _basis(rows: Rows, argument: Argument, estimate: Estimate) -> str:
    if not estimate.n:
        return "not measured"
    return f"of {estimate.n}" if rows.first("dataset") == "all" else f"{estimate.n} {rows.first('unit_of_n')}"


_register("column_of_tests", "{column} of tests.csv", "tests", _column)
_register("significance", "p of the two-sided Wilcoxon test of the run means against the reference, paired by split: "
          "** where it is below {level}, † where it stays below after Holm's correction", "tests",
          lambda rows, argument: _column(rows, {"column": "p"}), _significance)  # fmt: skip
_register("better_or_worse", "the sign of mean_difference of tests.csv, read as the metric is: {better}", "tests",
          lambda rows, argument: _column(rows, {"column": "mean_difference"}), _better)  # fmt: skip
_register("count_of_tests", "number of lines of tests.csv (whose {column} is below {below})", "tests", _count_tests)
_register("count_of_untested", "number of lines of tests.csv without p", "tests", _count_untested)
_register("smallest_p", "2 / 2**n, n = {pairs} splits", "nothing", _smallest_p)
_register("column_of_claims", "{column} of claims.csv", "claims", _column)
_register("text_of_claims", "{column} of claims.csv", "claims", _no_number, _text_of_column)
_register("verdict_of_claim", "verdict of claims.csv; the number is its effect", "claims", _verdict,
          lambda rows, argument, estimate: _text_of_column(rows, {"column": "verdict"}, estimate))  # fmt: skip
_register("basis_of_claim", "number of pairs, and what a pair is", "claims",
          lambda rows, argument: _column(rows, {"column": "n"}), _basis)  # fmt: skip
_register("count_of_claims", "number of claims (that are {verdict}), over all data sets and classes where tested on "
          "several", "claims", _count_claims, None, _verdicts)  # fmt: skip


# ---------------------------------------------------------------- published numbers


def _as_printed(rows: Rows, argument: Argument) -> Estimate:
    if not len(rows):
        return Estimate(math.nan, None, 0)
    factor = UNIT_FACTORS.get(str(rows.first("unit")), 1.0)
    mean, std = float(rows.first("mean")) / factor, float(rows.first("std")) / factor
    return Estimate(mean, std if math.isfinite(std) else None, 1)


_register("as_printed", "as printed in the paper, divided by the factor of its unit", "published", _as_printed)


# ---------------------------------------------------------------- files beside the metrics


def _threshold(rows: Rows, argument: Argument) -> Estimate:
    named = dict(zip(map(str, rows.plain("class")), rows.numbers("threshold"), strict=True))
    return Estimate(named.get(argument["class"], math.nan), None, 1)


def _minutes(rows: Rows) -> list[float]:
    return [float(text) for text in rows.plain("cpu_time") if text not in ("", "NA", "-")]


def _processor_minutes(rows: Rows, argument: Argument) -> Estimate:
    times = _minutes(rows)
    return Estimate(math.fsum(times) / 60, None, len(times))


def _count_jobs(rows: Rows, argument: Argument) -> Estimate:
    return Estimate(float(len(_minutes(rows))), None, len(rows))


def _field_of_runs(rows: Rows, argument: Argument) -> Estimate:
    take = argument["take"]
    if take == "count":
        return Estimate(float(len(rows)), None, len(rows))
    values = rows.numbers(argument["field"])
    picked = {"smallest": min(values), "largest": max(values), "first": values[0]}[take]
    return Estimate(picked, None, len(values))


def _grouped(rows: Rows, argument: Argument, estimate: Estimate) -> str:
    return f"{estimate.value:,.0f}" if argument.get("grouped") else f"{estimate.value:.0f}"


_register("threshold_of_class", "the binarisation threshold that the run found for {class}", "thresholds", _threshold,
          lambda rows, argument, estimate: f"t = {estimate.value:g}")  # fmt: skip
_register("processor_minutes", "sum of cpu_time over benchmark files, in minutes", "benchmarks", _processor_minutes)
_register("count_of_jobs", "number of benchmark files that tell a time", "benchmarks", _count_jobs)
_register("field_of_runs", "{take} of {field} over the records of trainings", "runs", _field_of_runs, _grouped)


# ---------------------------------------------------------------- images


def _sum_of_pixels(files: Sequence[Path], argument: Argument) -> Estimate:
    from penumbra.reporting.pictures import shown_pixels, sum_of

    value, n = sum_of(shown_pixels(files, argument))
    return Estimate(value, None, n)


def _slice_disagreement(files: Sequence[Path], argument: Argument) -> Estimate:
    from penumbra.reporting.pictures import slice_disagreement

    return Estimate(slice_disagreement(files, argument), None, len(files))


def _last_epoch(files: Sequence[Path], argument: Argument) -> Estimate:
    from penumbra.reporting.pictures import last_epoch

    return Estimate(last_epoch(files, argument), None, 1)


_register("sum_of_pixels", "the pixels shown ({array}); value: their sum", DEEP, _sum_of_pixels, tolerance=CLOSE)
_register("disagreement_of_slice", "sum over voxels and classes of f (1 - f), f the share of raters; the largest of "
          "all slices of the test cases, unless the configuration names the slice", DEEP, _slice_disagreement,
          tolerance=CLOSE)  # fmt: skip


def _score_of_case(files: Sequence[Path], argument: Argument) -> Estimate:
    from penumbra.reporting.pictures import read_scores, score_summary

    scores = read_scores(files, int(argument["classes"]))
    return Estimate(score_summary(scores, argument["of"]), None, len(scores) - 1)


def _mean_score(files: Sequence[Path], argument: Argument) -> Estimate:
    values, rest = [], list(files)
    for size in argument["sizes"]:
        values.append(_score_of_case(rest[: int(size)], argument).value)
        rest = rest[int(size) :]
    return Estimate(math.fsum(values) / len(values), None, len(values))


_SCORE = "Dice of the samples of a case with its raters, the mean over classes not empty on both sides, and over raters"
_register("score_of_case", _SCORE + ": {of}", DEEP, _score_of_case, tolerance=CLOSE)
_register("mean_score_of_cases", _SCORE + ": the mean over cases of {of}", DEEP, _mean_score, tolerance=CLOSE)
_register("last_epoch", "the last epoch of the training", DEEP, _last_epoch,
          lambda files, argument, estimate: f"epoch {estimate.value:.0f}")  # fmt: skip
