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


def few(root: Path, real_data: Path, place: Path, study: str, candidates: list[str]) -> Path:
    """Run a study of the LIDC pack with some candidates, one split, and hardly any training; where its outputs are."""
    archive = real_data / "lidc_idri_slices_160patients.tar"
    if not archive.exists():
        pytest.skip(f"no LIDC pack: {archive}")
    copy_checkout(root, place)
    few_patients(archive, place / "few.tar")
    content = yaml.safe_load((place / f"config/studies/{study}.yaml").read_text())
    content |= {"candidates": candidates, "datasets": [{"name": "lidc", "splits": 1}], "reference": candidates[0]}
    (place / "config/studies/few.yaml").write_text(yaml.safe_dump(content))
    names = ("unet2d", "lidc_unet2d", "probabilistic_unet2d", "phiseg2d")
    network = {name: {"base_filters": 4} for name in names}
    training = {"epochs": 2, "slices_per_epoch": 48}
    (place / "few.yaml").write_text(
        yaml.safe_dump(
            {
                "studies": ["few"],
                "device": "cpu",
                "data": {"lidc": "few.tar"},
                "datasets": {"lidc": {"recipe": {"training": training, "network": network}}},
            }
        )
    )
    done = run_snakemake(place, "--cores", "2", "--configfile", "few.yaml")
    assert done.returncode == 0, done.stdout[-5000:]
    return place / "results/studies/few"


def test_a_few_patients_from_archive_to_figures(root, real_data, tmp_path):
    place = tmp_path / "penumbra"
    candidates = ["conv-staple", "softseg-random"]
    made = few(root, real_data, place, "label-fusion-lidc", candidates)
    cases = pd.read_csv(place / "results/datasets/lidc/cases.tsv", sep="\t", dtype=str)
    assert len(cases) == PATIENTS and set(cases["x"]) == {"128"}
    metrics = pd.read_parquet(made / "metrics/lidc.parquet")
    assert set(metrics["candidate"]) == set(candidates)
    brier = metrics.loc[metrics["metric"] == "brier", "value"]
    assert len(brier) and brier.between(0, 1).all()
    for name in ("tables/table-5-3b.md", "figures/figure-5-3.png", "figures/figure-5-4.pdf", "report.md"):
        assert (made / name).stat().st_size > 500


def test_stochastic_networks_are_held_against_each_reader(root, real_data, tmp_path):
    place = tmp_path / "penumbra"
    candidates = ["low-rank-all", "deterministic-one", "independent-all", "probabilistic-all", "phiseg-one"]
    made = few(root, real_data, place, "stochastic-lidc", candidates)
    metrics = pd.read_parquet(made / "metrics/lidc.parquet")
    wide = metrics[metrics["scope"] == "case"].pivot_table(
        index=["candidate", "case"], columns="metric", values="value"
    )
    assert set(wide.index.unique("candidate")) == set(candidates)
    diversity = wide["sample_diversity"].unstack("candidate")
    assert (diversity["deterministic-one"] == 0).all()
    assert (diversity[["low-rank-all", "independent-all"]] > 0).all(None)
    # Readers are those of the cases, whatever predicts.
    readers = wide["reader_diversity"].unstack("candidate")
    assert (readers.nunique(axis=1) == 1).all() and readers.stack().between(0.05, 0.75).all()
    assert wide["ged"].between(0, 2).all() and wide["reader_dice_annotated"].between(0, 1).all()
    runs = place / "results/runs/lidc"
    samples = {c: len(list((runs / c / "split-0/predictions").glob("samples/*.nii.gz"))) for c in candidates}
    assert samples.pop("deterministic-one") == 0
    assert len(set(samples.values())) == 1 and samples["phiseg-one"] > 0
    table = (made / "tables/table-1.md").read_text()
    assert "SSN low-rank (all sets)" in table and "0.225 ± 0.002" in table
