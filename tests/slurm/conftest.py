"""One cluster at a time on a machine, for all tests of this folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from tests.slurm.cluster import Cluster, cluster, missing
from tests.smoke.conftest import tiny_tree

__all__ = ["tiny_tree"]


@pytest.fixture(scope="session")
def slurm() -> Iterator[Cluster]:
    with FileLock(Path(tempfile.gettempdir()) / "slurm-of-tests.lock"):
        reason = missing()
        if reason is not None:
            pytest.skip(f"no SLURM: {reason}")
        with cluster() as running:
            yield running


def typed(slurm: Cluster, place: Path, *arguments: str) -> subprocess.Popen[str]:
    """``snakemake --profile slurm -j 40`` as a user types it, with the virtual environment's programs on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        ["snakemake", "--profile", "slurm", "-j", "40", *arguments], cwd=place, env=slurm.environment | {"PATH": path},
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=_heeds_ctrl_c,
    )  # fmt: skip


def _heeds_ctrl_c() -> None:
    """As at a terminal; tests that a shell runs in the background ignore SIGINT, and would hand that on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
