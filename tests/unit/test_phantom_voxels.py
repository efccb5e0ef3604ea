"""The same objects in voxels of several sizes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penumbra import parts
from penumbra.config.load import Configuration, read_yaml
from penumbra.data.case import read_class_map, read_nifti
from penumbra.errors import PenumbraError
from tests.conftest import ROOT

SMALL: dict[str, dict[str, Any]] = {
    "phantom_cord": {"cases_per_centre": 1, "slices": 2},
    "phantom_lesions": {"cases": 1, "slices": 6, "lesions": [6, 9]},
    "phantom_tumor": {"cases": 1, "slices": 6},
}
VOXELS = {"phantom_cord": (0.5, 1.0), "phantom_lesions": (1.5, 3.0), "phantom_tumor": (2.0, 4.0)}
PHANTOMS = tuple(SMALL)


def make(phantom: str, folder: Path, name: str, **options: Any) -> Path:
    parts.build("phantom", phantom, {**SMALL[phantom], **options})(folder / name, 5, name)
    return folder / name


def digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.parametrize("phantom", PHANTOMS)
def test_options_that_say_what_is_so_anyway_change_no_byte(phantom: str, tmp_path: Path) -> None:
    usual = digests(make(phantom, tmp_path / "usual", "x"))
    assert digests(make(phantom, tmp_path / "named", "x", objects="x")) == usual
    assert digests(make(phantom, tmp_path / "borrowed", "y", objects="x")) == usual
    assert digests(make(phantom, tmp_path / "other", "y")) != usual
    if phantom != "phantom_cord":
        assert digests(make(phantom, tmp_path / "voxel", "x", voxel=VOXELS[phantom][0])) == usual


@pytest.mark.parametrize("phantom", PHANTOMS)
def test_coarse_voxels_hold_the_mean_of_the_fine_ones_in_the_same_field(phantom: str, tmp_path: Path) -> None:
    fine, coarse = (
        make(phantom, tmp_path, f"voxel-{v}", objects="one", voxel=v, supersampling=s)
        for v, s in zip(VOXELS[phantom], (8, 16) if phantom == "phantom_cord" else (4, 8), strict=True)
    )
    cases = sorted(p.name for p in fine.iterdir() if p.is_dir())
    assert cases and cases == sorted(p.name for p in coarse.iterdir() if p.is_dir())
    for case in cases:
        for name, tolerance, typical in (("true-fraction", 0.06, 1e-3), ("true-rater-probability", 0.6, 0.05)):
            high, low = (read_class_map(folder / case / f"{name}.nii.gz").astype(float) for folder in (fine, coarse))
            classes, x, y, z = high.shape
            assert low.shape == (classes, x // 2, y // 2, z)
            mean = high.reshape(classes, x // 2, 2, y // 2, 2, z).mean(axis=(2, 4))
            assert np.abs(mean - low).max() < (1e-6 if name == "true-fraction" and "cord" in phantom else tolerance)
            assert np.sqrt(np.mean((mean - low) ** 2)) < typical
            assert 0 < low.max() <= 1 and not np.array_equal(mean >= 0.5, mean > 0)
        (_, at_fine), (_, at_coarse) = (read_nifti(f / case / "rater-1.nii.gz") for f in (fine, coarse))
        np.testing.assert_allclose(np.diag(at_coarse)[:2], 2 * np.diag(at_fine)[:2])
        edge = [a[:2, 3] - 0.5 * np.diag(a)[:2] for a in (at_fine, at_coarse)]
        np.testing.assert_allclose(edge[0], edge[1], atol=1e-5)


def test_raters_overlook_the_same_lesions_whatever_the_voxels(tmp_path: Path) -> None:
    options = {"lesions": [30, 40], "diameter": 9.0, "rater_noise": 0.01, "rater_half_missed": [9.0] * 7}
    masks = []
    for voxel in (1.5, 3.0):
        folder = make("phantom_lesions", tmp_path, f"voxel-{voxel}", objects="one", voxel=voxel, slices=16, **options)
        masks.append(np.stack([read_nifti(folder / "brain-001" / f"rater-{r}.nii.gz")[0] for r in range(1, 8)]) > 0)
    fine = masks[0].reshape(7, 46, 2, 56, 2, 16).mean(axis=(2, 4)) >= 0.5
    overlap = np.array([[2 * (a & b).sum() / (a.sum() + b.sum()) for b in masks[1]] for a in fine])
    assert np.diag(overlap).min() > 0.93 > overlap[~np.eye(7, dtype=bool)].max()


@pytest.mark.parametrize("phantom", PHANTOMS)
def test_voxels_must_fill_the_field(phantom: str) -> None:
    with pytest.raises(PenumbraError, match=r"voxels of 0.7 mm do not fill a field of view"):
        parts.build("phantom", phantom, {"voxel": 0.7})
    with pytest.raises(ValueError, match="greater than 0"):
        parts.options_model("phantom", phantom).model_validate({"voxel": 0.0})


@pytest.mark.parametrize("family", ["phantom_cord", "phantom_lesions"])
def test_data_sets_of_the_study_differ_in_their_voxels_alone(family: str) -> None:
    """Nothing is interpolated: the network's grid is the image's own, and shows the same part of the field."""
    configuration = Configuration.load(read_yaml(ROOT / "config" / "config.yaml"), ROOT / "config")
    names = [d.name for d in configuration.study("known-truth").datasets if d.name.startswith(family)]
    assert len(names) > 1
    kept, windows = [], []
    for name in names:
        content = configuration.dataset(name).model_dump(mode="json", exclude={"title", "presets"})
        options, geometry = content["source"]["options"], content["geometry"]
        voxel = options.pop("voxel")
        assert geometry.pop("spacing") == [voxel, voxel] and name.endswith(f"_{round(1000 * voxel)}um")
        windows.append([side * voxel for side in geometry.pop("crop")])
        options.pop("supersampling")
        kept.append(content)
    assert all(content == kept[0] for content in kept) and all(window == windows[0] for window in windows)
