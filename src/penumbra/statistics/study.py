"""Every candidate of a study against its reference candidate, on every data set, target and metric."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from penumbra.errors import PenumbraError
from penumbra.files import write_table
from penumbra.metrics.composite import composite
from penumbra.metrics.rows import judges, read_rows
from penumbra.seeds import generator
from penumbra.statistics.bootstrap import mean_interval
from penumbra.statistics.effect_size import rank_biserial
from penumbra.statistics.holm import holm
from penumbra.statistics.runs import run_means
from penumbra.statistics.wilcoxon import signed_rank

COLUMNS = [
    "dataset", "target", "metric", "view", "candidate", "reference", "n", "n_nonzero", "n_undefined",
    "mean_candidate", "mean_reference", "mean_difference", "ci_low", "ci_high", "effect_size", "statistic", "method",
    "p", "p_holm", "significant_raw", "significant", "status",
]  # fmt: skip
FAMILY = ["dataset", "target", "metric", "view"]


def select(
    metrics: pd.DataFrame, candidates: Sequence[str], splits: Mapping[str, Iterable[int]] | None = None
) -> pd.DataFrame:
    """The rows of a study: its candidates, and, where ``splits`` is given, its data sets and their split numbers.

    Raises
    ------
    PenumbraError : a run that the study asks for is not in the table, or candidates differ in their test cases, so
        that they cannot be paired.
    """
    if splits is not None:
        wanted = pd.Series(False, index=metrics.index)
        for dataset, numbers in splits.items():
            wanted |= (metrics["dataset"] == dataset) & metrics["split"].isin(list(numbers))
        metrics = metrics[wanted]
    metrics = metrics[metrics["candidate"].isin(list(candidates))]
    present = metrics[["dataset", "split", "candidate", "case"]].drop_duplicates()
    found = {(d, int(s)) for d, s in present[["dataset", "split"]].drop_duplicates().itertuples(index=False)}
    asked = found if splits is None else {(d, int(s)) for d, numbers in splits.items() for s in numbers}
    if not asked:
        raise PenumbraError("there are no metrics of this study's candidates", cure="let the study's runs be evaluated")
    runs: dict[tuple[str, int, str], set[str]] = {}
    for d, s, c, case in present.itertuples(index=False):
        runs.setdefault((d, int(s), c), set()).add(case)
    for dataset, split in sorted(asked):
        cases = [runs.get((dataset, split, candidate)) for candidate in candidates]
        for candidate, own in zip(candidates, cases, strict=True):
            if own is None:
                raise PenumbraError(
                    f"there are no metrics of the run {dataset}/{candidate}/split-{split}",
                    cure="let the run be evaluated and collected",
                )
            if own != cases[0]:
                raise PenumbraError(
                    f"split {split} of {dataset} has other test cases for {candidate} than for {candidates[0]}: "
                    f"{', '.join(sorted(own ^ (cases[0] or set())))}",
                    cure="evaluate both runs again on the same split",
                )
    return metrics


def test_study(
    metrics: pd.DataFrame,
    candidates: Sequence[str],
    reference: str,
    seed: int,
    level: float = 0.05,
    *,
    splits: Mapping[str, Iterable[int]] | None = None,
    resamples: int = 2000,
) -> pd.DataFrame:
    """Compare each candidate with the reference in pairs, by a two-sided Wilcoxon signed-rank test.

    Two views: ``split`` pairs the runs of one split, each with its mean over the cases where it is defined; ``case``
    pairs a case with itself in the same split. In the second view a case that is tested in several splits makes several
    pairs, which are not independent: its p-values are too small and its intervals too narrow, it is there to show the
    cases. Metrics over a whole run have the first view only. The composite score of the study's candidates is tested
    like a metric. What describes and does not judge (:func:`penumbra.metrics.rows.judges`), and bins, are not tested.
    Pairs where either value is undefined are left out and counted in ``n_undefined``.

    Parameters
    ----------
    metrics : the long table of metrics of one or several data sets.
    candidates : the study's candidates, with or without ``reference``.
    reference : the candidate that all others are held against.
    seed : the study's seed, for the bootstrap.
    level : level of significance; the bootstrap interval has confidence ``1 - level``.
    splits : the split numbers of each data set; all that are there when not given.
    resamples : number of bootstrap resamples.

    Returns
    -------
    A row for each data set, target, metric, view and candidate but the reference, with the columns :data:`COLUMNS`:
    means and difference (candidate minus reference) over the pairs, percentile bootstrap interval of the mean
    difference, matched-pairs rank-biserial ``effect_size`` (positive: the candidate's value is larger), ``p``, and
    ``p_holm`` corrected over the candidates of one data set, target, metric and view. ``significant`` is
    ``p_holm < level``; ``significant_raw`` is ``p < level``, as the thesis marks its tables.

    Raises
    ------
    PenumbraError : runs are missing or cannot be paired (see :func:`select`).
    """
    candidates = [c for c in dict.fromkeys(candidates) if c != reference]
    metrics = select(metrics, [reference, *candidates], splits)
    metrics = pd.concat([metrics, composite(metrics)], ignore_index=True)
    metrics = metrics[metrics["bin"].isna() & metrics["metric"].map(judges).astype(bool)]
    compared = [reference, *candidates]
    views = {"split": (run_means(metrics), ["split"]), "case": (metrics[metrics["scope"] == "case"], ["split", "case"])}
    rows = []
    for view, (table, pair) in views.items():
        for (dataset, target, metric), group in table.groupby(["dataset", "target", "metric"], sort=True):
            wide = group.pivot(index=pair, columns="candidate", values="value").reindex(columns=compared)
            for candidate in candidates:
                both = wide[[candidate, reference]].to_numpy(dtype=np.float64)
                kept = both[np.isfinite(both).all(axis=1)]
                difference = kept[:, 0] - kept[:, 1]
                test = signed_rank(difference, level=level)
                draws = generator(seed, "bootstrap", *map(str, (dataset, target, metric, view, candidate, reference)))
                low, high = mean_interval(difference, draws, resamples=resamples, confidence=1 - level)
                means = kept.mean(axis=0) if len(kept) else np.full(2, np.nan)
                rows.append(
                    {
                        "dataset": dataset, "target": target, "metric": metric, "view": view,
                        "candidate": candidate, "reference": reference,
                        "n": test.n, "n_nonzero": test.n_nonzero, "n_undefined": len(both) - len(kept),
                        "mean_candidate": means[0], "mean_reference": means[1], "mean_difference": means[0] - means[1],
                        "ci_low": low, "ci_high": high, "effect_size": rank_biserial(difference),
                        "statistic": test.statistic, "method": test.method, "p": test.p, "status": test.status,
                    }
                )  # fmt: skip
    result = pd.DataFrame(rows, columns=[c for c in COLUMNS if c not in ("p_holm", "significant", "significant_raw")])
    result["p_holm"] = result.groupby(FAMILY)["p"].transform(lambda p: holm(p.to_numpy())) if len(result) else np.nan
    result["significant_raw"] = result["p"] < level
    result["significant"] = result["p_holm"] < level
    order = {candidate: i for i, candidate in enumerate(candidates)}
    result = result.sort_values(
        ["dataset", "target", "metric", "view", "candidate"],
        key=lambda column: column.map(order) if column.name == "candidate" else column,
        kind="stable", ignore_index=True,
    )  # fmt: skip
    return result[COLUMNS]


test_study.__test__ = False  # type: ignore[attr-defined]


def write_tests(
    *,
    metrics: Iterable[str | Path],
    candidates: Sequence[str],
    reference: str,
    seed: int,
    level: float,
    out: str | Path,
    splits: Mapping[str, Iterable[int]] | None = None,
) -> None:
    """Read the data sets' collected metrics, compare as in :func:`test_study`, and write the result as csv."""
    table = pd.concat([read_rows(path) for path in metrics], ignore_index=True)
    write_table(out, test_study(table, candidates, reference, seed, level, splits=splits))
