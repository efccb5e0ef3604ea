"""A kept study: its page tells the claims and the entropy, and its files lie beside it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from penumbra.claims.judge import write_claims
from penumbra.claims.models import read_claims
from penumbra.claims.section import read_verdicts
from penumbra.errors import PenumbraError
from penumbra.reporting.kept import keep
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
