"""The adapter ``decathlon`` on a few cases of the real hippocampus task."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from penumbra.config.load import Configuration, read_yaml
from penumbra.config.models import Dataset
from penumbra.data.case import read_case, read_cases_table
from penumbra.data.download import download
from penumbra.data.ingest import ingest
from penumbra.data.labels import fuse_dataset
from penumbra.data.preprocess import preprocess
from tests.conftest import ROOT

CASES = 4


@pytest.fixture(scope="module")
def few(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """A small archive with the task's first cases, and its arrays by file."""
    archive = real_data / "Task04_Hippocampus.tar"
    if not archive.is_file():
        pytest.skip(f"no {archive.name} in {real_data}; set PENUMBRA_DATA to a folder that has it")
    path = tmp_path_factory.mktemp("hippocampus") / "few.tar"
    arrays: dict[str, np.ndarray] = {}
    top = "Task04_Hippocampus"

    def content(whole: tarfile.TarFile, name: str) -> bytes:
        stream = whole.extractfile(name)
        assert stream is not None
        return stream.read()

    with tarfile.open(archive) as whole, tarfile.open(path, "w") as packed:
        description = json.loads(content(whole, f"{top}/dataset.json"))
        description["training"] = description["training"][:CASES]
        members = {f"{top}/dataset.json": json.dumps(description).encode()}
        for entry in description["training"]:
            for file in entry.values():
                name = f"{top}/{file.removeprefix('./')}"
                members[name] = content(whole, name)
                arrays[file.removeprefix("./")] = np.asanyarray(
                    nib.Nifti1Image.from_bytes(gzip.decompress(members[name])).dataobj
                )
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
    return path, arrays


def test_few_cases_from_archive_to_labels(few: tuple[Path, dict[str, np.ndarray]], tmp_path: Path) -> None:
    path, arrays = few
    settings = {**read_yaml(ROOT / "config" / "config.yaml"), "data": {"hippocampus": str(path)}}
    file = Configuration.load(settings, ROOT / "config").dataset("hippocampus")
    dataset = Dataset.model_validate(file.model_dump(include=set(Dataset.model_fields)))
    raw = download(file.source, "hippocampus", tmp_path / "raw", 1)
    cases, table = tmp_path / "cases", tmp_path / "cases.tsv"
    ingest(raw, cases, table, tmp_path / "faults.tsv", dataset, file.adapter, 1, "hippocampus")
    rows = read_cases_table(table)
    assert len(rows) == CASES

    for row in rows:
        case = read_case(cases / row.case)
        np.testing.assert_array_equal(case.image[0], arrays[f"imagesTr/{row.case}.nii.gz"])
        np.testing.assert_array_equal(case.raters[0], arrays[f"labelsTr/{row.case}.nii.gz"])
        assert set(np.unique(case.raters)) == {0, 1, 2}
        assert case.spacing == (1.0, 1.0, 1.0)
        assert all(n <= m for n, m in zip(row.shape[:2], dataset.geometry.crop, strict=True))
        along = [np.argwhere(case.raters[0] == k)[:, 1].mean() for k in (1, 2)]
        assert along[0] > along[1]  # the second axis points to anterior

    preprocess(cases, table, tmp_path / "prepared", dataset.geometry)
    slices = sum(r.shape[2] for r in rows)
    assert np.load(tmp_path / "prepared" / "images.npy", mmap_mode="r").shape == (slices, 1, 48, 64)
    fuse_dataset(cases, table, tmp_path / "prepared", tmp_path / "labels", dataset, dataset.evaluation.hard_reference)
    labels = np.load(tmp_path / "labels" / "prepared.npy", mmap_mode="r")
    assert labels.shape == (slices, 1, 2, 48, 64)
    assert labels.sum() == sum((a > 0).sum() for f, a in arrays.items() if f.startswith("labelsTr"))
