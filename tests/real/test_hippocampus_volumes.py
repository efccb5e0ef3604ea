"""The real hippocampus task as whole volumes: its crop holds every labelled voxel, and the way back restores it."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from penumbra.config.load import Configuration, read_yaml
from penumbra.data.geometry import case_geometry, to_native, to_prepared
from tests.conftest import ROOT


def test_the_crop_loses_no_label(real_data: Path) -> None:
    archive = real_data / "Task04_Hippocampus.tar"
    if not archive.is_file():
        pytest.skip(f"no {archive.name} in {real_data}; set PENUMBRA_DATA to a folder that has it")
    settings = read_yaml(ROOT / "config" / "config.yaml")
    grid = Configuration.load(settings, ROOT / "config").dataset("hippocampus_volumes").geometry
    seen = 0
    with tarfile.open(archive) as whole:
        for member in whole:
            if "/labelsTr/" not in member.name or Path(member.name).name.startswith("."):
                continue
            stream = whole.extractfile(member)
            assert stream is not None
            labels = np.asanyarray(nib.Nifti1Image.from_bytes(gzip.decompress(stream.read())).dataobj)
            maps = np.stack([labels == k for k in (1, 2)]).astype(np.float32)
            geometry = case_geometry(labels.shape, (1.0, 1.0, 1.0), grid.spacing, grid.crop)
            prepared = to_prepared(maps, geometry, grid.label_order)
            assert prepared.shape == (2, *grid.crop) and prepared.sum() == maps.sum(), member.name
            np.testing.assert_array_equal(to_native(prepared, geometry), maps)
            seen += 1
    assert seen == 260
