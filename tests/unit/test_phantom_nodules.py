"""The phantom of lung nodules: closed forms of its shapes, the readers against what their model says, and the data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from penumbra import parts
from penumbra.config.load import Configuration, read_yaml
from penumbra.config.models import Dataset
from penumbra.data.case import read_case, read_cases_table, read_class_map, read_nifti
from penumbra.data.download import download
from penumbra.data.ingest import ingest
from penumbra.data.phantoms import phantom_nodules as phantom
from penumbra.errors import PenumbraError
from tests.conftest import ROOT


def generate(folder: Path, seed: int = 5, **options) -> list[Path]:
    parts.build("phantom", "phantom_nodules", options)(folder, seed, "phantom_nodules")
    return sorted(p for p in folder.iterdir() if p.is_dir())


def masks_of(case: Path, raters: int = 4) -> np.ndarray:
    return np.stack([read_nifti(case / f"rater-{r + 1}.nii.gz")[0] for r in range(raters)])


def grid(voxel: float, half: float) -> tuple[np.ndarray, np.ndarray]:
    axis = np.arange(-half, half, voxel) + voxel / 2
    return np.meshgrid(axis, axis, indexing="ij")


@pytest.fixture
def nodule(rng: np.random.Generator) -> phantom.Nodule:
    return phantom.draw_nodule(rng, [6.0, 8.0], [0.3, 0.9], 0.2)


def test_the_area_of_a_waving_outline(nodule: phantom.Nodule) -> None:
    """Half the integral of r(a)^2 over the angle: pi size^2 (1 + half the sum of the squared amplitudes)."""
    x, y = grid(0.25, 20.0)
    for z in (-3.0, 0.0, 2.5):
        share = phantom.fractions(nodule, x, y, z, 0.25, 6)
        waves = (nodule.cosines**2).sum() + (nodule.sines**2).sum()
        area = np.pi * (nodule.radius**2 - z**2) * (1 + waves / 2)
        assert share.sum() * 0.25**2 == pytest.approx(area, rel=2e-3)
        assert share.min() == 0 and share.max() == 1


def test_the_level_set_is_the_distance_near_the_outline(nodule: phantom.Nodule) -> None:
    x, y = grid(0.2, 14.0)
    found = phantom.level(nodule, x, y, 1.0)
    angle = np.linspace(0, 2 * np.pi, 20000, endpoint=False)
    waves = angle[:, None] * phantom.WAVES
    outline = np.sqrt(nodule.radius**2 - 1) * (1 + np.cos(waves) @ nodule.cosines + np.sin(waves) @ nodule.sines)
    line = nodule.centre[:, None] + outline * np.stack([np.cos(angle), np.sin(angle)])
    near = np.abs(found) < 0.25
    apart = np.sqrt(((np.stack([x[near], y[near]])[:, :, None] - line[:, None, ::20]) ** 2).sum(axis=0)).min(axis=1)
    np.testing.assert_allclose(np.abs(found[near]), apart, atol=0.06)
    inside = np.hypot(x - nodule.centre[0], y - nodule.centre[1])
    turn = np.arctan2(y - nodule.centre[1], x - nodule.centre[0])
    reach = np.interp(turn % (2 * np.pi), angle, outline, period=2 * np.pi)
    np.testing.assert_array_equal(found > 0, reach > inside)


def test_outlines_never_cross_the_middle(rng: np.random.Generator) -> None:
    for _ in range(200):
        wild = phantom.draw_nodule(rng, [4.0, 9.0], [0.1, 1.0], 2.0)
        assert np.abs(wild.cosines).sum() + np.abs(wild.sines).sum() <= 0.8 + 1e-12


def test_seeing_depends_on_conspicuity(rng: np.random.Generator) -> None:
    half = rng.uniform(0.1, 0.6, size=5)
    found = np.array([phantom.see_probability(c, half, 4.0) for c in np.linspace(0.05, 1, 30)])
    assert (np.diff(found, axis=0) > 0).all() and ((found > 0) & (found < 1)).all()
    np.testing.assert_allclose([phantom.see_probability(h, np.array([h]), 4.0)[0] for h in half], 0.5)
    assert (phantom.see_probability(0.2, np.zeros(3), 4.0) == 1).all()


def test_readers_are_as_probable_as_stated(tmp_path: Path) -> None:
    """Over many nodules, the share of readers in voxels of like probability, and how often each reader sees nothing."""
    half, faint = [0.2, 0.4, 0.0, 0.3], 0.3
    cases = generate(
        tmp_path, cases=250, slices=1, field=24.0, conspicuity=[faint, faint], rater_half_seen=half, radius=[4.0, 5.0]
    )
    masks = np.stack([masks_of(case) for case in cases])
    stated = np.stack([read_class_map(case / "true-rater-probability.nii.gz")[0] for case in cases])
    seen = masks.any(axis=(2, 3, 4)).mean(axis=0)
    expected = phantom.see_probability(faint, np.array(half), 4.0)
    np.testing.assert_allclose(seen, expected, atol=4 * 0.5 / np.sqrt(len(cases)))
    assert seen[2] == 1
    shares = masks.mean(axis=1)
    assert stated.max() == pytest.approx(expected.mean(), abs=1e-3), "deep inside, only seeing matters"
    judged = 0
    for low in np.linspace(0, 0.6, 7):
        chosen = (stated.reshape(shares.shape) >= low) & (stated.reshape(shares.shape) < low + 0.1)
        if chosen.sum() > 2000:
            judged += 1
            apart = shares[chosen].mean() - stated.reshape(shares.shape)[chosen].mean()
            assert abs(apart) < 0.05, (low, apart)
    assert judged >= 4, "enough bins of enough voxels"
    assert shares.mean() == pytest.approx(stated.mean(), rel=0.06)


def test_a_reader_sees_a_nodule_in_all_slices_or_in_none(tmp_path: Path) -> None:
    seen = np.stack([masks_of(case).any(axis=(1, 2)) for case in generate(tmp_path, cases=40)])
    assert (seen.all(axis=2) == seen.any(axis=2)).all()
    count = seen.any(axis=2).sum(axis=1)
    assert (count == 4).any() and ((count > 0) & (count < 4)).any() and (count == 0).sum() < 10


def test_a_reader_shifts_the_whole_outline(tmp_path: Path) -> None:
    """Of discs drawn without noise, the radius tells the shift: the same in all slices, another for each reader."""
    cases = generate(
        tmp_path, cases=20, irregularity=0.0, rater_noise=0.01, rater_size=0.8, rater_half_seen=[0.0] * 4,
        rater_bias=[0.0] * 4, radius=[6.0, 6.0], voxel=0.3, supersampling=1,
    )  # fmt: skip
    true = np.sqrt(36 - np.array([-2.5, 0.0, 2.5]) ** 2)
    shift = np.stack([np.sqrt(masks_of(case).sum(axis=(1, 2)) * 0.09 / np.pi) - true for case in cases])
    assert np.ptp(shift, axis=2).max() < 0.1
    assert shift.mean(axis=2).std() == pytest.approx(0.8, abs=0.25)


def test_equal_seeds_give_equal_bytes_and_others_do_not(tmp_path: Path) -> None:
    def bytes_of(folder: Path, seed: int) -> dict[str, bytes]:
        generate(folder, seed, cases=2)
        return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.gz"))}

    first = bytes_of(tmp_path / "a", 5)
    assert bytes_of(tmp_path / "b", 5) == first
    other = bytes_of(tmp_path / "c", 6)
    assert set(other) == set(first) and other != first
    image, affine = read_nifti(next((tmp_path / "a").rglob("image_CT.nii.gz")))
    assert image.dtype == np.int16 and image.shape == (48, 48, 3) and -1100 < image.min() < image.max() < 300
    np.testing.assert_allclose(affine @ [23.5, 23.5, 1, 1], [0, 0, 0, 1], atol=1e-5)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rater_bias": [0.0, 1.0]}, "rater_bias has 2 raters, rater_half_seen 4"),
        ({"radius": [9.0, 4.0]}, "radius: \\[9.0, 4.0\\] is no range"),
        ({"radius": [2.0, 4.0]}, "radius: .* within 3.75 and"),
        ({"conspicuity": [0.0, 1.0]}, "conspicuity: .* is no range within 0.01 and 1"),
        ({"voxel": 0.7}, "voxels of 0.7 mm do not fill"),
    ],
)
def test_options_that_make_no_phantom_are_refused(options: dict, says: str) -> None:
    with pytest.raises(PenumbraError, match=says):
        parts.build("phantom", "phantom_nodules", options)


def test_configured_data_set_is_ingested(tmp_path: Path) -> None:
    override = {"phantom_nodules": {"source": {"options": {"cases": 3}}}}
    settings = {**read_yaml(ROOT / "config" / "config.yaml"), "datasets": override}
    configuration = Configuration.load(settings, ROOT / "config")
    file = configuration.dataset("phantom_nodules")
    dataset = Dataset.model_validate(file.model_dump(include=set(Dataset.model_fields)))
    raw = download(file.source, "phantom_nodules", tmp_path / "raw", 1)
    table, faults = tmp_path / "cases.tsv", tmp_path / "faults.tsv"
    ingest(raw, tmp_path / "cases", table, faults, dataset, file.adapter, 1, "phantom_nodules")
    rows = read_cases_table(table)
    case = read_case(tmp_path / "cases" / rows[0].case)
    assert len(rows) == 3 and case.raters.shape[0] == 4
    assert case.image.shape[1:3] == dataset.geometry.crop
