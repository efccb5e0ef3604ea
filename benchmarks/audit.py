"""What auditing costs: seconds and peak memory of verifying a results folder, and of one trace.

::

    .venv/bin/python benchmarks/audit.py
    .venv/bin/python benchmarks/audit.py results

The first builds a made-up tree of 5,000 runs and 100,000 metric rows in a temporary folder (some 16,000 records over
80,000 files, small ones); the second measures a results folder that is there. Each measurement is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUNS, ROWS = 5_000, 100_000

VERIFY = """
import sys
from penumbra.audit.verify import verify
verdict = verify(sys.argv[1])
print({"records": verdict.records, "artefacts": verdict.artefacts, "numbers": verdict.numbers,
       "faults": len(verdict.faults)})
"""
TRACE = """
import sys
from penumbra.audit.ledger import Ledger
from penumbra.audit.numbers import exhibits
from penumbra.audit.trace import trace
ledger = Ledger.open(sys.argv[1])
exhibit = next(e for e in exhibits(ledger) if e.kind == "table")
trail = trace(ledger, exhibit, len(exhibit.numbers) - 1).plain()
print({"runs": len(trail["runs"]), "jobs": len(trail["jobs"])})
"""


def measure(program: str, results: Path) -> tuple[float, float, str]:
    """Seconds, largest resident memory in MB (10^6 bytes), and what a program says of a results folder.

    Raises
    ------
    RuntimeError : the program failed.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(results)], env=environment, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    if status:
        raise RuntimeError(said)
    return seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6, said.strip()


def build(folder: Path, runs: int, rows: int) -> None:
    """A made-up results folder of so many runs and rows of metrics, of 5 data sets and 10 candidates each."""
    import numpy as np

    sys.path[:0] = [str(ROOT), str(ROOT / "src")]
    from tests.synthetic_results import METRICS, SyntheticResults

    datasets, candidates = [f"dataset{k}" for k in range(5)], [f"candidate{k}" for k in range(10)]
    splits = max(runs // (len(datasets) * len(candidates)), 1)
    cases = max(rows // (runs * len(METRICS)), 1)
    sizes = {"splits": splits, "cases": cases, "modules": 60}
    SyntheticResults(folder, np.random.default_rng(0), datasets=datasets, candidates=candidates, **sizes).build()


def tell(results: Path) -> None:
    for name, program in (("verify", VERIFY), ("trace", TRACE)):
        seconds, megabytes, said = measure(program, results)
        print(f"{name:7} {seconds:6.1f} s {megabytes:6.0f} MB  {said}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="?", type=Path, help="a results folder; a made-up one without it")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--rows", type=int, default=ROWS)
    given = parser.parse_args()
    if given.results is not None:
        tell(given.results)
    else:
        with tempfile.TemporaryDirectory() as place:
            started = time.monotonic()
            build(Path(place) / "results", given.runs, given.rows)
            print(f"built   {time.monotonic() - started:6.1f} s          {json.dumps(vars(given), default=str)}")
            tell(Path(place) / "results")
