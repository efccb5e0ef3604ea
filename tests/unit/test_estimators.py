"""Every registered estimator against its definition, in plain Python and pandas."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import gaussian_kde, zscore

from penumbra.reporting import estimators
from penumbra.reporting.estimators import DEEP, ESTIMATORS, Estimate, estimate_of, in_words, mean_std, text_of
from penumbra.reporting.numbers import CellIndex, row_filter
from penumbra.reporting.rows import Source, parsed_filter

NAN = math.nan
Case = tuple[Any, str, dict[str, Any], Estimate, str | None]
"""Source (a frame, or files), filter, argument, what is expected, and the text that is displayed."""


def long(rng: np.random.Generator, **metrics: int) -> pd.DataFrame:
    """Three candidates, four splits, three cases, values undefined here and there; ``metric=bins`` (0: none)."""
    rows = []
    for metric, bins in metrics.items():
        for candidate in "abc":
            for split in range(4):
                for case in range(3) if bins == 0 else (0,):
                    for k in range(max(bins, 1)):
                        gone = bins == 0 and rng.uniform() < 0.15
                        rows.append(
                            {"dataset": "d", "candidate": candidate, "split": split, "case": f"s{case}"}
                            | {"scope": "case", "target": "t", "metric": metric, "bin": k if bins else pd.NA}
                            | {"value": NAN if gone else rng.normal(), "n": 5, "status": "undefined: x" if gone else "ok"}
                        )  # fmt: skip
    table = pd.DataFrame(rows).astype({"bin": "Int64", "value": float}).sample(frac=1, random_state=1)
    return table.assign(row=[f"r{i}" for i in range(len(table))]).reset_index(drop=True)


def same(found: Estimate, expected: Estimate) -> bool:
    """Equal but for rounding; NaN equals NaN, no deviation only none."""
    return found.n == expected.n and all(
        (a is None) == (b is None) and (a is None or a == pytest.approx(b, rel=1e-9, nan_ok=True))
        for a, b in zip(found[:2], expected[:2], strict=True)
    )


def of(frame: pd.DataFrame, **equal: Any) -> pd.DataFrame:
    for key, value in equal.items():
        frame = frame[frame[key] == value]
    return frame


def over_splits(frame: pd.DataFrame) -> Estimate:
    runs = [g["value"].mean() for _, g in frame.groupby("split") if g["value"].notna().any()]
    return Estimate(float(np.mean(runs)), float(np.std(runs, ddof=1)), len(runs))


def _metrics(rng: np.random.Generator) -> dict[str, Case]:
    frame = long(rng, dice=0, entropy=0, entropy_reference=0, threshold_dice=19)
    a = of(frame, candidate="a", metric="dice")
    where = row_filter(dataset="d", candidate="a", metric="dice")
    one = a[a["value"].notna()].iloc[0]
    curve = of(frame, metric="threshold_dice", candidate="b", split=2).set_index("bin")["value"].astype(float)
    both = frame[frame["metric"].isin(["entropy", "entropy_reference"]) & (frame["candidate"] == "c")]
    wide = of(both, case="s1").pivot(index="split", columns="metric", values="value").dropna()
    runs = both.groupby(["split", "metric"])["value"].mean().unstack().dropna()
    pair = row_filter(candidate="c", metric=["entropy", "entropy_reference"])
    bad = int(a["value"].isna().sum())
    n = a[a["value"].notna()]["split"].nunique()
    return {
        "mean_over_splits": (frame, where, {}, over_splits(a), None),
        "value_as_measured": (
            frame, row_filter(row=one["row"]), {}, Estimate(float(one["value"]), None, 1), None,
        ),
        "minimum_over_runs": (frame, where, {}, Estimate(a["value"].min(), None, len(a) - bad), None),
        "maximum_over_runs": (frame, where, {}, Estimate(a["value"].max(), None, len(a) - bad), None),
        "best_threshold": (
            frame, row_filter(metric="threshold_dice", candidate="b", split=2), {"step": 0.05},
            Estimate(round(0.05 * (int(curve.idxmax()) + 1), 10), None, 1), None,
        ),
        "mean_where_both_defined": (
            frame, pair + " and case == 's1'", {"metric": "entropy", "beside": "entropy_reference"},
            Estimate(wide["entropy"].mean(), None, len(wide)), None,
        ),
        "ratio_over_splits": (
            frame, pair, {"metric": "entropy", "over": "entropy_reference"},
            Estimate((runs["entropy"] / runs["entropy_reference"]).mean(), None, len(runs)), None,
        ),
        "count_of_undefined": (frame, where, {}, Estimate(bad, None, len(a)), None),
        "count_of_values": (frame, where, {}, Estimate(len(a), None, len(a)), None),
        "count_of_splits": (frame, where, {}, Estimate(n, None, n), None),
        "reasons_of_undefined": (frame, where, {}, Estimate(bad, None, len(a)), "undefined: x" if bad else ""),
        "reserve": (frame, where, {"splits": 4}, Estimate(bad, None, len(a)), "‡" if bad or n < 4 else ""),
    }  # fmt: skip


def _composite(rng: np.random.Generator) -> dict[str, Case]:
    frame = long(rng, dice=0, precision=0, recall=0, avd=0)
    wide = frame.pivot(index=["candidate", "split", "case"], columns="metric", values="value")
    z = wide.apply(lambda column: zscore(column, nan_policy="omit"))
    score = (z["dice"] + z["precision"] + z["recall"] - z["avd"]).dropna()
    (candidate, split, case), value = next(iter(score.items()))
    where, own = row_filter(target="t"), score.loc["b"]
    told = {"candidate": candidate, "split": split, "case": case}
    return {
        "composite_of_case": (frame, where, told, Estimate(value, None, 1), None),
        "composite_mean": (frame, where, {"candidate": "b"}, Estimate(own.mean(), None, len(own)), None),
        "composite_quantile": (
            frame, where, {"candidate": "b", "quantile": 0.75}, Estimate(own.quantile(0.75), None, len(own)), None,
        ),
    }  # fmt: skip


def _distribution(rng: np.random.Generator) -> dict[str, Case]:
    frame = long(rng, nonzero_count=100)
    frame["value"] = rng.integers(0, 30, len(frame)).astype(float)
    short = frame.index[(frame["candidate"] == "a") & (frame["split"] == 1)][:1]
    frame = frame.drop(short)  # one histogram of candidate a is not whole
    sums = {c: of(frame, candidate=c).groupby("split")["value"].agg(["sum", "size"]) for c in "abc"}
    voxels = {c: s.loc[s["size"] == 100, "sum"].mean() for c, s in sums.items()}
    whole = frame[~((frame["candidate"] == "a") & (frame["split"] == 1))]
    counts = of(whole, candidate="a").groupby("bin")["value"].sum().to_numpy().astype(int)
    values = np.repeat((np.arange(100) + 0.5) / 100, counts)
    at = np.linspace(-0.1, 1.1, 361)[200]
    kernel = gaussian_kde(values, bw_method=0.07 / values.std(ddof=1))
    share = voxels["a"] / sum(voxels.values())
    return {
        "voxels_above_zero": (
            frame, "", {"candidate": "a"}, Estimate(voxels["a"], None, 3), f"{voxels['a']:,.0f}",
        ),
        "density": (
            frame, "", {"candidate": "a", "at": at, "bandwidth": 0.07},
            Estimate(float(kernel(at)[0] * share), None, 3), None,
        ),
    }  # fmt: skip


def _tests(rng: np.random.Generator) -> dict[str, Case]:
    frame = pd.DataFrame(
        {
            "view": "split", "dataset": "d", "target": "t", "metric": list("klmno"), "candidate": "c", "n": 7,
            "p": [0.2, 0.01, NAN, 0.04, 0.05], "p_holm": [0.6, 0.03, NAN, 0.09, 0.1],
            "mean_difference": [0.1, -0.2, 0.0, 0.3, 0.4], "mean_candidate": [0.3, 0.2, NAN, 0.1, -0.9],
            "mean_reference": [0.2, 0.4, NAN, -0.2, -1.3],
        }
    )  # fmt: skip
    only = row_filter(metric="l")
    return {
        "column_of_tests": (frame, only, {"column": "p_holm"}, Estimate(0.03, None, 7), None),
        "significance": (frame, only, {"level": 0.05}, Estimate(0.01, None, 7), "**†"),
        "better_or_worse": (frame, only, {"better": "low"}, Estimate(-0.2, None, 7), "better"),
        "count_of_tests": (frame, "", {"column": "p", "below": 0.05}, Estimate(2, None, 5), None),
        "count_of_untested": (frame, "", {}, Estimate(1, None, 5), None),
        "smallest_p": (None, "", {"pairs": 5}, Estimate(0.0625, None, 5), None),
    }


def _claims(rng: np.random.Generator) -> dict[str, Case]:
    frame = pd.DataFrame(
        {
            "claim": list("aaabc"), "dataset": ["d", "e", "all", "d", "d"], "target": "t", "n": [4, 0, 2, 8, 9],
            "verdict": ["undecided", "undecided", "supported", "supported", "contradicted"],
            "effect": [0.1, NAN, NAN, 0.4, -0.3], "reason": ["few", "ok", "ok", "ok", "ok"], "unit_of_n": "splits",
        }
    )  # fmt: skip
    first, last = row_filter(claim="a", dataset="d"), row_filter(claim="c")
    return {
        "column_of_claims": (frame, first, {"column": "effect"}, Estimate(0.1, None, 4), None),
        "text_of_claims": (frame, first, {"column": "reason"}, Estimate(NAN, None, 1), "few"),
        "verdict_of_claim": (frame, last, {}, Estimate(-0.3, None, 9), "contradicted"),
        "basis_of_claim": (frame, first, {}, Estimate(4, None, 4), "4 splits"),
        "count_of_claims": (frame, "", {"verdict": "supported"}, Estimate(2, None, 3), None),
    }


def _files(rng: np.random.Generator) -> dict[str, Case]:
    times = pd.DataFrame({"cpu_time": ["60.5", "NA", "29.5", "-", ""]})
    runs = pd.DataFrame({"epochs_run": [30, 12, 50], "parameters": [1234567] * 3})
    printed = pd.DataFrame({"mean": ["87.1"], "std": ["3.4"], "unit": ["%"]})
    thresholds = pd.DataFrame({"class": ["x", "y"], "threshold": [0.4, 0.55]})
    return {
        "as_printed": (printed, "", {}, Estimate(0.871, 0.034, 1), None),
        "threshold_of_class": (thresholds, "", {"class": "y"}, Estimate(0.55, None, 1), "t = 0.55"),
        "processor_minutes": (times, "", {}, Estimate(1.5, None, 2), None),
        "count_of_jobs": (times, "", {}, Estimate(2, None, 5), None),
        "field_of_runs": (
            runs, "", {"field": "parameters", "take": "first", "grouped": True},
            Estimate(1234567, None, 3), "1,234,567",
        ),
    }  # fmt: skip


GROUPS: tuple[Callable[[np.random.Generator], dict[str, Case]], ...] = (
    _metrics, _composite, _distribution, _tests, _claims, _files,
)  # fmt: skip


def test_every_estimator_has_an_oracle(rng):
    known = {name for group in GROUPS for name in group(rng)}
    assert known == {name for name, estimator in ESTIMATORS.items() if not estimator.deep}
    assert {name for name, e in ESTIMATORS.items() if e.reads == DEEP} == {
        "sum_of_pixels", "disagreement_of_slice", "last_epoch", "score_of_case", "mean_score_of_cases",
    }  # fmt: skip


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.__name__.strip("_"))
def test_estimates_are_those_of_the_definition(group, rng):
    for name, (frame, where, argument, expected, text) in group(rng).items():
        source = None if frame is None else Source(frame)
        found = estimate_of(source, name, where, argument)
        assert same(found, expected), (name, found, expected)
        assert text_of(source, name, where, argument, found) == text, name
        assert not set("{}") & set(in_words(name, argument)), name
        if name.startswith("count_of"):
            assert not set("{}") & set(in_words(name)), name


def test_nothing_gives_undefined_and_no_error(rng):
    for group in GROUPS:
        for name, (frame, _, argument, _, _) in group(rng).items():
            if name in ("smallest_p", "text_of_claims", "field_of_runs", "basis_of_claim", "verdict_of_claim",
                        "density", "threshold_of_class", "better_or_worse"):  # fmt: skip
                continue  # made of a row that is there
            found = estimate_of(Source(frame.iloc[:0]), name, "", argument)
            assert found.n == 0 and (math.isnan(found.value) or found.value == 0), name


def test_marks_of_significance():
    for p, p_holm, expected in ((0.05, 0.05, ""), (0.04, 0.05, "**"), (0.04, 0.049, "**†"), (NAN, NAN, "")):
        assert estimators.significance_marks(p, p_holm, 0.05) == expected
    row = pd.DataFrame({"p": [0.01], "p_holm": [0.02], "n": [6]})
    for part, expected in (("p", "**"), ("p_holm", "†")):
        argument = {"level": 0.05, "of": part}
        found = estimate_of(Source(row), "significance", "", argument)
        assert text_of(Source(row), "significance", "", argument, found) == expected


@pytest.mark.parametrize(
    ("better", "difference", "values", "word"),
    [
        ("high", 0.1, (0.5, 0.4), "better"),
        ("high", -0.1, (0.3, 0.4), "worse"),
        ("low", 0.1, (0.5, 0.4), "worse"),
        ("zero", -0.5, (-0.1, 0.4), "better"),
        ("zero", 0.5, (0.9, 0.4), "worse"),
        ("none", 0.5, (0.9, 0.4), ""),
    ],
)
def test_better_and_worse(better, difference, values, word):
    row = {"mean_difference": difference, "mean_candidate": values[0], "mean_reference": values[1]}
    assert estimators.better_or_worse(row, better) == word


def test_means_do_not_depend_on_the_order_of_rows(rng):
    """Correctly rounded: equal to the bit in any order, and to the exact arithmetic of fractions."""
    from fractions import Fraction

    values = (rng.normal(size=500) * 10.0 ** rng.integers(-12, 12, 500)).tolist()
    exact = float(sum(map(Fraction, values)) / len(values))
    found = mean_std(values)
    assert mean_std(rng.permutation(values).tolist()) == found
    assert found.value == pytest.approx(exact, rel=1e-15)
    assert found.std == pytest.approx(statistics.stdev(values), rel=1e-12)
    assert mean_std([2.0]) == pytest.approx(Estimate(2.0, NAN, 1), nan_ok=True)
    assert mean_std([NAN]) == pytest.approx(Estimate(NAN, NAN, 0), nan_ok=True)
    assert math.isnan(mean_std([math.inf, -math.inf]).value)


def test_pixels_are_those_of_the_files(rng, tmp_path: Path):
    from penumbra.data.case import write_class_map, write_nifti
    from penumbra.reporting.sources import Reader, files_digest

    affine, place = np.eye(4), [2, 9, 1, 8, 2]
    part = np.s_[2:9, 1:8, 2]
    image = rng.normal(size=(12, 11, 4, 2)).astype(np.float32)
    maps = rng.uniform(size=(2, 12, 11, 4)).astype(np.float32)
    raters = rng.integers(0, 3, (3, 12, 11, 4)).astype(np.uint8)
    write_nifti(tmp_path / "image.nii.gz", image, affine)
    write_class_map(tmp_path / "maps.nii.gz", maps, affine)
    for r in range(3):
        write_nifti(tmp_path / f"rater-{r + 1}.nii.gz", raters[r], affine)
    (tmp_path / "threshold.csv").write_text("class,threshold,dice\nx,0.2,1\ny,0.7,1\n")
    epochs = {
        "epochs": np.array([1, 5, 9]),
        "label": maps[..., 0],
        "predictions": np.stack([maps[..., k] for k in range(3)]),
    }
    np.savez(tmp_path / "p.npz", **epochs)
    read = Reader(tmp_path)
    for name, argument, expected in (
        ("image.nii.gz", {"array": "image", "channel": 1}, image[..., 1][part]),
        ("maps.nii.gz", {"array": "classes"}, maps[(slice(None), *part)]),
        ("maps.nii.gz", {"array": "class", "k": 1}, maps[1][part]),
        ("maps.nii.gz", {"array": "reference", "k": 1, "smallest": [0, 18]}, (maps[1] >= 0.5)[part]),
        ("maps.nii.gz; threshold.csv",
         {"array": "binary", "k": 1, "rule": "threshold", "smallest": [0, 18], "classes": ["x", "y"]},
         (maps[1] >= 0.7)[part]),
        ("p.npz", {"array": "label", "k": 1}, maps[1, ..., 0][part[:2]]),
        ("p.npz", {"array": "prediction", "at": 2, "k": 0}, maps[0, ..., 2][part[:2]]),
    ):  # fmt: skip
        files = [read.path(n) for n in name.split("; ")]
        told = argument | {"place": place[:4] if name == "p.npz" else place}
        found = ESTIMATORS["sum_of_pixels"].compute(files, told)
        assert same(found, Estimate(expected.sum(dtype=float), None, expected.size)), argument
    files = [tmp_path / f"rater-{r + 1}.nii.gz" for r in range(3)]
    share = [(raters[..., 3] == k).mean(axis=0) for k in (1, 2)]
    expected = Estimate(float(sum((f * (1 - f)).sum() for f in share)), None, 3)
    assert same(ESTIMATORS["disagreement_of_slice"].compute(files, {"classes": 2, "slice": 3}), expected)
    assert ESTIMATORS["last_epoch"].compute([tmp_path / "p.npz"], {}) == Estimate(9.0, None, 1)
    assert files_digest(files)[0] == 3 and len(files_digest(files)[1]) == 64


def test_an_unregistered_estimator_cannot_be_recorded():
    with pytest.raises(KeyError, match="guess"):
        CellIndex("x").number("guess", None, row="r", column="c")


def test_filters_read_apart():
    assert parsed_filter(row_filter(a="x'y", b=[1, 2], c=np.int64(3), d=None)) == (
        ("a", ("x'y",)), ("b", (1, 2)), ("c", (3,)),
    )  # fmt: skip
    for text in ("a > 1", "a == b", "a == 1 or b == 2", "a == 1 and a == 2", "not a", "a ==", "1 == a"):
        assert parsed_filter(text) is None
    assert parsed_filter("") == ()
