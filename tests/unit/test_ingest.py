from __future__ import annotations

import csv
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penumbra.config.models import Dataset, Part
from penumbra.data import ingest as module
from penumbra.data.case import read_case, read_cases_table, write_nifti
from penumbra.data.found import RawCase, Volume
from penumbra.data.ingest import affine_gap, check_case, ingest
from penumbra.errors import PenumbraError

SHAPE = (9, 8, 3)
AFFINE = np.diag([0.5, 0.5, 2.0, 1.0])
AFFINE[:3, 3] = (-10, 4, 100)


FOLDER = Part(name="folder")


def dataset(**changes: Any) -> Dataset:
    content: dict[str, Any] = {
        "contrasts": ["T1", "T2"],
        "classes": ["a", "b"],
        "raters": {"count": 2, "identified": True},
        "geometry": {"crop": [8, 8]},
    }
    return Dataset.model_validate({**content, **changes})


@pytest.fixture
def raw(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Three good cases of two contrasts, two classes, two raters."""
    folder = tmp_path / "raw"
    for name in ("c1", "c2", "c3"):
        for contrast in ("T1", "T2"):
            write_nifti(folder / name / f"image_{contrast}.nii.gz", rng.normal(size=SHAPE).astype(np.float32), AFFINE)
        for rater in "12":
            write_nifti(folder / name / f"rater-{rater}.nii.gz", rng.integers(0, 3, SHAPE).astype(np.uint8), AFFINE)
    (folder / "participants.tsv").write_text("case\tcentre\nc2\tRome\nc1\t\nc3\tOslo\n")
    return folder


def run(raw: Path, **changes: Any) -> list[dict[str, str]]:
    """Ingest; the faults, after a look that a failure left nothing else and a success left all."""
    top = raw.parent
    failure: PenumbraError | None = None
    try:
        ingest(raw, top / "cases", top / "cases.tsv", top / "faults.tsv", dataset(**changes), FOLDER, 1, "demo")
    except PenumbraError as error:
        failure = error
    with open(top / "faults.tsv", newline="") as stream:
        reader = csv.DictReader(stream, delimiter="\t")
        faults = list(reader)
        assert reader.fieldnames == ["case", "file", "fault", "cure"]
    assert bool(failure) == bool(faults)
    written = sorted(p.name for p in top.iterdir())
    assert written == (["faults.tsv", "raw"] if faults else ["cases", "cases.tsv", "faults.tsv", "raw"])
    assert all(f["fault"] and f["cure"] for f in faults)
    if failure:
        assert faults[0]["fault"][:40] in str(failure)
    return faults


def test_good_cases_come_through_unchanged(raw: Path) -> None:
    assert run(raw) == []
    rows = read_cases_table(raw.parent / "cases.tsv")
    assert [(r.case, r.centre, r.shape, r.spacing) for r in rows] == [
        ("c1", "unknown", SHAPE, (0.5, 0.5, 2.0)),
        ("c2", "Rome", SHAPE, (0.5, 0.5, 2.0)),
        ("c3", "Oslo", SHAPE, (0.5, 0.5, 2.0)),
    ]
    from penumbra.data.case import read_nifti

    for row in rows:
        case = read_case(raw.parent / "cases" / row.case)
        assert case.image.shape == (2, *SHAPE)
        np.testing.assert_array_equal(case.image[1], read_nifti(raw / row.case / "image_T2.nii.gz")[0])
        np.testing.assert_array_equal(case.raters[0], read_nifti(raw / row.case / "rater-1.nii.gz")[0])
        np.testing.assert_allclose(case.affine, AFFINE)


def test_equal_input_gives_equal_bytes(raw: Path) -> None:
    def content() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in (raw.parent / "cases").rglob("*.gz")}

    run(raw)
    before = content()
    run(raw)
    assert before == content()


def _image(raw: Path, change: Callable[[np.ndarray], np.ndarray], name: str = "image_T2") -> None:
    from penumbra.data.case import read_nifti

    path = raw / "c2" / f"{name}.nii.gz"
    array, affine = read_nifti(path)
    write_nifti(path, change(array.copy()), affine)


def _set(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array[1, 2, 0] = value
        return array

    return change


def _moved(raw: Path, step: float) -> None:
    moved = AFFINE.copy()
    moved[0, 3] += step
    write_nifti(raw / "c2" / "rater-1.nii.gz", np.zeros(SHAPE, np.uint8), moved)


def _turned(raw: Path) -> None:
    turned = AFFINE.copy()
    turned[0, 0] *= -1
    write_nifti(raw / "c2" / "rater-1.nii.gz", np.zeros(SHAPE, np.uint8), turned)


def _singular(raw: Path) -> None:
    import nibabel as nib

    image = nib.Nifti1Image(np.zeros(SHAPE, np.uint8), None)
    image.header["sform_code"] = 1
    image.header["srow_x"] = image.header["srow_y"] = (1, 0, 0, 0)
    nib.save(image, raw / "c2" / "rater-1.nii.gz")


def _truth(raw: Path, array: np.ndarray) -> None:
    write_nifti(raw / "c2" / "true-fraction.nii.gz", array.astype(np.float32), AFFINE)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


KINDS: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "missing contrast": (lambda raw: (raw / "c2/image_T2.nii.gz").unlink(), "c2/image_T2.nii.gz", "has no image"),
    "missing rater": (lambda raw: (raw / "c2/rater-2.nii.gz").unlink(), "", r"1 raters \(1\), the data set has 2"),
    "further rater": (
        lambda raw: write_nifti(raw / "c2/rater-3.nii.gz", np.zeros(SHAPE, np.uint8), AFFINE),
        "",
        "3 raters",
    ),
    "other rater": (
        lambda raw: (raw / "c2/rater-2.nii.gz").rename(raw / "c2/rater-9.nii.gz"),
        "",
        "most cases have 1, 2",
    ),
    "truncated": (lambda raw: _truncate(raw / "c2/image_T1.nii.gz"), "c2/image_T1.nii.gz", "cannot read"),
    "truncated mask": (lambda raw: _truncate(raw / "c2/rater-2.nii.gz"), "c2/rater-2.nii.gz", "cannot read"),
    "shape": (
        lambda raw: write_nifti(raw / "c2/rater-1.nii.gz", np.zeros((9, 8, 4), np.uint8), AFFINE),
        "c2/rater-1.nii.gz",
        "shape",
    ),
    "shape of a contrast": (lambda raw: _image(raw, lambda a: a[:-1]), "c2/image_T2.nii.gz", "shape"),
    "affine": (lambda raw: _moved(raw, 0.1), "c2/rater-1.nii.gz", "a corner lies 0.2 voxels apart"),
    "flipped affine": (_turned, "c2/rater-1.nii.gz", "affine"),
    "singular affine": (_singular, "c2/rater-1.nii.gz", "singular"),
    "nan": (lambda raw: _image(raw, _set(np.nan)), "c2/image_T2.nii.gz", "1 voxels are NaN"),
    "infinite": (lambda raw: _image(raw, _set(np.inf)), "c2/image_T2.nii.gz", "1 voxels are NaN or infinite"),
    "beyond float32": (
        lambda raw: _image(raw, lambda a: _set(1e300)(a.astype(np.float64))),
        "c2/image_T2.nii.gz",
        "float32",
    ),
    "nan in mask": (
        lambda raw: _image(raw, lambda a: _set(np.nan)(a.astype(np.float32)), "rater-1"),
        "c2/rater-1.nii.gz",
        "NaN",
    ),
    "unknown label": (lambda raw: _image(raw, _set(3), "rater-1"), "c2/rater-1.nii.gz", "unknown labels: 3"),
    "label between": (
        lambda raw: _image(raw, lambda a: _set(0.5)(a.astype(np.float32)), "rater-1"),
        "c2/rater-1.nii.gz",
        "unknown labels: 0.5",
    ),
    "empty image": (lambda raw: _image(raw, lambda a: a * 0 + 4), "c2/image_T2.nii.gz", "every voxel is 4"),
    "four dimensions": (
        lambda raw: _image(raw, lambda a: np.stack([a, a], -1)),
        "c2/image_T2.nii.gz",
        "array has the shape",
    ),
    "colour": (
        lambda raw: _image(raw, lambda a: np.zeros(a.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])),
        "c2/image_T2.nii.gz",
        "not plain numbers",
    ),
    "no folder": (
        lambda raw: (raw / "participants.tsv").write_text("case\tcentre\nc2\tx\nghost\ty\n"),
        "participants.tsv",
        "no folder",
    ),
    "same name": (
        lambda raw: (raw / "participants.tsv").write_text("case\tcentre\nc2\tx\nc2\ty\n"),
        "",
        "2 cases have",
    ),
    "unsafe name": (lambda raw: (raw / "c2").rename(raw / "c 2"), "", "not safe"),
    "reserved name": (lambda raw: (raw / "c2").rename(raw / "c2_variant-1"), "", "not safe"),
    "truth above 1": (
        lambda raw: _truth(raw, np.full((*SHAPE, 2), 0.6)),
        "c2/true-fraction.nii.gz",
        "sum to more than 1",
    ),
    "truth below 0": (lambda raw: _truth(raw, np.full((*SHAPE, 2), -0.1)), "c2/true-fraction.nii.gz", "below 0"),
    "truth of one class": (lambda raw: _truth(raw, np.zeros((*SHAPE, 3))), "c2/true-fraction.nii.gz", "3 class maps"),
    "truth without class axis": (lambda raw: _truth(raw, np.zeros(SHAPE)), "c2/true-fraction.nii.gz", "X, Y, Z, K"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_fault_is_told_alone(raw: Path, kind: str) -> None:
    spoil, file, told = KINDS[kind]
    if kind in ("unsafe name", "reserved name"):
        (raw / "participants.tsv").unlink()
    spoil(raw)
    faults = [f for f in run(raw) if "the same as that" not in f["fault"]]
    assert len(faults) == 1, faults
    import re

    assert re.search(told, faults[0]["fault"]), faults
    assert faults[0]["file"] == file


def test_same_image_under_two_names(raw: Path) -> None:
    for contrast in ("T1", "T2"):
        (raw / f"c3/image_{contrast}.nii.gz").write_bytes((raw / f"c1/image_{contrast}.nii.gz").read_bytes())
    (fault,) = run(raw)
    assert (fault["case"], fault["fault"]) == ("c3", "its image is the same as that of 'c1'")


def test_same_slice_or_contrast_in_two_cases_is_no_fault(raw: Path) -> None:
    (raw / "c3/image_T1.nii.gz").write_bytes((raw / "c1/image_T1.nii.gz").read_bytes())
    assert run(raw) == []


def test_names_that_differ_by_case_only(raw: Path) -> None:
    (raw / "c3").rename(raw / "C1")
    (raw / "participants.tsv").unlink()
    (fault,) = run(raw)
    assert "upper and lower case" in fault["fault"]


def test_all_faults_of_all_cases_are_told_at_once(raw: Path) -> None:
    (raw / "c1/rater-1.nii.gz").unlink()
    (raw / "c1/image_T1.nii.gz").write_bytes(b"")
    _image(raw, _set(np.nan))
    _image(raw, _set(7), "rater-1")
    write_nifti(raw / "c2/rater-2.nii.gz", np.full((9, 8, 4), 5, np.uint8), AFFINE)
    (raw / "c3").rename(raw / "c#3")
    (raw / "participants.tsv").write_text("case\tcentre\nc1\tx\nghost\tx\n")
    faults = run(raw)
    assert {(f["case"], f["file"]) for f in faults} == {
        ("c1", ""),
        ("c1", "c1/image_T1.nii.gz"),
        ("c2", "c2/image_T2.nii.gz"),
        ("c2", "c2/rater-1.nii.gz"),
        ("c2", "c2/rater-2.nii.gz"),
        ("c#3", ""),
        ("ghost", "participants.tsv"),
    }
    assert sum(f["file"] == "c2/rater-2.nii.gz" for f in faults) == 2  # shape and labels
    assert len(faults) == 8
    assert faults == sorted(faults, key=lambda f: (f["case"], f["file"]))


def test_small_differences_of_affines_are_no_fault(raw: Path) -> None:
    _moved(raw, 0.002)
    assert run(raw) == []


def test_a_rater_who_drew_nothing_is_no_fault(raw: Path) -> None:
    write_nifti(raw / "c2/rater-1.nii.gz", np.zeros(SHAPE, np.uint8), AFFINE)
    assert run(raw) == []


def test_raters_without_identity_may_have_any_names(raw: Path) -> None:
    (raw / "c2/rater-2.nii.gz").rename(raw / "c2/rater-9.nii.gz")
    assert run(raw, raters={"count": 2, "identified": False}) == []


def test_no_case_and_unreadable_participants(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "other" / "raw").mkdir(parents=True)
    (fault,) = run(tmp_path / "other" / "raw")
    assert fault["fault"] == "there is no case"
    (raw / "participants.tsv").write_text("subject\nc1\n")
    (tmp_path / "other" / "raw").rmdir()
    (raw.parent / "other" / "faults.tsv").unlink()
    (raw.parent / "other").rmdir()
    (fault,) = run(raw)
    assert fault["file"] == "participants.tsv"


def test_truth_comes_along(raw: Path, rng: np.random.Generator) -> None:
    truth = rng.uniform(0, 0.5, size=(*SHAPE, 2)).astype(np.float32)
    _truth(raw, truth)
    assert run(raw) == []
    np.testing.assert_array_equal(read_case(raw.parent / "cases" / "c2").truth["fraction"], np.moveaxis(truth, 3, 0))


def test_full_disk_leaves_no_half_written_cases(tmp_path: Path, rng: np.random.Generator) -> None:
    raw = tmp_path / "raw"
    write_nifti(raw / "a" / "image.nii.gz", rng.normal(size=(60, 60, 6)).astype(np.float32), AFFINE)
    write_nifti(raw / "a" / "rater-1.nii.gz", np.zeros((60, 60, 6), np.uint8), AFFINE)
    data = dataset(contrasts=["T1"], raters={"count": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(PenumbraError, match="cannot write"):
            ingest(raw, tmp_path / "cases", tmp_path / "cases.tsv", tmp_path / "faults.tsv", data, FOLDER, 1, "demo")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert [p.name for p in tmp_path.iterdir()] == ["raw"]


def test_full_disk_at_the_table_leaves_no_cases(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_cases_table", full)
    with pytest.raises(PenumbraError, match="No space left"):
        ingest(
            raw, raw.parent / "cases", raw.parent / "cases.tsv", raw.parent / "faults.tsv", dataset(), FOLDER, 1, "demo"
        )
    assert not (raw.parent / "cases").exists()
    assert not (raw.parent / "cases.tsv").exists()


def test_table_cells_hold_no_tabs_or_line_breaks(raw: Path) -> None:
    (raw / "c3").rename(raw / "c\n\t3")
    (raw / "participants.tsv").unlink()
    (fault,) = run(raw)
    assert fault["case"] == "c 3"


def test_affine_gap_against_brute_force(rng: np.random.Generator) -> None:
    first, second = AFFINE.copy(), AFFINE.copy()
    second[:3] += rng.normal(scale=0.01, size=(3, 4))
    index = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), axis=-1).reshape(-1, 3)
    index = np.column_stack([index, np.ones(len(index))])
    distance = np.linalg.norm(((index @ first.T) - (index @ second.T))[:, :3], axis=1).max()
    assert affine_gap(first, second, SHAPE) == pytest.approx(distance / 0.5)


def test_check_case_accepts_numbers_of_all_plain_types(rng: np.random.Generator) -> None:
    for kind in (np.uint8, np.int16, np.float32, np.float64, bool):
        image = Volume("i", rng.integers(0, 2, SHAPE).astype(kind), AFFINE)
        mask = Volume("m", rng.integers(0, 2, SHAPE).astype(kind), AFFINE)
        assert check_case("a", RawCase(images={"T1": image}, raters={"1": mask}), ["T1"], 1, 1) == []
