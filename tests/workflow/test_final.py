"""Final results come from a clean checkout alone, and that is told before the first job starts."""

from __future__ import annotations

import subprocess

from tests.smoke.conftest import commit_all
from tests.workflow.conftest import run_snakemake


def planned(checkout, *targets):
    return run_snakemake(checkout, "-n", "-q", "rules", "--cores", "1", *targets)


def test_without_a_commit_there_are_development_results_alone(checkout):
    done = planned(checkout, "final")
    assert done.returncode != 0 and "no git checkout" in done.stdout and "clone the repository" in done.stdout
    assert "Traceback (most recent" not in done.stdout
    assert planned(checkout).returncode == 0


def test_a_changed_checkout_is_refused_and_what_changed_is_named(checkout):
    commit_all(checkout)
    done = planned(checkout, "final")
    assert done.returncode == 0 and "seal" in done.stdout, done.stdout
    (checkout / "config/studies/mine.yaml").write_text(
        (checkout / "config/studies/label-fusion-phantom.yaml").read_text()
    )
    file = checkout / "src/penumbra/seeds.py"
    file.write_text(file.read_text() + "# changed\n")
    done = planned(checkout, "final")
    assert done.returncode != 0 and "Traceback (most recent" not in done.stdout
    assert "config/studies/mine.yaml" in done.stdout and "src/penumbra/seeds.py" in done.stdout
    assert planned(checkout).returncode == 0
    subprocess.run(["git", "checkout", "-q", "--", "src"], cwd=checkout, check=True)
    (checkout / "config/studies/mine.yaml").unlink()
    (checkout / "notes.txt").write_text("of no consequence")
    assert planned(checkout, "final").returncode == 0
