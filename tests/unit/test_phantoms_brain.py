"""What the phantoms of the brain have in common: layout, repeatability, speed, and the brain itself."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import numpy as np
import pytest

from penumbra import parts
from penumbra.config.load import Configuration, read_yaml
from penumbra.config.models import Dataset
from penumbra.data.case import read_case, read_cases_table, read_class_map, read_nifti
from penumbra.data.download import download
from penumbra.data.ingest import ingest
from penumbra.data.phantoms import _brain
from penumbra.data.phantoms._volumes import box_of, centred_grid, subvoxel_points
from tests.conftest import ROOT

PHANTOMS = ["phantom_lesions", "phantom_tumor"]
SMALL = {
    "phantom_lesions": {"cases": 2, "slices": 6, "lesions": [6, 12]},
    "phantom_tumor": {"cases": 2, "slices": 8, "radius": [8.0, 11.0]},
}


def digests(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


@pytest.fixture(scope="module", params=PHANTOMS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    parts.build("phantom", request.param, SMALL[request.param])(folder, 5, request.param)
    return request.param, folder


@pytest.mark.parametrize("phantom", PHANTOMS)
def test_default_data_set_is_small_and_quick(phantom: str, tmp_path: Path) -> None:
    start = time.process_time()
    parts.build("phantom", phantom)(tmp_path, 2022, phantom)
    assert time.process_time() - start < 10
    assert 10 <= len([p for p in tmp_path.iterdir() if p.is_dir()]) <= 20
    assert sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file()) < 20e6


@pytest.mark.parametrize("phantom", PHANTOMS)
def test_configured_data_set_is_ingested(phantom: str, tmp_path: Path) -> None:
    override = {phantom: {"source": {"options": {**SMALL[phantom], "cases": 3}}}}
    settings = {**read_yaml(ROOT / "config" / "config.yaml"), "datasets": override}
    configuration = Configuration.load(settings, ROOT / "config")
    file = configuration.dataset(phantom)
    dataset = Dataset.model_validate(file.model_dump(include=set(Dataset.model_fields)))
    raw = download(file.source, phantom, tmp_path / "raw", 1)
    ingest(raw, tmp_path / "cases", tmp_path / "cases.tsv", tmp_path / "faults.tsv", dataset, file.adapter, 1, phantom)
    rows = read_cases_table(tmp_path / "cases.tsv")
    assert len(rows) == 3
    case = read_case(tmp_path / "cases" / rows[0].case)
    assert case.image.shape[0] == len(dataset.contrasts)
    assert case.raters.shape[0] == dataset.raters.count
    assert all(m.shape == (len(dataset.classes), *case.image.shape[1:]) for m in case.truth.values())
    assert all(c <= n for c, n in zip(dataset.geometry.crop, case.image.shape[1:3], strict=True))
    networks = [configuration.candidate(name, phantom).network for name in configuration.candidate_entries]
    depths = {network.options["depth"] for network in networks if network.name == "unet2d"}
    assert depths and all(side % 2**depth == 0 for side in dataset.geometry.crop for depth in depths)
    assert not case.raters[:, [0, -1]].any() and not case.raters[:, :, [0, -1]].any()


def test_layout_and_grids(made: tuple[str, Path]) -> None:
    phantom, folder = made
    file = Configuration.load(read_yaml(ROOT / "config" / "config.yaml"), ROOT / "config").dataset(phantom)
    cases = sorted(p for p in folder.iterdir() if p.is_dir())
    assert len(cases) == 2
    for case in cases:
        names = {f"image_{c}.nii.gz" for c in file.contrasts} | {
            f"rater-{r + 1}.nii.gz" for r in range(file.raters.count)
        }
        assert {p.name for p in case.iterdir()} == names | {"true-fraction.nii.gz", "true-rater-probability.nii.gz"}
        image, affine = read_nifti(case / f"image_{file.contrasts[0]}.nii.gz")
        assert image.dtype == np.int16
        np.testing.assert_allclose(affine @ [*(np.array(image.shape) - 1) / 2, 1], [0, 0, 0, 1], atol=1e-4)
        for path in case.glob("rater-*"):
            mask, same = read_nifti(path)
            assert mask.shape == image.shape
            assert set(np.unique(mask)) <= set(range(len(file.classes) + 1))
            np.testing.assert_array_equal(same, affine)
        for truth in ("true-fraction", "true-rater-probability"):
            maps = read_class_map(case / f"{truth}.nii.gz")
            assert maps.shape == (len(file.classes), *image.shape)
            assert maps.min() >= 0 and maps.sum(axis=0).max() <= 1 + 1e-6
            assert all(m.max() > 0.5 for m in maps)


@pytest.mark.parametrize("phantom", PHANTOMS)
def test_equal_seeds_give_equal_bytes_and_other_seeds_or_names_do_not(phantom: str, tmp_path: Path) -> None:
    generate = parts.build("phantom", phantom, {**SMALL[phantom], "cases": 1, "slices": 4})
    found = {}
    for folder, (seed, name) in {"first": (5, "a"), "same": (5, "a"), "seed": (6, "a"), "name": (5, "b")}.items():
        generate(tmp_path / folder, seed, name)
        found[folder] = digests(tmp_path / folder)
    assert found["first"] == found["same"]
    for file in ("image_T1", "rater-1", "rater-2", "true-fraction", "true-rater-probability"):
        assert len({found[f][f"brain-001/{file}.nii.gz"] for f in ("first", "seed", "name")}) == 3
    raters = [d for f, d in found["first"].items() if "rater-" in f]
    assert len(set(raters)) == len(raters)


def test_a_further_case_does_not_change_the_others(made: tuple[str, Path], tmp_path: Path) -> None:
    phantom, folder = made
    parts.build("phantom", phantom, {**SMALL[phantom], "cases": 1})(tmp_path, 5, phantom)
    whole = digests(folder)
    assert all(whole[f] == d for f, d in digests(tmp_path).items())


def test_written_probability_fits_the_drawings(made: tuple[str, Path]) -> None:
    """Classes stand in the right order, and raters draw as often as is written."""
    _, folder = made
    cases = sorted(p for p in folder.iterdir() if p.is_dir())
    expected = np.stack([read_class_map(c / "true-rater-probability.nii.gz").sum(axis=(1, 2, 3)) for c in cases])
    drawn = np.zeros_like(expected)
    for row, case in zip(drawn, cases, strict=True):
        masks = np.stack([read_nifti(p)[0] for p in sorted(case.glob("rater-*"))])
        row[:] = [(masks == k + 1).sum() / len(masks) for k in range(len(row))]
    np.testing.assert_allclose(drawn.sum(axis=0), expected.sum(axis=0), rtol=0.2)


# ---------------------------------------------------------------- the brain, the grid


def test_grid_box_and_points(rng: np.random.Generator) -> None:
    at, affine = centred_grid((4, 5, 3), (1.5, 2.0, 3.0))
    for index in np.ndindex(4, 5, 3):
        np.testing.assert_allclose(at[:, *index], (affine @ [*index, 1])[:3])
    np.testing.assert_allclose(at.mean(axis=(1, 2, 3)), 0, atol=1e-12)
    points = subvoxel_points((1.5, 2.0, 3.0), 4)
    assert points.shape == (64, 3)
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(points.max(axis=0), np.array([1.5, 2.0, 3.0]) * 3 / 8)
    mask = np.zeros((6, 7, 8), bool)
    mask[2, 3:5, 7] = True
    assert box_of(mask) == (slice(2, 3), slice(3, 5), slice(7, 8))
    assert mask[box_of(mask & False)].size == 0


def test_ellipsoid_level_is_zero_on_it_and_a_distance_near_it(rng: np.random.Generator) -> None:
    axes = np.array([6.0, 4.0, 3.0])
    direction = rng.normal(size=(3, 100))
    direction /= np.linalg.norm(direction, axis=0)
    surface = direction * axes[:, None]
    np.testing.assert_allclose(_brain.ellipsoid(surface, axes), 0, atol=1e-12)
    normal = surface / axes[:, None] ** 2
    normal /= np.linalg.norm(normal, axis=0)
    for step in (-0.1, 0.1):
        np.testing.assert_allclose(_brain.ellipsoid(surface + step * normal, axes), -step, rtol=0.08)
    assert _brain.ellipsoid(np.zeros((3, 1)), axes)[0] == 3.0
    ball = _brain.ellipsoid(20 * direction, (5.0, 5.0, 5.0))
    np.testing.assert_allclose(ball, -15.0)


def test_shares_of_the_brain(rng: np.random.Generator) -> None:
    brain = _brain.draw_brain(rng)
    at, _ = centred_grid((80, 96, 80), (2.0, 2.0, 2.0))
    shares = _brain.shares(brain, at, 2.0)
    assert shares.min() >= 0
    np.testing.assert_allclose(shares.sum(axis=0), 1.0, atol=1e-12)
    white, gray, fluid, _ = shares.sum(axis=(1, 2, 3)) * 8.0
    whole = 4 / 3 * np.pi * np.prod(brain.semi_axes)
    assert white + gray + fluid == pytest.approx(whole, rel=5e-3)
    within = 4 / 3 * np.pi * np.prod(np.array(brain.semi_axes) - _brain.RIM)
    assert whole - within < fluid < whole - within + 4 / 3 * np.pi * np.prod(brain.ventricle) * 2 + 0.05 * whole
    assert 0.1 < gray / white < 0.7
    assert shares[3, 40, 48, 40] == 0 and shares[3, 0, 0, 0] == 1
    middle = _brain.ventricles(brain, np.array([[-1.0, 1.0], [0, 0], [0, 0]]) * brain.ventricle_at)
    np.testing.assert_allclose(middle, min(brain.ventricle), rtol=0.01)


def test_images_without_noise_are_weighted_means(rng: np.random.Generator) -> None:
    shape = (30, 24, 3)
    at, _ = centred_grid(shape, (2.0, 2.0, 3.0))
    pure = rng.integers(0, 4, size=shape)
    mixed = rng.uniform(size=shape) < 0.5
    tissues = np.where(mixed, np.moveaxis(rng.dirichlet(np.ones(4), size=shape), -1, 0), np.eye(4)[:, pure])
    means = {"A": (1.0, 0.7, 0.3, 0.2), "B": (0.4, 0.6, 1.2, 0.3)}
    images = _brain.draw_images(rng, tissues, means, at, (2.0, 2.0, 3.0), 0.0, 0.0)
    found = {c: np.array([i[~mixed & (pure == t)].mean() for t in range(4)]) for c, i in images.items()}
    for contrast, mean in means.items():
        assert np.all(np.abs(found[contrast] / found[contrast][0] / (np.array(mean) / mean[0]) - 1) < 0.25)
        assert 0.7 < found[contrast].mean() / (1000 * np.mean(mean)) < 1.35
    # the texture is common to both contrasts, and gone from their ratio
    ratio = images["A"] / images["B"]
    for t in range(4):
        assert np.std(ratio[~mixed & (pure == t)]) < 0.006 * np.mean(ratio[~mixed & (pure == t)])
        assert np.std(images["A"][~mixed & (pure == t)]) > 0.01 * found["A"][t]
    expected = np.tensordot(found["A"], tissues, axes=1) / np.tensordot(found["B"], tissues, axes=1)
    np.testing.assert_allclose(ratio[mixed], expected[mixed], rtol=0.04)


def test_noise_and_bias_field(rng: np.random.Generator) -> None:
    at, _ = centred_grid((40, 40, 3), (2.0, 2.0, 3.0))
    air = np.ones((1, 40, 40, 3))
    image = _brain.draw_images(rng, air, {"A": (0.0,)}, at, (2.0, 2.0, 3.0), 0.1, 0.0)["A"].astype(float)
    # without signal, Rician noise is Rayleigh's: mean and deviation in the ratio of sqrt(pi / 2) to sqrt(2 - pi / 2)
    assert image.mean() / image.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.06)
    flat, slanted = (
        _brain.draw_images(rng, air, {"A": (1.0,)}, at, (2.0, 2.0, 3.0), 0.0, bias)["A"] for bias in (0.0, 0.3)
    )
    assert np.std(slanted) / np.mean(slanted) > 2 * np.std(flat) / np.mean(flat)
