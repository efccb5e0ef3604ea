"""What a small job costs: 100 splits as Penumbra makes them, records and all, and what each kind of job costs bare.

::

    .venv/bin/python benchmarks/jobs.py [--jobs 100] [--times 3]

First, in alternation, as many jobs of four workflows without Penumbra: a ``run:`` that does nothing, a ``script:``
that does nothing, a ``script:`` that imports torch, and one that makes a split in a handful of lines. Then the rule
``split`` of Penumbra with its log, its record and its checks. Each line: seconds a job beyond the same command with
nothing to do, on the clock with all cores and of the processor. Goal: 100 splits of Penumbra in under
8 s, starting included.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from planning import DATASET, Measured, checkout, snakemake  # noqa: E402

from penumbra import paths  # noqa: E402

LINES = {
    "run: with nothing": "run: open(output[0], 'w').close()",
    "script: with nothing": "",
    "script: that imports torch": "import torch\n",
    "script: that makes a split": (
        "import json, random\n"
        "cases = [line.split('\\t')[0] for line in open(snakemake.input[0])][1:]\n"
        "random.Random(snakemake.wildcards.split).shuffle(cases)\n"
        "json.dump(cases, open(snakemake.output[0], 'w'))\n"
    ),
}


def cases_table(file: Path) -> None:
    """Forty cases of four centres."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("case\tcentre\n" + "".join(f"case-{k:03d}\tcentre-{k % 4}\n" for k in range(40)))


def plain(place: Path, jobs: int, lines: str) -> None:
    """A workflow of one rule without anything of Penumbra."""
    place.mkdir(parents=True)
    cases_table(place / "cases.tsv")
    own = lines.startswith("run:")
    (place / "script.py").write_text(lines + ("" if "output" in lines else "open(snakemake.output[0], 'w').close()\n"))
    (place / "Snakefile").write_text(
        f"rule all:\n    input: [f'made/{{k}}.json' for k in range({jobs})]\n"
        "rule make:\n    input: 'cases.tsv'\n    output: 'made/{split}.json'\n    "
        + (lines if own else "script: 'script.py'")
        + "\n"
    )


def measured(place: Path, *targets: str) -> Measured:
    """One real run with all cores."""
    return snakemake(place, "-q", "all", "--cores", str(os.cpu_count()), *(("--", *targets) if targets else ()))


def main(jobs: int, times: int) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        every = {name: Path(folder) / f"plain-{k}" / "workflow" for k, name in enumerate(LINES)}
        for name, place in every.items():
            plain(place, jobs, LINES[name])
        ours = Path(folder) / "ours" / "checkout"
        checkout(ours, jobs)
        results = ours / "results"
        cases_table(results / paths.CASES.format(dataset=DATASET))
        for folder_pattern in (paths.RAW, paths.INGESTED):
            (results / folder_pattern.format(dataset=DATASET)).mkdir(parents=True, exist_ok=True)
        targets = [f"results/{paths.SPLIT.format(dataset=DATASET, split=k)}" for k in range(jobs)]
        snakemake(ours, "--touch", "-q", "all", "--", f"results/{paths.CASES.format(dataset=DATASET)}")
        found: dict[str, list[tuple[float, float, float]]] = {}
        for _ in range(times):
            for name, place in every.items():
                shutil.rmtree(place / "made", ignore_errors=True)
                found.setdefault(name, []).append(_beyond(jobs, measured(place), measured(place)))
            shutil.rmtree(results / Path(paths.SPLIT).parent.as_posix().format(dataset=DATASET), ignore_errors=True)
            done = _beyond(jobs, measured(ours, *targets), measured(ours, *targets))
            if len(list((results / "records/split" / DATASET).glob("*.json"))) != jobs:
                raise RuntimeError("not every job has its record")
            found.setdefault("Penumbra's split", []).append(done)
        for name, rows in found.items():
            clock, processor, whole = (statistics.median(column) for column in zip(*rows, strict=True))
            print(f"{name:28} {clock:6.3f} s a job, {processor:6.3f} s of the processor; all {jobs}: {whole:5.1f} s")


def _beyond(jobs: int, all_of_them: Measured, nothing: Measured) -> tuple[float, float, float]:
    """Seconds a job, of the processor, and of the whole run; ``nothing`` is the same command with nothing to do."""
    clock, processor = all_of_them.seconds - nothing.seconds, all_of_them.processor - nothing.processor
    return clock / jobs, processor / jobs, all_of_them.seconds


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What a small job costs.")
    parser.add_argument("--jobs", type=int, default=100, help="how many jobs of each kind (default: 100)")
    parser.add_argument("--times", type=int, default=3, help="how often each is measured (default: 3)")
    given = parser.parse_args()
    main(given.jobs, given.times)
