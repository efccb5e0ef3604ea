from __future__ import annotations

import gzip
import os
import resource
import signal
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from penumbra.data.case import (
    Case,
    CaseRow,
    natural,
    read_affine,
    read_case,
    read_cases_table,
    read_class_map,
    read_nifti,
    write_case,
    write_cases_table,
    write_class_map,
    write_nifti,
)
from penumbra.errors import PenumbraError


def a_case(rng: np.random.Generator, contrasts: int = 2, name: str = "sub-01") -> Case:
    shape = (7, 5, 3)
    affine = np.diag([0.5, 0.25, 2.0, 1.0])
    affine[:3, 3] = rng.uniform(-50, 50, 3)
    return Case(
        name=name,
        centre="here",
        image=rng.normal(size=(contrasts, *shape)).astype(np.float32),
        raters=rng.integers(0, 3, size=(11, *shape)).astype(np.uint8),
        affine=affine,
        truth={"fraction": rng.uniform(0, 0.5, size=(2, *shape)).astype(np.float32)},
    )


@pytest.mark.parametrize("contrasts", [1, 2])
def test_case_comes_back(tmp_path: Path, rng: np.random.Generator, contrasts: int) -> None:
    case = a_case(rng, contrasts)
    write_case(tmp_path / case.name, case)
    back = read_case(tmp_path / case.name, "here")
    assert (back.name, back.centre, back.spacing) == (case.name, "here", (0.5, 0.25, 2.0))
    np.testing.assert_array_equal(back.image, case.image)
    np.testing.assert_array_equal(back.raters, case.raters)  # eleven raters: 10 and 11 come after 9
    np.testing.assert_array_equal(back.truth["fraction"], case.truth["fraction"])
    np.testing.assert_allclose(back.affine, case.affine, atol=1e-5)
    assert (back.image.dtype, back.raters.dtype) == (np.float32, np.uint8)
    stored = nib.load(tmp_path / case.name / "image.nii.gz")
    assert stored.shape == ((7, 5, 3) if contrasts == 1 else (7, 5, 3, contrasts))


@pytest.mark.parametrize(("dtype", "stored"), [(np.uint8, np.uint8), (bool, np.uint8), (np.float64, np.float32)])
@pytest.mark.parametrize("classes", [1, 3])
def test_class_map_is_four_dimensional_and_comes_back(
    tmp_path: Path, rng: np.random.Generator, dtype: type, stored: type, classes: int
) -> None:
    maps = (rng.uniform(size=(classes, 4, 6, 1)) > 0.5).astype(dtype)
    path = tmp_path / "deep" / "map.nii.gz"
    write_class_map(path, maps, np.diag([2.0, 3.0, 4.0, 1.0]))
    image = nib.load(path)
    assert image.shape == (4, 6, 1, classes)
    assert image.get_data_dtype() == stored
    np.testing.assert_array_equal(np.moveaxis(np.asarray(image.dataobj), 3, 0), maps)
    back = read_class_map(path)
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back, maps)
    np.testing.assert_allclose(read_affine(path), np.diag([2.0, 3.0, 4.0, 1.0]))


def test_bytes_are_reproducible(tmp_path: Path, rng: np.random.Generator) -> None:
    array = rng.normal(size=(5, 4, 3)).astype(np.float32)
    write_nifti(tmp_path / "a.nii.gz", array, np.eye(4))
    write_nifti(tmp_path / "other-name.nii.gz", array, np.eye(4))
    content = (tmp_path / "a.nii.gz").read_bytes()
    assert content == (tmp_path / "other-name.nii.gz").read_bytes()
    assert content[3:8] == b"\x00" * 5  # no flags, so no name; no time


def test_oblique_affine_survives(tmp_path: Path) -> None:
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-0.3, 0.4, 5.0])
    affine[:3, 3] = (10.5, -3.25, 100.0)
    write_nifti(tmp_path / "a.nii.gz", np.zeros((2, 3, 4), np.uint8), affine)
    _, back = read_nifti(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(back, affine, atol=1e-5)
    np.testing.assert_allclose(nib.load(tmp_path / "a.nii.gz").get_qform(), affine, atol=1e-4)


def test_nifti2_and_uncompressed_and_scaled_are_read(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    nib.save(nib.Nifti2Image(array, np.eye(4)), tmp_path / "two.nii.gz")
    np.testing.assert_array_equal(read_nifti(tmp_path / "two.nii.gz")[0], array)
    image = nib.Nifti1Image(array, np.eye(4))
    image.header.set_slope_inter(2.0, 1.0)
    nib.save(image, tmp_path / "one.nii")
    np.testing.assert_allclose(read_nifti(tmp_path / "one.nii")[0], 2.0 * array + 1.0)


@pytest.mark.parametrize("damage", ["half", "flipped", "empty", "text", "no-voxels"])
def test_damaged_file_is_told(tmp_path: Path, rng: np.random.Generator, damage: str) -> None:
    path = tmp_path / "a.nii.gz"
    write_nifti(path, rng.normal(size=(20, 20, 5)).astype(np.float32), np.eye(4))
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        {
            "half": content[:middle],
            "flipped": content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :],
            "empty": b"",
            "text": b"not an image at all" * 50,
            "no-voxels": gzip.compress(gzip.decompress(content)[:400]),
        }[damage]
    )
    with pytest.raises(PenumbraError, match="cannot read it as NIfTI") as caught:
        read_nifti(path)
    assert caught.value.file == path
    assert caught.value.cure


def test_missing_parts_of_a_case_are_told(tmp_path: Path, rng: np.random.Generator) -> None:
    with pytest.raises(PenumbraError, match="does not exist"):
        read_case(tmp_path / "nobody")
    case = a_case(rng)
    write_case(tmp_path / case.name, case)
    write_nifti(tmp_path / case.name / "rater-2.nii.gz", np.zeros((2, 2, 2), np.uint8), case.affine)
    with pytest.raises(PenumbraError, match="shape") as caught:
        read_case(tmp_path / case.name)
    assert "rater-2" in str(caught.value)


def test_full_disk_leaves_the_old_file(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "map.nii.gz"
    write_class_map(path, np.zeros((1, 4, 4, 4), np.uint8), np.eye(4))
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(PenumbraError, match="cannot write"):
            write_class_map(path, rng.uniform(size=(2, 30, 30, 5)), np.eye(4))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["map.nii.gz"]


def test_table_of_cases_keeps_names_as_text(tmp_path: Path) -> None:
    rows = [
        CaseRow("007", "NA", (4, 5, 6), (0.3, 0.25, 5.0)),
        CaseRow("NA", "unknown", (1, 2, 3), (1.0, 1.0, 1.0)),
    ]
    write_cases_table(tmp_path / "cases.tsv", rows)
    assert read_cases_table(tmp_path / "cases.tsv") == rows
    assert (tmp_path / "cases.tsv").read_text().splitlines()[0].split("\t") == [
        "case", "centre", "x", "y", "z", "spacing_x", "spacing_y", "spacing_z",
    ]  # fmt: skip
    (tmp_path / "bad.tsv").write_text("case\tcentre\na\tb\n")
    with pytest.raises(PenumbraError, match="table of cases"):
        read_cases_table(tmp_path / "bad.tsv")


def test_natural_order() -> None:
    names = ["slice-10", "slice-2", "slice-1", "a", "10", "9", "nodule-1/slice-11"]
    assert sorted(names, key=natural) == ["9", "10", "a", "nodule-1/slice-11", "slice-1", "slice-2", "slice-10"]
