"""What all tests share: the repository's root, fresh random numbers that can be repeated, and where real data lies."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


def pytest_report_header() -> str:
    return f"random inputs: seed {_seed()} (set PENUMBRA_TEST_SEED to repeat)"


def _seed() -> int:
    seed = os.environ.setdefault("PENUMBRA_TEST_SEED", str(secrets.randbits(32)))
    return int(seed)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Fresh random numbers at every run of the tests; the report's first lines say how to repeat them."""
    return np.random.default_rng([_seed(), *request.node.nodeid.encode()])


@pytest.fixture(autouse=True)
def _switches_of_torch() -> Iterator[None]:
    """Training and inference set switches of the whole process; the next test finds them as at its start."""
    before = sys.modules.get("torch")
    threads = None if before is None else before.get_num_threads()
    yield
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(threads or torch.get_num_threads())
        torch.set_flush_denormal(False)
        torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets: PENUMBRA_DATA, or ``shared/data`` beside the checkout; without it the test is skipped."""
    folder = Path(os.environ.get("PENUMBRA_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}; set PENUMBRA_DATA to a folder that has some")
    return folder
