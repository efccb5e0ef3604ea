"""STAPLE against SimpleITK's implementation and against what must hold."""

import numpy as np
import pytest
import SimpleITK

from penumbra.fusion.staple import build, staple


def itk(decisions):
    stapler = SimpleITK.STAPLEImageFilter()
    stapler.SetForegroundValue(1)
    image = stapler.Execute([SimpleITK.GetImageFromArray(d.astype(np.uint8)) for d in decisions])
    return SimpleITK.GetArrayFromImage(image), np.array(stapler.GetSensitivity()), np.array(stapler.GetSpecificity())


def agree(decisions):
    estimate = staple(decisions)
    probability, sensitivity, specificity = itk(decisions)
    np.testing.assert_allclose(estimate.probability, probability, atol=1e-5)
    np.testing.assert_allclose(estimate.sensitivity, sensitivity, atol=1e-5)
    np.testing.assert_allclose(estimate.specificity, specificity, atol=1e-5)
    return estimate


def discs(rng, raters, size=24):
    grid = np.mgrid[:size, :size, :3]
    centres, radii = rng.normal(size / 2, 1.5, (raters, 2)), rng.uniform(2, size / 3, raters)
    return np.array([np.hypot(grid[0] - c[0], grid[1] - c[1]) < r for c, r in zip(centres, radii, strict=True)])


@pytest.mark.parametrize("raters", [2, 3, 4, 7, 12, 16, 17, 19])
@pytest.mark.parametrize("attempt", range(4))
def test_equals_itk_on_noisy_raters(raters, attempt, rng):
    truth = rng.random((14, 15)) < rng.uniform(0.05, 0.95)
    errors = rng.uniform(0.02, 0.35, (raters, 1, 1))
    estimate = agree(np.where(rng.random((raters, *truth.shape)) < errors, ~truth, truth))
    assert ((estimate.probability >= 0) & (estimate.probability <= 1)).all()


@pytest.mark.parametrize("attempt", range(10))
def test_equals_itk_on_overlapping_discs_with_empty_and_full_raters(attempt, rng):
    decisions = discs(rng, rng.integers(2, 8))
    agree(decisions)
    decisions[rng.integers(len(decisions))] = rng.random() < 0.5
    if 0 < decisions.mean() < 1:
        agree(decisions)


def test_equals_itk_at_the_edges():
    none, everything, half, third = (np.zeros((10, 9)) for _ in range(4))
    everything[:], half[:5], third[:3] = 1, 1, 1
    for raters in (
        [half],
        [half, half, half],
        [half, none],
        [half, none, none],
        [half, none, half],
        [half, everything, half],
        [none, everything],
        [half, 1 - half],
        [half, 1 - half, half],
        [half, third],
        [half, third, none, everything],
    ):
        agree(np.array(raters))


def test_where_itk_is_undefined():
    shape = (3, 4, 5)
    empty, full = staple(np.zeros(shape)), staple(np.ones(shape))
    assert np.isnan(itk(np.zeros(shape))[0]).all()
    assert (empty.probability == 0).all() and (full.probability == 1).all()
    assert np.isnan(empty.sensitivity).all() and (empty.specificity == 1).all()
    assert np.isnan(full.specificity).all() and (full.sensitivity == 1).all()


def test_recovers_known_raters(rng):
    truth = rng.random(200_000) < 0.5
    right = rng.uniform(0.75, 0.97, 5)
    estimate = staple(np.where(rng.random((5, truth.size)) < right[:, None], truth, ~truth))
    np.testing.assert_allclose(estimate.sensitivity, right, atol=0.02)
    np.testing.assert_allclose(estimate.specificity, right, atol=0.02)
    assert ((estimate.probability > 0.5) == truth).mean() > right.max()


def test_patterns_of_many_raters_equal_those_of_few(monkeypatch, rng):
    decisions = discs(rng, 6)
    coded = staple(decisions)
    monkeypatch.setattr("penumbra.fusion.staple._CODED_RATERS", 2)
    np.testing.assert_allclose(staple(decisions).probability, coded.probability, atol=1e-9)


def test_binary_output_is_the_probability_from_one_half_up(rng):
    decisions = discs(rng, 5)
    fused = build()(decisions.astype(np.uint8), 1)
    np.testing.assert_array_equal(fused[0, 0], itk(decisions)[0] >= 0.5 - 5e-7)
    soft = build(binarise=False)(decisions.astype(np.uint8), 1)
    np.testing.assert_allclose(soft[0, 0], itk(decisions)[0], atol=1e-5)


def test_a_tie_of_two_nested_raters_is_foreground():
    raters = np.zeros((2, 7, 9, 1), dtype=np.uint8)
    raters[0, :5], raters[1, :3] = 1, 1
    np.testing.assert_allclose(staple(raters).probability[3:5], 0.5, atol=1e-9)
    np.testing.assert_array_equal(build()(raters, 1)[0, 0], raters[0])
    np.testing.assert_array_equal(build()(raters[::-1], 1)[0, 0], raters[0])


@pytest.mark.parametrize("attempt", range(4))
def test_several_classes_are_one_staple_each_made_exclusive(attempt, rng):
    truth = rng.integers(0, 4, (12, 11, 3))
    noise = rng.integers(0, 4, (5, *truth.shape))
    raters = np.where(rng.random(noise.shape) < 0.3, noise, truth).astype(np.uint8)
    each = np.stack([itk(raters == k)[0] for k in (1, 2, 3)])
    fused = build()(raters, 3)[0]
    assert fused.sum(axis=0).max() <= 1
    for voxel in np.ndindex(truth.shape):
        chances = each[(slice(None), *voxel)]
        expected = np.zeros(3)
        if chances.max() >= 0.5:
            expected[chances.argmax()] = 1
        top_two = np.sort(chances)[-2:]
        if abs(chances.max() - 0.5) > 1e-5 and top_two[1] - top_two[0] > 1e-5:
            np.testing.assert_array_equal(fused[(slice(None), *voxel)], expected)
    soft = build(binarise=False)(raters, 3)[0]
    np.testing.assert_allclose(soft, each / np.maximum(each.sum(axis=0), 1), atol=2e-5)
    assert soft.sum(axis=0).max() <= 1 + 1e-6


def test_classes_that_tie_go_to_the_lower_one():
    raters = np.zeros((2, 6, 6, 1), dtype=np.uint8)
    raters[:, :2] = 1
    raters[:, 2:4] = 2
    raters[0, 4, 0], raters[1, 4, 0] = 2, 1
    fused = build()(raters, 2)[0]
    np.testing.assert_allclose(staple(raters == 1).probability[4, 0], staple(raters == 2).probability[4, 0], atol=1e-9)
    assert fused[:, 4, 0, 0].tolist() == [1, 0]


def test_nothing_to_estimate_is_refused():
    for shape in ((0, 3), (3, 0), (3,)):
        with pytest.raises(ValueError, match="at least one"):
            staple(np.zeros(shape))


def test_giving_up_is_said(caplog, rng):
    staple(discs(rng, 4), maximum_iterations=1)
    assert "did not settle" in caplog.text
