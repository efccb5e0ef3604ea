"""Stochastic networks on volumes, whole: trained on patches, predicted in windows, drawn, manipulated, tabulated, drawn as
figures; on a tiny phantom of a tumour, with DeepMedic at its full width."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml

from tests.workflow.conftest import copy_checkout, run_snakemake

CANDIDATES = ["deepmedic", "deepmedic-drawn", "low-rank-30", "low-rank-30-edema-0"]
STUDY = Path("results/studies/tiny")
RUNS = Path("results/runs/phantom_tumor")


@pytest.fixture(scope="module")
def finished(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = copy_checkout(root, tmp_path_factory.mktemp("volumes") / "penumbra")
    config = place / "config"
    study = yaml.safe_load((config / "studies/stochastic-tumours.yaml").read_text())
    study |= {"candidates": CANDIDATES, "datasets": [{"name": "phantom_tumor", "splits": 1}]}
    for exhibit in study["figures"].values():
        exhibit["datasets"] = ["phantom_tumor"]
        exhibit["options"] |= {"rows": 1} if exhibit["part"] == "samples" else {}
    (config / "studies/tiny.yaml").write_text(json.dumps(study))
    data = yaml.safe_load((config / "datasets/phantom_tumor.yaml").read_text())
    data["source"]["options"] = {"cases": 5, "slices": 10, "radius": [12.0, 14.0]}
    data["geometry"] = {"crop": [40, 40, 10], "normalisation": "per_contrast"}
    data["evaluation"]["readers"] = True
    window = {"window": [20, 40, 10], "windows_at_once": 1}
    data["recipe"] = {
        "training": {
            "epochs": 2,
            "batch_size": 2,
            "slices_per_epoch": 4,
            "patches": {"size": [10, 10, 5], "of_each": 2},
        },
        "predictor": {
            "single_pass": window,
            "independent_draws": window | {"samples": 3},
            "distribution": window | {"samples": 3},
        },
    }
    (config / "datasets/phantom_tumor.yaml").write_text(json.dumps(data))
    done = run_snakemake(place, "--cores", "2", "--config", "studies=[tiny]", "device=cpu")
    assert done.returncode == 0, done.stdout[-5000:]
    return place


def draws(place: Path, candidate: str) -> dict[str, np.ndarray]:
    folder = place / RUNS / candidate / "split-0/predictions/samples"
    return {file.name: np.asarray(nib.load(file).dataobj) for file in sorted(folder.glob("*.nii.gz"))}


def test_one_training_serves_all_that_only_predict_otherwise(finished):
    trained = sorted(file.parts[-4] for file in (finished / RUNS).glob("*/split-0/member-1/weights.safetensors"))
    assert trained == ["deepmedic", "low-rank-30"]
    assert sorted(folder.name for folder in (finished / RUNS).iterdir()) == sorted(CANDIDATES)


def test_whole_volumes_are_drawn_and_one_class_can_be_held_still(finished):
    """Without the part of one class in the covariance the same random numbers give other segmentations."""
    free, held = draws(finished, "low-rank-30"), draws(finished, "low-rank-30-edema-0")
    assert list(free) == list(held) and len(free) >= 1
    for case, samples in free.items():
        assert samples.shape[3] == 3 and samples.max() <= 3
        assert not np.array_equal(samples, held[case])
        assert (samples[..., 0] != samples[..., 1]).any()
    maps = [
        np.asarray(nib.load(finished / RUNS / name / f"split-0/predictions/{next(iter(free))}").dataobj)
        for name in ("low-rank-30", "low-rank-30-edema-0")
    ]
    np.testing.assert_array_equal(*maps)


def test_the_table_has_all_classes_together_and_each_alone(finished):
    metrics = pd.read_parquet(finished / STUDY / "metrics/phantom_tumor.parquet")
    case = metrics[(metrics["scope"] == "case") & (metrics["candidate"] == "low-rank-30")]
    assert set(case[case["metric"] == "dice"]["target"]) == {"necrosis", "enhancing", "oedema"}
    assert set(case[case["metric"] == "dice_foreground"]["target"]) == {"image"}
    table = (finished / STUDY / "tables/table-2.md").read_text()
    assert "DSC of all classes" in table and "SSN low-rank 30 mm, oedema x 0" in table


def test_figures_are_drawn_from_the_samples(finished):
    for name in ("figure-4", "figure-5", "figure-a1", "figure-a2"):
        marks = pd.read_csv(finished / STUDY / f"figures/{name}.csv")
        drawn = marks[marks["candidate"].isin(["low-rank-30", "deepmedic-drawn"])]
        assert len(drawn) and (drawn["status"] == "ok").all(), name
    entropy = pd.read_csv(finished / STUDY / "figures/figure-a1.csv").query("panel == 'Entropy'")
    assert len(entropy) == 2 and (entropy["value"] > 0).all()
