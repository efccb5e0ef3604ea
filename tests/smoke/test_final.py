"""Final results: sealed from a clean checkout, refused after any change behind them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from tests.smoke.conftest import STUDY
from tests.workflow.conftest import run_snakemake

SEAL = STUDY / "seal.json"
FIGURE = str(STUDY / "figures" / "figure-5-4.png")


@pytest.fixture
def place(tiny_tree, tmp_path):
    shutil.copytree(tiny_tree, tmp_path / "penumbra", symlinks=True)
    return tmp_path / "penumbra"


def final(place):
    return run_snakemake(place, "--cores", "1", "final")


def test_a_clean_study_is_sealed_with_all_its_records(place):
    done = final(place)
    assert done.returncode == 0, done.stdout[-3000:]
    sealed = json.loads((place / SEAL).read_text())
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=place, check=True, capture_output=True, text=True
    ).stdout.strip()
    assert sealed["commit"] == head and sealed["commits"] == [head] and sealed["study"] == "tiny"
    rules = [job.split("/")[0] for job in sealed["records"]]
    assert rules.count("train") == 6 and rules.count("table") == 3 and sealed["jobs"] == len(rules)
    assert sealed["numbers"] > 100
    assert "Nothing to be done" in final(place).stdout


def test_a_changed_prediction_is_refused(place, rng):
    files = sorted((place / "results/runs").glob("*/*/split-*/predictions/*.nii.gz"))
    file = files[int(rng.integers(len(files)))]
    content = bytearray(file.read_bytes())
    content[int(rng.integers(len(content)))] ^= 1
    status = file.stat()
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    done = final(place)
    assert done.returncode != 0 and not (place / SEAL).exists()
    assert str(file.relative_to(place / "results")) in done.stdout and "penumbra audit verify" in done.stdout
    assert "Traceback (most recent" not in done.stdout


def test_what_ran_with_uncommitted_code_is_refused_until_it_is_made_again(place):
    file = place / "src/penumbra/figures/reliability.py"
    committed = file.read_text()
    file.write_text(committed + "# tried something\n")
    assert run_snakemake(place, "--cores", "1", "--force", FIGURE).returncode == 0
    file.write_text(committed)
    done = final(place)
    assert done.returncode != 0 and "figure/tiny/figure-5-4" in done.stdout and "--forcerun figure" in done.stdout
    assert run_snakemake(place, "--cores", "1", "--force", FIGURE).returncode == 0
    done = final(place)
    assert done.returncode == 0, done.stdout[-3000:]


def test_changes_that_did_not_run_do_not_matter(place):
    """Made while another figure's code was changed: every module that ran is the committed one."""
    file = place / "src/penumbra/figures/scorecard.py"
    committed = file.read_text()
    file.write_text(committed + "# tried something\n")
    assert run_snakemake(place, "--cores", "1", "--force", FIGURE).returncode == 0
    record = json.loads((place / "results/records/figure/tiny/figure-5-4.json").read_text())
    assert record["checkout"]["dirty"] is True and record["supersedes"]
    file.write_text(committed)
    assert final(place).returncode == 0


def test_a_script_that_was_changed_and_changed_back_is_refused(place):
    """Snakemake does not see it where it is told to look at times alone."""
    file = place / "workflow/scripts/figure.py"
    committed, status = file.read_text(), file.stat()
    file.write_text(committed.replace("with job", "TRIED = 1\nwith job"))
    assert run_snakemake(place, "--cores", "1", "--force", FIGURE).returncode == 0
    file.write_text(committed)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    done = run_snakemake(place, "--cores", "1", "--rerun-triggers", "mtime", "--", "final")
    assert done.returncode != 0 and "figure/tiny/figure-5-4" in done.stdout and "no commit holds" in done.stdout
    assert not (place / SEAL).exists()


def test_code_that_git_is_told_not_to_look_at_is_refused(place):
    file = "src/penumbra/figures/reliability.py"
    subprocess.run(["git", "update-index", "--assume-unchanged", file], cwd=place, check=True)
    (place / file).write_text((place / file).read_text() + "TRIED = 1\n")
    done = final(place)
    assert done.returncode != 0 and f"{file} (hidden from git)" in done.stdout
