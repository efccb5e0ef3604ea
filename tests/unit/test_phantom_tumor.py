from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from penumbra import parts
from penumbra.data.case import read_class_map, read_nifti
from penumbra.data.phantoms import _brain, _raters
from penumbra.data.phantoms._volumes import centred_grid
from penumbra.data.phantoms.phantom_tumor import SPACING, Surface, draw_tumor, fractions, level, lobes
from penumbra.errors import PenumbraError

ROUND = np.zeros(7)


def sphere_nodes(count: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Directions and weights of a quadrature over the sphere (Gauss-Legendre in z, even in the angle)."""
    z, weight = np.polynomial.legendre.leggauss(count)
    angle = 2 * np.pi * np.arange(2 * count) / (2 * count)
    ring = np.sqrt(1 - z**2)
    nodes = np.stack([np.outer(ring, np.cos(angle)), np.outer(ring, np.sin(angle)), np.outer(z, np.ones(2 * count))])
    return nodes.reshape(3, -1), np.repeat(weight * np.pi / count, 2 * count)


def test_lobes_are_harmonics_of_degree_two_and_three() -> None:
    nodes, weights = sphere_nodes()
    values = np.stack([lobes(np.eye(7)[k], nodes) for k in range(7)])
    assert weights.sum() == pytest.approx(4 * np.pi)
    gram = (values * weights) @ values.T
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-12)
    np.testing.assert_allclose(values @ weights, 0, atol=1e-12)
    np.testing.assert_allclose((values * weights) @ nodes.T, 0, atol=1e-12)  # the centre stays where it is
    np.testing.assert_allclose(lobes(np.eye(7)[5], -nodes), -values[5], atol=1e-12)
    np.testing.assert_allclose(lobes(np.eye(7)[0], -nodes), values[0], atol=1e-12)


def test_level_of_a_ball_is_the_distance_and_of_a_lobed_one_zero_on_it(rng: np.random.Generator) -> None:
    centre, weights = rng.normal(size=3), rng.normal(size=7) * 0.1
    nodes, _ = sphere_nodes(8)
    for distance in (0.0, 3.0, 11.0):
        np.testing.assert_allclose(
            level(Surface(centre, 9.0, ROUND), centre[:, None] + distance * nodes), 9.0 - distance
        )
    surface = Surface(centre, 9.0, weights)
    on_it = centre[:, None] + 9.0 * (1 + lobes(weights, nodes)) * nodes
    np.testing.assert_allclose(level(surface, on_it), 0, atol=1e-12)


def test_fractions_of_nested_balls_with_graded_borders_sum_to_their_volume() -> None:
    """The integral of Phi((R - r) / b) over space is 4 pi / 3 (R^3 + 3 R b^2) for R much larger than b."""
    at, _ = centred_grid((48, 48, 32), SPACING)
    border, radii = [3.0, 1.0, 1.5], (27.0, 17.0, 9.0)
    surfaces = [Surface(np.array([1.3, -2.1, 0.7]), r, ROUND) for r in radii]
    necrosis, enhancing, oedema = fractions(surfaces, at, SPACING, border, 3)
    volume = [4 / 3 * np.pi * (r**3 + 3 * r * b**2) for r, b in zip(radii, border, strict=True)]
    sums = np.cumsum([necrosis.sum(), enhancing.sum(), oedema.sum()])[::-1] * np.prod(SPACING)
    np.testing.assert_allclose(sums, volume, rtol=3e-3)
    assert abs(sums[0] / (4 / 3 * np.pi * radii[0] ** 3) - 1) > 0.03  # the graded border does count


def test_fractions_of_a_lobed_ball_sum_to_its_volume(rng: np.random.Generator) -> None:
    weights = rng.normal(size=7) * [0.2, 0.2, 0.2, 0.1, 0.1, 0.08, 0.08]
    nodes, quadrature = sphere_nodes()
    volume = float(((20.0 * (1 + lobes(weights, nodes))) ** 3 / 3) @ quadrature)
    at, _ = centred_grid((56, 56, 40), SPACING)
    surfaces = [Surface(np.zeros(3), 20.0, weights), *(Surface(np.zeros(3), r, ROUND) for r in (5.0, 3.0))]
    share = fractions(surfaces, at, SPACING, [0.05, 0.05, 0.05], 4)
    assert share.sum() * np.prod(SPACING) == pytest.approx(volume, rel=0.01)
    assert volume != pytest.approx(4 / 3 * np.pi * 20.0**3, rel=0.001)


def test_fractions_of_coarse_voxels_are_means_of_points(rng: np.random.Generator) -> None:
    """No shortcut for pure voxels, and every class by its own formula."""
    border = [2.0, 0.8, 1.1]
    surfaces = [Surface(rng.normal(size=3), r, rng.normal(size=7) * 0.06) for r in (11.0, 7.0, 4.0)]
    coarse = fractions(surfaces, centred_grid((18, 18, 12), SPACING)[0], SPACING, border, 3)
    at, _ = centred_grid((54, 54, 36), tuple(s / 3 for s in SPACING))  # type: ignore[arg-type]
    whole, core, necrosis = (stats.norm.cdf(level(s, at) / b) for s, b in zip(surfaces, border, strict=True))
    direct = (whole * core * necrosis, whole * core * (1 - necrosis), whole * (1 - core))
    for share, fine in zip(coarse, direct, strict=True):
        np.testing.assert_allclose(share, fine.reshape(18, 3, 18, 3, 12, 3).mean(axis=(1, 3, 5)), atol=3e-9)


def test_tumours_are_nested_in_the_brain_and_in_the_volume(rng: np.random.Generator) -> None:
    sides = []
    for _ in range(12):
        brain = _brain.draw_brain(rng)
        surfaces = draw_tumor(rng, brain, (12.0, 21.0), 72.0)
        radii = [s.radius for s in surfaces]
        assert 12 <= radii[0] <= 21 and radii[0] > radii[1] > radii[2]
        at, _ = centred_grid((68, 84, 24), SPACING)
        whole, core, necrosis = (level(s, at) > 0 for s in surfaces)
        assert necrosis.sum() > 0 and core.sum() > necrosis.sum() and whole.sum() > core.sum()
        assert (core & ~whole).sum() < 0.2 * core.sum()
        assert (_brain.depth(brain, at)[whole] > 0).mean() > 0.97
        assert whole[..., [0, -1]].sum() < 0.03 * whole.sum()
        sides.append(surfaces[0].centre[0] > 0)
    assert 0 < sum(sides) < 12


def test_rater_probability_is_exact_by_monte_carlo(rng: np.random.Generator) -> None:
    at, _ = centred_grid((20, 20, 5), SPACING)
    border, biases, noise, draws = [3.0, 1.0, 1.5], [-0.5, 0.7], 0.6, 1000
    surfaces = [Surface(np.zeros(3), r, rng.normal(size=7) * 0.08) for r in (14.0, 9.0, 5.0)]
    scaled = np.stack([level(s, at) / b for s, b in zip(surfaces, border, strict=True)])
    exact = _raters.probability(scaled, biases, noise)
    # in closed form, with bias and noise in mm
    inside = [
        np.stack([stats.norm.cdf((level(s, at) + b * bias) / (b * noise)) for bias in biases])
        for s, b in zip(surfaces, border, strict=True)
    ]
    closed = [inside[0] * (1 - inside[1]), inside[0] * inside[1] * (1 - inside[2]), inside[0] * inside[1] * inside[2]]
    np.testing.assert_allclose(exact, [c.mean(axis=0) for c in closed], atol=1e-12)
    counts = np.zeros_like(exact)
    for _ in range(draws):
        drawn = _raters.draw(scaled, biases, noise, 6.0, SPACING[0], rng)
        counts += np.stack([(drawn == s).mean(axis=0) for s in (1, 2, 3)])
    variance = np.stack([(c * (1 - c)).mean(axis=0) for c in closed]) / (draws * len(biases))
    certain = variance * draws * len(biases) > 0.01
    z = (counts / draws - exact)[certain] / np.sqrt(variance[certain])
    assert certain.sum() > 300
    assert np.abs(z).max() < 6
    assert 0.1 < np.mean(z**2) < 4


def test_raters_disagree_most_where_the_border_is_widest(tmp_path: Path) -> None:
    parts.build("phantom", "phantom_tumor", {"cases": 4})(tmp_path, 3, "x")
    volumes = np.zeros(4)
    overlap = {"whole": [], "core": []}  # type: ignore[var-annotated]
    for case in sorted(tmp_path.iterdir()):
        masks = np.stack([read_nifti(case / f"rater-{r}.nii.gz")[0] for r in range(1, 5)])
        volumes += (masks > 0).sum(axis=(1, 2, 3))
        for name, labels in (("whole", (1, 2, 3)), ("core", (1, 2))):
            one, other = (np.isin(masks[r], labels) for r in (0, 3))
            truth = read_class_map(case / "true-fraction.nii.gz")[[k - 1 for k in labels]].sum()
            edge = (one != other).sum() / truth ** (2 / 3)  # per area
            overlap[name].append(edge)
    assert (np.diff(volumes) > 0).all()
    assert np.mean(overlap["whole"]) > 1.5 * np.mean(overlap["core"])


def test_classes_stand_in_their_order_in_images_and_masks(tmp_path: Path) -> None:
    parts.build("phantom", "phantom_tumor", {"cases": 3})(tmp_path, 4, "x")
    for case in tmp_path.iterdir():
        necrosis, enhancing, oedema = read_class_map(case / "true-fraction.nii.gz")
        bright = read_nifti(case / "image_T1Gd.nii.gz")[0].astype(float)
        means = [np.average(bright, weights=f**4) for f in (necrosis, enhancing, oedema)]
        assert means[1] > 1.4 * means[2] and means[1] > 1.8 * means[0]
        mask = read_nifti(case / "rater-2.nii.gz")[0]
        for k, share in enumerate((necrosis, enhancing, oedema), start=1):
            assert share[mask == k].mean() > 0.4
            assert share[(mask != k) & (mask > 0)].mean() < share[mask == k].mean() - 0.2


@pytest.mark.parametrize(
    "option", [{"cases": 0}, {"rater_noise": 0.0}, {"rater_bias": []}, {"border": [1.0]}, {"colour": 1}]
)
def test_options_are_checked(option: dict) -> None:
    with pytest.raises(ValueError, match="validation error"):
        parts.options_model("phantom", "phantom_tumor").model_validate(option)


@pytest.mark.parametrize("option", [{"radius": [9.0, 3.0]}, {"border": [1.0, 0.0, 1.0]}])
def test_options_that_cannot_be(option: dict) -> None:
    with pytest.raises(PenumbraError, match="radius"):
        parts.build("phantom", "phantom_tumor", option)
