"""Several runs in one process, as a group job of a cluster runs them, against each job in a process of its own."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from tests.workflow.conftest import run_snakemake

SAME = (
    "weights.safetensors",
    "history.csv",
    "progression.npz",
    "threshold.csv",
    "threshold-curve.csv",
    "metrics.parquet",
)


def hashes(place: Path, runs: list[Path]) -> dict[str, str]:
    files = [f for run in runs for f in (place / run).rglob("*") if f.name in SAME or f.name.endswith(".nii.gz")]
    return {str(f.relative_to(place)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def test_packed_runs_are_those_of_separate_jobs(tiny_tree: Path, tmp_path: Path) -> None:
    place = tmp_path / "penumbra"
    shutil.copytree(tiny_tree, place, symlinks=True)
    runs = [run.relative_to(place) for run in sorted(place.glob("results/runs/*/*/split-*"))[:2]]
    before = hashes(place, runs)
    assert len(before) > 2 * len(SAME)
    jobs = []
    for run in runs:
        shutil.rmtree(place / run)
        names = f"candidate={run.parts[-2]},dataset={run.parts[-3]},split={run.name.removeprefix('split-')}"
        jobs += [f"train:{names},member=1", f"infer:{names}", f"evaluate:{names}"]
    # What an executor submits for a group; the local one packs nothing.
    done = run_snakemake(
        place, "--cores", "1", "--mode", "remote", "--force", "--nolock", "--local-groupid", "runs",
        "--allowed-rules", "train", "infer", "evaluate", "--target-jobs", *jobs,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert hashes(place, runs) == before
    records = [
        place / "results/records" / f"{kind}" / run.parts[-3] / run.parts[-2]
        for kind in ("infer", "evaluate")
        for run in runs
    ]
    assert all(folder.is_dir() for folder in records)
    again = run_snakemake(place, "--cores", "1", "-n", "-q", "rules", "metrics")
    assert "train" not in again.stdout and "evaluate" not in again.stdout, again.stdout
