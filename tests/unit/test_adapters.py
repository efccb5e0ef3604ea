from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from penumbra import parts
from penumbra.data.case import write_nifti
from penumbra.data.found import RawCase
from penumbra.errors import PenumbraError

SHAPE = (6, 5, 4)
AFFINE = np.diag([0.5, 0.5, 3.0, 1.0])


def folder_adapter(contrasts: list[str], classes: list[str], raters: int = 2, **options: object):  # type: ignore[no-untyped-def]
    return parts.build("adapter", "folder", options, contrasts=contrasts, classes=classes, raters=raters)


def lidc_adapter(seed: int = 1, dataset: str = "lidc", raters: int = 4, **options: object):  # type: ignore[no-untyped-def]
    return parts.build(
        "adapter",
        "lidc_slices",
        options,
        contrasts=["CT"],
        classes=["nodule"],
        raters=raters,
        seed=seed,
        dataset=dataset,
    )


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    write_nifti(path, array, affine)


def only(adapter, raw: Path) -> RawCase:  # type: ignore[no-untyped-def]
    (found,) = adapter.find(raw)
    return found.read()


# ---------------------------------------------------------------- folder


def test_folder_reads_contrasts_label_maps_and_truth(tmp_path: Path, rng: np.random.Generator) -> None:
    flair, t1 = rng.normal(size=(2, *SHAPE)).astype(np.float32)
    masks = rng.integers(0, 3, size=(3, *SHAPE)).astype(np.uint8)
    case = tmp_path / "sub-1"
    save(case / "image_FLAIR.nii.gz", flair)
    nib.save(nib.Nifti1Image(t1, AFFINE), case / "image_T1.nii")
    for name, mask in zip(("10", "2", "anne"), masks, strict=True):
        save(case / f"rater-{name}.nii.gz", mask)
    truth = rng.uniform(0, 0.5, size=(*SHAPE, 2)).astype(np.float32)
    save(case / "true-fraction.nii.gz", truth)
    (case / "notes.txt").write_text("left alone")
    (case / ".DS_Store").write_text("x")
    (tmp_path / ".git").mkdir()
    (tmp_path / "participants.tsv").write_text("case\tage\tcentre\nsub-1\t40\tParis\n")

    (found,) = folder_adapter(["T1", "FLAIR"], ["a", "b"], 3).find(tmp_path)
    assert (found.name, found.centre) == ("sub-1", "Paris")
    raw = found.read()
    assert raw.faults == []
    np.testing.assert_array_equal(raw.images["T1"].array, t1)
    np.testing.assert_array_equal(raw.images["FLAIR"].array, flair)
    assert list(raw.raters) == ["2", "10", "anne"]  # by number, then by letter
    np.testing.assert_array_equal(raw.raters["10"].array, masks[0])
    np.testing.assert_array_equal(raw.truth["fraction"].array, truth)


def test_folder_merges_masks_by_class(tmp_path: Path) -> None:
    first, second = np.zeros((2, *SHAPE), np.uint8)
    first[:3] = 1
    second[3:] = 255
    save(tmp_path / "a" / "image.nii.gz", np.ones(SHAPE, np.float32))
    save(tmp_path / "a" / "rater-x_gray_matter.nii.gz", first)
    save(tmp_path / "a" / "rater-x_white.nii.gz", second)
    case = only(folder_adapter(["T2star"], ["gray_matter", "white"], 1), tmp_path)
    assert case.faults == []
    labels = case.raters["x"].array
    assert (labels[:3] == 1).all()
    assert (labels[3:] == 2).all()
    assert labels.dtype == np.uint8


@pytest.mark.parametrize(("overlap", "label"), [("fault", None), ("first", 1), ("last", 2)])
def test_folder_overlap(tmp_path: Path, overlap: str, label: int | None) -> None:
    both = np.zeros((2, *SHAPE), np.uint8)
    both[:, 2] = 1
    save(tmp_path / "a" / "image.nii.gz", np.ones(SHAPE, np.float32))
    for name, mask in zip("AB", both, strict=True):
        save(tmp_path / "a" / f"rater-x_{name}.nii.gz", mask)
    case = only(folder_adapter(["c"], ["A", "B"], 1, overlap=overlap), tmp_path)
    if label is None:
        assert [f.fault for f in case.faults] == ["rater 'x' put 20 voxels into two classes"]
        assert case.lost == ["x"]
    else:
        assert case.faults == []
        assert (case.raters["x"].array[2] == label).all()


def test_folder_faults_of_one_case_are_all_told(tmp_path: Path) -> None:
    case = tmp_path / "a"
    zeros = np.zeros(SHAPE, np.uint8)
    save(case / "image_T1.nii.gz", zeros)
    save(case / "rater-1_A.nii.gz", zeros + 3)
    save(case / "rater-1_B.nii.gz", zeros)
    save(case / "rater-2_A.nii.gz", zeros)
    save(case / "rater-3_C.nii.gz", zeros)
    save(case / "rater-4.nii.gz", zeros)
    save(case / "rater-4_A.nii.gz", zeros)
    save(case / "rater-5_A.nii.gz", zeros)
    save(case / "rater-5_B.nii.gz", zeros, np.eye(4))
    (case / "rater-6.nii.gz").write_bytes(b"no image")
    (tmp_path / "participants.tsv").write_text("case\tcentre\nghost\t\n")
    found = {f.name: f for f in folder_adapter(["T1", "T2"], ["A", "B"], 6).find(tmp_path)}
    faults = {f.file: f for f in found["a"].read().faults}
    assert set(faults) == {
        "a/image_T2.nii.gz",
        "a/rater-1_A.nii.gz",
        "a/rater-2_B.nii.gz",
        "a/rater-3_C.nii.gz",
        "a/rater-4.nii.gz",
        "a/rater-5_A.nii.gz",
        "a/rater-6.nii.gz",
    }
    assert all(f.case == "a" and f.fault and f.cure for f in faults.values())
    (ghost,) = found["ghost"].read().faults
    assert "no folder" in ghost.fault


def test_folder_labels_may_be_joined_or_left_out(tmp_path: Path, rng: np.random.Generator) -> None:
    drawn = rng.integers(0, 4, size=SHAPE).astype(np.uint8)
    save(tmp_path / "a" / "image.nii.gz", rng.normal(size=SHAPE).astype(np.float32))
    save(tmp_path / "a" / "rater-1.nii.gz", drawn)
    labels = {"B": [3], "A": [1], "background": [2]}
    case = only(folder_adapter(["T1"], ["A", "B"], 1, labels=labels), tmp_path)
    assert case.faults == []
    np.testing.assert_array_equal(case.raters["1"].array, np.array([0, 1, 0, 2])[drawn])
    case = only(folder_adapter(["T1"], ["AB"], 1, labels={"AB": [1, 3], "background": [2]}), tmp_path)
    np.testing.assert_array_equal(case.raters["1"].array, np.isin(drawn, (1, 3)))


def test_folder_labels_that_are_not_named_are_a_fault(tmp_path: Path, rng: np.random.Generator) -> None:
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[0, 0, :3] = 1, 2, 7
    save(tmp_path / "a" / "image.nii.gz", rng.normal(size=SHAPE).astype(np.float32))
    save(tmp_path / "a" / "rater-1.nii.gz", drawn)
    save(tmp_path / "a" / "rater-2_A.nii.gz", (drawn == 1).astype(np.uint8))
    case = only(folder_adapter(["T1"], ["A"], 2, labels={"A": [1]}), tmp_path)
    (fault,) = case.faults
    assert (fault.case, fault.file) == ("a", "a/rater-1.nii.gz") and fault.fault.endswith("does not name: 2, 7")
    np.testing.assert_array_equal(case.raters["2"].array, drawn == 1)
    for labels in ({"B": [1]}, {"A": []}, {"A": [1], "background": [1]}, {"A": [0]}, {"background": [1]}):
        with pytest.raises(PenumbraError, match="option `labels`"):
            folder_adapter(["T1"], ["A"], labels=labels)


def test_folder_centres_may_be_missing(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        (tmp_path / name).mkdir()
    (tmp_path / "participants.tsv").write_text("\ufeffcase\tcentre\nc\t\nb\tRome\nb\tRome\n", encoding="utf-8")
    found = [(f.name, f.centre) for f in folder_adapter(["x"], ["y"]).find(tmp_path)]
    assert found == [("c", ""), ("b", "Rome"), ("b", "Rome"), ("a", "")]


@pytest.mark.parametrize("content", [b"subject\tcentre\na\tb\n", b"case\tcentre\n\xff\xfe\tx\n"])
def test_folder_participants_that_cannot_be_understood(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "participants.tsv").write_bytes(content)
    with pytest.raises(PenumbraError, match=r"participants\.tsv") as caught:
        folder_adapter(["x"], ["y"]).find(tmp_path)
    assert caught.value.cure


def test_folder_orientation_turns_image_and_mask_alike(tmp_path: Path, rng: np.random.Generator) -> None:
    sagittal = np.array([[0, 0, 3.0, -5], [-0.5, 0, 0, 7], [0, 0.5, 0, 2], [0, 0, 0, 1.0]])  # axes: P, S, R
    image = rng.normal(size=SHAPE).astype(np.float32)
    save(tmp_path / "a" / "image.nii.gz", image, sagittal)
    save(tmp_path / "a" / "rater-1.nii.gz", (image > 0).astype(np.uint8), sagittal)
    case = only(folder_adapter(["x"], ["y"], 1, orientation="RAS"), tmp_path)
    volume, mask = case.images["x"], case.raters["1"]
    assert volume.array.shape == (4, 6, 5)
    assert nib.aff2axcodes(volume.affine) == ("R", "A", "S")
    np.testing.assert_array_equal(mask.array, volume.array > 0)
    for index in rng.integers(0, 4, size=(5, 3)):  # a voxel's value stays at its place in the world
        world = sagittal @ [*index, 1]
        new = np.rint(np.linalg.inv(volume.affine) @ world).astype(int)[:3]
        assert volume.array[tuple(new)] == image[tuple(index)]
    for wrong in ("RA", "RAX", "RLS"):
        with pytest.raises(PenumbraError, match="axis codes"):
            folder_adapter(["x"], ["y"], 1, orientation=wrong)


def test_folder_two_dimensional_files_get_a_third_axis(tmp_path: Path) -> None:
    save(tmp_path / "a" / "image.nii.gz", np.ones((6, 5), np.float32))
    save(tmp_path / "a" / "rater-1.nii.gz", np.ones((6, 5, 1, 1), np.uint8))
    case = only(folder_adapter(["x"], ["y"], 1), tmp_path)
    assert case.images["x"].array.shape == case.raters["1"].array.shape == (6, 5, 1)


# ---------------------------------------------------------------- lidc_slices


def lidc_pack(raw: Path, rng: np.random.Generator, slices: dict[str, int]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Write nodules ``<patient>/nodule-<n>`` with so many slices; what was written, by ``<patient>/<nodule>/<k>``."""
    written = {}
    for nodule, count in slices.items():
        for k in range(count):
            image = rng.integers(0, 256, size=(8, 6)).astype(np.uint8)
            masks = (rng.uniform(size=(4, 8, 6)) > 0.5).astype(np.uint8) * np.uint8(255)
            masks[3] = 0
            folder = raw / "LIDC-IDRI-slices" / nodule
            for where, array in (("images", image), *((f"mask-{r}", m) for r, m in enumerate(masks))):
                (folder / where).mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(folder / where / f"slice-{k}.png")
            written[f"{nodule}/{k}"] = (image, masks)
    return written


def test_lidc_stacks_all_nodules_in_natural_order(tmp_path: Path, rng: np.random.Generator) -> None:
    written = lidc_pack(tmp_path, rng, {"P-1/nodule-0": 11, "P-1/nodule-2": 1, "P-1/nodule-10": 2, "P-2/nodule-0": 1})
    found = lidc_adapter(permute_raters=False).find(tmp_path)
    assert [f.name for f in found] == ["P-1", "P-2"]
    case = found[0].read()
    assert case.faults == []
    order = [f"P-1/nodule-0/{k}" for k in range(11)] + ["P-1/nodule-2/0", "P-1/nodule-10/0", "P-1/nodule-10/1"]
    volume = case.images["CT"]
    assert volume.array.shape == (6, 8, 14)
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.affine, np.eye(4))
    for z, key in enumerate(order):
        image, masks = written[key]
        shown = volume.array[:, :, z].T[::-1]  # as imshow(slice.T, origin="lower") shows it
        np.testing.assert_array_equal(shown, image)
        for r in range(4):
            np.testing.assert_array_equal(case.raters[str(r + 1)].array[:, :, z].T[::-1], masks[r] > 0)


def test_lidc_permutes_masks_slice_by_slice_reproducibly(tmp_path: Path, rng: np.random.Generator) -> None:
    lidc_pack(tmp_path, rng, {"P-1/nodule-0": 40})

    def stack(**options: object) -> np.ndarray:
        return np.stack([v.array for v in only(lidc_adapter(**options), tmp_path).raters.values()])  # type: ignore[arg-type]

    kept, one, again = stack(permute_raters=False), stack(), stack()
    np.testing.assert_array_equal(one, again)
    assert not kept[3].any()  # the pack's last mask is empty ...
    empty = [int(np.flatnonzero(~one[..., z].any(axis=(1, 2)))[0]) for z in range(40)]
    assert set(empty) == {0, 1, 2, 3}  # ... but any rater's after permutation
    for z in range(40):  # the same four masks in each slice
        assert sorted(m.tobytes() for m in one[..., z]) == sorted(m.tobytes() for m in kept[..., z])
    assert (one != stack(seed=2)).any()
    assert (one != stack(dataset="other")).any()


def test_lidc_permutation_of_a_slice_does_not_depend_on_other_files(tmp_path: Path, rng: np.random.Generator) -> None:
    lidc_pack(tmp_path, rng, {"P-1/nodule-0": 3, "P-1/nodule-1": 4})
    whole = only(lidc_adapter(), tmp_path)
    for where in ("images", "mask-0", "mask-1", "mask-2", "mask-3"):
        (tmp_path / "LIDC-IDRI-slices/P-1/nodule-0" / where / "slice-1.png").unlink()
    rest = only(lidc_adapter(), tmp_path)
    for r in "1234":
        np.testing.assert_array_equal(rest.raters[r].array, np.delete(whole.raters[r].array, 1, axis=2))


def test_lidc_faults(tmp_path: Path, rng: np.random.Generator) -> None:
    lidc_pack(tmp_path, rng, {f"P-{p}/nodule-0": 2 for p in range(6)})
    top = tmp_path / "LIDC-IDRI-slices"
    (top / "P-1/nodule-0/mask-2/slice-1.png").unlink()
    image = top / "P-2/nodule-0/images/slice-0.png"
    image.write_bytes(image.read_bytes()[:40])
    Image.fromarray(np.full((8, 6), 7, np.uint8)).save(top / "P-3/nodule-0/mask-0/slice-0.png")
    Image.fromarray(np.zeros((8, 6, 3), np.uint8)).save(top / "P-4/nodule-0/images/slice-0.png")
    for where in ("images", "mask-0", "mask-1", "mask-2", "mask-3"):
        Image.fromarray(np.zeros((9, 9), np.uint8)).save(top / "P-5/nodule-0" / where / "slice-0.png")
    (top / "P-6").mkdir()
    faults = {f.name: f.read().faults for f in lidc_adapter().find(tmp_path)}
    assert {p: len(f) for p, f in faults.items()} == {f"P-{p}": int(p > 0) for p in range(7)}
    told = [faults[f"P-{p}"][0].fault for p in range(1, 7)]
    for text, expected in zip(
        told, ("missing", "cannot read", "other values", "RGB", "differ in size", "no slice"), strict=True
    ):
        assert expected in text


def test_lidc_layout_may_begin_at_the_patients(tmp_path: Path, rng: np.random.Generator) -> None:
    lidc_pack(tmp_path, rng, {"P-1/nodule-0": 1})
    assert [f.name for f in lidc_adapter().find(tmp_path / "LIDC-IDRI-slices")] == ["P-1"]
    with pytest.raises(PenumbraError, match="one contrast and one class"):
        parts.build("adapter", "lidc_slices", contrasts=["CT"], classes=["a", "b"], raters=4)
