import math

import numpy as np
import pytest

from penumbra.metrics.calibration import Reliability
from penumbra.metrics.measurement import ALL_CERTAIN, NO_VOXEL


def _one_by_one(probabilities, reference, *, closed, bins=10):
    """ECE of Eq. 5.5 and the bins' (count, mean confidence, accuracy), voxel by voxel."""
    edges = [float(e) for e in np.linspace(0, 1, bins + 1)]
    members = [[] for _ in range(bins)]
    for voxel in np.ndindex(reference.shape):
        p = [float(probabilities[(k, *voxel)]) for k in range(len(probabilities))]
        p = [min(max(1.0 - sum(p), 0.0), 1.0), *p]
        confidence = max(p)
        hit = p.index(confidence) == int(reference[voxel])
        for k in range(bins):
            last = closed and k == bins - 1 and confidence == 1.0
            if edges[k] <= confidence < edges[k + 1] or last:
                members[k].append((confidence, hit))
    total = sum(map(len, members))
    table = [
        (len(m), math.fsum(c for c, _ in m) / len(m), sum(h for _, h in m) / len(m)) if m else (0, math.nan, math.nan)
        for m in members
    ]
    ece = math.fsum(n / total * abs(a - c) for n, c, a in table if n) if total else math.nan
    return ece, table


def _voxels(seed, classes):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(classes + 1, 0.3), size=(8, 7, 3)).astype(np.float32)
    p = np.where(p < 0.05, 0, np.round(p, rng.integers(1, 4))).astype(np.float32)
    p = np.moveaxis(p, -1, 0)[1:]
    p[:, :2] = 0
    p[0, 2] = 1
    p[1:, 2] = 0
    return p, rng.integers(0, classes + 1, size=p.shape[1:])


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("classes", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_a_loop_over_voxels(seed, classes, closed):
    p, reference = _voxels(seed, classes)
    ece, expected = _one_by_one(p, reference, closed=closed)
    reliability = Reliability()
    reliability.add(p, reference)
    assert reliability.expected_calibration_error(closed=closed).value == pytest.approx(ece, rel=1e-12)
    np.testing.assert_allclose(np.array(reliability.table(closed=closed)).T, expected, rtol=1e-12)


def test_pools_voxels_not_cases():
    cases = [_voxels(10, 2), _voxels(11, 2), (_voxels(12, 2)[0][..., :1], _voxels(12, 2)[1][..., :1])]
    pooled, streamed = Reliability(), Reliability()
    for p, reference in cases:
        streamed.add(p, reference)
    pooled.add(np.concatenate([p for p, _ in cases], axis=-1), np.concatenate([r for _, r in cases], axis=-1))
    for closed in (False, True):
        a, b = (r.expected_calibration_error(closed=closed).value for r in (pooled, streamed))
        assert a == pytest.approx(b, rel=1e-12)
    single = []
    for p, reference in cases:
        r = Reliability()
        r.add(p, reference)
        single.append(r.expected_calibration_error().value)
    assert abs(np.mean(single) - a) > 1e-6


def test_certain_background_is_dropped_unless_the_last_bin_is_closed():
    p = np.zeros((1, 100, 1, 1))
    p[0, :10] = 0.75
    reference = np.zeros((100, 1, 1), int)
    reference[:5] = 1
    reliability = Reliability()
    reliability.add(p, reference)
    assert reliability.voxels == 100
    assert reliability.certain == 90
    assert reliability.expected_calibration_error().value == pytest.approx(0.25)
    assert reliability.expected_calibration_error(closed=True).value == pytest.approx(0.025)
    assert reliability.table().voxels.tolist() == [0, 0, 0, 0, 0, 0, 0, 10, 0, 0]
    assert reliability.table(closed=True).voxels.tolist() == [0, 0, 0, 0, 0, 0, 0, 10, 0, 90]


def test_confidence_of_one_class_is_the_larger_of_p_and_its_complement():
    reliability = Reliability()
    reliability.add(np.array([[0.1, 0.62, 0.5]]), np.array([0, 1, 0]))
    voxels, confidence, accuracy = reliability.table()
    assert voxels.tolist() == [0, 0, 0, 0, 0, 1, 1, 0, 0, 1]
    assert confidence[[5, 6, 9]] == pytest.approx([0.5, 0.62, 0.9])
    assert accuracy[[5, 6, 9]].tolist() == [1, 1, 1]  # the tie at 0.5 goes to the background


def test_stored_float32_is_computed_in_float64():
    below = np.float32(0.9)  # 0.89999998
    reliability = Reliability()
    reliability.add(np.array([[below, np.float32(1e-9)]]), np.array([1, 0]))
    assert reliability.table().voxels[8:].tolist() == [1, 1]
    assert reliability.certain == 0


def test_sigmoids_that_sum_to_more_than_one_leave_no_background():
    reliability = Reliability()
    reliability.add(np.array([[0.7], [0.85]]), np.array([2]))
    assert reliability.table().accuracy[8] == 1
    assert reliability.table().confidence[8] == pytest.approx(0.85)


def test_nothing_in_any_bin_is_undefined_and_says_why():
    reliability = Reliability()
    assert reliability.expected_calibration_error().status == NO_VOXEL
    reliability.add(np.zeros((2, 3, 3, 1)), np.zeros((3, 3, 1), int))
    assert reliability.expected_calibration_error().status == ALL_CERTAIN
    assert math.isnan(reliability.expected_calibration_error().value)
    assert reliability.expected_calibration_error(closed=True) == (0.0, "ok")


def test_a_calibrated_sample_has_an_error_near_zero():
    rng = np.random.default_rng(0)
    p = rng.random(200_000)
    reliability = Reliability()
    reliability.add(p[None], (rng.random(p.size) < p).astype(int))
    assert reliability.expected_calibration_error().value < 0.005


@pytest.mark.parametrize("bad", [np.nan, -0.1, 1.1])
def test_refuses_what_is_no_probability(bad):
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        Reliability().add(np.array([[0.2, bad]]), np.array([0, 0]))
    with pytest.raises(ValueError, match="shapes"):
        Reliability().add(np.zeros((1, 3)), np.zeros(2, int))


@pytest.mark.parametrize("zeros", [0.0, 0.7, 1.0])
def test_certain_background_counts_like_every_other_voxel(zeros, rng):
    probabilities = rng.dirichlet(np.ones(3), 400).T[1:].astype(np.float32)
    probabilities[:, rng.random(400) < zeros] = 0
    reference = rng.integers(0, 3, 400)
    reliability = Reliability()
    reliability.add(probabilities.reshape(2, 20, 20), reference.reshape(20, 20))
    bins = [[] for _ in range(10)]
    for first, second, label in zip(*probabilities.astype(float).tolist(), reference.tolist(), strict=True):
        everything = [min(max(1.0 - (first + second), 0.0), 1.0), first, second]
        confidence = max(everything)
        bins[min(int(np.searchsorted(np.linspace(0, 1, 11), confidence, side="right")) - 1, 9)].append(
            (confidence, everything.index(confidence) == label)
        )
    table = reliability.table(closed=True)
    assert table.voxels.tolist() == [len(b) for b in bins]
    assert reliability.certain == sum(confidence == 1.0 for b in bins for confidence, _ in b)
    for k, content in enumerate(bins):
        if content:
            np.testing.assert_allclose([table.confidence[k], table.accuracy[k]], np.mean(content, axis=0), atol=1e-12)
