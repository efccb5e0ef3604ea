"""What job records cost: milliseconds of a small job, and the share of a finished study's time.

::

    .venv/bin/python benchmarks/recording.py [RESULTS]

First, 20 times in a fresh process: a small job (a split) does its work, then writes its record; the record's part,
imports included, is printed beside the time of the whole script as Snakemake starts it. Second, with RESULTS: every
job of a finished study is recorded once more from its own inputs and outputs, into a temporary folder, and the sum is
printed beside the seconds that the jobs took. Goals: under 50 ms a small job, under 2 % of the time.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from penumbra import paths  # noqa: E402
from penumbra.provenance import record as recording  # noqa: E402
from penumbra.provenance.jobs import JOBS, LOG, RECORD  # noqa: E402

TIMES = 20
CHILD = f"""
import sys, time
sys.path.insert(0, {str(ROOT / "src")!r})
from snakemake import script  # Snakemake's own preamble of every script
started = time.perf_counter()
from penumbra.config.models import Part
from penumbra.splits._make import make_split
working = time.perf_counter()
make_split({{table!r}}, Part(name="fractions"), {{split!r}}, dataset="d", seed=1, index=0)
worked = time.perf_counter()
from pathlib import Path
from types import SimpleNamespace
from snakemake.iocontainers import InputFiles, OutputFiles, Params, ResourceList
from penumbra.provenance.record import Recorder
Recorder(SimpleNamespace(
    rule="split", wildcards={{{{"dataset": "d", "split": "0"}}}}, log=[{{log!r}}], threads=1, config={{{{}}}},
    input=InputFiles(fromdict={{{{"table": {{table!r}}}}}}), output=OutputFiles(fromdict={{{{"split": {{split!r}}}}}}),
    params=Params(fromdict={{{{"seed": 1, "code": "c"}}}}), resources=ResourceList(fromdict={{{{}}}}),
), Path({str(ROOT)!r})).write()
print(worked - started, time.perf_counter() - worked)
"""


def small_job() -> tuple[float, float]:
    """Median seconds of a split's script without its record, and of the record."""
    taken = []
    with tempfile.TemporaryDirectory() as place:
        results = Path(place) / "results"
        table = results / paths.CASES.format(dataset="d")
        table.parent.mkdir(parents=True)
        cases = "\n".join(f"case-{k:03d}\tcentre-{k % 4}" for k in range(40))
        table.write_text(f"case\tcentre\n{cases}\n")
        log = results / LOG.format(job=JOBS["split"].format(dataset="d", split=0))
        split = results / paths.SPLIT.format(dataset="d", split=0)
        child = CHILD.format(table=str(table), split=str(split), log=str(log))
        for _ in range(TIMES):
            done = subprocess.run([sys.executable, "-c", child], text=True, capture_output=True, check=False)
            if done.returncode:
                raise RuntimeError(done.stderr)
            taken.append([float(v) for v in done.stdout.split()])
    work, record = (statistics.median(column) for column in zip(*taken, strict=True))
    return work, record


def _files(entries: list[dict[str, Any]], results: Path) -> Any:
    from snakemake.iocontainers import InputFiles

    def place(path: str) -> str:
        return path.replace(recording.CHECKOUT, str(ROOT) + "/") if ":" in path else str(results / path)

    names = {str(k): place(entry["path"]) for k, entry in enumerate(entries)}
    return InputFiles(fromdict=names)


def again(results: Path) -> tuple[int, float, float]:
    """Number of jobs, the seconds that they took, and the seconds that recording each of them once more takes."""
    from snakemake.iocontainers import Params, ResourceList

    jobs, worked, recorded = 0, 0.0, 0.0
    for file in sorted((results / "records").rglob("*.json")):
        told = json.loads(file.read_text(encoding="utf-8"))
        if file != results / RECORD.format(job=told["job"]):
            continue
        jobs, worked = jobs + 1, worked + told["seconds"]
        started = time.perf_counter()
        made = recording.Recorder(
            SimpleNamespace(
                rule=told["rule"],
                wildcards=told["wildcards"],
                log=[str(results / LOG.format(job=told["job"]))],
                input=_files(told["inputs"], results),
                output=_files(told["outputs"], results),
                params=Params(fromdict=told["params"]),
                resources=ResourceList(fromdict=told["resources"]),
                threads=told["threads"],
                config={},
            ),
            ROOT,
        )
        content = made.content()
        with tempfile.TemporaryDirectory(dir=results.parent) as place:
            recording.write_text(Path(place) / "record.json", recording.sealed(content))
        recorded += time.perf_counter() - started
    return jobs, worked, recorded


if __name__ == "__main__":
    work, record = small_job()
    print(f"small job      {1e3 * work:.0f} ms of work and imports, {1e3 * record:.1f} ms for its record")
    if len(sys.argv) > 1:
        jobs, worked, recorded = again(Path(sys.argv[1]))
        print(f"finished study {jobs} jobs, {worked:.1f} s; their records {recorded:.2f} s, ", end="")
        print(f"{1e3 * recorded / jobs:.1f} ms a job, {100 * recorded / worked:.2f} %")
