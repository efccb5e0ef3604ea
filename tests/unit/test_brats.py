from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penumbra import parts
from penumbra.config.models import Dataset, Geometry, Part, Raters, Source
from penumbra.data.case import read_case, read_cases_table, write_nifti
from penumbra.data.download import download
from penumbra.data.ingest import ingest
from penumbra.errors import PenumbraError

SHAPE = (6, 5, 4)
AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])  # as BraTS' files have it, to the left and the back
SUFFIXES = ("flair", "t1", "t1ce", "t2")
HIGH = ["BraTS19_2013_2_1", "BraTS19_2013_10_1", "BraTS19_CBICA_AAB_1", "BraTS19_TCIA01_147_1", "BraTS19_TMC_12866_1"]
LOW = ["BraTS19_2013_0_1", "BraTS19_TCIA09_141_1"]

Arrays = dict[str, dict[str, np.ndarray]]


def subject(place: Path, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One subject's five files; its arrays by suffix."""
    arrays = {s: rng.integers(-100, 2000, size=SHAPE).astype(np.int16) for s in SUFFIXES}
    arrays["seg"] = rng.choice(np.array([0, 1, 2, 4], np.uint8), size=SHAPE)
    for suffix, array in arrays.items():
        write_nifti(place / f"{place.name}_{suffix}.nii.gz", array, AFFINE)
    return arrays


def training_data(top: Path, rng: np.random.Generator) -> Arrays:
    """The layout of the archive, its tables among it."""
    made = {name: subject(top / "HGG" / name, rng) for name in HIGH}
    made |= {name: subject(top / "LGG" / name, rng) for name in LOW}
    (top / "name_mapping.csv").write_text("Grade,BraTS_2019_subject_ID\n")
    (top / ".hidden").mkdir()
    return made


def adapter(
    contrasts: list[str] | None = None,
    classes: list[str] | None = None,
    raters: int = 1,
    seed: int = 1,
    dataset: str = "brats",
    **options: Any,
):  # type: ignore[no-untyped-def]
    context = {"contrasts": contrasts or ["FLAIR"], "classes": classes or ["tumor_core"], "raters": raters}
    return parts.build("adapter", "brats", options, **context, seed=seed, dataset=dataset)


def names(found) -> list[str]:  # type: ignore[no-untyped-def]
    return sorted(f.name for f in found)


def test_folder_to_cases(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = training_data(tmp_path / "mine" / "MICCAI_BraTS_2019_Data_Training", rng)
    raw = download(Source(kind="folder", path=str(tmp_path / "mine")), "brats", tmp_path / "out" / "raw", 1)
    dataset = Dataset(
        contrasts=["T1Gd", "FLAIR", "T2", "T1"],
        classes=["tumor_core"],
        raters=Raters(count=1),
        geometry=Geometry(crop=(8, 8)),
    )
    out = tmp_path / "out"
    ingest(raw, out / "cases", out / "cases.tsv", out / "faults.tsv", dataset, Part(name="brats"), 1, "brats")
    table = read_cases_table(out / "cases.tsv")
    assert [r.case for r in table] == sorted(HIGH) and {r.centre for r in table} == {"unknown"}
    for name in HIGH:
        case = read_case(out / "cases" / name)
        np.testing.assert_array_equal(case.image, [arrays[name][s] for s in ("t1ce", "flair", "t2", "t1")])
        np.testing.assert_array_equal(case.raters, np.isin(arrays[name]["seg"], (1, 4))[None])
        np.testing.assert_array_equal(case.affine, AFFINE)


@pytest.mark.parametrize(
    ("classes", "labels"),
    [
        (["whole_tumor"], {"whole_tumor": [1, 2, 4]}),
        (["oedema", "enhancing", "necrosis"], {"necrosis": [1], "enhancing": [4], "oedema": [2]}),
        (["core", "oedema"], {"oedema": [2], "core": [4, 1]}),
    ],
)
def test_classes_of_any_labels(
    tmp_path: Path, rng: np.random.Generator, classes: list[str], labels: dict[str, list[int]]
) -> None:
    seg = subject(tmp_path / "HGG" / "a", rng)["seg"]
    (found,) = adapter(classes=classes, labels=labels).find(tmp_path)
    case = found.read()
    assert case.faults == []
    for at in np.ndindex(SHAPE):
        of = [k for k, name in enumerate(classes, start=1) if int(seg[at]) in labels[name]]
        assert case.raters["1"].array[at] == (of[0] if of else 0)


def test_grades_and_the_layout_without_them(tmp_path: Path, rng: np.random.Generator) -> None:
    training_data(tmp_path / "archive", rng)
    assert names(adapter().find(tmp_path)) == sorted(HIGH)
    assert names(adapter(grades=["LGG"]).find(tmp_path / "archive")) == sorted(LOW)
    assert names(adapter(grades=["LGG", "HGG", "LGG"]).find(tmp_path)) == sorted(HIGH + LOW)
    for place in (tmp_path / "archive" / "LGG", tmp_path / "flat"):
        subject(tmp_path / "flat" / "years" / "BraTS20_Training_001", rng)
        (tmp_path / "flat" / "years" / "BraTS20_Training_002").mkdir(exist_ok=True)
        wanted = LOW if place.name == "LGG" else ["BraTS20_Training_001", "BraTS20_Training_002"]
        assert names(adapter().find(place)) == sorted(wanted)


def test_uncompressed_files_and_orientation(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = subject(tmp_path / "a", rng)
    for path in list((tmp_path / "a").iterdir()):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    (found,) = adapter(["T1", "t1ce"], orientation="RAS").find(tmp_path)
    case = found.read()
    assert case.faults == [] and case.images["T1"].file == "a/a_t1.nii"
    np.testing.assert_array_equal(case.images["t1ce"].array, arrays["t1ce"][::-1, ::-1])
    np.testing.assert_array_equal(case.raters["1"].array, np.isin(arrays["seg"], (1, 4))[::-1, ::-1])
    np.testing.assert_array_equal(case.raters["1"].affine, case.images["T1"].affine)
    assert np.diag(case.images["T1"].affine).tolist() == [1, 1, 1, 1]


def test_named_subjects_only_and_those_that_are_missing_are_faults(tmp_path: Path, rng: np.random.Generator) -> None:
    training_data(tmp_path, rng)
    wanted = [HIGH[3], "BraTS19_gone_1", HIGH[0], LOW[0]]
    found = {f.name: f.read() for f in adapter(subjects=wanted).find(tmp_path)}
    assert sorted(found) == sorted(wanted)
    assert not found[HIGH[3]].faults and not found[HIGH[0]].faults
    for name in ("BraTS19_gone_1", LOW[0]):
        ((fault,),) = (found[name].faults,)
        assert fault.case == name and fault.fault == "the subject is chosen, and has no folder among HGG" and fault.cure
    found = {f.name: f.read() for f in adapter(subjects=wanted, grades=["HGG", "LGG"]).find(tmp_path)}
    assert found["BraTS19_gone_1"].faults[0].fault == "the subject is chosen, and has no folder"
    assert not found[LOW[0]].faults


def test_draws_are_reproducible_nested_and_every_subject_is_as_likely(tmp_path: Path, rng: np.random.Generator) -> None:
    training_data(tmp_path, rng)
    two = names(adapter(draw=2).find(tmp_path))
    assert two == names(adapter(draw=2).find(tmp_path)) and len(two) == 2
    assert set(two) < set(names(adapter(draw=3).find(tmp_path)))
    assert names(adapter(draw=len(HIGH)).find(tmp_path)) == sorted(HIGH)
    assert names(adapter(draw=1, subjects=HIGH[:2]).find(tmp_path))[0] in HIGH[:2]
    count = dict.fromkeys(HIGH, 0)
    for seed in range(400):
        for name in names(adapter(draw=2, seed=seed).find(tmp_path)):
            count[name] += 1
    assert all(abs(n - 160) < 5 * (400 * 0.4 * 0.6) ** 0.5 for n in count.values()), count
    assert {tuple(names(adapter(draw=2, dataset=str(d)).find(tmp_path))) for d in range(20)} != {tuple(two)}


def test_faults_of_all_cases_are_told_with_file_and_cure(tmp_path: Path, rng: np.random.Generator) -> None:
    training_data(tmp_path, rng)
    first, second, third, fourth, _ = (tmp_path / "HGG" / name for name in HIGH)
    (first / f"{first.name}_seg.nii.gz").unlink()
    (first / f"{first.name}_t2.nii.gz").unlink()
    (second / f"{second.name}_t1.nii.gz").write_bytes(b"no image")
    wrong = np.zeros(SHAPE, np.uint8)
    wrong[0, 0, :2] = 3, 9
    write_nifti(third / f"{third.name}_seg.nii.gz", wrong, AFFINE)
    write_nifti(fourth / f"{fourth.name}_t2.nii.gz", rng.normal(size=(6, 5, 3)).astype(np.float32), AFFINE)
    dataset = Dataset(
        contrasts=["FLAIR", "T1", "T2"], classes=["tumor_core"], raters=Raters(count=1), geometry=Geometry(crop=(8, 8))
    )
    out = tmp_path / "out"
    with pytest.raises(PenumbraError, match="5 faults in 4 cases"):
        ingest(tmp_path, out / "cases", out / "cases.tsv", out / "faults.tsv", dataset, Part(name="brats"), 1, "brats")
    assert not (out / "cases").exists()
    rows = [line.split("\t") for line in (out / "faults.tsv").read_text().splitlines()[1:]]
    told = {(case, Path(file).name.removeprefix(case).split(".")[0]): fault for case, file, fault, cure in rows if cure}
    assert told[first.name, "_seg"] == "the subject has no file _seg"
    assert told[first.name, "_t2"] == "the subject has no file _t2"
    assert "cannot read it as NIfTI" in told[second.name, "_t1"]
    assert told[third.name, "_seg"] == "labels that BraTS does not have: 3, 9"
    assert "the shape (6, 5, 3) is not (6, 5, 4)" in told[fourth.name, "_t2"]


def test_layouts_that_cannot_be_understood(tmp_path: Path, rng: np.random.Generator) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(PenumbraError, match="neither HGG nor LGG, nor a subject's folder") as error:
        adapter().find(tmp_path)
    assert error.value.cure
    subject(tmp_path / "2018" / "HGG" / "a", rng)
    with pytest.raises(PenumbraError, match="there is no folder LGG"):
        adapter(grades=["LGG"]).find(tmp_path)
    subject(tmp_path / "2019" / "HGG" / "a", rng)
    with pytest.raises(PenumbraError, match="in several places: 2018, 2019"):
        adapter().find(tmp_path)
    with pytest.raises(PenumbraError, match="2 subjects are to be drawn, and there are 1"):
        adapter(draw=2).find(tmp_path / "2019")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"raters": 2}, "one rater"),
        ({"contrasts": ["FLAIR", "PD"]}, "no contrast PD"),
        ({"classes": ["whole_tumor"]}, "option `labels`"),
        ({"labels": {"tumor_core": [1, 3]}}, "no label 3"),
        ({"classes": ["a", "b"], "labels": {"a": [1], "b": [1, 4]}}, "option `labels`"),
        ({"labels": {"tumor_core": [1], "background": [2]}}, "option `labels`"),
        ({"subjects": ["a", "b", "a"]}, "names twice: a"),
        ({"orientation": "XYZ"}, "axis codes"),
    ],
)
def test_declarations_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PenumbraError, match=message) as error:
        adapter(**changes)
    assert error.value.cure
