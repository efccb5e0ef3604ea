from __future__ import annotations

import hashlib
import time
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage, stats

from penumbra import parts
from penumbra.data.case import read_class_map, read_nifti
from penumbra.data.phantoms import _raters
from penumbra.data.phantoms.phantom_cord import (
    CENTRES,
    Anatomy,
    draw_anatomy,
    draw_image,
    ellipse,
    fractions,
    levels,
    rounded_cone,
)


def grid(count: int, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    axis = (np.arange(count) - (count - 1) / 2) * spacing
    return np.meshgrid(axis, axis, indexing="ij")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cord")
    parts.build("phantom", "phantom_cord", {"cases_per_centre": 2, "slices": 2})(folder, 5, "phantom_cord")
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_default_data_set_is_small_and_quick(tmp_path: Path) -> None:
    start = time.process_time()
    parts.build("phantom", "phantom_cord")(tmp_path, 2022, "phantom_cord")
    assert time.process_time() - start < 10
    cases = [p for p in tmp_path.iterdir() if p.is_dir()]
    assert 16 <= len(cases) <= 20
    assert sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file()) < 5e6


def test_layout_and_grids(folder: Path) -> None:
    rows = [line.split("\t") for line in (folder / "participants.tsv").read_text().splitlines()]
    assert rows[0] == ["case", "centre"]
    assert len(rows) == 9
    assert len({centre for _, centre in rows[1:]}) == 4
    spacings = set()
    for case, _ in rows[1:]:
        image, affine = read_nifti(folder / case / "image_T2star.nii.gz")
        assert image.shape[2] == 2
        spacings.add(round(float(affine[0, 0]), 3))
        np.testing.assert_allclose(
            affine @ [*(np.array(image.shape) - 1) / 2, 1], [0, 0, affine[2, 2] * 0.5, 1], atol=1e-4
        )
        for rater in range(1, 5):
            mask, same = read_nifti(folder / case / f"rater-{rater}.nii.gz")
            assert mask.shape == image.shape
            assert set(np.unique(mask)) == {0, 1, 2}
            np.testing.assert_array_equal(same, affine)
        for truth in ("true-fraction", "true-rater-probability"):
            maps = read_class_map(folder / case / f"{truth}.nii.gz")
            assert maps.shape == (2, *image.shape)
            assert maps.min() >= 0
            assert maps.sum(axis=0).max() <= 1 + 1e-6
    assert spacings == {c.spacing for c in CENTRES}


def test_equal_seeds_give_equal_bytes_and_other_seeds_or_names_do_not(tmp_path: Path) -> None:
    generate = parts.build("phantom", "phantom_cord", {"cases_per_centre": 1, "slices": 1})
    asked = {"first": (5, "a"), "same": (5, "a"), "seed": (6, "a"), "name": (5, "b")}
    found = {}
    for folder, (seed, name) in asked.items():
        generate(tmp_path / folder, seed, name)
        found[folder] = digests(tmp_path / folder)
    assert found["first"] == found["same"]
    for file in ("image_T2star", "rater-1", "true-fraction", "true-rater-probability"):
        assert len({found[f][f"centre1-01/{file}.nii.gz"] for f in ("first", "seed", "name")}) == 3


def test_a_further_case_does_not_change_the_others(folder: Path, tmp_path: Path) -> None:
    parts.build("phantom", "phantom_cord", {"cases_per_centre": 1, "slices": 2})(tmp_path, 5, "phantom_cord")
    whole = digests(folder)
    assert all(whole[f] == d for f, d in digests(tmp_path).items() if f != "participants.tsv")


def test_fractions_sum_to_the_ellipse_area(rng: np.random.Generator) -> None:
    x, y = grid(96, 0.25)
    for anatomy in draw_anatomy(rng, 3):
        parts_of = fractions(anatomy, x, y, 0.25, 8)
        np.testing.assert_allclose(parts_of.sum(axis=0), 1.0, atol=1e-12)
        a, b = anatomy.semi_axes
        assert parts_of[:2].sum() * 0.25**2 == pytest.approx(np.pi * a * b, rel=2e-3)
        a, b = anatomy.canal
        assert parts_of[:3].sum() * 0.25**2 == pytest.approx(np.pi * a * b, rel=2e-3)


def test_fractions_of_coarse_voxels_are_means_of_fine_ones(rng: np.random.Generator) -> None:
    (anatomy,) = draw_anatomy(rng, 1)
    coarse = fractions(anatomy, *grid(48, 0.5), 0.5, 8)
    fine = (levels(anatomy, *grid(48 * 8, 0.5 / 8)) > 0)[:2]
    gray = (fine[0] & fine[1]).reshape(48, 8, 48, 8).mean(axis=(1, 3))
    white = (fine[0] & ~fine[1]).reshape(48, 8, 48, 8).mean(axis=(1, 3))
    np.testing.assert_allclose(coarse[:2], np.stack([gray, white]), atol=1e-12)


def test_gray_matter_is_a_butterfly(rng: np.random.Generator) -> None:
    for anatomy in draw_anatomy(rng, 3):
        upright = Anatomy((0.0, 0.0), 0.0, anatomy.semi_axes, anatomy.canal, anatomy.cones)
        x, y = grid(200, 0.08)
        cord, gray, _ = levels(upright, x, y) > 0
        assert ndimage.label(gray)[1] == 1
        assert (gray & cord).sum() / gray.sum() > 0.99
        assert 0.12 < gray.sum() / cord.sum() < 0.4
        a, b = anatomy.semi_axes
        for part in (0.35, -0.35):  # two horns on each side of the commissure, white matter between them
            row = gray[:, np.argmin(np.abs(y[0] - part * b))]
            assert ndimage.label(row)[1] == 2
            assert not row[np.abs(x[:, 0]) < 0.05 * a].any()
        assert gray[np.abs(x[:, 0]) < 0.05 * a].any()


def test_rounded_cone_is_the_distance_to_the_hull_of_two_discs(rng: np.random.Generator) -> None:
    cone = np.array([*rng.uniform(-1, 0, 2), *rng.uniform(1, 2, 2), 0.7, 0.3])
    x, y = grid(241, 0.025)
    level = rounded_cone(x, y, cone)
    shares = np.linspace(0, 1, 2001)
    discs = np.full(x.shape, -np.inf)
    for t in shares:  # the hull is the union of all discs in between, with centre and radius interpolated
        centre, radius = (1 - t) * cone[:2] + t * cone[2:4], (1 - t) * cone[4] + t * cone[5]
        discs = np.maximum(discs, radius - np.hypot(x - centre[0], y - centre[1]))
    np.testing.assert_array_equal(level > 1e-4, discs > 1e-4)
    outside = discs < 0
    np.testing.assert_allclose(level[outside], discs[outside], atol=1e-4)
    distance = ndimage.distance_transform_edt(level > 0) * 0.025
    np.testing.assert_allclose(level[level > 0], distance[level > 0], atol=0.03)


def test_ellipse_level_is_zero_on_it_and_a_distance_near_it() -> None:
    a, b, turn = 6.0, 4.0, np.linspace(0, 2 * np.pi, 50)
    u, v = a * np.cos(turn), b * np.sin(turn)
    np.testing.assert_allclose(ellipse(u, v, a, b), 0, atol=1e-12)
    normal = np.stack([np.cos(turn) / a, np.sin(turn) / b])
    normal /= np.linalg.norm(normal, axis=0)
    for step in (-0.1, 0.1):
        np.testing.assert_allclose(ellipse(u + step * normal[0], v + step * normal[1], a, b), -step, rtol=0.05)
    assert ellipse(np.zeros(1), np.zeros(1), a, b)[0] == b


def test_field_has_unit_variance_and_the_stated_correlation(rng: np.random.Generator) -> None:
    spacing, length = 0.5, 1.5
    fields = _raters.gaussian_field(rng, 6000, (12, 12), length, spacing)
    np.testing.assert_allclose(fields.var(axis=0), 1.0, atol=0.12)
    for steps in (1, 3, 6):
        pairs = (fields[:, :-steps] * fields[:, steps:]).mean()
        assert pairs == pytest.approx(np.exp(-((steps * spacing) ** 2) / (2 * length**2)), abs=0.03)
    assert abs((fields[:, 0] * fields[:, -1]).mean()) < 0.05  # opposite edges do not match
    white = _raters.gaussian_field(rng, 6000, (4, 4), 0.0, spacing)
    assert white.var() == pytest.approx(1, abs=0.03)
    assert abs((white[:, :-1] * white[:, 1:]).mean()) < 0.03


def test_rater_probability_is_exact_by_monte_carlo(rng: np.random.Generator) -> None:
    (anatomy,) = draw_anatomy(rng, 1)
    surfaces = levels(anatomy, *grid(40, 0.5))[:2][..., None]
    biases, noise, draws = [-0.3, 0.0, 0.25], 0.2, 1500
    exact = _raters.probability(surfaces, biases, noise)
    counts = np.zeros_like(exact)
    for _ in range(draws):
        drawn = _raters.draw(surfaces, biases, noise, 1.0, 0.5, rng)
        counts += np.stack([(drawn == s).mean(axis=0) for s in (1, 2)])
    found = counts / draws
    each = np.stack([_raters.probability(surfaces, [bias], noise) for bias in biases])
    np.testing.assert_allclose(each.mean(axis=0), exact, atol=1e-12)
    variance = (each * (1 - each)).mean(axis=0) / (draws * len(biases))
    certain = variance * draws * len(biases) > 0.01
    z = (found - exact)[certain] / np.sqrt(variance[certain])
    assert certain.sum() > 200
    assert np.abs(z).max() < 6
    assert 0.2 < np.mean(z**2) < 3
    assert found[exact < 1e-9].max() == 0


def test_rater_probability_closed_form_of_one_surface_and_sum_of_two(rng: np.random.Generator) -> None:
    level = rng.normal(size=(2, 3, 3, 2))
    one = _raters.probability(level[:1], [0.1, -0.2], 0.3)
    np.testing.assert_allclose(
        one[0], (stats.norm.cdf((level[0] + 0.1) / 0.3) + stats.norm.cdf((level[0] - 0.2) / 0.3)) / 2
    )
    two = _raters.probability(level, [0.1, -0.2], 0.3)
    np.testing.assert_allclose(two.sum(axis=0), one[0])


def test_written_probability_fits_many_drawings_of_the_data_set(folder: Path) -> None:
    """Classes are in the right order: over all cases raters' frequencies agree with the written probability."""
    for k in (1, 2):
        expected = drawn = variance = 0.0
        for case in sorted(p for p in folder.iterdir() if p.is_dir()):
            p = read_class_map(case / "true-rater-probability.nii.gz")[k - 1]
            masks = np.stack([read_nifti(case / f"rater-{r}.nii.gz")[0] for r in range(1, 5)])
            expected += p.sum()
            drawn += (masks == k).mean(axis=0).sum()
            variance += (p * (1 - p)).sum() / 4
        assert abs(drawn - expected) < 15 * np.sqrt(variance)  # neighbouring voxels are correlated
        assert drawn == pytest.approx(expected, rel=0.05)


def test_raters_visibly_disagree_and_are_biased_as_stated(folder: Path) -> None:
    volumes = np.zeros(4)
    for case in sorted(p for p in folder.iterdir() if p.is_dir()):
        masks = np.stack([read_nifti(case / f"rater-{r}.nii.gz")[0] == 1 for r in range(1, 5)])
        majority = masks.sum(axis=0) >= 2
        dice = 2 * (masks & majority).sum(axis=(1, 2, 3)) / (masks.sum(axis=(1, 2, 3)) + majority.sum())
        assert 0.6 < dice.min() < 0.97
        volumes += masks.sum(axis=(1, 2, 3))
    assert (np.diff(volumes) > 0).all()


def test_image_without_noise_is_the_weighted_mean(rng: np.random.Generator) -> None:
    (anatomy,) = draw_anatomy(rng, 1)
    x, y = grid(60, 0.4)
    tissues = fractions(anatomy, x, y, 0.4, 8)[..., None]
    quiet = CENTRES[1].__class__(**{**CENTRES[1].__dict__, "noise": 0.0, "bias": 0.0})
    image = draw_image(rng, tissues, x, y, quiet)[..., 0].astype(float)
    inside = tissues[3, ..., 0] == 0
    design = tissues[:3, inside, 0].T
    coefficients, *_ = np.linalg.lstsq(design, image[inside], rcond=None)
    np.testing.assert_allclose(design @ coefficients, image[inside], atol=1.0)
    np.testing.assert_allclose(
        coefficients / coefficients[1], [c / quiet.white for c in (quiet.gray, quiet.white, quiet.fluid)], rtol=0.15
    )


@pytest.mark.parametrize("option", [{"cases_per_centre": 0}, {"rater_noise": 0.0}, {"rater_bias": []}, {"colour": 1}])
def test_options_are_checked(option: dict) -> None:
    with pytest.raises(ValueError, match="validation error"):
        parts.options_model("phantom", "phantom_cord").model_validate(option)
