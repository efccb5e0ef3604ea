"""A few real patients of the LIDC pack through the whole pipeline: archive in, tables and figures out."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.workflow.conftest import copy_checkout, run_snakemake

PATIENTS = 8


def few_patients(archive: Path, out: Path) -> None:
    """Copy the first patients of the pack into a small archive of the same layout."""
    kept: list[str] = []
    with tarfile.open(archive) as pack, tarfile.open(out, "w") as small:
        for member in pack:
            patient = member.name.split("/")[1] if "/" in member.name else ""
            if patient and patient not in kept:
                if len(kept) == PATIENTS:
                    break
                kept.append(patient)
            small.addfile(member, pack.extractfile(member) if member.isfile() else None)


def test_a_few_patients_from_archive_to_figures(root, real_data, tmp_path):
    archive = real_data / "lidc_idri_slices_160patients.tar"
    if not archive.exists():
        pytest.skip(f"no LIDC pack: {archive}")
    place = copy_checkout(root, tmp_path / "penumbra")
    few_patients(archive, place / "few.tar")
    study = yaml.safe_load((place / "config/studies/label-fusion-lidc.yaml").read_text())
    study |= {"candidates": ["conv-staple", "softseg-random"], "datasets": [{"name": "lidc", "splits": 1}]}
    (place / "config/studies/few.yaml").write_text(yaml.safe_dump(study))
    training = {"epochs": 2, "slices_per_epoch": 48}
    (place / "few.yaml").write_text(
        yaml.safe_dump(
            {
                "studies": ["few"],
                "device": "cpu",
                "data": {"lidc": "few.tar"},
                "datasets": {"lidc": {"recipe": {"training": training, "network": {"unet2d": {"base_filters": 4}}}}},
            }
        )
    )
    done = run_snakemake(place, "--cores", "2", "--configfile", "few.yaml")
    assert done.returncode == 0, done.stdout[-5000:]
    cases = pd.read_csv(place / "results/datasets/lidc/cases.tsv", sep="\t", dtype=str)
    assert len(cases) == PATIENTS and set(cases["x"]) == {"128"}
    metrics = pd.read_parquet(place / "results/studies/few/metrics/lidc.parquet")
    assert set(metrics["candidate"]) == set(study["candidates"])
    brier = metrics.loc[metrics["metric"] == "brier", "value"]
    assert len(brier) and brier.between(0, 1).all()
    for name in ("tables/table-5-3b.md", "figures/figure-5-3.png", "figures/figure-5-4.pdf", "report.md"):
        assert (place / "results/studies/few" / name).stat().st_size > 500
