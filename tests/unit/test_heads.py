"""A lock is removed only if all that can have left it are surely dead; otherwise it is told who may hold it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT

ENTER = "import json; from penumbra.workflow import heads; print(json.dumps(heads.enter()), flush=True)"
LOCK = Path(".snakemake/locks/0.output.lock")


def start(place: Path, then: str) -> tuple[subprocess.Popen[str], list]:
    """Another process that enters a folder and goes on as told; what it was told."""
    source = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", f"{ENTER}\n{then}"]
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


def test_orphans_keep_the_lock_until_they_ended(tmp_path):
    then = "import subprocess, time; print(subprocess.Popen(['sleep', '600']).pid, flush=True); time.sleep(600)"
    head = locked_by(tmp_path, then)
    assert head.stdout is not None
    orphan = int(head.stdout.readline())
    end(head)
    try:
        [reason], healed = enter(tmp_path)
        assert not healed and f"its jobs still run: {orphan}" in reason
    finally:
        os.kill(orphan, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while not (told := enter(tmp_path))[1]:
        assert time.monotonic() < deadline, told


def test_a_lock_without_a_note_is_left_to_snakemake(tmp_path):
    (tmp_path / LOCK).parent.mkdir(parents=True)
    (tmp_path / LOCK).touch()
    assert enter(tmp_path) == [[], False] and (tmp_path / LOCK).exists()


@pytest.mark.parametrize(
    ("change", "healed", "word"),
    [
        ({"host": "elsewhere"}, False, "cannot be seen"),
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
