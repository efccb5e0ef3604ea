"""What packing small jobs into one saves: the command that a node runs for one job, and for several in a group.

::

    .venv/bin/python benchmarks/packing.py CHECKOUT [--runs 4]

CHECKOUT is one whose default study is finished and small; it is copied. For so many of its runs training, inference
and evaluation are taken away and made again, three times as a cluster would: a process of Snakemake a job; one a run
(``--groups train=run infer=run evaluate=run``); and one for all of them (``--group-components run=4`` besides).
Seconds are of the processor, queueing left out. What is made must be the same to the byte each time.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from planning import snakemake  # noqa: E402

Job = tuple[str, str]
"""A rule, and a job of it as Snakemake names it to a node."""
SAME = (
    "weights.safetensors",
    "history.csv",
    "progression.npz",
    "threshold.csv",
    "threshold-curve.csv",
    "metrics.parquet",
)


def jobs_of(run: Path) -> list[Job]:
    """The jobs of a run with one member, in order."""
    dataset, candidate, split = *run.parts[-3:-1], run.name.removeprefix("split-")
    names = f"candidate={candidate},dataset={dataset},split={split}"
    return [
        ("train", f"train:{names},member=1"),
        ("infer", f"infer:{names}"),
        ("evaluate", f"evaluate:{names}"),
    ]


def on_a_node(place: Path, jobs: list[Job]) -> float:
    """Run jobs in one process, as an executor's submitted command does; seconds of the processor."""
    rules = list(dict.fromkeys(rule for rule, _ in jobs))
    command = ["--target-jobs", *(job for _, job in jobs), "--allowed-rules", *rules, "--local-groupid", "group"]
    return snakemake(place, *command, "--force", "--nolock", "--mode", "remote", "-q", "all").processor


def made(runs: list[Path]) -> dict[str, str]:
    """The hash of every file of the runs that must not differ."""
    files = [f for run in runs for f in sorted(run.rglob("*")) if f.name in SAME or f.name.endswith(".nii.gz")]
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def main(checkout: Path, number: int) -> None:
    """Print seconds a run."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "work" / "checkout"
        shutil.copytree(checkout, place, symlinks=True)
        runs = sorted(place.glob("results/runs/*/*/split-*"))[:number]
        every = [job for run in runs for job in jobs_of(run)]
        before = made(runs)
        ways = {
            "a process a job": [[job] for job in every],
            "a process a run": [jobs_of(run) for run in runs],
            f"a process for {len(runs)} runs": [every],
        }
        for name, groups in ways.items():
            for run in runs:
                shutil.rmtree(run)
            seconds = sum(on_a_node(place, group) for group in groups)
            same = made(runs) == before
            print(
                f"{name:24} {seconds / len(runs):6.1f} s a run, {'the same bytes' if same else 'OTHER BYTES'}",
                flush=True,
            )
            if not same:
                raise SystemExit(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What packing small jobs into one saves.")
    parser.add_argument("checkout", type=Path, help="a checkout whose default study is finished")
    parser.add_argument("--runs", type=int, default=4, help="how many of its runs (default: 4)")
    given = parser.parse_args()
    main(given.checkout.resolve(), given.runs)
