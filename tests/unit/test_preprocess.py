from __future__ import annotations

import resource
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from penumbra.config.models import Geometry
from penumbra.data.case import Case, CaseRow, write_case, write_cases_table
from penumbra.data.geometry import case_geometry, normalise, read_geometries, to_native
from penumbra.data.preprocess import prepare_labels, preprocess
from penumbra.errors import PenumbraError


def write_cases(folder: Path, images: dict[str, np.ndarray], spacing: float = 0.5) -> None:
    rows = []
    for name, image in images.items():
        affine = np.diag([spacing, spacing, 2.0, 1.0])
        raters = np.zeros((1, *image.shape[1:]), np.uint8)
        case = Case(name, "unknown", image.astype(np.float32), raters, affine)
        write_case(folder / "cases" / name, case)
        rows.append(CaseRow(name, "unknown", image.shape[1:], case.spacing))
    write_cases_table(folder / "cases.tsv", rows)


def run(folder: Path, **geometry: object) -> tuple[np.ndarray, pd.DataFrame]:
    preprocess(folder / "cases", folder / "cases.tsv", folder / "prepared", Geometry.model_validate(geometry))
    slices = pd.read_csv(folder / "prepared" / "slices.csv", dtype={"case": str})
    return np.load(folder / "prepared" / "images.npy", mmap_mode="r"), slices


@pytest.mark.parametrize("mode", ["joint", "per_contrast"])
def test_slices_are_in_order_and_normalised(tmp_path: Path, rng: np.random.Generator, mode: str) -> None:
    images = {"007": rng.normal(9, 2, size=(2, 12, 10, 3)), "b": rng.normal(size=(2, 8, 8, 1))}
    write_cases(tmp_path, images)
    prepared, slices = run(tmp_path, crop=(8, 8), normalisation=mode)
    assert prepared.shape == (4, 2, 8, 8)
    assert prepared.dtype == np.float32
    assert slices.values.tolist() == [["007", 0, 0], ["007", 1, 0], ["007", 2, 0], ["b", 0, 0]]
    for row, z in enumerate(range(3)):
        window = images["007"][:, 2:10, 1:9, z].astype(np.float32)
        np.testing.assert_allclose(prepared[row], normalise(window, mode), atol=1e-6)  # type: ignore[arg-type]
    assert set(read_geometries(tmp_path / "prepared" / "geometry.json")) == {"007", "b"}


def test_resampling_and_padding(tmp_path: Path, rng: np.random.Generator) -> None:
    write_cases(tmp_path, {"a": rng.normal(size=(1, 12, 10, 2))}, spacing=0.5)
    prepared, _ = run(tmp_path, crop=(32, 16), spacing=(0.25, 0.25))
    geometry = read_geometries(tmp_path / "prepared" / "geometry.json")["a"]
    assert geometry.resampled == (24, 20)
    assert prepared.shape == (2, 1, 32, 16)
    border = prepared[:, 0, :4]
    assert np.ptp(border, axis=(1, 2)).max() < 1e-6  # padding was zero before normalisation, which includes it
    np.testing.assert_allclose(prepared.mean(axis=(1, 2, 3)), 0, atol=1e-5)
    assert to_native(np.zeros((1, 32, 16, 2)), geometry).shape == (1, 12, 10, 2)


def test_constant_slices_are_zero_and_flagged(tmp_path: Path, rng: np.random.Generator) -> None:
    image = rng.normal(size=(2, 8, 8, 4))
    image[:, :, :, 0] = 3.0
    image[1, :, :, 2] = -1.0
    write_cases(tmp_path, {"a": image})
    prepared, slices = run(tmp_path, crop=(12, 12))
    assert slices["constant"].tolist() == [1, 0, 1, 0]
    assert not prepared[0].any()
    assert not prepared[2].any()
    assert prepared[1].any()
    assert np.isfinite(prepared).all()


def test_a_slice_that_is_constant_within_the_crop_is_flagged(tmp_path: Path) -> None:
    image = np.zeros((1, 20, 20, 1))
    image[0, 0, 0, 0] = 1.0
    write_cases(tmp_path, {"a": image})
    prepared, slices = run(tmp_path, crop=(8, 8))
    assert slices["constant"].tolist() == [1]
    assert not prepared.any()


def test_labels_lie_where_the_image_lies(rng: np.random.Generator) -> None:
    maps = np.zeros((3, 2, 20, 24, 2), np.uint8)
    maps[:, 0, 8:12, 10:14] = 1
    maps[1, 1, 2:4] = 1
    geometry = case_geometry((20, 24, 2), (0.5, 0.5, 1.0), (0.3, 0.3), (32, 32))
    prepared = prepare_labels(maps, geometry, 1)
    assert prepared.shape == (2, 3, 2, 32, 32)
    assert prepared.dtype == np.float32
    assert prepared.min() >= 0
    assert prepared.max() <= 1
    assert ((prepared > 0) & (prepared < 1)).any()
    weight = prepared[0, 0, 0]
    centre = [(weight.sum(axis=1 - axis) * np.arange(32)).sum() / weight.sum() for axis in (0, 1)]
    scale = [(g - 1) / (n - 1) for g, n in zip(geometry.resampled, (20, 24), strict=True)]
    expected = [c * s - start for c, s, start in zip((9.5, 11.5), scale, geometry.start, strict=True)]
    np.testing.assert_allclose(centre, expected, atol=0.02)
    assert prepare_labels(maps, geometry, 3).max() <= 1


def test_table_that_does_not_fit_the_images_is_told(tmp_path: Path, rng: np.random.Generator) -> None:
    write_cases(tmp_path, {"a": rng.normal(size=(1, 8, 8, 2))})
    write_cases_table(tmp_path / "cases.tsv", [CaseRow("a", "x", (8, 8, 3), (1.0, 1.0, 1.0))])
    with pytest.raises(PenumbraError, match="table of cases") as caught:
        run(tmp_path, crop=(8, 8))
    assert caught.value.case == "a"
    assert not (tmp_path / "prepared").exists()


def test_full_disk_is_told_and_leaves_nothing(tmp_path: Path, rng: np.random.Generator) -> None:
    write_cases(tmp_path, {"a": rng.normal(size=(1, 64, 64, 8))})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(PenumbraError, match="cannot write"):
            run(tmp_path, crop=(64, 64))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cases", "cases.tsv"]


# ---------------------------------------------------------------- volumes


@pytest.mark.parametrize("mode", ["joint", "per_contrast"])
def test_a_crop_of_three_keeps_volumes_whole(tmp_path: Path, rng: np.random.Generator, mode: str) -> None:
    images = {"007": rng.normal(9, 2, size=(2, 12, 10, 13)), "b": rng.normal(size=(2, 8, 8, 5))}
    write_cases(tmp_path, images)
    prepared, slices = run(tmp_path, crop=(8, 8, 10), normalisation=mode)
    assert prepared.shape == (2, 2, 8, 8, 10)
    assert slices.values.tolist() == [["007", 0, 0], ["b", 0, 0]]
    window = images["007"][:, 2:10, 1:9, 2:12].astype(np.float32)  # round(1.5) = 2, halves to even
    np.testing.assert_allclose(prepared[0], normalise(window, mode), atol=1e-6)  # type: ignore[arg-type]
    padded = np.pad(images["b"].astype(np.float32), ((0, 0), (0, 0), (0, 0), (2, 3)))
    np.testing.assert_allclose(prepared[1], normalise(padded, mode), atol=1e-6)  # type: ignore[arg-type]


def test_volumes_are_resampled_along_z_where_a_third_spacing_is_given(tmp_path: Path, rng: np.random.Generator) -> None:
    write_cases(tmp_path, {"a": rng.normal(size=(1, 12, 10, 8))}, spacing=0.5)
    shapes = []
    for number, spacing in enumerate([(0.25, 0.25), (0.25, 0.25, 0.5)]):
        preprocess(
            tmp_path / "cases",
            tmp_path / "cases.tsv",
            tmp_path / str(number),
            Geometry.model_validate({"crop": (24, 20, 40), "spacing": spacing}),
        )
        geometry = read_geometries(tmp_path / str(number) / "geometry.json")["a"]
        shapes.append(geometry.resampled)
        prepared = np.load(tmp_path / str(number) / "images.npy")
        assert prepared.shape == (1, 1, 24, 20, 40)
        filled = np.ptp(prepared[0, 0], axis=(0, 1)) > 0
        assert filled.sum() == geometry.resampled[2] and filled[20]
        assert to_native(np.zeros((1, 24, 20, 40)), geometry).shape == (1, 12, 10, 8)
    assert shapes == [(24, 20, 8), (24, 20, 32)]


def test_a_volume_with_a_constant_contrast_is_zero_and_flagged(tmp_path: Path, rng: np.random.Generator) -> None:
    images = {name: rng.normal(size=(2, 12, 12, 12)) for name in ("a", "b", "c")}
    images["a"][1] = 4.0
    images["b"][0, 2:10, 2:10, 2:10] = -1.0
    images["c"][:, :, :, 5] = 3.0
    write_cases(tmp_path, images)
    prepared, slices = run(tmp_path, crop=(8, 8, 8))
    assert slices["constant"].tolist() == [1, 1, 0]
    assert not prepared[:2].any() and prepared[2].any()


def test_labels_of_a_volume_are_one_item(rng: np.random.Generator) -> None:
    maps = (rng.uniform(size=(3, 2, 20, 24, 6)) < 0.3).astype(np.uint8)
    volume = case_geometry((20, 24, 6), (0.5, 0.5, 1.0), (0.3, 0.3), (32, 32, 8))
    slices = case_geometry((20, 24, 6), (0.5, 0.5, 1.0), (0.3, 0.3), (32, 32))
    prepared = prepare_labels(maps, volume, 1)
    assert prepared.shape == (1, 3, 2, 32, 32, 8) and prepared.dtype == np.float32
    np.testing.assert_array_equal(np.moveaxis(prepared[0, ..., 1:7], -1, 0), prepare_labels(maps, slices, 1))
    assert not prepared[..., 0].any() and not prepared[..., 7].any()
