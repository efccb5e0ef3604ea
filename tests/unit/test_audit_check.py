"""What a results folder holds that no record vouches for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from penumbra.audit.check import KINDS, check
from penumbra.audit.ledger import Ledger
from penumbra.audit.snakemake_metadata import Metadata, metadata_file
from penumbra.provenance.record import sealed
from tests.synthetic_results import SyntheticResults


@pytest.fixture
def made(tmp_path, rng) -> SyntheticResults:
    return SyntheticResults(tmp_path / "results", rng, datasets=["alpha"], modules=0).build()


def told(made: SyntheticResults, *kinds: str) -> set[tuple[str, str]]:
    found = check(made.folder, made.folder.parent)
    assert {finding.kind for finding in found} <= KINDS.keys()
    json.dumps([finding.plain() for finding in found])
    return {(finding.kind, finding.path) for finding in found if finding.kind in kinds}


def change(made: SyntheticResults, job: str, **checkout) -> None:
    file = made.folder / "records" / f"{job}.json"
    record = json.loads(file.read_text())
    record["checkout"] |= checkout
    file.write_text(sealed(record))


def test_files_without_a_record(made):
    assert told(made, "stray", "leftover") == set()
    for path in ("notes.txt", "studies/made-up/tables/alpha.odt", "raw/alpha/case-0/more.nii.gz", "other/a/b", "datasets/x/y", "report/index.html",
                 "runs/alpha/fourth/split-0/metrics.parquet", "runs/alpha/.writing-3-x"):  # fmt: skip
        made.bytes(path)
    assert told(made, "stray", "leftover") == {
        ("stray", "notes.txt"),
        ("stray", "studies/made-up/tables/alpha.odt"),
        ("stray", "raw/alpha/case-0/more.nii.gz"),
        ("stray", "other"),
        ("stray", "report"),
        ("stray", "datasets/x"),
        ("stray", "runs/alpha/fourth"),
        ("leftover", "runs/alpha/.writing-3-x"),
    }


def test_what_is_known_to_lie_beside(made):
    for path in ("logs/train/x.log", "benchmarks/train/x.tsv", "datasets/alpha/faults.tsv",
                 "runs/alpha/first/split-0/member-1/resume/state/a.pt", "raw/.fetched-alpha/archive.zip",
                 "runs/alpha/fourth/split-0/member-1/resume/state/a.pt", "raw/alpha/.snakemake_timestamp"):  # fmt: skip
        made.bytes(path)
    assert told(made, "stray", "leftover") == set()


def test_dirty_and_unknown_commits(made):
    assert told(made, "dirty") == set()
    change(made, "split/alpha/0", dirty=True, diff_sha256="a" * 64)
    change(made, "split/alpha/1", dirty=True, diff_sha256="a" * 64)
    change(made, "fuse/alpha/staple", dirty=True, diff_sha256="b" * 64)
    change(made, "ingest/alpha", commit=None, dirty=None)
    found = [f for f in check(made.folder, made.folder.parent) if f.kind in ("dirty", "unknown")]
    jobs = {finding.jobs for finding in found if finding.kind == "dirty"}
    assert jobs == {("split/alpha/0", "split/alpha/1"), ("fuse/alpha/staple",)}
    assert ("ingest/alpha",) in {finding.jobs for finding in found if finding.kind == "unknown"}


def test_a_trail_of_several_commits(made):
    assert told(made, "commits") == set()
    change(made, "train/alpha/second/split-0-member-1", commit="c" * 40)
    found = {f.path: f.problem for f in check(made.folder, made.folder.parent) if f.kind == "commits"}
    assert found.keys() == {"studies/made-up/tables/alpha.cells.csv", "studies/made-up/figures/alpha.csv",
                            "studies/made-up/report.cells.csv"}  # fmt: skip
    assert "2 commits" in next(iter(found.values())) and "cccccccccccc (train/" in next(iter(found.values()))


def test_modules_are_held_against_the_commit(made, tmp_path):
    source = tmp_path / "src/penumbra"
    (source / "data").mkdir(parents=True)
    for path, text in (("__init__.py", "1\n"), ("data/__init__.py", ""), ("data/case.py", "x = 1\n")):
        (source / path).write_text(text)
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    for arguments in (["init", "-q"], ["add", "src"], [*author, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    from penumbra.provenance.checkout import _file_hash

    names = {"penumbra": "__init__.py", "penumbra.data": "data/__init__.py", "penumbra.data.case": "data/case.py"}
    held = {module: _file_hash(source / path) for module, path in names.items()}
    jobs = list(Ledger.read(made.folder).jobs)
    for job in jobs:
        change(made, job, commit=commit.strip(), modules=held)
    assert told(made, "module", "unknown") == set()
    change(made, jobs[3], modules={**held, "penumbra.data.case": "0" * 16})
    change(made, jobs[4], modules={**held, "penumbra.secret": "0" * 16})
    found = {f.jobs: f.problem for f in check(made.folder, tmp_path) if f.kind == "module"}
    assert "holds another" in found[jobs[3],] and "does not hold it" in found[jobs[4],]
    change(made, jobs[5], commit="d" * 40)
    assert ("unknown", f"records/{jobs[5]}.json") in told(made, "unknown")


def test_code_that_the_checkout_has_no_longer(made, root):
    from penumbra.provenance.code_digest import code_digest

    for job, record in Ledger.read(made.folder).jobs.items():
        script = str(root / "workflow/scripts" / f"{record.rule}.py")
        change(made, job, code=code_digest([script]), modules={})
    assert [f for f in check(made.folder, root) if f.kind == "code"] == []
    change(made, "split/alpha/0", modules={"penumbra.splits.k_fold": "0" * 16})
    change(made, "fuse/alpha/staple", code="0" * 16)
    found = [f for f in check(made.folder, root) if f.kind == "code"]
    assert {f.jobs for f in found} == {("split/alpha/0",), ("fuse/alpha/staple",)}


class TestSnakemake:
    """Records against `.snakemake/metadata`."""

    @pytest.fixture
    def noted(self, made) -> SyntheticResults:
        """Notes that agree with the records."""
        for record in Ledger.read(made.folder).jobs.values():
            for output in record.outputs:
                self.note(made, output.path, **self.content(record))
        return made

    def content(self, record) -> dict:
        from datetime import datetime

        start = datetime.fromisoformat(record.content["started"]).timestamp()
        end = datetime.fromisoformat(record.content["ended"]).timestamp()
        params = sorted(repr(value) for value in record.content["params"].values())
        inputs = sorted(f"results/{given.path}" for given in record.inputs)
        return {"rule": record.rule, "input": inputs, "params": params, "starttime": start - 0.2, "endtime": end}

    def note(self, made: SyntheticResults, path: str, **content) -> Path:
        folder = made.folder.parent / ".snakemake/metadata"
        folder.mkdir(parents=True, exist_ok=True)
        file = metadata_file(folder, f"results/{path}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
        return file

    def test_agreement(self, noted):
        assert told(noted, "snakemake") == set()

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"rule": "fuse"}, "rule fuse"),
            ({"input": ["results/datasets/alpha/cases"]}, "only one of the two names the input datasets/alpha/cases"),
            ({"params": ["'0123'", "7"]}, "a parameter that the record has not"),
            ({"starttime": 1.0, "endtime": 2.0}, "another time"),
            ({"starttime": None}, "start and end"),
        ],
    )
    def test_disagreement(self, noted, changes, words):
        record = Ledger.read(noted.folder).jobs["split/alpha/0"]
        path = record.outputs[0].path
        self.note(noted, path, **(self.content(record) | changes))
        (finding,) = [f for f in check(noted.folder, noted.folder.parent) if f.kind == "snakemake"]
        assert finding.jobs == ("split/alpha/0",) and words in finding.problem

    def test_a_missing_or_unreadable_note(self, noted):
        folder = noted.folder.parent / ".snakemake/metadata"
        metadata_file(folder, "results/datasets/alpha/splits/split-0.json").unlink()
        metadata_file(folder, "results/datasets/alpha/splits/split-1.json").write_text("{")
        assert told(noted, "snakemake") == {("snakemake", f"records/split/alpha/{k}.json") for k in (0, 1)}

    def test_long_names_go_on_in_folders(self, tmp_path):
        folder = tmp_path / "metadata"
        folder.mkdir()
        file = metadata_file(folder, "results/" + "a" * 400)
        longest = os.pathconf(folder, "PC_NAME_MAX")
        assert file.parent.name.startswith("@") and len(file.parent.name) == longest
        assert metadata_file(folder, "results/a").parent == folder

    def test_results_elsewhere_are_noted_by_their_whole_path(self, noted, tmp_path):
        elsewhere = tmp_path / "other"
        metadata = Metadata(elsewhere, noted.folder)
        assert not metadata.there and metadata.of("datasets/alpha/cases.tsv") is None

    def test_notes_of_other_results_say_nothing_of_a_copy(self, noted, tmp_path):
        shutil.copytree(noted.folder, tmp_path / "copy")
        assert [f for f in check(tmp_path / "copy", noted.folder.parent) if f.kind == "snakemake"] == []
