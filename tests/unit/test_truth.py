"""Metrics against known truth: closed forms and loops over voxels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from penumbra.metrics import truth
from penumbra.metrics.measurement import (
    BOTH_EMPTY,
    EMPTY_BIN,
    NO_THRESHOLD,
    NO_VOXEL,
    NOT_FINITE,
    OK,
    REFERENCE_EMPTY,
)
from penumbra.metrics.rows import METRICS

SHAPE = (2, 7, 6, 5)
FRACTION_METRICS = {
    "truth_error",
    "truth_squared_error",
    "volume_misplaced",
    "volume_error_soft",
    "volume_error_binary",
}


def maps(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prediction, fraction and rater probability as they are stored: float32, with many exact zeros and ones."""
    p, f, q = np.clip(rng.normal(0.3, 0.5, size=(3, *SHAPE)), 0, 1).astype(np.float32).astype(np.float64)
    q[rng.uniform(size=SHAPE) < 0.2] = 1e-9  # a Gaussian tail
    return p, f, q


def measured(*args: object, **kwargs: object) -> dict[tuple[int, str], truth.Measurement]:
    return {(k, name): m for k, name, m in truth.measure_case(*args, **kwargs)}  # type: ignore[arg-type]


def test_case_metrics_against_a_loop_over_voxels(rng: np.random.Generator) -> None:
    p, f, q = maps(rng)
    binary = p >= 0.5
    found = measured(p, binary, f, q)
    for k in range(2):
        error = squared = misplaced = volume = soft = hard = rater = 0.0
        mixed = mixed_rater = 0
        for v in np.ndindex(*SHAPE[1:]):
            a, t, r = float(p[k][v]), float(f[k][v]), float(q[k][v])
            squared += (a - t) ** 2 / (7 * 6 * 5)
            misplaced += abs(a - t)
            volume, soft, hard = volume + t, soft + a, hard + float(binary[k][v])
            if 0.001 <= t <= 0.999:
                mixed, error = mixed + 1, error + abs(a - t)
            if 0.001 <= r <= 0.999:
                mixed_rater, rater = mixed_rater + 1, rater + abs(a - r)
        assert 0 < mixed < p[0].size and 0 < mixed_rater < p[0].size
        expected = {
            "truth_error": error / mixed,
            "truth_squared_error": squared,
            "volume_misplaced": misplaced / volume,
            "volume_error_soft": (soft - volume) / volume,
            "volume_error_binary": (hard - volume) / volume,
            "rater_probability_error": rater / mixed_rater,
        }
        assert {name for at, name in found if at == k} == set(expected)
        for name, value in expected.items():
            assert found[k, name] == (pytest.approx(value, rel=1e-12), OK), name


def test_closed_form_of_an_edge_seen_in_coarse_voxels() -> None:
    """A half space whose border cuts a layer of voxels at a share s: the binary map is off by s or 1 - s of a voxel."""
    for share in (0.3, 0.7):
        f = np.zeros((1, 4, 4, 10))
        f[..., :5], f[..., 5] = 1.0, share
        found = measured(f, f >= 0.5, f, f)
        assert found[0, "truth_error"].value == found[0, "truth_squared_error"].value == 0
        assert found[0, "volume_error_soft"].value == found[0, "volume_misplaced"].value == 0
        rounded = 1.0 if share >= 0.5 else 0.0
        assert found[0, "volume_error_binary"].value == pytest.approx((rounded - share) / (5 + share))
        found = measured((f >= 0.5).astype(float), f >= 0.5, f, None)
        assert found[0, "truth_error"].value == pytest.approx(abs(rounded - share))
        assert found[0, "truth_squared_error"].value == pytest.approx((rounded - share) ** 2 / 10)
        assert (0, "rater_probability_error") not in found


def test_misplaced_volume_bounds_the_volume_error_and_sees_what_cancels(rng: np.random.Generator) -> None:
    p, f, _ = maps(rng)
    found = measured(p, p >= 0.5, f, None)
    for k in range(2):
        assert found[k, "volume_misplaced"].value >= abs(found[k, "volume_error_soft"].value)
    moved = np.zeros((1, 4, 4, 4)), np.zeros((1, 4, 4, 4))
    moved[0][0, 0, 0, 0] = moved[1][0, 3, 3, 3] = 1.0
    found = measured(moved[0], moved[0] > 0, moved[1], None)
    assert found[0, "volume_error_soft"].value == 0 and found[0, "volume_misplaced"].value == 2


def test_small_values_strewn_about_make_no_error_smaller(rng: np.random.Generator) -> None:
    """Which voxels count must not depend on the prediction."""
    truth_ = np.zeros((1, 20, 20, 4))
    truth_[0, 8:12, 8:12] = rng.uniform(0.1, 0.9, size=(4, 4, 4))
    sharp = (truth_ >= 0.5).astype(float)
    strewn = np.maximum(sharp, 0.02)
    before, after = measured(sharp, sharp > 0, truth_, truth_), measured(strewn, sharp > 0, truth_, truth_)
    errors = []
    for p in (sharp, strewn):
        curves = truth.TruthCurves(1)
        curves.add(p, truth_, truth_)
        errors.append(pooled(curves)[0, "rater_calibration_error", None][0])
    assert errors[1] > errors[0]
    assert after[0, "volume_misplaced"].value > before[0, "volume_misplaced"].value
    for name in ("truth_error", "rater_probability_error"):
        assert after[0, name].value == pytest.approx(before[0, name].value, abs=0.02)


def test_undefined_metrics_say_why(rng: np.random.Generator) -> None:
    empty = np.zeros((1, 3, 3, 2))
    found = measured(empty, empty > 0, empty, empty)
    assert found[0, "truth_error"].status == found[0, "rater_probability_error"].status == NO_VOXEL
    assert found[0, "truth_squared_error"] == (0.0, OK)
    for name in ("volume_error_soft", "volume_error_binary", "volume_misplaced"):
        assert found[0, name].status == BOTH_EMPTY and math.isnan(found[0, name].value)
    full = np.ones((1, 3, 3, 2))
    found = measured(full, full > 0, empty, None)
    assert found[0, "volume_error_soft"].status == found[0, "volume_error_binary"].status == REFERENCE_EMPTY
    assert found[0, "truth_error"].status == NO_VOXEL

    p, f, q = maps(rng)
    found = measured(p, p >= 0.5, f, q, binarised=np.array([True, False]))
    assert found[1, "volume_error_binary"].status == NO_THRESHOLD
    assert found[0, "volume_error_binary"].status == found[1, "volume_error_soft"].status == OK
    p[1, 0, 0, 0] = np.nan
    assert {m.status for m in measured(p, p >= 0.5, f, q).values()} == {NOT_FINITE}


def test_without_known_truth_there_is_nothing_to_measure(rng: np.random.Generator) -> None:
    p, f, q = maps(rng)
    assert measured(p, p > 0.5, None, None) == {}
    assert {name for _, name in measured(p, p > 0.5, f, None)} == FRACTION_METRICS
    assert {name for _, name in measured(p, p > 0.5, None, q)} == {"rater_probability_error"}
    curves = truth.TruthCurves(2)
    curves.add(p, None, None)
    assert list(curves.rows()) == []


def test_fraction_bins_hold_what_they_say() -> None:
    for value, expected in (
        (0.0, 0),
        (1e-9, 0),
        (0.0011, 1),
        (0.05, 1),
        (0.1, 1),
        (0.1001, 2),
        (0.2, 2),
        (0.3, 3),
        (0.6, 6),
        (0.7, 7),
        (0.9, 9),
        (0.901, 10),
        (0.998, 10),
        (0.9999, 11),
        (1.0, 11),
    ):
        for kind in (np.float32, np.float64):
            assert truth.fraction_bins(np.array([value], dtype=kind))[0] == expected, value
    stored = (np.arange(126) / 125).astype(np.float32)  # 5 x 5 x 5 points
    for i, b in enumerate(truth.fraction_bins(stored)):
        assert b == (0 if i == 0 else 11 if i == 125 else -(-i * 10 // 125))


def test_prediction_bins_hold_what_they_say() -> None:
    values = [0.0, 0.0999, 0.1, 0.5, 0.7, 0.89999, 0.9, 1.0]
    assert truth.prediction_bins(np.array(values, dtype=np.float32)).tolist() == [0, 0, 1, 5, 7, 8, 9, 9]


def pooled(curves: truth.TruthCurves) -> dict[tuple[int, str, int | None], tuple[float, str, int]]:
    return {(k, name, b): (m.value, m.status, n) for k, name, b, m, n in curves.rows()}


def test_curves_against_a_loop_over_voxels_of_several_cases(rng: np.random.Generator) -> None:
    cases = [maps(rng) for _ in range(3)]
    curves = truth.TruthCurves(2)
    for case in cases:
        curves.add(*case)
    found = pooled(curves)
    for k in range(2):
        by_fraction: dict[int, list[tuple[float, float]]] = {b: [] for b in range(12)}
        by_prediction: dict[int, list[tuple[float, float]]] = {b: [] for b in range(10)}
        for p, f, q in cases:
            for v in np.ndindex(*SHAPE[1:]):
                a, t, r = float(p[k][v]), float(f[k][v]), float(q[k][v])
                at = 0 if t < 0.001 else 11 if t > 0.999 else math.ceil(t * 10)
                by_fraction[at].append((a, t))
                by_prediction[min(int(a * 10), 9)].append((a, r))
        for b, pairs in by_fraction.items():
            assert found[k, "truth_curve_count", b] == (len(pairs), OK, len(pairs))
            for name, i in (("prediction", 0), ("fraction", 1)):
                value = pytest.approx(np.mean([pair[i] for pair in pairs]), rel=1e-12)
                assert found[k, f"truth_curve_{name}", b] == (value, OK, len(pairs))
        error = volume = 0.0
        for b, pairs in by_prediction.items():
            assert found[k, "rater_curve_count", b] == (len(pairs), OK, len(pairs))
            mean = np.mean(pairs, axis=0)
            for i, name in enumerate(("prediction", "probability")):
                value = pytest.approx(mean[i], rel=1e-12)
                assert found[k, f"rater_curve_{name}", b] == (value, OK, len(pairs))
            error, volume = error + len(pairs) * abs(mean[0] - mean[1]), volume + len(pairs) * mean[1]
        value = pytest.approx(error / volume, rel=1e-12)
        assert found[k, "rater_calibration_error", None] == (value, OK, 3 * p[0].size)


def test_a_prediction_that_is_the_truth_is_calibrated_and_on_the_diagonal(rng: np.random.Generator) -> None:
    _, f, q = maps(rng)
    right, sharp = truth.TruthCurves(2), truth.TruthCurves(2)
    right.add(q, f, q)
    sharp.add((q >= 0.5).astype(float), f, q)
    assert pooled(right)[0, "rater_calibration_error", None][0] == 0
    assert pooled(sharp)[0, "rater_calibration_error", None][0] > 0.05
    same = truth.TruthCurves(2)
    same.add(f, f, None)
    rows = pooled(same)
    assert {name for _, name, _ in rows} == {"truth_curve_count", "truth_curve_prediction", "truth_curve_fraction"}
    for k in range(2):
        for b in range(12):
            assert rows[k, "truth_curve_prediction", b] == rows[k, "truth_curve_fraction", b]


def test_empty_bins_and_predictions_that_are_not_finite(rng: np.random.Generator) -> None:
    zero = np.zeros((1, 4, 4, 2))
    curves = truth.TruthCurves(1)
    curves.add(zero, zero, zero)
    rows = pooled(curves)
    assert rows[0, "rater_calibration_error", None][1:] == (REFERENCE_EMPTY, 32)
    assert rows[0, "truth_curve_count", 5] == (0.0, OK, 0)
    assert rows[0, "truth_curve_prediction", 5][1] == EMPTY_BIN
    assert rows[0, "truth_curve_prediction", 0] == (0.0, OK, 32)
    curves.add(np.full_like(zero, np.nan), zero, zero)
    assert {status for _, status, _ in pooled(curves).values()} == {f"{NOT_FINITE} in 1 cases"}


def test_shapes_are_checked(rng: np.random.Generator) -> None:
    p, f, q = maps(rng)
    with pytest.raises(ValueError, match="shapes differ"):
        measured(p, p > 0.5, f[:, 1:], q)
    with pytest.raises(ValueError, match="shapes differ"):
        truth.TruthCurves(2).add(p, f, q[:1])
    with pytest.raises(ValueError, match="3 classes"):
        truth.TruthCurves(3).add(p, f, q)


def test_every_metric_is_registered(rng: np.random.Generator) -> None:
    p, f, q = maps(rng)
    curves = truth.TruthCurves(2)
    curves.add(p, f, q)
    names = {name for _, name in measured(p, p > 0.5, f, q)} | {name for _, name, *_ in curves.rows()}
    assert names <= set(METRICS) and len(names) == 13
