from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penumbra import parts
from penumbra.config.models import Dataset, Geometry, Part, Raters, Source
from penumbra.data.adapters._labels import classes_of
from penumbra.data.adapters.decathlon import read_task
from penumbra.data.case import read_case, read_cases_table, write_nifti
from penumbra.data.download import download
from penumbra.data.found import RawCase
from penumbra.data.ingest import ingest
from penumbra.errors import PenumbraError

SHAPE = (6, 5, 4)
AFFINE = np.diag([1.0, 1.0, 2.5, 1.0])
MODALITIES = {"0": "FLAIR", "1": "T1w", "2": "t1gd"}
LABELS = {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"}
CLASSES = ["edema", "non_enhancing_tumor", "Enhancing_tumour"]


def task(
    folder: Path, rng: np.random.Generator, cases: int = 2, **changes: Any
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """A made task; its arrays by case."""
    content: dict[str, Any] = {"name": "made", "modality": MODALITIES, "labels": LABELS, "numTraining": cases}
    arrays = {}
    for n in range(1, cases + 1):
        image = rng.normal(size=(*SHAPE, 3)).astype(np.float32)
        label = rng.integers(0, 4, size=SHAPE).astype(np.uint8)
        write_nifti(folder / "imagesTr" / f"made_{n:03d}.nii.gz", image, AFFINE)
        write_nifti(folder / "labelsTr" / f"made_{n:03d}.nii.gz", label, AFFINE)
        arrays[f"made_{n:03d}"] = (image, label)
    write_nifti(folder / "imagesTs" / "made_900.nii.gz", image, AFFINE)
    content["training"] = [{"image": f"./imagesTr/{c}.nii.gz", "label": f"./labelsTr/{c}.nii.gz"} for c in arrays]
    content["test"] = ["./imagesTs/made_900.nii.gz"]
    content.update(changes)
    (folder / "dataset.json").write_text(json.dumps(content))
    return arrays


def adapter(contrasts: list[str], classes: list[str], raters: int = 1, **options: Any):  # type: ignore[no-untyped-def]
    return parts.build("adapter", "decathlon", options, contrasts=contrasts, classes=classes, raters=raters)


def one(made, raw: Path) -> RawCase:  # type: ignore[no-untyped-def]
    (found,) = made.find(raw)
    return found.read()


def test_archive_to_cases(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = task(tmp_path / "Task99_Made", rng)
    archive = tmp_path / "Task99_Made.tar"
    with tarfile.open(archive, "w") as packed:
        packed.add(tmp_path / "Task99_Made", "Task99_Made")
        hidden = tarfile.TarInfo("Task99_Made/imagesTr/._made_001.nii.gz")  # as the Decathlon's archives have them
        hidden.size = 3
        packed.addfile(hidden, io.BytesIO(b"mac"))
    raw = download(Source(kind="archive", path=str(archive)), "made", tmp_path / "raw", 1)
    dataset = Dataset(
        contrasts=["T1Gd", "FLAIR"], classes=CLASSES, raters=Raters(count=1), geometry=Geometry(crop=(8, 8))
    )
    ingest(
        raw,
        tmp_path / "cases",
        tmp_path / "cases.tsv",
        tmp_path / "faults.tsv",
        dataset,
        Part(name="decathlon"),
        1,
        "made",
    )
    assert [r.case for r in read_cases_table(tmp_path / "cases.tsv")] == sorted(arrays)
    for name, (image, label) in arrays.items():
        case = read_case(tmp_path / "cases" / name)
        np.testing.assert_array_equal(case.image, np.moveaxis(image, 3, 0)[[2, 0]])
        np.testing.assert_array_equal(case.raters, label[None])
        assert case.spacing == (1.0, 1.0, 2.5)


def test_single_modality_of_any_name_and_description_at_the_top(tmp_path: Path, rng: np.random.Generator) -> None:
    task(tmp_path, rng, cases=1, modality={"0": "MRI"})
    image = rng.normal(size=SHAPE).astype(np.float32)
    write_nifti(tmp_path / "imagesTr" / "made_001.nii.gz", image, AFFINE)
    case = one(adapter(["T1"], CLASSES), tmp_path)
    assert case.faults == []
    np.testing.assert_array_equal(case.images["T1"].array, image)


def test_classes_of_several_labels(tmp_path: Path, rng: np.random.Generator) -> None:
    ((_, label),) = task(tmp_path, rng, cases=1).values()
    made = adapter(["FLAIR"], ["core", "oedema"], labels={"oedema": [1], "core": [2, 3]})
    case = one(made, tmp_path)
    assert case.faults == []
    np.testing.assert_array_equal(case.raters["1"].array, np.array([0, 2, 1, 1])[label])
    case = one(adapter(["FLAIR"], ["enhancing"], labels={"enhancing": [3]}), tmp_path)
    np.testing.assert_array_equal(case.raters["1"].array, label == 3)


def test_classes_of_any_type_of_numbers(rng: np.random.Generator) -> None:
    array = rng.integers(0, 5, size=SHAPE).astype(np.float32)
    array[0, 0] = 2.5
    new, unknown = classes_of(array, [[3], [1, 2]], [0, 1, 2, 3])
    expected = np.zeros(SHAPE, np.uint8)
    for at in np.ndindex(SHAPE):
        expected[at] = {3.0: 1, 1.0: 2, 2.0: 2}.get(float(array[at]), 0)
    np.testing.assert_array_equal(new, expected)
    assert new.dtype == np.uint8
    assert unknown.tolist() == [2.5, *([4.0] if (array == 4).any() else [])]


def test_orientation_turns_every_channel_and_the_labels(tmp_path: Path, rng: np.random.Generator) -> None:
    ((image, label),) = task(tmp_path, rng, cases=1).values()
    case = one(adapter(["FLAIR", "T1w"], CLASSES, orientation="ALI"), tmp_path)
    np.testing.assert_array_equal(case.images["T1w"].array, image[..., 1].transpose(1, 0, 2)[:, ::-1, ::-1])
    np.testing.assert_array_equal(case.raters["1"].array, label.transpose(1, 0, 2)[:, ::-1, ::-1])
    np.testing.assert_array_equal(case.raters["1"].affine, case.images["FLAIR"].affine)


def test_faults_of_a_case_are_told(tmp_path: Path, rng: np.random.Generator) -> None:
    task(tmp_path, rng, cases=4)
    label = np.zeros(SHAPE, np.uint8)
    label[0] = 7
    write_nifti(tmp_path / "labelsTr" / "made_001.nii.gz", label, AFFINE)
    (tmp_path / "labelsTr" / "made_002.nii.gz").unlink()
    (tmp_path / "imagesTr" / "made_003.nii.gz").write_bytes(b"no image")
    write_nifti(tmp_path / "imagesTr" / "made_004.nii.gz", np.ones((*SHAPE, 2), np.float32), AFFINE)
    read = {f.name: f.read() for f in adapter(["FLAIR"], CLASSES).find(tmp_path)}
    told = {name: [(f.file, f.fault) for f in case.faults] for name, case in read.items()}
    assert told["made_001"] == [("labelsTr/made_001.nii.gz", "labels that dataset.json does not name: 7")]
    assert told["made_002"] == [("labelsTr/made_002.nii.gz", "dataset.json lists the file, and it is not there")]
    assert read["made_002"].lost == ["1"]
    assert told["made_003"][0][0] == "imagesTr/made_003.nii.gz" and "NIfTI" in told["made_003"][0][1]
    ((file, fault),) = told["made_004"]
    assert file == "imagesTr/made_004.nii.gz" and fault.endswith("(6, 5, 4, 2), the task has 3 modalities")


@pytest.mark.parametrize(
    ("contrasts", "classes", "options", "message"),
    [
        (["FLAIR", "PD"], CLASSES, {}, "no modality 'PD'; it has FLAIR, T1w, t1gd"),
        (["FLAIR"], ["edema"], {}, "are not the task's labels: 1 edema, 2 non-enhancing tumor, 3 enhancing tumour"),
        (["FLAIR"], [CLASSES[1], CLASSES[0], CLASSES[2]], {}, "are not the task's labels"),
        (["FLAIR"], ["whole"], {"labels": {"whole": [1, 9]}}, "no label 9"),
    ],
)
def test_declarations_that_do_not_fit_the_task(
    tmp_path: Path, rng: np.random.Generator, contrasts: list[str], classes: list[str], options: dict, message: str
) -> None:
    task(tmp_path, rng, cases=1)
    with pytest.raises(PenumbraError, match=message) as error:
        adapter(contrasts, classes, **options).find(tmp_path)
    assert error.value.file == tmp_path / "dataset.json" and error.value.cure


@pytest.mark.parametrize(
    ("classes", "raters", "options", "message"),
    [
        (["a"], 2, {}, "one rater"),
        (["a", "b"], 1, {"labels": {"a": [1]}}, "option `labels`"),
        (["a", "b"], 1, {"labels": {"a": [1], "b": [1]}}, "option `labels`"),
        (["a", "b"], 1, {"labels": {"a": [1], "b": []}}, "option `labels`"),
        (["a"], 1, {"labels": {"a": [0, 1]}}, "option `labels`"),
        (["a"], 1, {"orientation": "XYZ"}, "axis codes"),
    ],
)
def test_declarations_that_cannot_be(classes: list[str], raters: int, options: dict, message: str) -> None:
    with pytest.raises(PenumbraError, match=message):
        adapter(["FLAIR"], classes, raters, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modality": None}, "not as the Decathlon's are"),
        ({"labels": {"a": "b"}}, "not as the Decathlon's are"),
        ({"training": ["a.nii.gz"]}, "not as the Decathlon's are"),
        ({"training": [{"image": "../a.nii.gz", "label": "b.nii.gz"}]}, "outside its folder"),
        ({"training": [{"image": "a.nii.gz", "label": "/etc/b.nii.gz"}]}, "outside its folder"),
        ({"training": [{"image": "x/a.nii.gz", "label": "b"}, {"image": "y/a.nii", "label": "c"}]}, "'a' twice"),
    ],
)
def test_descriptions_that_cannot_be(tmp_path: Path, rng: np.random.Generator, change: dict, message: str) -> None:
    task(tmp_path, rng, cases=1, **change)
    with pytest.raises(PenumbraError, match=message):
        read_task(tmp_path / "dataset.json")


def test_no_description_several_or_no_json(tmp_path: Path, rng: np.random.Generator) -> None:
    with pytest.raises(PenumbraError, match=r"there is no dataset\.json"):
        adapter(["FLAIR"], CLASSES).find(tmp_path)
    for name in ("TaskA", "TaskB"):
        task(tmp_path / name, rng, cases=1)
    with pytest.raises(PenumbraError, match="several tasks: TaskA"):
        adapter(["FLAIR"], CLASSES).find(tmp_path)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(PenumbraError, match="JSONDecodeError"):
        adapter(["FLAIR"], CLASSES).find(tmp_path)
