"""A kept study: its page tells the claims and the entropy, and its files lie beside it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from penumbra.claims.judge import write_claims
from penumbra.claims.models import read_claims
from penumbra.errors import PenumbraError
from penumbra.reporting.kept import keep
from penumbra.reporting.recompute import check, check_place, read_entries
from penumbra.reporting.sources import Reader
from penumbra.reporting.verdicts import read_verdicts
from tests.conftest import ROOT

_SPEC = importlib.util.spec_from_file_location("synthetic_study", Path(__file__).with_name("synthetic_study.py"))
assert _SPEC is not None and _SPEC.loader is not None
synthetic = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(synthetic)

SEED = int(np.random.SeedSequence().entropy % 2**32)


def finished(results: Path, claims: bool) -> tuple[dict, pd.DataFrame]:
    """A results folder as a study of two data sets leaves it."""
    print("seed", SEED)
    context = synthetic.context(7, 6)
    metrics = synthetic.long_metrics(context, SEED)
    folder = results / "studies" / "fusion"
    (folder / "metrics").mkdir(parents=True)
    for dataset, rows in metrics.groupby("dataset"):
        rows.to_parquet(folder / "metrics" / f"{dataset}.parquet")
    for name in ("report.md", "report.cells.csv", "tests.csv"):
        (folder / name).write_text(f"{name}\n")
    for name in ("tables", "figures"):
        (folder / name).mkdir()
        (folder / name / "one.csv").write_text("1\n")
    told = synthetic.told(context, "scorecard", "figure")
    told["study"] |= {"tables": {"one": {}}, "figures": {"one": {}}}
    if claims:
        told["study"]["claims"] = "softseg_thesis"
        write_claims(
            told=told,
            claims=read_claims(ROOT / "config/claims/softseg_thesis.yaml").model_dump(mode="json"),
            metrics=sorted((folder / "metrics").glob("*.parquet")),
            seed=1,
            out=folder / "claims.csv",
        )
    return told, metrics


@pytest.mark.parametrize("claims", [True, False])
def test_the_page_tells_claims_and_entropy(tmp_path, claims):
    told, metrics = finished(tmp_path / "results", claims)
    keep("fusion", told, tmp_path / "results", tmp_path / "kept", "snakemake")
    page = (tmp_path / "kept" / "README.md").read_text()
    cells = pd.read_csv(tmp_path / "kept" / "README.cells.csv", dtype={"displayed": str})
    assert all(shown in page for shown in cells["displayed"])
    means = metrics[metrics["target"] == "image"].groupby(["dataset", "candidate", "metric", "split"])["value"].mean()
    for dataset in ("scgm", "ms_brain"):
        own = means[dataset, "conv-staple"]
        assert f"- Conv-STAPLE: {(own['entropy'] / own['entropy_reference']).mean():.2f}" in page
    assert ("## Claims" in page) == (tmp_path / "kept" / "claims.csv").exists() == claims
    if claims:
        frame = read_verdicts(tmp_path / "kept" / "claims.csv")
        assert all(f"{statement} (" in page for statement in frame["statement"])
    for name in ("report.md", "report.cells.csv", "tests.csv", "tables/one.csv", "figures/one.csv"):
        assert (tmp_path / "kept" / name).exists()


def test_every_number_of_the_page_is_computed_again(tmp_path):
    told, _ = finished(tmp_path / "results", claims=True)
    times = {"conv-staple/split-0": "90.5", "conv-staple/split-1": "NA", "another/split-0": "7"}
    for name, seconds in times.items():
        file = tmp_path / "results" / "benchmarks" / "train" / "scgm" / f"{name}.tsv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"s\tcpu_time\n1.0\t{seconds}\n")
    (tmp_path / "results/benchmarks/ingest").mkdir()
    (tmp_path / "results/benchmarks/ingest/scgm.tsv").write_text("s\tcpu_time\n1.0\tNA\n")
    for split, epochs in ((0, 30), (1, 25)):
        record = {"names": {"candidate": "conv-average"}, "device": {"torch": "2.8", "type": "cpu"}}
        record |= {"epochs_run": epochs, "parameters": 1234567, "seed": 2022}
        file = tmp_path / f"results/runs/scgm/conv-average/split-{split}/member-1/run.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(record))
    keep("fusion", told, tmp_path / "results", tmp_path / "kept", "snakemake")
    page = (tmp_path / "kept" / "README.md").read_text()
    assert "- `scgm`: 2 trainings of 1,234,567 parameters, 25 to 30 epochs, torch 2.8 on cpu, seed 2022." in page
    assert "| train | 1 | 1.5 |" in page and "| ingest |" not in page
    entries = read_entries(tmp_path / "kept" / "README.cells.csv")
    reader = Reader(tmp_path / "results")
    assert {e["id"]: f for e in entries if (f := check(e, reader) + check_place(e, page))} == {}
    used = {e["estimator"] for e in entries}
    assert {"ratio_over_splits", "processor_minutes", "count_of_jobs", "field_of_runs"} <= used
    assert all(check(e | {"value": (e["value"] or 0.0) + 1.0}, reader) for e in entries)


def test_trainings_of_other_candidates_count_where_their_networks_are_taken(tmp_path):
    told, _ = finished(tmp_path / "results", claims=False)
    told["candidates"]["scgm"]["softseg-average"]["trained_as"] = "another"
    for name, parameters in (("another", 5_000), ("conv-staple", 70_000), ("softseg-average", 1), ("stranger", 2)):
        record = {"names": {"candidate": name}, "device": {"torch": "2.8", "type": "cpu"}}
        run, benchmark = (
            tmp_path / "results" / kind / name / "split-0" for kind in ("runs/scgm", "benchmarks/train/scgm")
        )
        (run / "member-1").mkdir(parents=True)
        (run / "member-1/run.json").write_text(
            json.dumps(record | {"epochs_run": 9, "parameters": parameters, "seed": 1})
        )
        benchmark.parent.mkdir(parents=True)
        benchmark.with_suffix(".tsv").write_text("s\tcpu_time\n1.0\t60\n")
    keep("fusion", told, tmp_path / "results", tmp_path / "kept", "snakemake")
    page = (tmp_path / "kept" / "README.md").read_text()
    assert "- `scgm`: 2 trainings of 5,000 to 70,000 parameters, 9 epochs," in page
    assert "| train | 2 | 2.0 |" in page


@pytest.mark.parametrize("missing", ["report.md", "tests.csv", "tables/one.csv", "metrics/scgm.parquet"])
def test_an_unfinished_study_is_refused(tmp_path, missing):
    told, _ = finished(tmp_path / "results", claims=False)
    (tmp_path / "results/studies/fusion" / missing).unlink()
    with pytest.raises(PenumbraError, match="the study fusion is not finished") as error:
        keep("fusion", told, tmp_path / "results", tmp_path / "kept", "snakemake")
    assert missing in str(error.value) and not (tmp_path / "kept").exists()


def test_damaged_metrics_are_told(tmp_path):
    told, _ = finished(tmp_path / "results", claims=False)
    (tmp_path / "results/studies/fusion/metrics/scgm.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(PenumbraError, match=r"scgm\.parquet"):
        keep("fusion", told, tmp_path / "results", tmp_path / "kept", "snakemake")


def test_a_study_without_figures_is_kept(tmp_path):
    told, _ = finished(tmp_path / "results", claims=False)
    told["study"]["figures"] = {}
    keep("fusion", told, tmp_path / "results", tmp_path / "kept", "snakemake")
    assert (tmp_path / "kept/tables/one.csv").exists() and not (tmp_path / "kept/figures").exists()
