"""A head process that is killed, and two of them on one folder, through Snakemake itself."""

from __future__ import annotations

import subprocess
import sys
import time

from tests.smoke.test_faults import PREPARED, make_place, nothing_half_written, told, worked
from tests.workflow.conftest import run_snakemake


def test_two_heads_are_told_and_a_head_killed_without_its_jobs_heals(root, tmp_path):
    place = make_place(root, tmp_path / "penumbra")
    command = ("--cores", "1", PREPARED)
    script = place / "workflow/scripts/ingest.py"
    text = script.read_text()
    script.write_text(f"{text}\nimport time\n\ntime.sleep(600)\n")
    head = subprocess.Popen([sys.executable, "-m", "snakemake", *command], cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    deadline = time.monotonic() + 120
    while not (place / "results/datasets/discs/cases.tsv").exists():
        assert head.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)

    second = run_snakemake(place, *command)
    told(second, "Directory cannot be locked", f"process {head.pid} on", "still running")
    worked(run_snakemake(place, "-n", *command))

    head.kill()
    head.wait()
    orphaned = run_snakemake(place, *command)
    told(orphaned, "Directory cannot be locked", "its jobs still run")
    pids = orphaned.stdout.split("its jobs still run: ")[1].split(".")[0].split()
    subprocess.run(["kill", "-KILL", *pids], check=True)

    script.write_text(text)
    healed = run_snakemake(place, *command)
    worked(healed)
    assert "Removed the lock" in healed.stdout
    assert not list((place / ".snakemake/locks").glob("*"))
    nothing_half_written(place)
