"""The whole pipeline, tiny: every stage for real, on a small phantom."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.smoke.conftest import CANDIDATES, STUDY, tiny_checkout
from tests.workflow.conftest import job_counts, run_snakemake


def results(place: Path) -> dict[str, str]:
    """Relative path -> hash of everything that must be the same bytes whenever it is made."""
    kept = (".safetensors", ".csv", ".tsv", ".json", ".parquet", ".npy", ".gz", ".md", ".tex", ".pdf", ".png")
    return {
        str(file.relative_to(place)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted((place / "results").rglob("*"))
        if file.suffix in kept
        and file.name != "run.json"  # says how long the training took
        and not {"benchmarks", "logs", "records"} & set(file.relative_to(place).parts)
    }


def nothing_to_do(place: Path) -> bool:
    done = run_snakemake(place, "-n", "--cores", "1")
    assert done.returncode == 0, done.stdout
    return "Nothing to be done" in done.stdout


def planned(place: Path, *arguments: str) -> dict[str, int]:
    done = run_snakemake(place, "-n", "-q", "rules", "--cores", "1", *arguments)
    assert done.returncode == 0, done.stdout
    return job_counts(done.stdout)


@pytest.fixture(scope="module")
def finished(tiny_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished study that these tests may change."""
    place = tmp_path_factory.mktemp("smoke") / "penumbra"
    shutil.copytree(tiny_tree, place, symlinks=True)
    return place


def test_every_target_is_there(finished):
    for table in ("table-5-2", "table-5-3a", "calibration"):
        for suffix in ("csv", "md", "tex", "cells.csv"):
            assert (finished / STUDY / "tables" / f"{table}.{suffix}").stat().st_size > 100
    for figure in ("figure-5-1", "figure-5-2", "figure-5-4", "figure-5-5"):
        for suffix in ("pdf", "png", "csv"):
            assert (finished / STUDY / "figures" / f"{figure}.{suffix}").stat().st_size > 100
    assert (finished / STUDY / "report.md").exists() and (finished / STUDY / "tests.csv").exists()


def test_metrics_hold_every_run_case_and_class(finished):
    metrics = pd.read_parquet(finished / STUDY / "metrics" / "phantom_cord.parquet")
    assert set(metrics["candidate"]) == set(CANDIDATES) and set(metrics["split"]) == {0, 1}
    dice = metrics[metrics["metric"] == "dice"]
    assert len(dice) == len(CANDIDATES) * 2 * 2 * 2  # candidates x splits x test cases (one centre) x classes
    assert metrics["row"].is_unique
    assert (metrics["status"] == "ok").mean() > 0.5


def test_training_learned_something(finished):
    for history in finished.glob("results/runs/*/*/*/*/history.csv"):
        losses = pd.read_csv(history)["train_loss"]
        assert losses.iloc[-1] < losses.iloc[0], history


def test_nothing_half_written_is_left(finished):
    assert not list((finished / "results").rglob(".writing-*"))
    assert not list((finished / "results").rglob("resume"))


def test_a_second_run_has_nothing_to_do(finished):
    assert nothing_to_do(finished)


def test_touching_files_reruns_nothing(finished):
    for pattern in ("src/**/*.py", "workflow/**/*", "config/**/*.yaml"):
        for file in finished.glob(pattern):
            if file.is_file():
                os.utime(file)
    assert nothing_to_do(finished)


@pytest.mark.parametrize(
    ("file", "old", "new", "reruns"),
    [
        ("src/penumbra/figures/reliability.py", "NEEDS = ", "EXTRA = 1\nNEEDS = ", {"figure": 1}),
        ("src/penumbra/losses/adaptive_wing.py", "def build(", "EXTRA = 1\n\n\ndef build(", {"train": 2}),
        ("src/penumbra/losses/adaptive_wing.py", "def build(", "# a comment\ndef build(", {}),
        ("src/penumbra/metrics/overlap.py", "def dice(", "EXTRA = 1\n\n\ndef dice(", {"evaluate": 6, "train": 0}),
        ("src/penumbra/fusion/average.py", "def build(", "EXTRA = 1\n\n\ndef build(", {"fuse": 1, "train": 2}),
    ],
)
def test_an_edit_reruns_exactly_what_used_it(finished, file, old, new, reruns):
    path = finished / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    try:
        counts = planned(finished)
    finally:
        path.write_text(text)
    assert counts.get("train", 0) == reruns.get("train", 0)
    assert counts.get("evaluate", 0) >= reruns.get("evaluate", 0)
    if not reruns:
        assert counts == {}
    for rule, count in reruns.items():
        if count:
            assert counts[rule] == count
    assert nothing_to_do(finished)


def test_one_figure_is_redrawn_alone(finished):
    target = str(STUDY / "figures" / "figure-5-4.pdf")
    before = (finished / target).read_bytes()
    (finished / target).unlink()
    assert planned(finished, target) == {"figure": 1, "total": 1}
    assert run_snakemake(finished, "--cores", "1", target).returncode == 0
    assert (finished / target).read_bytes() == before


def test_a_finished_study_is_kept_with_numbers_that_its_metrics_give(finished, tmp_path):
    program = [sys.executable, "-m", "penumbra.workflow.keep", "tiny", str(tmp_path / "kept")]
    trained = finished / "results/benchmarks/train/phantom_cord"
    shutil.copytree(trained / "conv-staple", trained / "of-another-study")
    source = {**os.environ, "PYTHONPATH": str(finished / "src")}
    done = subprocess.run(program, cwd=finished, env=source, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "kept" / "README.md").read_text()
    assert "6 trainings of" in page and "| train | 6 |" in page and "| fuse | 3 |" in page
    metrics = pd.read_parquet(finished / STUDY / "metrics" / "phantom_cord.parquet")
    image = metrics[(metrics["target"] == "image") & (metrics["candidate"] == "conv-staple")]
    means = image.groupby(["metric", "split"])["value"].mean()
    assert f"- Conv-STAPLE: {(means['entropy'] / means['entropy_reference']).mean():.2f}" in page
    for link in ("report.md", "figures/figure-5-4.png", "tables/table-5-2.cells.csv"):
        assert (tmp_path / "kept" / link).stat().st_size > 100
    unknown = subprocess.run(
        [*program[:3], "tinny", "x"], cwd=finished, env=source, text=True, capture_output=True, check=False
    )
    assert unknown.returncode == 1 and "did you mean 'tiny'?" in unknown.stderr and "Traceback" not in unknown.stderr


def test_snakemake_report_is_written(finished):
    done = run_snakemake(finished, "--report", "report.html")
    assert done.returncode == 0, done.stdout
    page = (finished / "report.html").read_text()
    assert "figure-5-4" in page and "Wilcoxon" in page


def test_a_results_folder_without_permission_is_told(root, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("the superuser may write anywhere")
    place = tiny_checkout(root, tmp_path / "penumbra")
    (place / "results").mkdir(mode=0o500)
    done = run_snakemake(place, "--cores", "1", "results/raw/phantom_cord")
    assert done.returncode != 0
    assert "permission" in done.stdout.lower()
