import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from penumbra.errors import PenumbraError
from penumbra.metrics.composite import composite
from penumbra.seeds import generator
from penumbra.statistics import study
from penumbra.statistics.bootstrap import mean_interval
from penumbra.statistics.effect_size import rank_biserial
from penumbra.statistics.holm import holm
from penumbra.statistics.runs import run_means
from penumbra.statistics.wilcoxon import signed_rank

# ---------------------------------------------------------------- oracles


def _ranks(values):
    """Average ranks by counting."""
    return [sum(w < v for w in values) + (sum(w == v for w in values) + 1) / 2 for v in values]


def _permutation_p(differences):
    """Two-sided p over all changes of sign, as far from the middle as observed or further."""
    d = [x for x in differences if x != 0]
    ranks = _ranks([abs(x) for x in d])
    middle = sum(ranks) / 2
    observed = abs(sum(r for r, x in zip(ranks, d, strict=True) if x > 0) - middle)
    signs = list(itertools.product([0, 1], repeat=len(d)))
    far = sum(abs(sum(r * s for r, s in zip(ranks, sign, strict=True)) - middle) >= observed - 1e-9 for sign in signs)
    return far / len(signs)


def _rank_biserial_by_hand(differences):
    d = [x for x in differences if x != 0]
    ranks = _ranks([abs(x) for x in d])
    up = sum(r for r, x in zip(ranks, d, strict=True) if x > 0)
    down = sum(r for r, x in zip(ranks, d, strict=True) if x < 0)
    return (up - down) / (up + down)


# ---------------------------------------------------------------- Wilcoxon


@pytest.mark.parametrize("n", [1, 2, 5, 8, 10])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_small_samples_agree_with_all_changes_of_sign(n, ties, seed):
    d = np.random.default_rng([n, seed]).normal(0.4, 1, n)
    if ties:
        d = np.round(d * 2) / 2
        d = np.concatenate([d, [0.0, 1.0, 1.0, -1.0]])[-12:]
    test = signed_rank(d)
    assert test.method == ("exact permutation" if ties else "exact")
    assert test.p == pytest.approx(_permutation_p(d), abs=1e-12)
    ranks = np.array(_ranks(list(np.abs(d[d != 0]))))
    assert test.statistic == min(ranks[d[d != 0] > 0].sum(), ranks[d[d != 0] < 0].sum())
    assert (test.n, test.n_nonzero) == (len(d), np.count_nonzero(d))


def test_large_samples_agree_with_the_normal_formula():
    d = np.round(np.random.default_rng(3).normal(0.2, 1, 80), 1)
    test = signed_rank(d)
    assert test.method == "approximate"
    x = d[d != 0]
    ranks, n = np.array(_ranks(list(np.abs(x)))), len(x)
    _, tied = np.unique(np.abs(x), return_counts=True)
    variance = n * (n + 1) * (2 * n + 1) / 24 - (tied**3 - tied).sum() / 48
    z = (ranks[x > 0].sum() - n * (n + 1) / 4) / np.sqrt(variance)
    assert test.p == pytest.approx(2 * stats.norm.sf(abs(z)), rel=1e-9)


def test_methods_are_chosen_by_size_and_ties():
    rng = np.random.default_rng(0)
    assert signed_rank(rng.normal(size=50)).method == "exact"
    assert signed_rank(rng.normal(size=51)).method == "approximate"
    assert signed_rank(np.repeat(rng.normal(size=6), 2)).method == "exact permutation"
    assert signed_rank(np.repeat(rng.normal(size=7), 2)).method == "approximate"


def test_zeros_are_dropped():
    d = np.random.default_rng(1).normal(size=9)
    with_zeros, without = signed_rank(np.concatenate([d, np.zeros(4)])), signed_rank(d)
    assert (with_zeros.p, with_zeros.statistic, with_zeros.method) == (without.p, without.statistic, without.method)
    assert (with_zeros.n, with_zeros.n_nonzero) == (13, 9)


def test_edges_say_so():
    nothing, zeros, five, six = (signed_rank(np.array(d)) for d in ([], [0, 0, 0], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6]))
    assert np.isnan(nothing.p)
    assert nothing.status == "no pairs"
    assert (zeros.p, zeros.status) == (1.0, "all differences are zero")
    assert five.p == 0.0625
    assert five.status.startswith("too few non-zero differences")
    assert (six.p, six.status) == (0.03125, "ok")
    assert signed_rank(np.arange(1.0, 6.0), level=0.0625).status.startswith("too few")  # p < level is asked for
    assert signed_rank(np.arange(1.0, 6.0), level=0.1).status == "ok"
    with pytest.raises(ValueError, match="finite"):
        signed_rank(np.array([1.0, np.nan]))


# ---------------------------------------------------------------- effect size, Holm, bootstrap


@pytest.mark.parametrize("seed", range(5))
def test_rank_biserial_by_hand(seed):
    d = np.round(np.random.default_rng(seed).normal(0.3, 1, 15), 1)
    assert rank_biserial(d) == pytest.approx(_rank_biserial_by_hand(d), abs=1e-12)
    assert rank_biserial(-d) == pytest.approx(-rank_biserial(d), abs=1e-12)


def test_rank_biserial_edges():
    assert rank_biserial(np.array([0.1, 5.0, 0.0])) == 1
    assert rank_biserial(np.array([-0.1, -5.0])) == -1
    assert rank_biserial(np.array([3.0, -1.0, -2.0])) == 0
    assert rank_biserial(np.zeros(3)) == 0
    assert np.isnan(rank_biserial(np.array([])))


@pytest.mark.parametrize("seed", range(5))
def test_holm_closed_form(seed):
    p = np.random.default_rng(seed).random(6) ** 3
    expected, running = np.empty(6), 0.0
    for place, i in enumerate(np.argsort(p)):
        running = max(running, min(1.0, (6 - place) * p[i]))
        expected[i] = running
    np.testing.assert_allclose(holm(p), expected, rtol=1e-12)
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1], rtol=1e-12)
    np.testing.assert_allclose(holm(np.array([p[0], np.nan, p[1]]))[[0, 2]], holm(p[:2]))
    assert np.isnan(holm(np.array([np.nan, 0.5]))[0])
    assert np.isnan(holm(np.full(2, np.nan))).all()
    assert holm(np.array([0.03])) == [0.03]


def test_bootstrap_covers_the_mean_of_a_normal_sample():
    rng = np.random.default_rng(5)
    hits = 0
    for repeat in range(300):
        low, high = mean_interval(rng.normal(1.0, 2.0, 40), generator(0, "bootstrap", repeat), resamples=400)
        hits += low <= 1.0 <= high
    assert 0.90 <= hits / 300 <= 0.98


def test_bootstrap_agrees_with_the_normal_interval_and_repeats():
    d = np.random.default_rng(6).normal(0.5, 1, 400)
    low, high = mean_interval(d, generator(0, "bootstrap"), resamples=4000)
    half = 1.959964 * d.std(ddof=1) / np.sqrt(d.size)
    assert (low, high) == pytest.approx((d.mean() - half, d.mean() + half), abs=0.01)
    assert mean_interval(d, generator(0, "bootstrap"), resamples=4000) == (low, high)
    assert mean_interval(d, generator(1, "bootstrap"), resamples=4000) != (low, high)
    narrow = mean_interval(d, generator(0, "bootstrap"), resamples=4000, confidence=0.5)
    assert low < narrow[0] < narrow[1] < high
    assert np.isnan(mean_interval(np.array([1.0]), generator(0, "bootstrap"))).all()
    assert mean_interval(np.full(3, 0.25), generator(0, "bootstrap")) == (0.25, 0.25)


# ---------------------------------------------------------------- a study

CANDIDATES = ["reference", "better", "same", "noise"]


def _metrics(splits=8, cases=3, seed=0, dataset="phantom"):
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(0, 0.2, (splits, cases))
    shift = {"reference": 0.0, "better": 0.05, "same": 0.0, "noise": 0.0}
    rows = []
    for candidate, split in itertools.product(CANDIDATES, range(splits)):
        name = {"dataset": dataset, "candidate": candidate, "split": split}
        for case in range(cases):
            for metric in ("dice", "precision", "recall", "avd", "entropy_reference"):
                wobble = {"better": 0.01, "noise": 0.1}.get(candidate, 0.0) * rng.normal()
                sign = -1 if metric == "avd" else 1
                value = 0.5 + difficulty[split, case] + sign * shift[candidate] + wobble
                rows.append(
                    name | {"case": f"s{case}", "scope": "case", "target": "gm", "metric": metric, "value": value}
                )
        pooled = name | {"case": "*", "scope": "run", "target": "image"}
        rows.append(pooled | {"metric": "ece", "value": rng.random()})
        rows += [pooled | {"metric": "reliability_accuracy", "value": 0.5, "bin": b} for b in range(10)]
    return pd.DataFrame(rows).astype({"bin": "Int64"}).assign(n=10, status="ok")


def _row(tests, metric, view, candidate):
    rows = tests[(tests["metric"] == metric) & (tests["view"] == view) & (tests["candidate"] == candidate)]
    assert len(rows) == 1
    return rows.iloc[0]


def test_run_means():
    metrics = _metrics(splits=2)
    hole = (metrics["candidate"] == "same") & (metrics["metric"] == "dice") & (metrics["split"] == 1)
    metrics.loc[metrics.index[hole][0], "value"] = np.nan
    table = run_means(metrics)
    own = table[(table["candidate"] == "same") & (table["metric"] == "dice") & (table["split"] == 1)].iloc[0]
    assert own["value"] == pytest.approx(np.nanmean(metrics.loc[hole, "value"]))
    assert (own["n_defined"], own["n_undefined"]) == (2, 1)
    ece = metrics[metrics["metric"] == "ece"].sort_values(["candidate", "split"])["value"]
    assert table.loc[table["metric"] == "ece", "value"].tolist() == ece.tolist()
    assert "reliability_accuracy" not in set(table["metric"])
    metrics.loc[hole, "value"] = np.nan
    gone = run_means(metrics)
    own = gone[(gone["candidate"] == "same") & (gone["metric"] == "dice") & (gone["split"] == 1)].iloc[0]
    assert np.isnan(own["value"])
    assert (own["n_defined"], own["n_undefined"]) == (0, 3)


def test_study_agrees_with_its_pieces():
    metrics = _metrics()
    tests = study.test_study(metrics, CANDIDATES, "reference", seed=1)
    assert list(tests.columns) == study.COLUMNS
    wide = {
        "split": metrics[metrics["metric"] == "dice"].groupby(["candidate", "split"])["value"].mean().unstack(0),
        "case": metrics[metrics["metric"] == "dice"].set_index(["split", "case", "candidate"])["value"].unstack(),
    }
    for view, n in (("split", 8), ("case", 24)):
        p = [stats.wilcoxon(wide[view][c] - wide[view]["reference"]).pvalue for c in ("better", "noise")]
        d = (wide[view]["better"] - wide[view]["reference"]).to_numpy()
        row = _row(tests, "dice", view, "better")
        assert row["n"] == n
        assert row["p"] == pytest.approx(p[0])
        assert row["p_holm"] == pytest.approx(holm(np.array([p[0], 1.0, p[1]]))[0])
        assert row["effect_size"] == pytest.approx(_rank_biserial_by_hand(d))
        assert row["effect_size"] > 0.9
        assert row["mean_difference"] == pytest.approx(d.mean())
        assert row["mean_difference"] == pytest.approx(row["mean_candidate"] - row["mean_reference"])
        assert row["ci_low"] < d.mean() < row["ci_high"]
        assert row["significant"]
        assert _row(tests, "avd", view, "better")["effect_size"] < -0.9
    same = _row(tests, "dice", "case", "same")
    assert (same["p"], same["status"], same["significant"]) == (1.0, "all differences are zero", False)
    assert set(tests.loc[tests["metric"] == "ece", "view"]) == {"split"}
    assert not {"reliability_accuracy", "entropy_reference"} & set(tests["metric"])
    assert "reference" not in set(tests["candidate"])
    assert len(tests) == 3 * (5 * 2 + 1)


def test_only_what_judges_and_has_no_bin_is_tested():
    metrics = _metrics()
    dice = metrics[metrics["metric"] == "dice"]
    ece = metrics[metrics["metric"] == "ece"]
    more = [dice.assign(metric=name) for name in ("ltpr", "mse_soft", "entropy", "lesion_count", "nonzero_share")]
    more += [dice.assign(metric=name, bin=b) for name in ("ltpr_by_size", "lfdr_by_size") for b in range(3)]
    more += [ece.assign(metric="threshold_dice_range", target="gm"), ece.assign(metric="nonzero_count", bin=7)]
    tests = study.test_study(pd.concat([metrics, *more]), CANDIDATES, "reference", seed=1, resamples=50)
    case = {"dice", "precision", "recall", "avd", "ltpr", "mse_soft", "composite"}
    assert set(tests.loc[tests["view"] == "case", "metric"]) == case
    assert set(tests.loc[tests["view"] == "split", "metric"]) == case | {"ece", "threshold_dice_range"}


def test_level_sets_interval_and_significance():
    metrics = _metrics()
    strict, loose = (
        _row(
            study.test_study(metrics, ["better", "noise"], "reference", seed=1, level=level), "dice", "split", "better"
        )
        for level in (0.001, 0.5)
    )
    assert strict["ci_low"] < loose["ci_low"] < loose["ci_high"] < strict["ci_high"]
    assert strict["p"] == loose["p"] > 0.001
    assert (strict["significant"], strict["significant_raw"]) == (False, False)
    assert (loose["significant"], loose["significant_raw"]) == (True, True)
    between = (strict["p"] + strict["p_holm"]) / 2
    row = _row(study.test_study(metrics, ["better", "noise"], "reference", 1, between), "dice", "split", "better")
    assert (row["significant"], row["significant_raw"]) == (False, True)


def test_composite_is_tested_and_relative_to_the_study():
    metrics = _metrics()
    few = study.test_study(metrics, ["better"], "reference", seed=1)
    score = composite(metrics[metrics["candidate"].isin(["reference", "better"])])
    means = score.groupby(["candidate", "split"])["value"].mean().unstack(0)
    row = _row(few, "composite", "split", "better")
    assert row["mean_difference"] == pytest.approx((means["better"] - means["reference"]).mean())
    assert row["effect_size"] == 1
    every = study.test_study(metrics, CANDIDATES, "reference", seed=1)
    assert _row(every, "composite", "split", "better")["mean_difference"] != pytest.approx(row["mean_difference"])


def test_losing_the_pairing_changes_the_result():
    metrics = _metrics()
    paired = study.test_study(metrics, ["better"], "reference", seed=1)
    broken = metrics.copy()
    ours = broken["candidate"] == "better"
    broken.loc[ours, "split"] = 7 - broken.loc[ours, "split"]
    unpaired = study.test_study(broken, ["better"], "reference", seed=1)
    for view in ("split", "case"):
        before, after = (_row(t, "dice", view, "better") for t in (paired, unpaired))
        assert before["mean_difference"] == pytest.approx(after["mean_difference"])
        assert before["p"] < 0.01 < after["p"]
        assert after["ci_high"] - after["ci_low"] > 3 * (before["ci_high"] - before["ci_low"])


def test_neither_row_order_nor_other_candidates_nor_data_sets_change_a_result():
    metrics = _metrics()
    alone = study.test_study(metrics, ["better"], "reference", seed=1)
    mixed = pd.concat([metrics, _metrics(splits=3, seed=9, dataset="other")]).sample(frac=1, random_state=0)
    among = study.test_study(mixed, CANDIDATES, "reference", seed=1)
    a, b = (_row(t[t["dataset"] == "phantom"], "dice", "case", "better") for t in (alone, among))
    columns = [c for c in study.COLUMNS if c not in ("p_holm", "significant")]
    pd.testing.assert_series_equal(a[columns], b[columns], check_names=False)
    assert b["p_holm"] > a["p_holm"] == a["p"]
    other = study.test_study(metrics, ["better"], "reference", seed=2)
    assert _row(other, "dice", "case", "better")["ci_low"] != a["ci_low"]


def test_undefined_pairs_are_counted_not_hidden():
    metrics = _metrics()
    hole = (metrics["candidate"] == "better") & (metrics["metric"] == "dice") & (metrics["split"] == 0)
    metrics.loc[hole, "value"] = np.nan
    tests = study.test_study(metrics, ["better"], "reference", seed=1)
    for view, n, undefined in (("split", 7, 1), ("case", 21, 3)):
        row = _row(tests, "dice", view, "better")
        assert (row["n"], row["n_undefined"]) == (n, undefined)
    metrics.loc[metrics["candidate"] == "better", "value"] = np.nan
    row = _row(study.test_study(metrics, ["better"], "reference", seed=1), "dice", "case", "better")
    assert (row["n"], row["n_undefined"], row["status"], row["significant"]) == (0, 24, "no pairs", False)
    assert np.isnan(row["p_holm"])


def test_missing_and_unpaired_runs_are_errors():
    metrics = _metrics()
    gone = metrics[~((metrics["candidate"] == "noise") & (metrics["split"] == 3))]
    with pytest.raises(PenumbraError, match="phantom/noise/split-3"):
        study.test_study(gone, CANDIDATES, "reference", seed=1)
    with pytest.raises(PenumbraError, match="phantom/reference/split-8"):
        study.test_study(metrics, ["better"], "reference", seed=1, splits={"phantom": range(9)})
    odd = metrics[~((metrics["candidate"] == "noise") & (metrics["split"] == 3) & (metrics["case"] == "s1"))]
    with pytest.raises(PenumbraError, match="s1"):
        study.test_study(odd, CANDIDATES, "reference", seed=1)
    with pytest.raises(PenumbraError, match="no metrics"):
        study.test_study(metrics, ["x"], "y", seed=1)


def test_a_study_takes_only_its_splits():
    metrics = _metrics()
    tests = study.test_study(metrics, ["better"], "reference", seed=1, splits={"phantom": range(4)})
    assert _row(tests, "dice", "split", "better")["n"] == 4
    assert _row(tests, "dice", "split", "better")["status"].startswith("too few")


def test_only_the_reference_gives_an_empty_table_with_columns():
    tests = study.test_study(_metrics(splits=2), ["reference"], "reference", seed=1)
    assert len(tests) == 0
    assert list(tests.columns) == study.COLUMNS


def test_write_tests(tmp_path):
    files = []
    for name in ("phantom", "other"):
        files.append(tmp_path / f"{name}.parquet")
        _metrics(dataset=name).to_parquet(files[-1])
    arguments = {"candidates": CANDIDATES, "reference": "reference", "seed": 1, "level": 0.05}
    study.write_tests(metrics=files, out=tmp_path / "a.csv", **arguments)
    study.write_tests(metrics=files[::-1], out=tmp_path / "b.csv", **arguments)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    table = pd.read_csv(tmp_path / "a.csv")
    assert list(table.columns) == study.COLUMNS
    assert set(table["dataset"]) == {"phantom", "other"}
