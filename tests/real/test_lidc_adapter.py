"""The adapter ``lidc_slices`` on a few patients of the real pack."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from penumbra.config.models import Dataset, Geometry, Part, Raters, Source
from penumbra.data.case import read_case, read_cases_table
from penumbra.data.download import download
from penumbra.data.ingest import ingest
from penumbra.data.preprocess import preprocess

PATIENTS = 4


@pytest.fixture(scope="module")
def pack(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """A small archive with the pack's first patients, and its pictures by name."""
    archive = real_data / "lidc_idri_slices_160patients.tar"
    if not archive.is_file():
        pytest.skip(f"no {archive.name} in {real_data}; set PENUMBRA_DATA to a folder that has it")
    path = tmp_path_factory.mktemp("lidc") / "few.tar"
    pictures: dict[str, np.ndarray] = {}
    patients: set[str] = set()
    with tarfile.open(archive) as whole, tarfile.open(path, "w") as few:
        for member in whole:
            patient = member.name.split("/")[1]
            if patient not in patients and len(patients) == PATIENTS:
                break
            patients.add(patient)
            stream = whole.extractfile(member)
            assert stream is not None
            content = stream.read()
            few.addfile(member, io.BytesIO(content))
            pictures[member.name] = np.asarray(Image.open(io.BytesIO(content)))
    return path, pictures


def test_few_patients_from_archive_to_prepared_slices(pack: tuple[Path, dict[str, np.ndarray]], tmp_path: Path) -> None:
    path, pictures = pack
    raw = download(Source(kind="archive", path=str(path)), "lidc", tmp_path / "raw", 1)
    assert len((raw / "manifest.tsv").read_text().splitlines()) == 1 + len(pictures)
    dataset = Dataset(
        contrasts=["CT"],
        classes=["nodule"],
        raters=Raters(count=4, identified=False),
        geometry=Geometry(crop=(128, 128)),
    )
    adapter = Part(name="lidc_slices")
    ingest(raw, tmp_path / "cases", tmp_path / "cases.tsv", tmp_path / "faults.tsv", dataset, adapter, 1, "lidc")
    rows = read_cases_table(tmp_path / "cases.tsv")
    assert len(rows) == PATIENTS

    for row in rows:
        case = read_case(tmp_path / "cases" / row.case)
        images = {n: p for n, p in pictures.items() if f"/{row.case}/" in n and "/images/" in n}
        assert case.image.shape == (1, 128, 128, len(images))
        assert case.raters.shape == (4, 128, 128, len(images))
        assert case.spacing == (1.0, 1.0, 1.0)

        def position(name: str) -> tuple[int, int]:
            nodule, _, slice_ = name.split("/")[2:5]
            return int(nodule.split("-")[1]), int(slice_.removeprefix("slice-").removesuffix(".png"))

        for z, name in enumerate(sorted(images, key=position)):
            np.testing.assert_array_equal(case.image[0, :, :, z].T[::-1], images[name])
            drawn = [pictures[name.replace("/images/", f"/mask-{r}/")] // 255 for r in range(4)]
            found = [case.raters[r, :, :, z].T[::-1] for r in range(4)]
            assert sorted(np.ascontiguousarray(d).tobytes() for d in drawn) == sorted(
                np.ascontiguousarray(f).tobytes() for f in found
            )

    total = sum(r.shape[2] for r in rows)
    preprocess(tmp_path / "cases", tmp_path / "cases.tsv", tmp_path / "prepared", dataset.geometry)
    prepared = np.load(tmp_path / "prepared" / "images.npy", mmap_mode="r")
    assert prepared.shape == (total, 1, 128, 128)
    np.testing.assert_allclose(prepared.mean(axis=(1, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(prepared.std(axis=(1, 2, 3)), 1, atol=1e-3)
