"""Presets, label interpolation and claims in the plan."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from penumbra.config.load import read_yaml
from penumbra.workflow.plan import Plan
from tests.workflow.conftest import job_counts

DRY = ("-n", "-q", "rules", "--cores", "1")


@pytest.fixture
def study(checkout: Path) -> str:
    """One phantom under two presets: two candidates, two splits each."""
    content = read_yaml(checkout / "config" / "studies" / "label-fusion-phantom.yaml")
    content |= {
        "datasets": [
            {"name": "phantom_cord", "splits": 2},
            {"name": "phantom_cord", "splits": 2, "preset": "sound"},
        ],
        "candidates": ["conv-staple", "softseg-average"],
        "tables": {"calibration": {"part": "calibration", "title": "Calibration"}},
        "figures": {},
    }
    (checkout / "config" / "studies" / "both.yaml").write_text(yaml.safe_dump(content))
    return "both"


def test_two_presets_share_raw_files_and_cases_only(snakemake, study):
    done = snakemake(*DRY, "--config", f"studies=[{study}]")
    assert done.returncode == 0, done.stdout
    counts = job_counts(done.stdout)
    assert (counts["download"], counts["ingest"]) == (1, 1)
    assert (counts["preprocess"], counts["split"], counts["train"], counts["evaluate"]) == (2, 4, 8, 8)


def test_draws_are_named_by_the_plain_data_set(snakemake, study):
    done = snakemake("-n", "-p", "--cores", "1", "--config", f"studies=[{study}]")
    assert "results/raw/phantom_cord.sound" not in done.stdout
    assert "results/runs/phantom_cord.sound/conv-staple/split-1/member-1/weights.safetensors" in done.stdout


def plan(checkout: Path, **changes) -> Plan:
    return Plan({**read_yaml(checkout / "config" / "config.yaml"), **changes}, checkout)


class Wildcards:
    def __init__(self, **values: str) -> None:
        vars(self).update(values)


def test_a_run_is_told_its_preset_and_every_deviation(checkout, study):
    told = plan(checkout).deviations(Wildcards(dataset="phantom_cord.sound", candidate="conv-staple"))
    assert told["preset"] == "sound"
    assert told["deviations"] == [{"choice": "dropout-rate", "expected": 0.3, "used": 0.0}]


@pytest.mark.parametrize(
    ("interpolation", "folder"),
    [(None, "labels/"), ("linear", "labels/"), ("nearest", "labels-nearest/"), ("cubic", "labels-cubic/")],
)
def test_labels_of_another_interpolation_stand_apart(checkout, interpolation, folder):
    changed = {"candidates": {"softseg-average": {"labels": {"interpolation": interpolation}}}}
    wildcards = Wildcards(dataset="phantom_cord", candidate="softseg-average")
    path = plan(checkout, **changed).training_labels(wildcards)
    assert path == f"results/datasets/phantom_cord/{folder}average"


def test_a_comparison_of_presets_without_two_is_refused_before_the_first_job(snakemake, checkout):
    path = checkout / "config" / "studies" / "presets-phantom.yaml"
    path.write_text("".join(x for x in path.read_text().splitlines(keepends=True) if "preset: sound" not in x))
    done = snakemake(*DRY, "--config", "studies=[presets-phantom]")
    assert done.returncode != 0 and "compares presets, and none of its data sets has several" in done.stdout
    assert "presets-phantom.yaml" in done.stdout


def test_only_the_candidate_that_asks_is_resampled(snakemake):
    done = snakemake(*DRY, "--config", "candidates={softseg-average: {labels: {interpolation: cubic}}}")
    assert done.returncode == 0, done.stdout
    counts = job_counts(done.stdout)
    assert counts["resample_labels"] == 1 and counts["fuse"] == 6


def test_a_network_for_slices_on_volumes_is_refused_before_the_first_job(snakemake):
    done = snakemake(*DRY, "--config", "datasets={phantom_cord: {geometry: {crop: [48, 48, 8]}}}")
    assert done.returncode != 0
    for words in ("unet2d takes slices", "geometry.crop", "unet3d"):
        assert words in done.stdout
    assert "most recent call last" not in done.stdout


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("{training: {patches: {size: [8, 8, 8]}}}", ("training.patches.size: [8, 8, 8] has 3 sides", "[48, 48]")),
        (
            "{predictor: {single_pass: {window: [8, 8, 8]}}}",
            ("predictor.single_pass.window: [8, 8, 8] has 3 sides", "[48, 48]"),
        ),
    ],
)
def test_patches_and_windows_of_other_sides_are_refused_before_the_first_job(snakemake, recipe, words):
    done = snakemake(*DRY, "--config", f"datasets={{phantom_cord: {{recipe: {recipe}}}}}")
    assert done.returncode != 0 and "most recent call last" not in done.stdout
    for word in words:
        assert word in done.stdout


def test_an_exhibit_of_a_candidate_that_the_study_has_not_is_refused_before_the_first_job(snakemake, checkout):
    path = checkout / "config" / "studies" / "stochastic-phantom.yaml"
    path.write_text(path.read_text().replace("candidates: [independent-all,", "candidates: [independent-al,"))
    done = snakemake(*DRY, "--config", "studies=[stochastic-phantom]")
    assert done.returncode != 0 and "most recent call last" not in done.stdout
    for words in ("figure-a1", "shows the candidate 'independent-al'", "stochastic-phantom.yaml"):
        assert words in done.stdout


@pytest.mark.parametrize(
    ("predictor", "words"),
    [
        (
            "{scaled_class: 2, scale: 3}",
            (
                "the candidate low-rank-all on phantom_nodules",
                "scaled_class is 2, the data set has 1: nodule",
                "command line",
            ),
        ),
        ("{name: single_pass, temperature: 0.5}", ("low-rank-all", "predictor", "temperature")),
    ],
)
def test_a_manipulation_that_cannot_be_is_refused_before_the_first_job(snakemake, predictor, words):
    change = f"candidates={{low-rank-all: {{predictor: {predictor}}}}}"
    done = snakemake(*DRY, "--config", "studies=[stochastic-phantom]", change)
    assert done.returncode != 0 and "most recent call last" not in done.stdout
    for word in words:
        assert word in done.stdout


def test_a_scorecard_without_claims_is_refused_before_the_first_job(snakemake, checkout):
    path = checkout / "config" / "studies" / "label-fusion-phantom.yaml"
    path.write_text(
        "".join(line for line in path.read_text().splitlines(keepends=True) if not line.startswith("claims:"))
    )
    done = snakemake(*DRY)
    assert done.returncode != 0 and "shows claims, of which the study has none" in done.stdout


@pytest.mark.parametrize(("wrong", "says"), [("[hard-sig-dize]", "no candidate of that name"), ("[conv-staple]", "")])
def test_a_claim_of_an_unknown_candidate_is_refused_before_the_first_job(snakemake, checkout, wrong, says):
    path = checkout / "config" / "claims" / "softseg_thesis.yaml"
    path.write_text(path.read_text().replace("against: [hard-sig-dice]", f"against: {wrong}", 1))
    done = snakemake(*DRY)
    assert (done.returncode != 0) is bool(says)
    if says:
        assert "dice-softseg" in done.stdout and says in done.stdout and "softseg_thesis.yaml" in done.stdout


def test_how_a_run_is_evaluated_retrains_nothing(checkout, study):
    """A deviation in the evaluation alone is no parameter of the training; the report lists it all the same."""
    wildcards = Wildcards(dataset="phantom_cord.sound", candidate="conv-staple")
    usual = plan(checkout).deviations(wildcards)
    changed = plan(checkout, datasets={"phantom_cord": {"evaluation": {"last_bin": "open"}}})
    decided = changed.configuration.decisions("phantom_cord.sound")
    assert [d["choice"] for d in decided if d["deviates"]] == ["calibration-last-bin"]
    assert changed.deviations(wildcards) == usual
