"""Chapter 4 on a tiny phantom, whole: slices and volumes, two presets, resampled labels, lesions, claims."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from tests.workflow.conftest import copy_checkout, run_snakemake

CANDIDATES = ["hard-sig-dice", "soft-relu-dice", "soft-relu-wing", "soft-relu-wing-cubic"]
DATASETS = ["phantom_lesions", "phantom_lesions.sound", "volumes"]
STUDY = Path("results/studies/tiny")


@pytest.fixture(scope="module")
def finished(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = copy_checkout(root, tmp_path_factory.mktemp("softseg") / "penumbra")
    config = place / "config"
    study = yaml.safe_load((config / "studies/softseg-phantom.yaml").read_text())
    presets = {"part": "presets", "title": "Both presets", "datasets": DATASETS[:2]}
    study |= {
        "candidates": CANDIDATES,
        "claims": "softseg_thesis",
        "datasets": [
            {"name": "phantom_lesions", "splits": 2},
            {"name": "phantom_lesions", "splits": 2, "preset": "sound"},
            {"name": "volumes", "splits": 1},
        ],
        "tables": study["tables"] | {"presets": presets, "truth": {"part": "known_truth", "title": "Known truth"}},
        "figures": study["figures"]
        | {
            "scorecard": {"part": "scorecard", "title": "Claims"},
            "truth": {"part": "known_truth", "title": "Known truth"},
        },
    }
    study["figures"]["figure-4-5"]["options"]["splits"] = [0, 1]
    (config / "studies/tiny.yaml").write_text(yaml.safe_dump(study))
    data = yaml.safe_load((config / "datasets/phantom_lesions.yaml").read_text())
    data["source"]["options"] = {"cases": 6, "slices": 5, "lesions": [10, 20]}
    data["geometry"]["spacing"] = [2.0, 2.0]
    data["geometry"]["crop"] = [80, 96]
    data["recipe"] = {
        "network": {"unet2d": {"depth": 1, "base_filters": 4, "dropout": 0.0}},
        "training": {"epochs": 3, "batch_size": 4, "learning_rate": 0.01, "progression": [1, 2]},
    }
    (config / "datasets/phantom_lesions.yaml").write_text(yaml.safe_dump(data))
    data["geometry"]["crop"] = [80, 96, 8]
    data["recipe"]["network"]["unet2d"] = {"name": "unet3d", "depth": 1, "base_filters": 2}
    data["recipe"]["training"]["batch_size"] = 2
    (config / "datasets/volumes.yaml").write_text(yaml.safe_dump(data))
    done = run_snakemake(place, "--cores", "2", "--config", "studies=[tiny]", "device=cpu")
    assert done.returncode == 0, done.stdout[-5000:]
    return place


def test_every_exhibit_is_there(finished):
    study = yaml.safe_load((finished / "config/studies/tiny.yaml").read_text())
    for table in study["tables"]:
        for suffix in ("csv", "md", "tex", "cells.csv"):
            assert (finished / STUDY / "tables" / f"{table}.{suffix}").stat().st_size > 100
    for figure in study["figures"]:
        for suffix in ("pdf", "png", "csv"):
            assert (finished / STUDY / "figures" / f"{figure}.{suffix}").stat().st_size > 100


def test_presets_share_raw_files_cases_and_test_sets(finished):
    assert sorted(p.name for p in (finished / "results/raw").iterdir()) == ["phantom_lesions", "volumes"]
    datasets = finished / "results/datasets"
    assert not (datasets / "phantom_lesions.sound/cases").exists()
    one, other = (json.loads((datasets / d / "splits/split-1.json").read_text()) for d in DATASETS[:2])
    assert one == other


def test_runs_record_preset_and_deviations(finished):
    run = "results/runs/phantom_lesions.sound/soft-relu-wing/split-0/member-1/run.json"
    record = json.loads((finished / run).read_text())
    assert record["choices"]["preset"] == "sound"
    deviating = {d["choice"]: d["used"] for d in record["choices"]["deviations"]}
    assert deviating == {"dropout-rate": 0.0}
    assert record["candidate"]["activation"]["scope"] == "image"
    report = (finished / STUDY / "report.md").read_text()
    assert "preset `sound`" in report and "`dropout-rate`" in report and "## Claims" in report


def test_labels_are_resampled_for_the_candidate_that_asks(finished):
    folder = finished / "results/datasets/phantom_lesions"
    linear, cubic = (np.load(folder / f"{kind}/average/prepared.npy") for kind in ("labels", "labels-cubic"))
    assert linear.shape == cubic.shape and not np.array_equal(linear, cubic)


def test_metrics_hold_lesions_truth_and_both_squared_errors(finished):
    for dataset in DATASETS:
        metrics = pd.read_parquet(finished / STUDY / "metrics" / f"{dataset}.parquet")
        assert set(metrics["candidate"]) == set(CANDIDATES)
        found = set(metrics["metric"])
        assert {"ltpr", "lfdr_by_size", "mse", "mse_depthless", "mse_soft", "threshold_dice", "nonzero_count"} <= found
        assert {"truth_error", "volume_error_soft", "rater_calibration_error"} <= found
        wide = metrics[metrics["scope"] == "case"].pivot_table(
            index=["candidate", "split", "case"], columns="metric", values="value", aggfunc="first"
        )
        np.testing.assert_allclose(wide["mse_depthless"], 5 * wide["mse"], rtol=1e-9)


def test_progression_keeps_the_epochs_asked_for(finished):
    for dataset in DATASETS:
        file = finished / f"results/runs/{dataset}/soft-relu-wing/split-0/member-1/progression.npz"
        with np.load(file) as kept:
            assert kept["epochs"].tolist() == [1, 2, 3]
            assert kept["predictions"].shape == (3, 1, 80, 96)


def test_claims_are_judged_on_every_data_set(finished):
    claims = pd.read_csv(finished / STUDY / "claims.csv")
    assert set(claims["verdict"]) <= {"supported", "contradicted", "undecided"}
    assert claims["claim"].nunique() >= 4
    assert set(DATASETS) <= set(claims["dataset"])
