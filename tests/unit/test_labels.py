"""Fusing a whole data set: files, order of rows, number types, unidentified raters, faults."""

import nibabel
import numpy as np
import pytest

from penumbra import files, parts
from penumbra.config.models import Dataset
from penumbra.data import labels
from penumbra.data.case import Case, CaseRow, read_class_map, read_nifti, write_case, write_cases_table
from penumbra.data.geometry import read_geometries
from penumbra.data.labels import fuse_case, fuse_dataset
from penumbra.data.preprocess import prepare_labels, preprocess
from penumbra.errors import PenumbraError
from penumbra.fusion.staple import staple

SHAPES = {"b2": (20, 18, 3), "010": (16, 16, 2), "a": (14, 21, 4)}
SPACING = (0.5, 0.5, 5.0)


class Study:
    """A small data set on disk, ingested and prepared."""

    def __init__(self, folder, rng, *, raters=3, classes=2, spacing=None, identified=True, crop=(16, 16)):
        self.folder, self.rng = folder, rng
        self.dataset = Dataset.model_validate(
            {
                "contrasts": ["t1"],
                "classes": ["grey", "white", "other"][:classes],
                "raters": {"count": raters, "identified": identified},
                "geometry": {"crop": crop, "spacing": spacing},
            }
        )
        self.raters = {name: self.annotate(shape, raters, classes) for name, shape in SHAPES.items()}
        self.write()

    def annotate(self, shape, raters, classes):
        distance = np.hypot(*(np.mgrid[: shape[0], : shape[1]] - np.array(shape[:2])[:, None, None] / 2))
        masks = np.zeros((raters, *shape), dtype=np.uint8)
        for rater, z in np.ndindex(raters, shape[2]):
            for k, radius in enumerate(sorted(self.rng.uniform(1.5, 7, classes), reverse=True), start=1):
                masks[rater, ..., z][distance < radius] = k
        return masks

    def write(self, cases=None):
        rows = []
        for name in cases or self.raters:
            image = self.rng.normal(size=(1, *SHAPES[name])).astype(np.float32)
            case = Case(name, "here", image, self.raters[name], np.diag([*SPACING, 1.0]))
            write_case(self.folder / "cases" / name, case)
            rows.append(CaseRow(name, "here", SHAPES[name], SPACING))
        write_cases_table(self.folder / "cases.tsv", rows)
        preprocess(self.folder / "cases", self.folder / "cases.tsv", self.folder / "prepared", self.dataset.geometry)

    def fuse(self, fusion, out="labels"):
        cases, table, prepared = (self.folder / name for name in ("cases", "cases.tsv", "prepared"))
        fuse_dataset(cases, table, prepared, self.folder / out, self.dataset, fusion)
        return self.folder / out

    def slices(self):
        lines = (self.folder / "prepared" / "slices.csv").read_text().splitlines()[1:]
        return [(line.split(",")[0], int(line.split(",")[1])) for line in lines]


@pytest.fixture
def make(tmp_path, rng):
    return lambda **options: Study(tmp_path, rng, **options)


@pytest.mark.parametrize("fusion", parts.names("fusion"))
@pytest.mark.parametrize("spacing", [None, (0.3, 0.4)])
def test_native_and_prepared_hold_the_fusion_row_by_row(make, fusion, spacing):
    study = make(spacing=spacing)
    out = study.fuse(fusion)
    fuse = parts.build("fusion", fusion)
    geometries = read_geometries(study.folder / "prepared" / "geometry.json")
    variants = 3 if fusion == "random_rater" else 1
    prepared = np.load(out / "prepared.npy")
    images = np.load(study.folder / "prepared" / "images.npy", mmap_mode="r")
    assert prepared.shape == (len(images), variants, 2, 16, 16) == (len(study.slices()), variants, 2, 16, 16)
    for row, (name, z) in enumerate(study.slices()):
        maps = fuse(study.raters[name], 2)
        np.testing.assert_array_equal(prepared[row], prepare_labels(maps, geometries[name], 1)[z])
    for name in SHAPES:
        for variant, expected in enumerate(fuse(study.raters[name], 2), start=1):
            file = f"{name}.nii.gz" if variants == 1 else f"{name}_variant-{variant}.nii.gz"
            np.testing.assert_array_equal(read_class_map(out / file), expected)
            stored, affine = read_nifti(out / file)
            assert stored.shape == (*SHAPES[name], 2)
            assert stored.dtype == (np.uint8 if np.isin(expected, (0, 1)).all() else np.float32)
            np.testing.assert_allclose(affine, np.diag([*SPACING, 1.0]))
    assert len(list(out.iterdir())) == 3 * variants + 1
    assert prepared.dtype == (np.uint8 if np.isin(prepared, (0, 1)).all() else np.float32)
    if fusion != "soft_staple":
        assert (prepared.dtype == np.uint8) is (spacing is None and fusion != "average")


def test_same_input_same_bytes(make):
    study = make()
    digests = []
    for out in ("one", "two"):
        digests.append({p.name: files.sha256(p) for p in study.fuse("staple", out).iterdir()})
    assert digests[0] == digests[1]


def test_unidentified_raters_are_fused_slice_by_slice(make):
    study = make(classes=1, raters=4, identified=False)
    out = study.fuse("staple")
    for name, raters in study.raters.items():
        expected = [np.round(staple(raters[..., z]).probability, 6) >= 0.5 for z in range(raters.shape[-1])]
        np.testing.assert_array_equal(read_class_map(out / f"{name}.nii.gz")[0], np.stack(expected, axis=-1))


def test_identification_matters_to_staple_and_to_nothing_else(rng):
    raters = np.zeros((3, 8, 8, 2), dtype=np.uint8)
    raters[:, :4] = 1
    raters[0, 4:6, :, 0] = 1
    raters[2, :, :, 1] = rng.random((8, 8)) < 0.5
    for fusion in parts.names("fusion"):
        fuse = (
            parts.build("fusion", fusion)
            if fusion != "staple"
            else parts.build("fusion", "staple", {"binarise": False})
        )
        whole, single = (fuse_case(fuse, raters, 1, identified=known) for known in (True, False))
        assert np.array_equal(whole, single) is ("staple" not in fusion)


def test_raters_without_annotation_and_absent_classes_are_allowed(make, caplog):
    study = make(classes=3)
    for masks in study.raters.values():
        masks[masks == 3] = 0
        masks[1] = 0
    study.write()
    out = study.fuse("majority")
    assert "'other'" in caplog.text and "'grey'" not in caplog.text
    prepared = np.load(out / "prepared.npy")
    assert not prepared[:, :, 2].any() and prepared[:, :, 0].any()


def test_faults_are_told_and_leave_nothing_behind(make):
    study = make()
    with pytest.raises(PenumbraError, match="no fusion named 'mean'"):
        study.fuse("mean")
    study.raters["a"][0, 3, 3, 1] = 7
    study.write()
    with pytest.raises(PenumbraError, match="label 7") as caught:
        study.fuse("staple")
    assert caught.value.case == "a" and caught.value.cure
    study.raters["a"][0, 3, 3, 1] = 0
    study.raters["010"] = study.raters["010"][:2]
    study.write()
    (study.folder / "cases" / "010" / "rater-3.nii.gz").unlink()
    with pytest.raises(PenumbraError, match="shape") as caught:
        study.fuse("random_rater")
    assert caught.value.case == "010"
    assert {p.name for p in study.folder.iterdir()} == {"cases", "cases.tsv", "prepared"}


def test_prepared_images_of_other_cases_are_refused(make):
    study = make()
    text = (study.folder / "cases.tsv").read_text()
    (study.folder / "cases.tsv").write_text("".join(line for line in text.splitlines(True) if line[:2] != "b2"))
    with pytest.raises(PenumbraError, match="differ in 1 case") as caught:
        study.fuse("average")
    assert caught.value.case == "b2"


@pytest.mark.parametrize("fusion", ["average", "staple", "random_rater"])
@pytest.mark.parametrize("spacing", [None, (0.3, 0.4), (0.3, 0.4, 2.0)])
def test_volumes_have_one_row_a_case(make, fusion, spacing, monkeypatch):
    study = make(spacing=spacing, crop=(16, 16, 8))
    monkeypatch.setattr(labels, "_VALUES_AT_ONCE", 1000)
    out = study.fuse(fusion)
    prepared, fuse = np.load(out / "prepared.npy"), parts.build("fusion", fusion)
    assert study.slices() == [(name, 0) for name in SHAPES]
    geometries = read_geometries(study.folder / "prepared" / "geometry.json")
    assert prepared.shape == (3, 3 if fusion == "random_rater" else 1, 2, 16, 16, 8)
    for row, name in enumerate(SHAPES):
        expected = prepare_labels(fuse(study.raters[name], 2), geometries[name], 1)
        np.testing.assert_array_equal(prepared[row], expected[0])
        stored = nibabel.load(next(out.glob(f"{name}*.nii.gz")))
        assert stored.shape == (*SHAPES[name], 2)
