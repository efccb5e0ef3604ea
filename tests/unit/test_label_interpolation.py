"""Labels resampled by another interpolation than the data set's."""

import numpy as np
import pytest

from penumbra import files, parts
from penumbra.data.geometry import read_geometries
from penumbra.data.labels import resample_labels
from penumbra.data.preprocess import prepare_labels
from penumbra.errors import PenumbraError

from .test_labels import Study


@pytest.mark.parametrize("fusion", ["average", "staple", "random_rater"])
@pytest.mark.parametrize(("interpolation", "order"), [("nearest", 0), ("linear", 1), ("cubic", 3)])
def test_rows_are_the_fusion_at_that_order(tmp_path, rng, fusion, interpolation, order):
    study = Study(tmp_path, rng, spacing=(0.3, 0.4))
    fused = study.fuse(fusion)
    resample_labels(fused, tmp_path / "prepared", tmp_path / "out", interpolation)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["prepared.npy"]
    found, fuse = np.load(tmp_path / "out" / "prepared.npy"), parts.build("fusion", fusion)
    geometries = read_geometries(tmp_path / "prepared" / "geometry.json")
    for row, (name, z) in enumerate(study.slices()):
        np.testing.assert_array_equal(
            found[row], prepare_labels(fuse(study.raters[name], 2), geometries[name], order)[z]
        )
    same = files.sha256(tmp_path / "out" / "prepared.npy") == files.sha256(fused / "prepared.npy")
    assert same is (order == 1)
    assert (found.dtype == np.uint8) is (order == 0 and fusion != "average")


def test_volumes_are_resampled_whole(tmp_path, rng):
    study = Study(tmp_path, rng, spacing=(0.3, 0.4, 2.0), crop=(16, 16, 8))
    fused = study.fuse("average")
    resample_labels(fused, tmp_path / "prepared", tmp_path / "out", "cubic")
    geometries, fuse = read_geometries(tmp_path / "prepared" / "geometry.json"), parts.build("fusion", "average")
    for row, (name, _) in zip(np.load(tmp_path / "out" / "prepared.npy"), study.slices(), strict=True):
        np.testing.assert_array_equal(row, prepare_labels(fuse(study.raters[name], 2), geometries[name], 3)[0])


def test_a_missing_case_is_told(tmp_path, rng):
    study = Study(tmp_path, rng)
    (study.fuse("average") / "b2.nii.gz").unlink()
    with pytest.raises(PenumbraError, match="no label of a prepared case") as error:
        resample_labels(tmp_path / "labels", tmp_path / "prepared", tmp_path / "out", "cubic")
    assert error.value.case == "b2" and not (tmp_path / "out").exists()
