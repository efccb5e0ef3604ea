import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import zscore

from penumbra.metrics.composite import WEIGHTS, composite, standardise


@pytest.fixture
def metrics():
    rng = np.random.default_rng(7)
    key = itertools.product(
        ["phantom", "other"], ["a", "b", "c"], [0, 1], ["s1", "s2"], ["gm", "wm"], [*WEIGHTS, "rvd"]
    )
    table = pd.DataFrame(key, columns=["dataset", "candidate", "split", "case", "target", "metric"])
    table["case"] += table["split"].astype(str)
    return table.assign(
        scope="case", bin=pd.array([pd.NA] * len(table), dtype="Int64"), value=rng.random(len(table)), n=60, status="ok"
    )


def _loop(metrics, dataset, target):
    """Composite by the thesis' words, one metric after the other."""
    rows = metrics[(metrics["dataset"] == dataset) & (metrics["target"] == target)]
    total = 0.0
    for metric, sign in (("dice", 1), ("precision", 1), ("recall", 1), ("avd", -1)):
        own = rows[rows["metric"] == metric].sort_values(["candidate", "split", "case"])
        total = total + sign * zscore(own["value"].to_numpy(), ddof=0)
    return total


def test_agrees_with_scipy_class_by_class(metrics):
    score = composite(metrics.sample(frac=1, random_state=0))
    for dataset, target in itertools.product(["phantom", "other"], ["gm", "wm"]):
        own = score[(score["dataset"] == dataset) & (score["target"] == target)]
        np.testing.assert_allclose(own["value"], _loop(metrics, dataset, target), rtol=1e-10)
    assert set(score["metric"]) == {"composite"}
    assert set(score["status"]) == {"ok"}
    assert len(score) == len(metrics) / 5
    assert list(score.columns) == list(metrics.columns)


def test_sums_to_zero_over_the_pool_and_is_relative_to_it(metrics):
    score = composite(metrics)
    np.testing.assert_allclose(score.groupby(["dataset", "target"])["value"].sum(), 0, atol=1e-10)
    fewer = composite(metrics[metrics["candidate"] != "c"])
    assert not np.allclose(fewer["value"], score.loc[score["candidate"] != "c", "value"])


def test_lower_volume_difference_is_better(metrics):
    metrics.loc[metrics["metric"] != "avd", "value"] = 0.5
    metrics.loc[metrics["metric"] == "avd", "value"] = np.arange((metrics["metric"] == "avd").sum())
    score = composite(metrics)
    avd = metrics[metrics["metric"] == "avd"].merge(score, on=["dataset", "candidate", "split", "case", "target"])
    for _, group in avd.groupby(["dataset", "target"]):
        assert np.corrcoef(group["value_x"], group["value_y"])[0, 1] == pytest.approx(-1)


def test_an_undefined_term_makes_the_score_undefined_and_shifts_no_other_mean(metrics):
    where = metrics.index[(metrics["metric"] == "precision") & (metrics["dataset"] == "phantom")][0]
    metrics.loc[where, "value"] = np.nan
    score = composite(metrics).set_index(["dataset", "candidate", "split", "case", "target"])
    hole = tuple(metrics.loc[where, ["dataset", "candidate", "split", "case", "target"]])
    assert np.isnan(score.loc[hole, "value"])
    assert score.loc[hole, "status"] == "undefined: precision"
    assert score.loc[hole, "n"] == 3
    assert score["value"].isna().sum() == 1
    gone = composite(metrics.drop(index=where)).set_index(["dataset", "candidate", "split", "case", "target"])
    pd.testing.assert_frame_equal(score, gone)


def test_standardise_edges():
    assert standardise(np.full(5, 0.1 + 0.2)).tolist() == [0] * 5
    assert np.isnan(standardise(np.full(3, np.nan))).all()
    np.testing.assert_allclose(standardise(np.array([1.0, np.nan, 3.0])), [-1, np.nan, 1])


def test_names_its_rows(metrics):
    score = composite(metrics.assign(row="x"))
    assert "phantom/a/0/s10/gm/composite" in set(score["row"])
