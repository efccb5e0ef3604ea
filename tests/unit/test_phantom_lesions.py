from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from penumbra import parts
from penumbra.data.case import read_class_map, read_nifti
from penumbra.data.phantoms import _brain
from penumbra.data.phantoms._volumes import centred_grid
from penumbra.data.phantoms.phantom_lesions import (
    DIAMETERS,
    GAP,
    SPACING,
    Lesion,
    draw_lesions,
    draw_rater,
    fractions,
    level,
    levels_of,
    miss_probability,
    rater_probability,
)
from penumbra.errors import PenumbraError
from penumbra.metrics.lesions import components

SHAPE = (92, 112, 16)


def some_lesions(rng: np.random.Generator, count: int = 20) -> list[Lesion]:
    return draw_lesions(rng, _brain.draw_brain(rng), count, 6.0, 0.5, SHAPE[2] * SPACING[2])


def lesion_at(
    rng: np.random.Generator, centre: tuple[float, float, float], semi_axes: tuple[float, float, float]
) -> Lesion:
    axes, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return Lesion(np.array(centre), np.array(semi_axes), axes, 1.0)


def test_lesions_are_in_white_matter_within_the_volume_and_apart(rng: np.random.Generator) -> None:
    brain = _brain.draw_brain(rng)
    lesions = draw_lesions(rng, brain, 30, 6.0, 0.6, SHAPE[2] * SPACING[2])
    assert len(lesions) > 20
    at, _ = centred_grid(SHAPE, SPACING)
    white = _brain.shares(brain, at, 0.01)[0]
    inside = np.stack([level(lesion, at) > 0 for lesion in lesions])
    assert inside.sum(axis=0).max() == 1
    assert white[inside.any(axis=0)].min() == 1
    assert not inside[..., [0, -1]].any()
    for one, two in itertools.combinations(lesions, 2):
        assert np.linalg.norm(one.centre - two.centre) > one.semi_axes.max() + two.semi_axes.max() + GAP
    diameters = [lesion.diameter for lesion in lesions]
    assert np.diff(diameters).max() < 1e-9
    assert DIAMETERS[0] - 1e-9 <= min(diameters) and max(diameters) <= DIAMETERS[1] + 1e-9
    assert max(diameters) > 2 * min(diameters)


def test_lesions_crowd_near_the_ventricles(rng: np.random.Generator) -> None:
    near, far = [], []
    for _ in range(8):
        brain = _brain.draw_brain(rng)
        lesions = draw_lesions(rng, brain, 12, 4.0, 0.1, 48.0)
        near += [-_brain.ventricles(brain, lesion.centre[:, None])[0] for lesion in lesions]
        at = rng.uniform(-1, 1, size=(3, 4000)) * np.array([[60.0], [75.0], [20.0]])
        distance = -_brain.ventricles(brain, at)
        far += [distance[(_brain.depth(brain, at) > _brain.deepest_cortex(brain) + 3) & (distance > 3)].mean()]
    assert np.mean(near) < 0.9 * np.mean(far)


def test_fractions_sum_to_the_volume_of_ellipsoids(rng: np.random.Generator) -> None:
    lesions = some_lesions(rng)
    at, _ = centred_grid(SHAPE, SPACING)
    share = fractions(lesions, at, SPACING, 5)
    volumes = np.array([4 / 3 * np.pi * lesion.semi_axes.prod() for lesion in lesions])
    np.testing.assert_allclose([np.pi / 6 * lesion.diameter**3 for lesion in lesions], volumes)
    np.testing.assert_allclose(share.sum(axis=(1, 2, 3)) * np.prod(SPACING), volumes, rtol=0.12)
    assert share.sum() * np.prod(SPACING) == pytest.approx(volumes.sum(), rel=0.01)
    fine = fractions(lesions[-1:], at, SPACING, 12)
    assert fine.sum() * np.prod(SPACING) == pytest.approx(volumes[-1], rel=0.02)


def test_fractions_of_coarse_voxels_are_means_of_fine_ones(rng: np.random.Generator) -> None:
    """No shortcut for pure voxels: every voxel of the volume is sampled here."""
    lesions = [lesion_at(rng, (-6.2, -5.0, 3.1), (7.0, 3.0, 2.5)), lesion_at(rng, (8.0, 6.3, -2.0), (2.0, 1.1, 1.3))]
    coarse = fractions(lesions, centred_grid((20, 18, 8), SPACING)[0], SPACING, 4)
    at, _ = centred_grid((80, 72, 32), tuple(s / 4 for s in SPACING))  # type: ignore[arg-type]
    for share, lesion in zip(coarse, lesions, strict=True):
        direct = ((lesion.axes @ (at.reshape(3, -1) - lesion.centre[:, None])) / lesion.semi_axes[:, None]) ** 2
        fine = (direct.sum(axis=0) < 1).reshape(20, 4, 18, 4, 8, 4).mean(axis=(1, 3, 5))
        np.testing.assert_allclose(share, fine, atol=1e-12)


def test_levels_are_kept_as_far_as_raters_may_draw(rng: np.random.Generator) -> None:
    lesions = some_lesions(rng, 8)
    at, _ = centred_grid(SHAPE, SPACING)
    kept = levels_of(lesions, at, 5.0)
    for values, lesion in zip(kept, lesions, strict=True):
        whole = level(lesion, at)
        np.testing.assert_allclose(values[np.isfinite(values)], whole[np.isfinite(values)], rtol=0, atol=1e-12)
        assert whole[np.isinf(values)].max() < -5.0


def test_miss_probability() -> None:
    diameters = np.array([2.0, 4.0, 8.0])
    np.testing.assert_allclose(miss_probability(diameters, 4.0, 3.0), [8 / 9, 1 / 2, 1 / 9])
    np.testing.assert_array_equal(miss_probability(diameters, 0.0, 3.0), 0.0)


def small_levels(rng: np.random.Generator) -> np.ndarray:
    """Three lesions, two of which nearly touch, on a small grid."""
    lesions = [
        lesion_at(rng, (-4.0, 0.0, 0.0), (4.5, 3.0, 3.0)),
        lesion_at(rng, (3.5, 1.0, 1.0), (2.6, 2.2, 2.0)),
        lesion_at(rng, (10.0, -6.0, 2.0), (1.5, 1.4, 1.3)),
    ]
    return levels_of(lesions, centred_grid((22, 18, 6), SPACING)[0], 7.0)


def test_rater_probability_is_that_of_all_subsets_of_seen_lesions(rng: np.random.Generator) -> None:
    levels = small_levels(rng)
    missed, biases, noise = rng.uniform(0.1, 0.9, size=(2, 3)), [-0.4, 0.6], 0.8
    expected = np.zeros(levels.shape[1:])
    for r, bias in enumerate(biases):
        for seen in itertools.product([False, True], repeat=3):
            weight = np.prod([1 - m if s else m for m, s in zip(missed[r], seen, strict=True)])
            union = levels[list(seen)].max(axis=0, initial=-np.inf)
            expected += weight * stats.norm.cdf((union + bias) / noise) / len(biases)
    np.testing.assert_allclose(rater_probability(levels, missed, biases, noise), expected, atol=1e-12)
    assert np.min(levels[:2], axis=0)[np.isfinite(levels[:2]).all(axis=0)].max() > -3 * noise  # the two do interact


def test_rater_probability_is_exact_by_monte_carlo(rng: np.random.Generator) -> None:
    levels = small_levels(rng)
    missed, bias, noise, draws = np.array([0.1, 0.4, 0.7]), 0.3, 0.6, 1500
    exact = rater_probability(levels, missed[None], [bias], noise)
    counts = np.zeros_like(exact)
    for _ in range(draws):
        counts += draw_rater(levels, missed, bias, noise, 3.0, SPACING[0], rng)
    variance = exact * (1 - exact)
    certain = variance > 0.01
    z = (counts / draws - exact)[certain] / np.sqrt(variance[certain] / draws)
    assert certain.sum() > 80
    assert np.abs(z).max() < 6
    assert 0.1 < np.mean(z**2) < 4
    assert counts[exact < 1e-9].max() == 0


def test_lesions_are_missed_as_often_as_stated_and_on_their_own(rng: np.random.Generator) -> None:
    levels = small_levels(rng)[[0, 2]]  # far from each other
    missed = np.array([0.25, 0.6])
    seen = np.array(
        [
            [m[level > 0].any() for level in levels]
            for m in (draw_rater(levels, missed, 0.5, 0.05, 3.0, 1.5, rng) for _ in range(1200))
        ]
    )
    np.testing.assert_allclose(seen.mean(axis=0), 1 - missed, atol=0.08)
    assert np.mean(seen.all(axis=1)) == pytest.approx(np.prod(1 - missed), abs=0.08)


def test_nobody_draws_without_lesions(rng: np.random.Generator) -> None:
    none = np.zeros((0, 8, 8, 2))
    assert not draw_rater(none, np.zeros(0), 0.5, 0.5, 3.0, 1.5, rng).any()
    np.testing.assert_array_equal(rater_probability(none, np.zeros((2, 0)), [0.0, 0.1], 0.5), 0.0)
    assert not draw_rater(small_levels(rng), np.ones(3), 0.5, 0.5, 3.0, 1.5, rng).any()


def test_raters_miss_small_lesions_and_loads_vary_widely(tmp_path: Path) -> None:
    parts.build("phantom", "phantom_lesions", {"cases": 8})(tmp_path, 3, "x")
    seen: dict[str, list[bool]] = {"small": [], "large": []}
    loads, volumes = [], np.zeros(7)
    for case in sorted(tmp_path.iterdir()):
        true = read_class_map(case / "true-fraction.nii.gz")[0]
        labels, sizes = components(true > 0, 26)
        masks = [read_nifti(case / f"rater-{r}.nii.gz")[0] > 0 for r in range(1, 8)]
        volumes += [m.sum() for m in masks]
        loads.append(true.sum() * np.prod(SPACING))
        for mask in masks:
            found = np.bincount(labels[mask], minlength=len(sizes) + 1)[1:] > 0
            extent = np.bincount(labels.ravel(), true.ravel())[1:] * np.prod(SPACING)
            diameters = np.cbrt(6 / np.pi * extent)
            seen["small"] += found[diameters < 4].tolist()
            seen["large"] += found[diameters > 9].tolist()
    assert len(seen["small"]) > 50 and len(seen["large"]) > 50
    assert 0.1 < np.mean(seen["small"]) < 0.75
    assert np.mean(seen["large"]) > 0.93
    assert max(loads) > 4 * min(loads)
    assert volumes[-1] > 1.2 * volumes[0]


@pytest.mark.parametrize(
    "option", [{"cases": 0}, {"rater_noise": 0.0}, {"rater_bias": []}, {"lesions": [3]}, {"rater_half_missed": [-1.0]}]
)
def test_options_are_checked(option: dict) -> None:
    with pytest.raises(ValueError, match="validation error"):
        parts.options_model("phantom", "phantom_lesions").model_validate(option)


def test_options_that_do_not_fit_each_other() -> None:
    with pytest.raises(PenumbraError, match="7 raters, rater_half_missed 1"):
        parts.build("phantom", "phantom_lesions", {"rater_half_missed": [3.0]})
    with pytest.raises(PenumbraError, match="no range"):
        parts.build("phantom", "phantom_lesions", {"lesions": [9, 3]})
