"""A lock is removed only if all that can have left it are surely dead; otherwise it is told who may hold it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT

ENTER = "import json; from penumbra.workflow import heads; print(json.dumps(heads.enter()), flush=True)"
LOCK = Path(".snakemake/locks/0.output.lock")


def start(place: Path, then: str, before: str = "") -> tuple[subprocess.Popen[str], list]:
    """Another process that enters a folder and goes on as told; what it was told."""
    source = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", f"{before}\n{ENTER}\n{then}"]
    process = subprocess.Popen(command, cwd=place, env=source, text=True, stdout=subprocess.PIPE)
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())


def enter(place: Path) -> list:
    process, told = start(place, "")
    assert process.wait() == 0
    return told


def locked_by(place: Path, then: str = "import time; time.sleep(600)") -> subprocess.Popen[str]:
    process, told = start(place, then)
    assert told == [[], False]
    (place / LOCK).parent.mkdir(parents=True)
    (place / LOCK).write_text("results/x\n")
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


def notes(place: Path) -> list[Path]:
    return list((place / ".snakemake/heads").glob("*.json"))


def test_the_lock_of_a_killed_head_is_removed(tmp_path):
    end(locked_by(tmp_path))
    assert enter(tmp_path) == [[], True]
    assert not (tmp_path / LOCK).exists() and notes(tmp_path) == []


def test_the_lock_of_a_living_head_stays_and_is_told(tmp_path):
    process = locked_by(tmp_path)
    try:
        [reason], healed = enter(tmp_path)
    finally:
        end(process)
    assert not healed and (tmp_path / LOCK).exists()
    assert f"process {process.pid} on {os.uname().nodename}" in reason and "still running" in reason


def test_one_living_head_keeps_the_lock_of_a_dead_one(tmp_path):
    end(locked_by(tmp_path))
    (tmp_path / LOCK).rename(tmp_path / "kept")
    living, _ = start(tmp_path, "import time; time.sleep(600)")
    (tmp_path / "kept").rename(tmp_path / LOCK)
    try:
        assert enter(tmp_path)[1] is False and (tmp_path / LOCK).exists()
    finally:
        end(living)
    assert enter(tmp_path)[1] is True


@pytest.mark.parametrize("stubborn", [False, True])
def test_jobs_that_a_killed_head_left_are_ended(tmp_path, stubborn):
    trap = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
    )
    job = ["-c", trap] if stubborn else ["-c", "print(1, flush=True); import time; time.sleep(600)"]
    then = (
        "import subprocess, sys, time\n"
        f"job = subprocess.Popen([sys.executable, *{job!r}], stdout=subprocess.PIPE)\n"
        "job.stdout.readline(); print(job.pid, flush=True); time.sleep(600)"
    )
    head = locked_by(tmp_path, then)
    assert head.stdout is not None
    orphan = psutil.Process(int(head.stdout.readline()))
    end(head)
    assert orphan.is_running()
    short = "from penumbra.workflow import heads; heads.PATIENCE = 1"
    process, told = start(tmp_path, "", before=short)
    assert process.wait() == 0 and told == [[], True]
    assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE


def test_a_lock_without_a_note_is_left_to_snakemake(tmp_path):
    (tmp_path / LOCK).parent.mkdir(parents=True)
    (tmp_path / LOCK).touch()
    assert enter(tmp_path) == [[], False] and (tmp_path / LOCK).exists()


@pytest.mark.parametrize(
    ("change", "healed", "word"),
    [
        ({"host": "elsewhere"}, False, "cannot be seen"),
        ({"machine": "of the same name"}, False, "cannot be seen"),
        ({"namespace": "pid:[1]"}, False, "cannot be seen"),
        ({"user": os.getuid() + 1}, False, "another user"),
        ({"remote": True}, False, "cluster jobs"),
        ({"boot": "an-earlier-one"}, True, ""),
        ({"no such key": 1}, False, ""),
    ],
)
def test_what_cannot_be_seen_is_not_taken_for_dead(tmp_path, change, healed, word):
    end(locked_by(tmp_path))
    [note] = notes(tmp_path)
    note.write_text(json.dumps(json.loads(note.read_text()) | change))
    reasons, removed = enter(tmp_path)
    assert removed is healed and (tmp_path / LOCK).exists() is not healed
    assert word in " ".join(reasons) and len(reasons) == bool(word)
