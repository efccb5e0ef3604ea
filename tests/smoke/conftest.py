"""A finished study on a small phantom, made once for all tests and all their processes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from tests.workflow.conftest import copy_checkout, run_snakemake

CANDIDATES = ["conv-staple", "conv-random", "softseg-average"]
STUDY = Path("results/studies/tiny")
TINY = {
    "studies": ["tiny"],
    "device": "cpu",
    "datasets": {
        "phantom_cord": {
            "source": {"options": {"cases_per_centre": 2, "slices": 2}},
            "geometry": {"crop": [48, 48]},
            "recipe": {
                "network": {"unet2d": {"depth": 2, "base_filters": 4}},
                "training": {"epochs": 4, "batch_size": 4},
            },
        }
    },
}


def tiny_checkout(root: Path, place: Path) -> Path:
    """A checkout whose default is a study of two splits and three candidates on a small phantom."""
    copy_checkout(root, place)
    study = yaml.safe_load((place / "config/studies/label-fusion-phantom.yaml").read_text())
    study |= {"candidates": CANDIDATES, "datasets": [{"name": "phantom_cord", "splits": 2}]}
    (place / "config/studies/tiny.yaml").write_text(yaml.safe_dump(study))
    config = yaml.safe_load((place / "config/config.yaml").read_text())
    (place / "config/config.yaml").write_text(yaml.safe_dump(config | TINY))
    return place


def commit_all(place: Path) -> str:
    """Make a folder a repository with one commit of everything in it; the commit's name."""
    (place / ".gitignore").write_text("/results/\n/.snakemake/\n__pycache__/\n*.egg-info/\n")
    author = ["-c", "user.name=A Tester", "-c", "user.email=tester@example.org"]
    for arguments in (["init", "-q"], ["add", "-A"], [*author, "commit", "-q", "-m", "everything"]):
        subprocess.run(["git", *arguments], cwd=place, check=True)
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=place, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture(scope="session")
def tiny_tree(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean checkout in which the tiny study is finished. Nobody may change it: copy it (``symlinks=True``)."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    place = shared / "tiny-tree" / "penumbra"
    with FileLock(shared / "tiny-tree.lock"):
        if not (shared / "tiny-tree.done").exists():
            tiny_checkout(root, place)
            commit_all(place)
            done = run_snakemake(place, "--cores", "2")
            assert done.returncode == 0, done.stdout[-5000:]
            (shared / "tiny-tree.done").touch()
    return place
