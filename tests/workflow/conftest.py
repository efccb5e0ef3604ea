"""A copy of the checkout to run Snakemake in, without its results."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

KEPT = ("Snakefile", "config", "envs", "profiles", "slurm", "src", "workflow", "pyproject.toml", "requirements.lock")


def copy_checkout(root: Path, place: Path) -> Path:
    """Copy what a clone holds and a run needs."""
    place.mkdir(parents=True)
    for name in KEPT:
        source = root / name
        if source.is_symlink():
            (place / name).symlink_to(source.readlink())
        elif source.is_dir():
            shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy2(source, place / name)
    return place


@pytest.fixture
def checkout(root: Path, tmp_path: Path) -> Path:
    return copy_checkout(root, tmp_path / "penumbra")


Run = Callable[..., subprocess.CompletedProcess[str]]


def run_snakemake(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``snakemake`` in a folder; output and errors together in ``stdout``."""
    return subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments],
        cwd=place, text=True, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


@pytest.fixture
def snakemake(checkout: Path) -> Run:
    return lambda *arguments: run_snakemake(checkout, *arguments)


def job_counts(output: str) -> dict[str, int]:
    """The job table of a dry run, as rule -> count."""
    counts: dict[str, int] = {}
    for line in output.splitlines():
        words = line.split()
        if len(words) == 2 and words[1].isdigit():
            counts.setdefault(words[0], int(words[1]))
    return counts
