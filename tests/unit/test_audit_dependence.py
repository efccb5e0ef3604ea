"""What numbers rest on, on a made-up results folder."""

from __future__ import annotations

import pandas as pd
import pytest

from penumbra.audit.dependence import Dependence, producer, run_of
from penumbra.audit.dependents import Dependents, every_exhibit, index_of, numbers_of
from penumbra.audit.ledger import Ledger
from penumbra.claims.judge import COLUMNS
from tests.smoke.oracle import Oracle
from tests.synthetic_results import METRICS, SyntheticResults


@pytest.fixture
def made(tmp_path, rng) -> SyntheticResults:
    return SyntheticResults(tmp_path / "results", rng).build()


def named(numbers) -> set[tuple[str, str]]:
    return {(number.exhibit, number.id) for number in numbers}


def test_a_path_is_led_back_to_its_job():
    assert producer("datasets/alpha/labels/staple/case-1.nii.gz") == "fuse/alpha/staple"
    assert (
        producer("runs/alpha.text/first/split-3/member-1/weights.safetensors")
        == "train/alpha.text/first/split-3-member-1"
    )
    assert producer("raw/alpha/a/b/c.nii.gz") == "download/alpha"
    assert producer("logs/train/x.log") is None and producer("checkout:config/published/x.csv") is None
    assert run_of("runs/alpha/first/split-12/metrics.parquet") == ("alpha", "first", "12")
    assert run_of("runs/alpha/first/split-12/threshold.csv") is None
    assert index_of("table/s/t") == "studies/s/tables/t.cells.csv" and index_of("train/a/b/split-0-member-1") is None
    assert index_of("study_report/s") == "studies/s/report.cells.csv"


def test_every_file_and_job_agrees_with_brute_force(made):
    oracle, dependents = Oracle(made.folder), Dependents(Ledger.read(made.folder))
    files = {file for files in oracle.files.values() for file in files}
    assert len(oracle.numbers) == dependents.count > 50 and len(files) > 100
    for file in sorted(files):
        assert named(dependents.of_file(file)) == oracle.on_file(file), file
    for job in oracle.records:
        assert named(dependents.of_jobs(job)) == oracle.on_job(job), job


def test_a_mark_of_one_case_rests_on_the_run_of_that_case_alone(made):
    ledger = Ledger.read(made.folder)
    exhibit = next(e for e in every_exhibit(ledger) if e.kind == "figure" and e.name == "alpha")
    dependence = Dependence(ledger)
    for entry, direct in zip(exhibit.numbers.to_dict("records"), dependence.direct(exhibit), strict=True):
        run = ("alpha", entry["candidate"], str(int(entry["x"])))
        assert direct.runs == {run}
        assert f"runs/alpha/{run[1]}/split-{run[2]}/metrics.parquet" in direct.files
        assert exhibit.index in direct.files and exhibit.job in direct.jobs
        jobs = dependence.jobs(direct)
        assert f"train/alpha/{run[1]}/split-{run[2]}-member-1" in jobs and "download/alpha" in jobs
        assert not any(job.startswith(("download/beta", "test/")) for job in jobs)


def test_a_reference_s_cell_carries_no_p_and_rests_on_its_own_runs(made):
    ledger = Ledger.read(made.folder)
    exhibit = next(e for e in every_exhibit(ledger) if e.kind == "table")
    for entry, direct in zip(exhibit.numbers.to_dict("records"), Dependence(ledger).direct(exhibit), strict=True):
        candidates = {run[1] for run in direct.runs}
        if entry["candidate"] == made.candidates[0]:
            assert candidates == {made.candidates[0]} and not any(f.endswith("tests.csv") for f in direct.files)
        else:  # it carries p_holm, which is corrected over all
            assert candidates == set(made.candidates) and any(f.endswith("tests.csv") for f in direct.files)


def test_one_number_is_answered_like_all(made, rng):
    ledger = Ledger.open(made.folder)
    dependence = Dependence(ledger)
    for exhibit in every_exhibit(Ledger.read(made.folder)):
        every = dependence.direct(exhibit)
        at = int(rng.integers(len(every)))
        assert Dependence(ledger).one(exhibit, at) == every[at]


def test_damaged_tables_leave_the_filters_and_the_records(made):
    before = Dependents(Ledger.read(made.folder))
    told = {job: before.of_jobs(job) for job in before.ledger.jobs}
    (made.folder / "studies/made-up/metrics/alpha.parquet").write_bytes(b"PAR1")
    (made.folder / "studies/made-up/tests.csv").write_text("")
    after = Dependents(Ledger.read(made.folder))
    for job, numbers in told.items():
        # A case does not say which split tested it; of all else filter and records know the runs.
        assert set(numbers) <= set(after.of_jobs(job)), job
    tables = [n for job in told for n in after.of_jobs(job) if "/alpha" not in n.exhibit]
    assert tables


def test_numbers_of_a_damaged_index_are_those_that_were_kept(made):
    ledger = Ledger.read(made.folder)
    exhibit = next(e for e in every_exhibit(ledger) if e.kind == "table")
    before = numbers_of(exhibit)
    (made.folder / exhibit.index).write_text("id,displayed\nc0001,7\n")
    again = next(e for e in every_exhibit(ledger) if e.job == exhibit.job)
    assert again.index.startswith("records/numbers/") and numbers_of(again) == before
    (made.folder / again.index).unlink()
    assert len(numbers_of(next(e for e in every_exhibit(ledger) if e.job == exhibit.job))) == 1


def test_a_lost_record_hides_no_exhibit(made):
    count = Dependents(Ledger.read(made.folder)).count
    for job in ("table/made-up/alpha", "study_report/made-up", "collect/made-up/alpha", "test/made-up"):
        (made.folder / "records" / f"{job}.json").unlink()
    dependents = Dependents(Ledger.read(made.folder))
    assert dependents.count == count
    assert len(dependents.of_jobs("table/made-up/alpha")) == len(made.candidates) * len(METRICS)


def test_a_family_of_tests_and_its_single_lines(made, rng):
    """A number of a line without correction rests on two candidates; of a corrected one on all."""
    ledger = Ledger.read(made.folder)
    exhibit = next(e for e in every_exhibit(ledger) if e.kind == "study_report")
    frame = exhibit.numbers
    for entry, direct in zip(frame.to_dict("records"), Dependence(ledger).direct(exhibit), strict=True):
        candidates = {run[1] for run in direct.runs}
        candidate = str(entry["row"]).rsplit(", ", 1)[1]
        if entry["column"] == "p_holm":
            assert candidates == set(made.candidates)
        else:
            assert candidates == {candidate, made.candidates[0]}
        assert {run[0] for run in direct.runs} == {str(entry["row"]).split(", ", 1)[0]}


def test_claims_rest_on_their_own_rows(tmp_path, rng):
    made = SyntheticResults(tmp_path / "results", rng).build()
    path = "studies/made-up/claims.csv"
    rows = [
        {"claim": claim, "dataset": dataset, "target": "whole", "verdict": "undecided",
         "source": f"studies/made-up/metrics/{dataset}.parquet" if dataset != "all" else "",
         "filter": f"candidate in {[candidate]!r}" if dataset != "all" else ""}
        for claim, candidate in (("one", "first"), ("two", "second")) for dataset in ("alpha", "beta", "all")
    ]  # fmt: skip
    pd.DataFrame(rows).reindex(columns=list(COLUMNS)).to_csv(made.folder / path, index=False)
    made.record("claim", [("metrics", "studies/made-up/metrics/alpha.parquet")], study="made-up")
    taken = Dependence(Ledger.read(made.folder)).taken
    one = taken.of_entry("made-up", path, "claim == 'one' and dataset == 'alpha'", (), False)
    assert {run[:2] for run in one.runs} == {("alpha", "first")} and "claim/made-up" in one.jobs
    everywhere = taken.of_entry("made-up", path, "claim == 'two' and dataset == 'all'", (), False)
    assert {run[:2] for run in everywhere.runs} == {("alpha", "second"), ("beta", "second")}
    every = taken.of_entry("made-up", path, "", (), False)
    assert {run[1] for run in every.runs} == {"first", "second"}
