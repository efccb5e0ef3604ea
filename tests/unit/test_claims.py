"""Claims: verdicts on metrics of which the truth is known, against scipy and numpy; faults of the files; the text."""

from __future__ import annotations

import importlib.util
import itertools
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from penumbra.claims.evidence import Arm, rank_biserial_interval, together, weigh
from penumbra.claims.judge import COLUMNS, judge, judged_here, write_claims
from penumbra.claims.kinds import KINDS
from penumbra.claims.models import (
    DERIVED,
    Bound,
    Claim,
    Claims,
    LargestChange,
    Paired,
    Published,
    Ranking,
    Share,
    read_claims,
)
from penumbra.claims.quantities import confidence_gap
from penumbra.claims.section import claims_section
from penumbra.config.load import Configuration, read_yaml
from penumbra.errors import PenumbraError
from penumbra.metrics.composite import composite
from penumbra.metrics.rows import row_names
from penumbra.reporting.context import DatasetInfo, StudyContext
from penumbra.reporting.numbers import CellIndex, displayed_at, rows_digest
from penumbra.reporting.study_report import write_report
from penumbra.reporting.verdicts import overall, read_verdicts
from penumbra.statistics.effect_size import rank_biserial
from tests.conftest import ROOT
from tests.unit.claimed_metrics import NAMES, SPLITS, long, study

_SPEC = importlib.util.spec_from_file_location("synthetic_study", Path(__file__).with_name("synthetic_study.py"))
assert _SPEC is not None and _SPEC.loader is not None
synthetic = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(synthetic)

THESIS = ROOT / "config" / "claims" / "softseg_thesis.yaml"
CASES = 3


def claims(**tests: dict) -> Claims:
    common = {"section": "1", "statement": "It is so.", "published": {"outcome": "untested", "words": "figure 1"}}
    parts = {
        name: common | {k: test.pop(k) for k in ("datasets", "level") if k in test} | {"test": test}
        for name, test in tests.items()
    }
    return Claims.model_validate({"paper": "P", "claims": parts})


def one(metrics: pd.DataFrame, context: StudyContext | None = None, seed: int = 1, **test) -> pd.Series:
    frame = judge(claims(claim=test), metrics, context or study(), seed)
    assert list(frame.columns) == list(COLUMNS)
    (row,) = [row for _, row in frame.iterrows() if row["dataset"] != "all"]
    return row


def dice(rng: np.random.Generator, shifts: dict[str, float], splits: int = SPLITS) -> dict:
    base = rng.normal(0.7, 0.05, (splits, CASES))
    return {("dice", "tumor", n): base + s + rng.normal(0, 0.002, base.shape) for n, s in shifts.items()}


PAIRED = {"kind": "paired", "metric": "dice", "candidates": ["a"], "against": ["b"]}


# ---------------------------------------------------------------- verdicts where the truth is known


@pytest.mark.parametrize(
    ("shift", "direction", "margin", "verdict"),
    [
        (0.1, "higher", 0, "supported"),
        (-0.1, "higher", 0, "contradicted"),
        (-0.1, "lower", 0, "supported"),
        (0.1, "lower", 0, "contradicted"),
        (-0.02, "not_lower", 0.05, "supported"),
        (-0.1, "not_lower", 0.05, "contradicted"),
        (0.02, "not_higher", 0.05, "supported"),
        (0.1, "not_higher", 0.05, "contradicted"),
    ],
)
def test_paired_comparison(rng, shift, direction, margin, verdict):
    metrics = long(dice(rng, {"a": shift, "b": 0.0, "c": 0.0}))
    row = one(metrics, **PAIRED, direction=direction, **({"margin": margin} if margin else {}))
    assert row["verdict"] == verdict and row["reason"] == "ok"
    assert (row["n"], row["unit_of_n"]) == (SPLITS, "splits")
    assert row["standardised"] == (1.0 if verdict == "supported" else -1.0)
    assert row["effect"] == pytest.approx(shift, abs=0.01)


def test_effect_interval_and_p_are_those_of_numpy_and_scipy(rng):
    values = {("dice", "tumor", n): rng.normal(0.7, 0.1, (SPLITS, CASES)) for n in NAMES}
    row = one(long(values), **PAIRED, direction="higher")
    a, b = (values["dice", "tumor", n].mean(axis=1) for n in "ab")
    assert row["effect"] == pytest.approx((a - b).mean())
    assert row["mean_candidates"] == pytest.approx(a.mean()) and row["mean_against"] == pytest.approx(b.mean())
    assert row["p"] == pytest.approx(stats.wilcoxon(a, b, method="exact").pvalue)
    wins = sum(r * np.sign(d) for r, d in zip(stats.rankdata(abs(a - b)), a - b, strict=True))
    assert row["standardised"] == pytest.approx(wins / (SPLITS * (SPLITS + 1) / 2))
    reference = stats.bootstrap((a - b,), np.mean, method="percentile", n_resamples=20_000, rng=rng)
    spread = reference.standard_error
    assert row["low"] == pytest.approx(reference.confidence_interval.low, abs=0.25 * spread)
    assert row["high"] == pytest.approx(reference.confidence_interval.high, abs=0.25 * spread)


def test_groups_are_compared_by_their_means(rng):
    values = dice(rng, {"a": 0.1, "b": 0.0, "c": 0.06})
    row = one(long(values), kind="paired", metric="dice", candidates=["a"], against=["b", "c"], direction="higher")
    a, b, c = (values["dice", "tumor", n].mean(axis=1) for n in NAMES)
    assert row["effect"] == pytest.approx((a - (b + c) / 2).mean())
    assert row["compared"] == "a against b and c" and row["against"] == "b, c"


def test_few_splits_are_undecided_for_what_is_measured_over_runs(rng):
    values = {("ece", "image", n): rng.uniform(0, 0.1, 5) + (n == "b") for n in NAMES}
    row = one(long(values), study(5), **{**PAIRED, "metric": "ece"}, target="image", direction="lower")
    assert (row["verdict"], row["n"], row["unit_of_n"]) == ("undecided", 5, "splits")
    assert row["reason"].startswith("too few splits: p cannot fall below 0.0625")
    assert row["p"] == pytest.approx(0.0625)
    six = {key: np.append(array, array.mean()) for key, array in values.items()}
    assert one(long(six), study(6), **{**PAIRED, "metric": "ece"}, target="image", direction="lower")["verdict"] == (
        "supported"
    )


def test_few_splits_are_paired_by_case_and_each_case_counts_once(rng):
    values = {("dice", "tumor", n): rng.normal(0.7 + 0.1 * (n == "a"), 0.005, (2, 7)) for n in NAMES}
    row = one(long(values), study(2), **PAIRED, direction="higher")
    assert (row["verdict"], row["n"], row["unit_of_n"]) == ("supported", 7, "cases")
    assert row["p"] == pytest.approx(2 / 2**7)
    a, b = (values["dice", "tumor", n].mean(axis=0) for n in "ab")
    assert row["effect"] == pytest.approx((a - b).mean())


def test_a_stricter_level_needs_more_splits(rng):
    metrics = long(dice(rng, {"a": 0.1, "b": 0.0, "c": 0.0}))
    row = one(metrics, **PAIRED, direction="higher", level=0.005)
    assert row["verdict"] == "undecided" and row["level"] == 0.005 and "too few" in row["reason"]


def test_chance_is_undecided_and_errs_about_as_often_as_the_level_says(rng):
    wrong = 0
    for _ in range(150):
        d = rng.normal(size=12)
        arm = Arm(("a",), ("b",), d, np.zeros(12), 1.0)
        wrong += weigh(arm, 0.05, "splits", rng).verdict != "undecided"
    assert wrong <= stats.binom.ppf(1 - 1e-6, 150, 0.05)


def test_missing_rows_are_said_to_be_missing(rng):
    row = one(long(dice(rng, {"a": 0.1, "b": 0.0, "c": 0.0})), **{**PAIRED, "metric": "ltpr"}, direction="higher")
    assert (row["verdict"], row["reason"], row["n"]) == ("undecided", "no rows of ltpr", 0)
    assert np.isnan(row["p"]) and np.isnan(row["effect"])


def test_undefined_pairs_are_left_out_and_counted(rng):
    values = dice(rng, {"a": 0.1, "b": 0.0, "c": 0.0})
    values["dice", "tumor", "b"][2] = np.nan
    values["dice", "tumor", "a"][3, 1] = np.nan  # one case alone: the run keeps its mean
    row = one(long(values), **PAIRED, direction="higher")
    assert (row["verdict"], row["n"], row["n_undefined"]) == ("supported", SPLITS - 1, 1)
    assert row["reason"] == "1 pairs undefined"
    equal = {key: np.full((SPLITS, CASES), 0.5) for key in values}
    row = one(long(equal), **PAIRED, direction="higher")
    assert (row["verdict"], row["reason"]) == ("undecided", f"only 0 of {SPLITS} splits differ")


def test_a_significant_test_with_a_mean_on_no_side_is_undecided():
    d = np.array([*np.linspace(0.01, 0.02, 19), -5.0, -0.5])
    found = weigh(Arm(("a",), ("b",), d, np.zeros(d.size), 1.0), 0.05, "splits", np.random.default_rng(0))
    assert found.p < 0.05 and found.effect < 0 and found.verdict == "undecided"
    assert "the interval of the mean" in found.reason


# ---------------------------------------------------------------- kinds


@pytest.mark.parametrize(
    ("shifts", "verdict", "held"),
    [
        ({"a": 0.1, "b": 0.0, "c": 0.05}, "supported", 2),
        ({"a": 0.1, "b": 0.0, "c": 0.1}, "undecided", 1),
        ({"a": 0.1, "b": 0.0, "c": 0.2}, "contradicted", 1),
    ],
)
def test_ranking_needs_every_comparison(rng, shifts, verdict, held):
    values = dice(rng, shifts)
    if shifts["a"] == shifts["c"]:
        values["dice", "tumor", "c"] = values["dice", "tumor", "a"] + np.tile([[0.01], [-0.01]], (SPLITS // 2, CASES))
    row = one(long(values), kind="ranking", metric="dice", candidates=["a"], against=["b", "c"], direction="higher")
    assert row["verdict"] == verdict and f"{held} of 2 comparisons hold" in row["reason"]
    if verdict == "supported":
        differences = [
            values["dice", "tumor", "a"].mean(axis=1) - values["dice", "tumor", n].mean(axis=1) for n in "bc"
        ]
        assert row["p"] == pytest.approx(max(stats.wilcoxon(d, method="exact").pvalue for d in differences))
    else:
        assert row["compared"] == "a against c"


def test_each_pairs_in_order_and_one_may_spoil_it(rng):
    names = ("a", "b", "c", "d")
    test = {"kind": "paired", "metric": "dice", "candidates": ["a", "b"], "against": ["c", "d"], "combine": "each"}
    good = long(dice(rng, {"a": 0.3, "b": 0.1, "c": 0.2, "d": 0.0}))  # b is below c, which it is not held against
    assert one(good, study(names=names), **test, direction="higher")["verdict"] == "supported"
    bad = long(dice(rng, {"a": 0.3, "b": 0.1, "c": 0.2, "d": 0.15}))
    row = one(bad, study(names=names), **test, direction="higher")
    assert row["verdict"] == "contradicted" and row["compared"] == "b against d"


def test_contradiction_of_one_among_many_is_corrected(rng):
    def arm(d: np.ndarray) -> Arm:
        return Arm(("a",), ("b",), d, np.zeros(d.size), 1.0)

    against = arm(-rng.uniform(1, 2, 6))  # p = 0.03125 alone
    doubtful = [arm(np.array([1.0, -1.1, 1.2, -1.3, 1.4, -1.5])) for _ in range(3)]
    alone = together([weigh(against, 0.05, "splits", rng)], 0.05)
    many = together([weigh(a, 0.05, "splits", rng) for a in (*doubtful, against)], 0.05)
    assert alone.verdict == "contradicted" and many.verdict == "undecided"
    assert many.reason == "0 of 4 comparisons hold, not significant after Holm's correction"
    assert many.effect == pytest.approx(against.values.mean())


def test_share_of_runs_that_fail(rng):
    values = dice(rng, {"a": 0.0, "b": 0.0, "c": 0.0}, 12)
    values["dice", "tumor", "a"][:9] = 0.02
    test = {"kind": "share", "metric": "dice", "candidates": ["a"], "against": ["b", "c"]}
    row = one(long(values), study(12), **test, direction="higher", below=0.5, of="against")
    assert (row["verdict"], row["unit"], row["unit_of_n"]) == ("supported", "fraction of runs", "splits")
    assert (row["mean_candidates"], row["mean_against"], row["effect"]) == (0.75, 0.0, 0.75)
    assert row["p"] == pytest.approx(stats.binomtest(9, 9).pvalue)  # all 9 that differ differ one way
    assert one(long(values), study(12), **test, direction="lower", below=0.1)["verdict"] == "contradicted"
    assert one(long(values), study(12), **test, direction="higher", below=0.01)["verdict"] == "undecided"


def test_share_is_never_paired_by_case(rng):
    values = {("dice", "tumor", n): np.full((3, 20), 0.8 * (n != "a")) for n in NAMES}
    test = {"kind": "share", "metric": "dice", "candidates": ["a"], "against": ["b"]}
    row = one(long(values), study(3), **test, direction="higher", below=0.5)
    assert (row["n"], row["unit_of_n"], row["verdict"]) == (3, "splits", "undecided")


def test_largest_change(rng):
    names = ("a", "b", "c", "d")
    test = {"kind": "largest_change", "metric": "dice", "reference": "a", "against": ["b", "d"]}
    values = dice(rng, {"a": 0.0, "b": 0.05, "c": -0.2, "d": -0.1})
    row = one(long(values), study(names=names), **test, changed="c")
    assert row["verdict"] == "supported" and row["compared"] == "c and a against d and a"
    base, changed, other = (values["dice", "tumor", n].mean(axis=1) for n in "acd")
    assert row["effect"] == pytest.approx((abs(changed - base) - abs(other - base)).mean())
    values = dice(rng, {"a": 0.0, "b": 0.3, "c": -0.2, "d": -0.1})
    assert one(long(values), study(names=names), **test, changed="c")["verdict"] == "contradicted"


def test_bound_of_a_metric_and_of_a_ratio(rng):
    reference = rng.uniform(50, 500, (SPLITS, CASES))
    values = {("entropy_reference", "image", n): reference for n in NAMES}
    shares = {"a": 0.3, "b": 0.9, "c": 1.4}
    values |= {("entropy", "image", n): reference * s * rng.uniform(0.97, 1.03) for n, s in shares.items()}
    test = {"kind": "bound", "metric": "entropy", "over": "entropy_reference", "target": "image", "value": 1.0}
    row = one(long(values), **test, direction="lower", candidates=["a", "b"], combine="each")
    assert row["verdict"] == "supported" and row["unit"] == "ratio" and row["metric"] == "entropy / entropy_reference"
    row = one(long(values), **test, direction="lower", candidates=["a", "c"], combine="each")
    assert row["verdict"] == "contradicted" and row["compared"] == "c"
    row = one(long(values), **test, direction="higher", candidates=["c"])
    ratio = values["entropy", "image", "c"].mean(axis=1) / reference.mean(axis=1)
    assert row["mean_candidates"] == pytest.approx(ratio.mean()) and row["effect"] == pytest.approx(ratio.mean() - 1)
    reference[0] = 0.0
    row = one(long(values), **test, direction="higher", candidates=["c"])
    assert row["n_undefined"] == 1 and row["n"] == SPLITS - 1


def test_confidence_gap_weighs_bins_by_their_voxels(rng):
    count = rng.integers(0, 50, (SPLITS, 10)).astype(float)
    count[:, 4] = 0
    count[1] = 0
    confidence, accuracy = rng.uniform(size=(2, SPLITS, 10))
    rows = []
    for suffix in ("", "_closed"):
        for (s, k), n in np.ndenumerate(count):
            for name, value in (("count", n), ("confidence", confidence[s, k]), ("accuracy", accuracy[s, k])):
                value = value if n or name == "count" else np.nan
                rows.append(
                    {"dataset": "organ", "candidate": "a", "split": s, "case": "*", "scope": "run", "target": "image"}
                    | {"metric": f"reliability_{name}{suffix}", "bin": k, "value": value + (10 if suffix else 0)}
                )
    table = pd.DataFrame(rows).astype({"bin": "Int64"})
    gap = confidence_gap(table[~table["metric"].str.endswith("_closed")]).set_index("split")["value"]
    for s in range(SPLITS):
        expected = (
            sum(n * (c - a) for n, c, a in zip(count[s], confidence[s], accuracy[s], strict=True)) / count[s].sum()
            if count[s].sum()
            else np.nan
        )
        assert gap[s] == pytest.approx(expected, nan_ok=True)
    table.insert(0, "row", row_names(table))
    test = {"kind": "bound", "metric": "confidence_gap", "target": "image", "candidates": ["a"], "direction": "higher"}
    row = one(table, study(names=("a",)), **test, value=-1.5)
    assert row["mean_candidates"] == pytest.approx(gap.mean()) and row["n_rows"] == 3 * 10 * SPLITS


def test_composite_is_that_of_the_whole_study(rng):
    values = {
        (m, "tumor", n): rng.uniform(size=(SPLITS, CASES))
        for m in ("dice", "precision", "recall", "avd")
        for n in NAMES
    }
    metrics = long(values)
    row = one(metrics, **{**PAIRED, "metric": "composite"}, direction="higher")
    scores = composite(metrics).groupby(["candidate", "split"])["value"].mean()
    assert row["effect"] == pytest.approx((scores["a"] - scores["b"]).mean())
    assert row["n_rows"] == 4 * len(NAMES) * SPLITS * CASES


@pytest.mark.parametrize(
    ("metric", "evaluation", "taken"),
    [
        ("ece", {"last_bin": "open"}, "ece"),
        ("ece", {"last_bin": "closed"}, "ece_closed"),
        ("mse", {"squared_error": "depthless"}, "mse_depthless"),
        ("mse", {"squared_error": "voxels"}, "mse"),
    ],
)
def test_a_data_sets_convention_picks_the_metric(rng, metric, evaluation, taken):
    values = {
        (m, t, n): rng.uniform(size=SPLITS) + (n == ("a" if m == taken else "b"))
        for m in ("ece", "ece_closed", "mse", "mse_depthless")
        for t in ("image", "tumor")
        for n in NAMES
    }
    target = "image" if metric == "ece" else "classes"
    row = one(long(values), study(**evaluation), **{**PAIRED, "metric": metric}, target=target, direction="higher")
    assert (row["metric"], row["verdict"]) == (taken, "supported")


# ---------------------------------------------------------------- over data sets, provenance, reproducibility


def test_everywhere_means_on_every_data_set_and_class(rng):
    context = study(classes=("core", "rim"))
    both = {"core": {"a": 0.1, "b": 0.0}, "rim": {"a": 0.1, "b": 0.0}}
    verdicts = {}
    for name, signs in {"yes": (1, 1), "no": (-1, -1), "split": (1, -1)}.items():
        values = {}
        for (target, shifts), sign in zip(both.items(), signs, strict=True):
            drawn = dice(rng, {n: sign * s for n, s in shifts.items()} | {"c": 0.0})
            values |= {("dice", target, n): v for (_, _, n), v in drawn.items()}
        frame = judge(claims(claim=dict(PAIRED, direction="higher")), long(values), context, 1)
        assert frame["target"].tolist() == ["core", "rim", "all"]
        verdicts[name] = frame.iloc[-1]
    assert {k: v["verdict"] for k, v in verdicts.items()} == {
        "yes": "supported",
        "no": "contradicted",
        "split": "undecided",
    }
    assert verdicts["yes"]["p"] == pytest.approx(2 / 2**SPLITS) and verdicts["yes"]["n"] == 2
    assert np.isnan(verdicts["split"]["p"]) and np.isnan(verdicts["yes"]["effect"])
    assert verdicts["split"]["reason"] == "supported in 1, contradicted in 1 of 2"


def test_what_was_not_measured_does_not_count_everywhere(rng):
    drawn = dice(rng, {"a": 0.1, "b": 0.0, "c": 0.0})
    frame = judge(claims(claim=dict(PAIRED, direction="higher")), long(drawn), study(classes=("tumor", "rim")), 1)
    assert frame["target"].tolist() == ["tumor", "rim"] and frame["verdict"].tolist() == ["supported", "undecided"]
    assert overall(frame).tolist() == ["supported"]


def test_a_claim_appears_only_where_its_candidates_and_data_sets_are(rng):
    metrics = long(dice(rng, {"a": 0.1, "b": 0.0, "c": 0.0}))
    several = claims(
        there=dict(PAIRED, direction="higher"),
        candidate=dict(PAIRED, direction="higher", against=["z"]),
        dataset=dict(PAIRED, direction="higher", datasets=["bone"]),
        named=dict(PAIRED, direction="higher", datasets=["organ"]),
    )
    assert judge(several, metrics, study(), 1)["claim"].unique().tolist() == ["there", "named"]
    text = study()
    text = StudyContext(**{**vars(text), "datasets": {"organ.text": DatasetInfo("organ.text", "O", ("tumor",), (0,))}})
    assert list(judged_here(several, text)) == ["there", "named"]
    nothing = judge(claims(x=dict(PAIRED, direction="higher", against=["z"])), metrics, study(), 1)
    assert nothing.empty and list(nothing.columns) == list(COLUMNS)


def test_filter_and_digest_lead_to_the_rows(rng):
    names = (*NAMES, "d")
    metrics = long(
        dice(rng, {n: 0.1 * i for i, n in enumerate(names)}) | {("ece", "image", n): np.ones(8) for n in names}
    )
    row = one(metrics, study(names=names), kind="ranking", metric="dice", candidates=["c"], against=["a", "b"], direction="higher")  # fmt: skip
    picked = metrics.query(row["filter"])
    assert len(picked) == row["n_rows"] == 3 * SPLITS * CASES
    assert rows_digest(picked["row"]) == (row["n_rows"], row["rows_sha256"])
    assert set(picked["candidate"]) == set(NAMES) and set(picked["metric"]) == {"dice"}


def test_the_seed_decides_the_intervals_and_the_order_nothing(rng):
    metrics = long({("dice", "tumor", n): rng.normal(0.7, 0.1, (SPLITS, CASES)) for n in NAMES})
    test = claims(one=dict(PAIRED, direction="higher"), two=dict(PAIRED, direction="lower"))
    first = judge(test, metrics, study(), 7)
    again = judge(test, metrics.sample(frac=1, random_state=1), study(), 7)
    pd.testing.assert_frame_equal(first, again)
    other = judge(test, metrics, study(), 8)
    assert (other["low"] != first["low"]).all() and (other["p"] == first["p"]).all()
    alone = judge(claims(two=dict(PAIRED, direction="lower")), metrics, study(), 7)
    pd.testing.assert_frame_equal(alone, first[first["claim"] == "two"].reset_index(drop=True))


def test_interval_of_the_rank_biserial_correlation(rng):
    d = np.round(rng.normal(0.4, 1, 9), 1)
    d[0] = 0.0
    mine = rank_biserial_interval(d, np.random.default_rng(3), resamples=4000)
    drawn = d[np.random.default_rng(3).integers(0, 9, size=(4000, 9))]
    by_hand = np.quantile([rank_biserial(x) for x in drawn], [0.025, 0.975])
    np.testing.assert_allclose(mine, by_hand)
    assert np.isnan(rank_biserial_interval(d[:1], rng)).all()


# ---------------------------------------------------------------- files


def test_the_thesis_claims_can_all_be_judged_and_name_what_exists():
    configuration = Configuration.load(read_yaml(ROOT / "config" / "config.yaml"), ROOT / "config")
    found = read_claims(THESIS)
    assert len(found.claims) >= 30
    for name, claim in found.claims.items():
        assert claim.names <= set(configuration.candidate_entries), name
        assert set(claim.datasets or ()) <= set(configuration.dataset_files), name
        assert claim.section[0] in "45" and claim.statement.endswith((".", ").")), name
    families = [
        set(read_yaml(ROOT / "config/candidates" / f)["candidates"]) for f in ("softseg.yaml", "label_fusion.yaml")
    ]
    counts = [sum(c.names <= family for c in found.claims.values()) for family in families]
    assert sum(counts) == len(found.claims) and min(counts) >= 12


def test_published_numbers_are_those_of_the_tables():
    """Every pair `x against y` of claims on SCGM stands in config/published."""
    table = pd.read_csv(ROOT / "config" / "published" / "softseg_thesis.csv")
    means = {
        (m, c): v
        for m, c, v in table[(table["dataset"] == "scgm") & (table["target"] == "gray_matter")][
            ["metric", "method", "mean"]
        ].itertuples(index=False)
    }
    words = {name: claim.published.words for name, claim in read_claims(THESIS).claims.items()}
    for claim, metric in (("dice-softseg", "dice"), ("squared-error-binary", "mse"), ("volume-difference", "avd"), ("squared-error-soft", "mse_unthresholded")):  # fmt: skip
        both = [means[metric, c] for c in ("Soft-ReLU-Wing", "Hard-Sig-Dice")]
        shown = [f"{v:.3f}" if "mse" in metric else f"{v:.1f}" for v in both]
        assert f"SCGM {shown[0]} against {shown[1]} %" in words[claim], claim


def test_the_numbers_of_stochastic_networks_are_those_of_table_1():
    """Every number that a claim quotes stands in config/published, of a candidate by the label that it names."""
    configuration = Configuration.load(read_yaml(ROOT / "config" / "config.yaml"), ROOT / "config")
    table = pd.read_csv(ROOT / "config" / "published" / "stochastic_segmentation_networks.csv")
    table = table[table["dataset"] == "lidc"].set_index(["metric", "method"])["mean"]
    names = {"ged": ("ged_squared", 3), "reader_dice": ("dsc", 1), "reader_dice_annotated": ("dsc_nodule", 1),
             "sample_diversity": ("sample_diversity", 3)}  # fmt: skip
    claims = read_claims(ROOT / "config/claims/stochastic_segmentation_networks.yaml").claims
    assert len(claims) == 12
    for name, claim in claims.items():
        assert claim.names <= set(configuration.candidate_entries), name
        metric, digits = names[claim.test.metric]
        quoted = [float(n) for n in re.findall(r"[+-]?\d+(?:\.\d+)?", claim.published.words)]
        values = {c: table[metric, configuration.candidate(c, "lidc").label] for c in claim.names}
        if name == "benefit-of-others":
            expected = [values[a] - values[b] for a, b in zip(claim.test.candidates, claim.test.against, strict=True)]
        elif name == "diversity-of-readers":
            expected = [*values.values(), 0.399]
        elif name == "diagonal-collapses":
            expected = [*values.values(), table[metric, "SSN diagonal (set 0)"]]
        else:
            expected = list(values.values())
        assert sorted(quoted) == pytest.approx(sorted(round(v, digits) for v in expected)), name


def faulty(**edits) -> dict:
    test = {**PAIRED, "direction": "higher", **edits}
    claim = {"section": "4.4", "statement": "So.", "published": {"outcome": "mixed", "words": "w"}, "test": test}
    return {"paper": "P", "claims": {"so": {k: v for k, v in claim.items() if v is not None}}}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (faulty(direction="hiher"), "claims.so.test.paired.direction: .*right: one of 'higher', 'lower'"),
        (faulty(metric="dicee"), "claims.so.test.paired.metric: there is no metric named 'dicee'; did you mean 'dice'"),
        (faulty(metric="threshold_dice"), "'threshold_dice' has one value a bin"),
        (faulty(metric="ltpr_by_size"), "'ltpr_by_size' has one value a bin"),
        (faulty(metric="ece"), "ece is measured of the whole image alone: set `target: image`"),
        (faulty(marginn=0.1), "claims.so.test.paired.marginn: unknown key; did you mean 'margin'"),
        (faulty(kind="pared"), "claims.so.test: .*'pared'.*'paired', 'ranking'"),
        (faulty(against=["a"]), "claims.so.test.paired: a candidate cannot stand on both sides: a"),
        (faulty(against=["b", "b"]), "each candidate may be named once"),
        (faulty(combine="each", against=["b", "c"]), "both sides need the same number of them, got 1 and 2"),
        (faulty(direction="not_lower"), "need a margin above 0"),
        (faulty(margin=0.1), "need a margin above 0, and only they"),
        ({"paper": "P", "claims": {}}, "claims: .*at least 1"),
        ({"paper": "P", "claims": {"a b": {}}}, "claims.a b"),
    ],
)
def test_faults_are_told_with_place_and_cure(tmp_path, content, said):
    path = tmp_path / "paper.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(PenumbraError, match=said) as error:
        read_claims(path)
    assert error.value.file == path and error.value.cure


def test_a_section_that_yaml_takes_for_a_number_is_refused(tmp_path):
    path = tmp_path / "paper.yaml"
    path.write_text("paper: P\nclaims:\n  so: {section: 4.4, statement: $x$}\n")
    with pytest.raises(PenumbraError, match=r"claims.so.section: .*4\.4.*a text"):
        read_claims(path)


def test_reading_claims_needs_nothing_heavy():
    code = f"import sys; from penumbra.claims.models import read_claims; read_claims({str(THESIS)!r}); print([m for m in ('pandas', 'numpy', 'scipy', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_key_kind_and_column_is_described():
    page = (ROOT / "docs" / "claims.md").read_text()
    known = {w for span in re.findall(r"`([^`\n]+)`", page) for w in re.findall(r"\w+", span)}
    models = (Claims, Claim, Published, Paired, Ranking, Share, LargestChange, Bound)
    words = {key for model in models for key in model.model_fields} | set(COLUMNS) | set(KINDS) | set(DERIVED)
    for model, key in ((Paired, "direction"), (Paired, "combine"), (Share, "of"), (Published, "outcome"), (Bound, "target")):  # fmt: skip
        words |= set(get_args(model.model_fields[key].annotation))
    assert words - known == set()


def test_documented_claims_are_valid(tmp_path):
    (block,) = re.findall(r"```yaml\n(# config/claims/.*?)```", (ROOT / "docs" / "claims.md").read_text(), re.S)
    (tmp_path / "mine.yaml").write_text(block)
    assert list(read_claims(tmp_path / "mine.yaml").claims) == ["recall", "best"]


# ---------------------------------------------------------------- a study's file and its text


@pytest.fixture(scope="module")
def judged(tmp_path_factory) -> tuple[Path, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("claims")
    context = synthetic.context(8, 3)
    seed = int(np.random.SeedSequence().entropy % 2**32)
    print("seed", seed)
    metrics = synthetic.long_metrics(context, seed)
    for dataset, rows in metrics.groupby("dataset"):
        rows.to_parquet(folder / f"{dataset}.parquet")
    write_claims(
        told=synthetic.told(context, "scorecard", "figure"),
        claims=read_claims(THESIS).model_dump(mode="json"),
        metrics=[folder / "scgm.parquet", folder / "ms_brain.parquet"],
        seed=3,
        out=folder / "claims.csv",
    )
    return folder, metrics


def test_a_studys_file(judged):
    folder, _ = judged
    frame = read_verdicts(folder / "claims.csv")
    assert list(frame.columns) == list(COLUMNS) and set(frame["section"].str[0]) == {"5"}
    ece = frame[frame["claim"] == "ece-softseg"].set_index("dataset")
    assert ece.loc["scgm", "verdict"] == "supported"  # by construction: conventional candidates are sharper
    assert ece.loc["ms_brain", "verdict"] == "undecided" and "too few splits" in ece.loc["ms_brain", "reason"]
    assert ece.loc["scgm", "source"] == str(folder / "scgm.parquet")
    for row in frame[frame["dataset"] != "all"].to_dict("records"):
        picked = pd.read_parquet(row["source"]).query(row["filter"])
        assert rows_digest(picked["row"]) == (row["n_rows"], row["rows_sha256"])
    by_case = frame[(frame["dataset"] == "ms_brain") & (frame["unit_of_n"] == "cases")]
    assert len(by_case) and (by_case["n"] == 8).all()


def test_the_section_tells_every_claim_and_indexes_every_number(judged):
    folder, _ = judged
    frame = read_verdicts(folder / "claims.csv")
    cells = CellIndex("report")
    lines = cells.place("\n".join(claims_section(frame, cells, "studies/s/claims.csv"))).split("\n")
    table = [line for line in lines if line.startswith("| ")][1:]
    assert len(table) == len(frame) and {len(line.split(" | ")) for line in table} == {7}
    index = cells.frame()
    verdicts = overall(frame)
    for word in ("supported", "contradicted", "undecided"):
        assert index.loc[index["column"] == word, "value"].tolist() == [(verdicts == word).sum()]
    text = "\n".join(lines)
    assert all(displayed_at(text, entry) == entry["displayed"] for entry in index.to_dict("records"))
    effects = index[index["column"] == "effect"]
    told = frame[frame["effect"].notna()]
    np.testing.assert_allclose(effects["value"].astype(float), told["effect"])
    for record, row in itertools.islice(zip(effects.to_dict("records"), told.to_dict("records"), strict=True), 50):
        assert float(record["displayed"]) == pytest.approx(
            row["effect"] * record["scale"], abs=0.5001 * 10 ** -record["decimals"]
        )
        name = "/".join(row[key] for key in ("claim", "dataset", "target"))
        assert (record["n_rows"], record["rows_sha256"]) == rows_digest([name])
        assert record["source"] == "studies/s/claims.csv"


def test_no_claims_and_broken_files_are_told(tmp_path):
    empty = pd.DataFrame(columns=list(COLUMNS))
    empty.to_csv(tmp_path / "claims.csv", index=False)
    assert "None of the paper's claims" in claims_section(read_verdicts(tmp_path / "claims.csv"), CellIndex("r"))[2]
    (tmp_path / "claims.csv").write_text("claim,dataset\n")
    with pytest.raises(PenumbraError, match="cannot read the claims"):
        read_verdicts(tmp_path / "claims.csv")


def test_the_report_prints_the_claims(judged, tmp_path):
    folder, _ = judged
    told = synthetic.told(synthetic.context(8, 3), "scorecard", "figure")
    write_report(told=told, tests=None, tables=[], figures=[], out=tmp_path / "report.md", claims=folder / "claims.csv")
    text = (tmp_path / "report.md").read_text()
    frame = read_verdicts(folder / "claims.csv")
    assert "## Claims" in text and all(f"{s} (" in text for s in frame["statement"])
    cells = pd.read_csv(tmp_path / "report.cells.csv")
    effects = (cells["estimator"] == "column_of_claims") & (cells["column"] == "effect")
    assert effects.sum() == frame["effect"].notna().sum()


def test_rounding_of_equal_values_is_no_difference(rng):
    others = rng.uniform(0.3, 0.9, 8)
    arm = Arm(("a",), ("b",), others - 0.1, others, 1.0, margin=0.1)
    assert np.abs(arm.values - arm.others + 0.1).max() < 1e-15  # at the margin, but for rounding
    found = weigh(arm, 0.05, "splits", np.random.default_rng(0))
    assert found.verdict == "undecided" and "0 of 8 splits differ" in found.reason
