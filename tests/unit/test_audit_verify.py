"""Every kind of fault, on a made-up results folder: found, named, and told with the right numbers."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from penumbra import paths
from penumbra.audit.artefacts import verify_artefacts
from penumbra.audit.chain import head, own_hash_broken
from penumbra.audit.deep import differences, verify_rows
from penumbra.audit.faults import KINDS, Verdict
from penumbra.audit.ledger import Ledger
from penumbra.audit.verify import verify
from penumbra.errors import PenumbraError
from penumbra.provenance.hashing import state
from penumbra.provenance.record import sealed
from tests.smoke.oracle import Oracle
from tests.synthetic_results import SyntheticResults


@pytest.fixture
def made(tmp_path, rng) -> SyntheticResults:
    return SyntheticResults(tmp_path / "results", rng, datasets=["alpha"]).build()


def told(verdict: Verdict) -> set[tuple[str, str]]:
    assert {fault.kind for fault in verdict.faults} <= KINDS.keys()
    return {(fault.kind, fault.path) for fault in verdict.faults}


def named(numbers) -> set[tuple[str, str]]:
    return {(number.exhibit, number.id) for number in numbers}


def rewrite(made: SyntheticResults, of: str, /, **changes) -> None:
    file = made.folder / "records" / f"{of}.json"
    file.write_text(sealed({**json.loads(file.read_text()), **changes}))


def test_a_sound_folder(made):
    verdict = verify(made.folder)
    assert verdict.faults == () and verdict.sound and verdict.affected == ()
    assert verdict.records == len(Ledger.read(made.folder).jobs)
    assert verdict.artefacts > verdict.records and verdict.bytes > 10_000 and verdict.numbers > 30
    assert verdict.head == head(Ledger.read(made.folder)) and len(verdict.head) == 64
    assert json.loads(json.dumps(verdict.plain()))["sound"] is True


def test_no_records_is_an_error(tmp_path):
    with pytest.raises(PenumbraError, match="no job records"):
        verify(tmp_path)


def test_the_head_follows_every_record(made, rng):
    before = verify(made.folder).head
    files = sorted((made.folder / "records").rglob("*/*.json"))
    file = files[rng.integers(len(files))]
    file.write_text(file.read_text() + " ")
    assert verify(made.folder).head != before


def test_progress_is_told(made):
    seen: list[tuple] = []

    class Bar:
        def __init__(self, total, title, *, unit):
            self.total = total
            seen.append((title, unit))

        def update(self, done):
            assert 0 <= done <= self.total

        def close(self):
            seen.append(("closed",))

    verify(made.folder, progress=Bar)
    assert seen == [("hashing", "files"), ("closed",), ("computing again", "numbers"), ("closed",)]


def test_a_folder_in_place_of_a_file_and_a_file_in_place_of_a_folder(made):
    split = made.folder / "datasets/alpha/splits/split-0.json"
    split.unlink()
    split.mkdir()
    labels = made.folder / "datasets/alpha/labels/staple"
    shutil.rmtree(labels)
    labels.write_text("")
    verdict = verify(made.folder)
    assert {("changed", "datasets/alpha/splits/split-0.json"), ("missing", "datasets/alpha/labels/staple")} <= told(
        verdict
    )


@pytest.mark.parametrize("target", ["nowhere", "image.nii.gz"])
def test_a_broken_link_is_a_missing_file(made, target):
    file = made.folder / "raw/alpha/case-0/image.nii.gz"
    file.unlink()
    file.symlink_to(target)
    verdict = verify(made.folder)
    assert told(verdict) == {("missing", "raw/alpha/case-0/image.nii.gz")} and verdict.affected


def test_hidden_files_are_no_content(made):
    (made.folder / "raw/alpha/.snakemake_timestamp").touch()
    (made.folder / "datasets/alpha/labels/staple/.hidden").write_text("x")
    assert verify(made.folder).sound


def test_times(made):
    file = made.folder / "datasets/alpha/cases.tsv"
    at = file.stat().st_mtime_ns
    for late, sound in ((10**12, True), (-1_900_000_000, True), (-2_100_000_000, False)):
        os.utime(file, ns=(at, at + late))
        assert verify(made.folder).sound is sound


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"params": {"code": "1", "seed": 2}}, "parameters"),
        ({"wildcards": {"dataset": "beta", "split": "0"}}, "wildcards"),
        ({"job": "split/alpha/1"}, "not of split/alpha/0"),
        ({"rule": "fuse"}, "rule fuse"),
        ({"outputs": []}, "does not name"),
        ({"params": None}, "holds 'params'"),
        ({"wildcards": []}, "holds 'wildcards'"),
    ],
)
def test_a_record_that_contradicts_itself(made, changes, words):
    rewrite(made, "split/alpha/0", **changes)
    verdict = verify(made.folder)
    faults = [f for f in verdict.faults if f.kind == "record" and f.path == "records/split/alpha/0.json"]
    assert faults and re.search(words, " ".join(fault.problem for fault in faults))
    # Of what follows from the split, by the records as they were.
    assert {number.exhibit for number in faults[0].numbers} == {"made-up/alpha", "made-up/report"}


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"job": 3}', "\x00\xff", '"text"'])
def test_an_unreadable_record_is_a_fault_and_no_trace(made, text):
    oracle = Oracle(made.folder)
    (made.folder / "records/fuse/alpha/average.json").write_bytes(text.encode("latin-1"))
    verdict = verify(made.folder)
    (fault,) = [fault for fault in verdict.faults if fault.path == "records/fuse/alpha/average.json"]
    assert fault.kind == "record" and named(fault.numbers) == oracle.on_job("fuse/alpha/average")


def test_an_output_that_is_another_job_s(made):
    file = made.folder / "records/split/alpha/0.json"
    record = json.loads(file.read_text())
    other = json.loads((made.folder / "records/split/alpha/1.json").read_text())
    file.write_text(sealed({**record, "outputs": record["outputs"] + other["outputs"]}))
    problems = " ".join(fault.problem for fault in verify(made.folder).faults)
    assert "names datasets/alpha/splits/split-1.json, which its job does not make" in problems


def test_an_input_that_no_job_makes(made):
    file = made.folder / "records/split/alpha/0.json"
    record = json.loads(file.read_text())
    record["inputs"][0]["path"] = "datasets/alpha/cases.csv"
    file.write_text(sealed(record))
    assert "reads datasets/alpha/cases.csv, which no job makes" in " ".join(
        f.problem for f in verify(made.folder).faults
    )


def test_a_folder_s_hash_must_be_that_of_its_files(made):
    file = made.folder / "records/fuse/alpha/staple.json"
    record = json.loads(file.read_text())
    record["outputs"][0]["sha256"] = "0" * 64
    record["outputs"][0]["bytes"] += 1
    file.write_text(sealed(record))
    problems = " ".join(fault.problem for fault in verify(made.folder).faults)
    assert "do not give the hash of the folder" in problems and "do not give its number of bytes" in problems


def test_a_forged_raw_file_contradicts_the_manifest(made):
    made.bytes("raw/alpha/case-1/image.nii.gz")
    made.record("download", dataset="alpha")
    paths_told = told(verify(made.folder))
    assert ("chain", "raw/alpha/manifest.tsv") in paths_told


class TestTheChain:
    """Jobs that ran again, and records that were changed."""

    def test_a_job_that_ran_again_with_the_same_bytes_is_sound(self, made):
        made.record("split", [("table", "datasets/alpha/cases.tsv")], dataset="alpha", split=0)
        assert verify(made.folder).faults == ()
        (kept,) = (made.folder / "records/superseded").glob("*.json")
        kept.unlink()
        oracle = Oracle(made.folder)
        verdict = verify(made.folder)
        assert ("chain", "records/split/alpha/0.json") in told(verdict)
        assert ("kept", f"records/superseded/{kept.name}") in told(verdict)
        assert named(verdict.affected) == oracle.on_job("split/alpha/0")

    def test_a_job_that_ran_again_with_other_bytes_leaves_its_readers_behind(self, made):
        oracle = Oracle(made.folder)
        made.write("datasets/alpha/splits/split-0.json", "{}")
        made.record("split", [("table", "datasets/alpha/cases.tsv")], dataset="alpha", split=0)
        verdict = verify(made.folder)
        assert told(verdict) == {("chain", "records/split/alpha/0.json")}
        assert named(verdict.affected) == oracle.on_job("split/alpha/0")

    def test_everything_made_again_is_sound(self, made):
        made.run("alpha", "first", 0, {"epochs": 3})
        made.collect("alpha")
        made.show()
        assert verify(made.folder).faults == ()
        assert len(list((made.folder / "records/superseded").glob("*.json"))) >= 6

    def test_a_changed_record_is_blamed_and_not_its_makers_or_readers(self, made, rng):
        oracle = Oracle(made.folder)
        for job in ("ingest/alpha", "fuse/alpha/staple", "infer/alpha/second/split-1", "evaluate/alpha/third/split-0",
                    "collect/made-up/alpha", "test/made-up", "table/made-up/alpha"):  # fmt: skip
            file = made.folder / "records" / f"{job}.json"
            text = file.read_text()
            for change in ("host", "reader"):
                record = json.loads(text)
                if change == "host":
                    record["machine"]["host"] = "another"
                else:
                    given = record["inputs"][rng.integers(len(record["inputs"]))]
                    given["record_sha256" if rng.integers(2) else "sha256"] = hashlib.sha256(rng.bytes(8)).hexdigest()
                file.write_text(sealed(record))
                verdict = verify(made.folder)
                assert {fault.path for fault in verdict.faults} == {f"records/{job}.json"}, (job, change)
                assert named(verdict.affected) == oracle.on_job(job), (job, change)
                file.write_text(text)
                stamp = (made.folder / "studies/made-up/report.md").stat()
                os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))

    @pytest.mark.parametrize("change", [('"host": "a"', '"host": "b"'), ('"own_sha256"', '"own_sha257"')])
    def test_a_record_that_nobody_reads_is_found_by_its_own_hash(self, made, change):
        file = made.folder / "records/study_report/made-up.json"
        assert not own_hash_broken(file.read_bytes())
        file.write_text(file.read_text().replace(*change))
        assert told(verify(made.folder)) == {("record", "records/study_report/made-up.json")}

    def test_a_seal_names_its_records(self, made):
        ledger = Ledger.read(made.folder)
        seal = {"study": "made-up", "records": {job: record.sha256 for job, record in ledger.jobs.items()}}
        made.write(paths.SEAL.format(study="made-up"), json.dumps(seal))
        made.record("seal", [("report", "studies/made-up/report.md")], study="made-up")
        assert verify(made.folder).faults == ()
        file = made.folder / "records/study_report/made-up.json"
        file.write_text(sealed(json.loads(file.read_text().replace('"host": "a"', '"host": "b"'))))
        assert ("chain", "records/study_report/made-up.json") in told(verify(made.folder))

    def test_records_that_name_each_other_end(self, made):
        file = made.folder / "records/ingest/alpha.json"
        record = json.loads(file.read_text())
        record["inputs"].append({**record["inputs"][0], "path": "datasets/alpha/prepared"})
        file.write_text(sealed(record))
        assert not verify(made.folder).sound


def test_what_was_read_from_outside(tmp_path, rng):
    made = SyntheticResults(tmp_path / "results", rng, datasets=["alpha"])
    published = tmp_path / "config/published/paper.csv"
    published.parent.mkdir(parents=True)
    published.write_text("a\n")
    outside = tmp_path / "data"
    outside.mkdir()
    (outside / "scan.nii").write_bytes(b"scan")
    made.build()
    path = f"{paths.TABLE.format(study='made-up', table='alpha')}"
    inputs = [
        ("metrics", "studies/made-up/metrics/alpha.parquet"),
        ("published", "checkout:config/published/paper.csv"),
    ]
    made.record("table", inputs, study="made-up", table="alpha")
    made.record("study_report", [("tables", f"{path}.md")], study="made-up")
    assert verify(made.folder).faults == ()
    published.write_text("b\n")
    assert told(verify(made.folder)) == {("input", "checkout:config/published/paper.csv")}
    published.unlink()
    assert told(verify(made.folder)) == {("input", "checkout:config/published/paper.csv")}
    assert verify_artefacts(Ledger.read(made.folder), None)[0] == []


def test_linked_originals_are_read_once(tmp_path, rng, monkeypatch):
    """Raw files of a folder are links to the originals, which the download job read."""
    made = SyntheticResults(tmp_path / "results", rng, datasets=["alpha"])
    outside = tmp_path / "originals"
    (outside / "sub").mkdir(parents=True)
    for name in ("a.nii", "sub/b.nii"):
        (outside / name).write_bytes(rng.bytes(50))
    made.data("alpha")
    for name in ("a.nii", "sub/b.nii"):
        link = made.folder / "raw/alpha" / name
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(outside / name)
    files = [f for f in state(made.folder / "raw/alpha").files if f.path != "manifest.tsv"]
    lines = ["path\tbytes\tsha256", *(f"{f.path}\t{f.bytes}\t{f.sha256}" for f in files)]
    made.write("raw/alpha/manifest.tsv", "\n".join(lines) + "\n")
    made.record("download", [("", str(outside))], dataset="alpha")
    made.record("ingest", [("raw", "raw/alpha")], dataset="alpha")
    ledger = Ledger.read(made.folder)
    found, hashed = verify_artefacts(ledger)
    assert found == [] and len(hashed.originals) == 2

    def unread(path):
        raise AssertionError(f"{path} is read twice")

    monkeypatch.setattr("penumbra.provenance.hashing.sha256", unread)
    assert verify_artefacts(ledger)[0] == []
    monkeypatch.undo()
    (outside / "sub/b.nii").write_bytes(b"other")
    kinds = {(fault.kind, fault.path) for fault in verify_artefacts(ledger)[0]}
    assert kinds == {("changed", "raw/alpha/sub/b.nii"), ("input", str(outside))}
    shutil.rmtree(outside)
    assert {fault.kind for fault in verify_artefacts(ledger)[0]} == {"missing"}


class TestNumbers:
    """What the rows say, and what is displayed."""

    def test_an_edited_value_is_named_alone_where_the_trail_is_repaired(self, made, rng):
        index = made.folder / "studies/made-up/tables/alpha.cells.csv"
        cells = pd.read_csv(index, dtype=str, keep_default_na=False)
        at = int(rng.integers(len(cells)))
        cells.loc[at, "value"] = str(float(cells.loc[at, "value"]) + 1e-9)
        cells.to_csv(index, index=False)
        self.repair(made)
        (fault,) = verify(made.folder).faults
        assert fault.kind == "number" and fault.path == "studies/made-up/tables/alpha.cells.csv"
        assert named(fault.numbers) == {("made-up/alpha", cells.loc[at, "id"])} and "value is" in fault.problem

    def test_a_text_that_shows_another_number_than_its_index(self, made):
        page = made.folder / "studies/made-up/tables/alpha.md"
        cells = pd.read_csv(made.folder / "studies/made-up/tables/alpha.cells.csv")
        start = int(cells["start"][0])
        text = page.read_text()
        page.write_text(text[:start] + ("9" if text[start] != "9" else "8") + text[start + 1 :])
        self.repair(made)
        (fault,) = verify(made.folder).faults
        assert fault.kind == "number" and named(fault.numbers) == {("made-up/alpha", "c0001")}

    def test_rows_that_were_exchanged_are_named_by_every_number_that_takes_them(self, made):
        file = made.folder / "studies/made-up/metrics/alpha.parquet"
        frame = pd.read_parquet(file)
        mine = (frame["candidate"] == "second") & (frame["metric"] == "dice")
        frame.loc[mine, "value"] = 1 - frame.loc[mine, "value"]
        frame.to_parquet(file, index=False)
        faults = [fault for fault in verify(made.folder).faults if fault.kind == "number"]
        rows = {(number.exhibit, number.row) for fault in faults for number in fault.numbers}
        assert rows == {("made-up/alpha", "second")}

    @pytest.mark.parametrize("content", [b"", b"PAR1", b"\xff\xfe\x00", b'id\n"', b"id,displayed\nc0001,1\n"])
    def test_a_truncated_table_or_index_is_a_fault_and_no_trace(self, made, content):
        oracle = Oracle(made.folder)
        for path in ("studies/made-up/metrics/alpha.parquet", "studies/made-up/tests.csv",
                     "studies/made-up/tables/alpha.cells.csv", "studies/made-up/figures/alpha.csv"):  # fmt: skip
            before = (made.folder / path).read_bytes()
            (made.folder / path).write_bytes(content)
            verdict = verify(made.folder)
            assert ("changed", path) in told(verdict)
            assert named(verdict.affected) == oracle.on_file(path), path
            (made.folder / path).write_bytes(before)

    def test_an_index_that_cannot_be_read_and_was_not_kept(self, made):
        path = "studies/made-up/tables/alpha.cells.csv"
        shutil.rmtree(made.folder / "records/numbers")
        (made.folder / path).write_bytes(b"")
        assert {("changed", path), ("index", path)} <= told(verify(made.folder))

    def repair(self, made: SyntheticResults) -> None:
        inputs = [("metrics", "studies/made-up/metrics/alpha.parquet"), ("tests", "studies/made-up/tests.csv")]
        made.record("table", inputs, study="made-up", table="alpha")
        shown = [("tables", f"studies/made-up/tables/alpha.{suffix}") for suffix in paths.TABLE_SUFFIXES]
        shown += [("figures", f"studies/made-up/figures/alpha.{suffix}") for suffix in paths.FIGURE_SUFFIXES]
        made.record("study_report", [("tests", "studies/made-up/tests.csv"), *shown], study="made-up")


def test_kept_numbers_and_lost_ones(made, rng):
    kept = sorted((made.folder / "records/numbers").glob("*.csv"))
    file = kept[rng.integers(len(kept))]
    path = file.relative_to(made.folder).as_posix()
    file.write_text("other")
    assert told(verify(made.folder)) == {("kept", path)}
    file.unlink()
    assert told(verify(made.folder)) == {("kept", path)}


def test_moving_and_copying_raise_no_alarm(made, tmp_path):
    shutil.copytree(made.folder, tmp_path / "copied", copy_function=shutil.copyfile)
    assert verify(tmp_path / "copied").sound
    made.folder.rename(tmp_path / "moved")
    assert verify(tmp_path / "moved").sound
    for file in (tmp_path / "moved").rglob("*"):
        os.utime(file)
    assert verify(tmp_path / "moved").sound


def test_rows_are_compared_one_by_one(rng):
    kept = pd.DataFrame({"a": ["x", "y", "z"], "b": [1, 2, 2], "value": rng.normal(size=3), "n": [1, 2, 3]})
    kept["bin"] = pd.array([1, None, 3], dtype="Int64")
    assert differences(kept, kept.copy(), ("a", "b")) == []
    again = kept.sample(frac=1, random_state=1)
    assert differences(kept, again, ("a", "b")) == []
    close = kept.assign(value=kept["value"] * (1 + 1e-11))
    assert differences(kept, close, ("a", "b")) == []
    other = kept.assign(value=[kept["value"][0], kept["value"][1] + 1e-3, np.nan])
    first, second = differences(kept, other, ("a", "b"))
    assert first.startswith("value of y/2 is") and "made again undefined" in second
    assert differences(kept, kept.iloc[:2], ("a", "b")) == ["the row z/2 should not be there"]
    assert differences(kept.iloc[1:], kept, ("a", "b")) == ["the row x/1 is missing"]
    assert differences(kept, kept.assign(n=[1, 2, 4]), ("a", "b")) == ["n of z/2 is 3, made again 4"]
    assert differences(kept, kept.rename(columns={"n": "m"}), ("a", "b")) == ["columns differ: m, n"]
    assert differences(pd.concat([kept, kept.iloc[:1]]), kept, ("a", "b")) == ["1 rows stand twice"]


def test_rows_made_again(made, monkeypatch, tmp_path):
    """Made-up predictions cannot be measured; what was collected of made-up metrics can be collected again."""
    monkeypatch.setattr("penumbra.audit.deep.FEW", 1000)
    ledger = Ledger.read(made.folder)
    found = verify_rows(ledger)
    assert {fault.path for fault in found if "cannot be made again" in fault.problem} >= {
        f"runs/alpha/{candidate}/split-{split}/metrics.parquet" for candidate in made.candidates for split in (0, 1)
    }
    assert not any("studies/made-up/metrics" in fault.path for fault in found)
    file = made.folder / "studies/made-up/metrics/alpha.parquet"
    frame = pd.read_parquet(file)
    frame.loc[3, "value"] += 1
    frame.to_parquet(file, index=False)
    (fault,) = [fault for fault in verify_rows(ledger) if fault.path == "studies/made-up/metrics/alpha.parquet"]
    assert fault.kind == "rows" and fault.problem.startswith(f"value of {frame.loc[3, 'row']} is")


def test_nothing_is_made_again_outside_the_temporary_folder(made, monkeypatch, tmp_path):
    monkeypatch.setattr("penumbra.audit.deep.FEW", 1000)
    target = tmp_path / "elsewhere.parquet"
    file = made.folder / "records/collect/made-up/alpha.json"
    record = json.loads(file.read_text())
    for path in (str(target), "../elsewhere.parquet", "studies/made-up/metrics/../../../../elsewhere.parquet"):
        record["outputs"][0]["path"] = path
        file.write_text(sealed(record))
        verify_rows(Ledger.read(made.folder))
        assert not target.exists()


def test_the_fault_of_a_path_is_told_in_full(made):
    (made.folder / "runs/alpha/first/split-0/member-1/weights.safetensors").write_bytes(b"other")
    (fault,) = verify(made.folder).faults
    assert fault.kind == "changed" and "5 bytes instead of 60" in fault.problem and "forcerun" in fault.cure
    plain = fault.plain()
    assert {number["exhibit"] for number in plain["numbers"]} == {"made-up/alpha", "made-up/report"}
    assert set(plain["numbers"][0]) == {"exhibit", "id", "row", "column", "displayed"}
    assert Path(made.folder, fault.path).exists()


def _set(side: str, key: str, value):
    return lambda record: record[side][0].update({key: value})


@pytest.mark.parametrize(
    "change",
    [
        _set("outputs", "path", "../../../../etc/passwd"),
        _set("outputs", "path", "/etc/passwd"),
        _set("outputs", "path", 5),
        _set("outputs", "path", None),
        _set("outputs", "bytes", "5"),
        _set("outputs", "bytes", 10**400),
        _set("outputs", "mtime_ns", None),
        _set("outputs", "mtime_ns", 10**400),
        _set("outputs", "kind", "pipe"),
        _set("inputs", "path", ["a"]),
        _set("inputs", "path", None),
        _set("inputs", "path", ""),
        _set("inputs", "path", "/a\0b"),
        _set("inputs", "path", "checkout:../../etc"),
        _set("inputs", "sha256", 4),
        _set("inputs", "record_sha256", 4),
        lambda record: record["outputs"][0].update(kind="folder", files=[["../../x", "0" * 64, 5, 0]]),
        lambda record: record.update(supersedes="../../../x"),
        lambda record: record["checkout"].update(commit="--output=here"),
        lambda record: record["checkout"].update(diff_sha256="../../../x"),
        lambda record: record["checkout"].update(modules=[1]),
        lambda record: record.pop("wildcards"),
        lambda record: record.update(software="none"),
    ],
)
def test_a_record_that_would_lead_elsewhere_is_a_fault_and_no_trace(made, change):
    oracle = Oracle(made.folder)
    job = "evaluate/alpha/first/split-0"
    file = made.folder / f"records/{job}.json"
    record = json.loads(file.read_text())
    change(record)
    file.write_text(sealed(record))
    (fault,) = [fault for fault in verify(made.folder).faults if fault.path == f"records/{job}.json"]
    assert fault.kind == "record" and "no job record" in fault.problem
    assert named(fault.numbers) == oracle.on_job(job)


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"job": ' + b"9" * 5000 + b"}", b'{"job": "\\ud800"}'])
def test_a_record_that_json_chokes_on_is_a_fault_and_no_trace(made, text):
    (made.folder / "records/fuse/alpha/average.json").write_bytes(text)
    assert ("record", "records/fuse/alpha/average.json") in told(verify(made.folder))


@pytest.mark.parametrize("what", ["folder", "pipe"])
def test_a_record_that_is_no_file_is_a_fault_and_no_wait(made, what):
    file = made.folder / "records/fuse/alpha/average.json"
    file.unlink()
    file.mkdir() if what == "folder" else os.mkfifo(file)
    assert ("record", "records/fuse/alpha/average.json") in told(verify(made.folder))


def test_a_pipe_a_device_and_links_that_lead_back_are_faults_and_no_wait(made):
    files = sorted((made.folder / "runs").glob("*/*/split-*/predictions/*"))
    for file, replace in zip(files, (os.mkfifo, lambda file: file.symlink_to("/dev/zero")), strict=False):
        file.unlink()
        replace(file)
    for name in ("one", "two"):
        (files[-1].parent / name).symlink_to(files[-1].parent)
    os.mkfifo(made.folder / "records/numbers/pipe.csv")
    found = told(verify(made.folder))
    paths = [file.relative_to(made.folder).as_posix() for file in files]
    assert {("changed", path) for path in paths[:2]} <= found
    assert {("added", f"{paths[-1].rpartition('/')[0]}/{name}") for name in ("one", "two")} <= found
    assert ("kept", "records/numbers/pipe.csv") in found


def test_a_record_that_a_seal_names_and_that_is_gone_is_found(made):
    made.write(paths.SEAL.format(study="made-up"), json.dumps({"records": {"table/made-up/gone": "0" * 64}}))
    made.record("seal", [("report", "studies/made-up/report.md")], study="made-up")
    assert ("unrecorded", "records/table/made-up/gone.json") in told(verify(made.folder))
