"""SIGKILL of a head, a training, an inference: the same command again ends with the same bytes, as often as it takes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil

from tests.smoke.conftest import commit_all, tiny_checkout
from tests.smoke.test_faults import PREPARED, make_place, nothing_half_written, told, worked
from tests.smoke.test_pipeline import results
from tests.workflow.conftest import run_snakemake

COMMAND = ("--cores", "2")
KILLS = {"the head and its jobs": 5, "the head alone": 6, "train.py": 8, "infer.py": 6}


def start(place: Path, *command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "snakemake", *(command or COMMAND)], cwd=place, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def runs(process: psutil.Process) -> bool:
    """Whether a process has not ended; one that has may still wait for whoever inherited it to take note."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def scripts(place: Path, name: str = "") -> list[psutil.Process]:
    """The processes in a folder that run a script of the workflow."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words = process.info["cmdline"] or [""]
        here = process.info["cwd"] == str(place) and "python" in words[0]
        if here and any(".snakemake/scripts/" in word and word.endswith(name) for word in words):
            found.append(process)
    return found


def kill(place: Path, run: subprocess.Popen[bytes], whom: str, rng: np.random.Generator) -> bool:
    """Kill at a random moment; False if the run had ended before."""
    if whom.startswith("the head"):
        wait = rng.uniform(1, 12)
        end = time.monotonic() + wait
        while time.monotonic() < end and run.poll() is None:
            time.sleep(0.02)
        if run.poll() is not None:
            return False
        (os.killpg if whom.endswith("jobs") else os.kill)(run.pid, signal.SIGKILL)
        run.wait()
        return True
    while run.poll() is None:
        if found := scripts(place, whom):
            time.sleep(rng.uniform(0, 2.5))
            victim = found[int(rng.integers(len(found)))]
            if victim.is_running():
                if rng.random() < 0.5:  # asked first, as a cluster does
                    victim.terminate()
                    time.sleep(rng.uniform(0, 0.5))
                with suppress(psutil.NoSuchProcess):
                    victim.kill()
                return run.wait(300) != 0  # 0 where the job had just ended by itself
        time.sleep(0.02)
    return False


def test_25_kills_and_the_same_command_again(tiny_tree, root, tmp_path, rng):
    place = tiny_checkout(root, tmp_path / "penumbra")
    script = place / "workflow/scripts/train.py"
    text = script.read_text()
    script.write_text(text.replace("    train(\n", "    train(\n        checkpoint_seconds=0,\n"))
    assert script.read_text() != text
    commit_all(place)
    expected = results(tiny_tree)
    waiting = [whom for whom, number in KILLS.items() for _ in range(number)]
    rng.shuffle(waiting)
    killed, finished = Counter(), 0

    def same() -> None:
        here = results(place)
        assert set(here) == set(expected)
        assert [name for name in here if here[name] != expected[name]] == [], dict(killed)
        assert not list((place / "results").rglob(".writing-*")) and not list((place / "results").rglob("resume"))

    while waiting:
        run = start(place)
        if kill(place, run, waiting[-1], rng):
            killed[waiting.pop()] += 1
        else:
            assert run.returncode == 0, run_snakemake(place, *COMMAND).stdout[-5000:]
            same()
            finished += 1
            for folder in (place / "results").iterdir():  # so that there is something to kill
                if folder.name not in ("raw", "datasets", "records", "logs", "benchmarks"):
                    shutil.rmtree(folder)
    done = run_snakemake(place, *COMMAND)
    assert done.returncode == 0, done.stdout[-5000:]
    same()
    assert sum(killed.values()) == 25 and killed == KILLS, finished
    assert not list((place / ".snakemake" / "heads").glob("*.json"))


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
    orphans = scripts(place, "ingest.py")
    assert orphans

    script.write_text(text)
    healed = run_snakemake(place, *command)
    worked(healed)
    assert "Removed the lock" in healed.stdout
    assert not any(runs(orphan) for orphan in orphans)
    assert not list((place / ".snakemake/locks").glob("*"))
    nothing_half_written(place)
