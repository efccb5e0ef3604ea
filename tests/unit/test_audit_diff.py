"""Which numbers differ between two trees, and where their trails part."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from penumbra.audit.diff import diff, diff_commits
from penumbra.errors import PenumbraError
from penumbra.provenance.record import sealed
from tests.synthetic_results import METRICS, SyntheticResults


def twin(folder: Path, seed: int) -> SyntheticResults:
    return SyntheticResults(folder, np.random.default_rng(seed), datasets=["alpha"]).build()


@pytest.fixture
def made(tmp_path, rng) -> SyntheticResults:
    return twin(tmp_path / "results", int(rng.integers(2**32)))


def copied(made: SyntheticResults, place: Path) -> Path:
    shutil.copytree(made.folder, place)
    return place


def again(made: SyntheticResults, candidate: str = "second", split: int = 0, **params) -> None:
    """Train one run again, and make all that follows."""
    made.run("alpha", candidate, split, params)
    made.collect("alpha")
    made.show()


def test_the_same_tree_twice_and_a_copy(made, tmp_path):
    assert diff(made.folder, made.folder).changes == ()
    same = diff(made.folder, copied(made, tmp_path / "copy"))
    assert same.changes == () and same.compared > 30


def test_trees_of_one_seed_do_not_differ_and_of_two_part_at_the_root(tmp_path):
    one, same, other = (twin(tmp_path / name / "results", seed) for name, seed in (("a", 5), ("b", 5), ("c", 6)))
    assert diff(one.folder, same.folder).changes == ()
    found = diff(one.folder, other.folder)
    assert {change.kind for change in found.changes} == {"changed"}
    assert {parting.job for parting in found.partings} == {"download/alpha"}
    assert "made raw/alpha:" in next(iter(found.partings)).differs[0]


def test_a_run_that_was_trained_otherwise_is_where_trails_part(made, tmp_path):
    before = copied(made, tmp_path / "before")
    again(made, epochs=30, loss={"name": "dice", "smooth": 1})
    found = diff(before, made.folder)
    changed = found.of_kind("changed")
    marks = {change.number.column for change in changed if change.number.row == "second"}
    assert {f"dot {case} of 0" for case in made.cases} <= marks and not any("of 1" in mark for mark in marks)
    cells = [
        c
        for c in changed
        if c.number.exhibit == "made-up/alpha" and c.number.column in METRICS and c.number.row == "second"
    ]
    assert len(cells) == len(METRICS)
    for change in cells:
        assert change.parting.job == "train/alpha/second/split-0-member-1"
        assert "parameter epochs: nothing -> 30" in change.parting.differs
        assert "parameter loss: nothing -> {'name': 'dice', 'smooth': 1}" in change.parting.differs
        assert not any(text.startswith("made runs/") and "history" in text for text in change.parting.differs)
    # The other candidates' own values are the same; only what is tested against them differs.
    assert not any(c.number.row == "first" for c in changed if c.number.exhibit == "made-up/alpha")
    assert json.loads(json.dumps(found.plain(), allow_nan=False))["changed"] == len(changed)


def test_of_other_surroundings_only_what_changed_the_bytes_is_told(made, tmp_path):
    before = copied(made, tmp_path / "before")
    made.packages = {"numpy": "2.1.0"}
    made.record("split", [("table", "datasets/alpha/cases.tsv")], dataset="alpha", split=0)
    assert diff(before, made.folder).changes == ()
    made.measure("alpha", "third", 1)
    made.collect("alpha")
    made.show()
    found = diff(before, made.folder)
    (of_third,) = {c.parting for c in found.changes if c.number.row == "third" and c.number.column in METRICS}
    assert of_third.job == "evaluate/alpha/third/split-1"
    assert "package numpy: '2.0.0' -> '2.1.0'" in of_third.differs


def test_other_code_is_told_by_module(made, tmp_path):
    before = copied(made, tmp_path / "before")
    made.modules = {**made.modules, "penumbra.module_1": "0" * 16}
    again(made, code="1" * 16)
    partings = {c.parting for c in diff(before, made.folder).changes if c.number.row == "second"}
    assert {parting.job for parting in partings} == {"train/alpha/second/split-0-member-1"}
    assert all(p.differs[0].startswith("module penumbra.module_1: ") for p in partings)


def test_numbers_that_appear_and_vanish(made, tmp_path):
    before = copied(made, tmp_path / "before")
    made.candidates.append("fourth")
    for split in range(made.splits):
        made.run("alpha", "fourth", split)
    made.collect("alpha")
    made.show()
    found, back = diff(before, made.folder), diff(made.folder, before)
    appeared = {(c.number.exhibit, c.number.row, c.number.column) for c in found.of_kind("appeared")}
    assert ("made-up/alpha", "fourth", "dice") in appeared and not found.of_kind("vanished")
    assert {(c.number.exhibit, c.number.row, c.number.column) for c in back.of_kind("vanished")} == appeared
    assert all(c.before is None and c.after["value"] is not None for c in found.of_kind("appeared"))
    # Ids have moved on; what stands in the same place is still the same number.
    assert not any(c.number.row == "first" for c in found.of_kind("changed") if c.number.exhibit == "made-up/alpha")


def test_an_exhibit_on_one_side_only(made, tmp_path):
    before = copied(made, tmp_path / "before")
    (made.folder / "records/figure/made-up/alpha.json").unlink()
    found = diff(before, made.folder)
    assert {c.number.exhibit for c in found.of_kind("vanished")} == {"made-up/alpha"}
    assert {c.parting.differs for c in found.of_kind("vanished")} == {("it was made on the first side only",)}


class TestCommits:
    """Two commits of one results folder."""

    def test_former_records_tell_what_was_shown(self, made, tmp_path):
        before = copied(made, tmp_path / "before")
        first = made.commit
        made.commit = "f" * 40
        again(made, epochs=3)
        found = diff_commits(made.folder, first[:8], "ffff")
        assert found.before == first[:8] and found.after == "ffff"
        by_folder = diff(before, made.folder)
        place = lambda c: (c.number, c.kind)  # noqa: E731
        assert sorted(map(place, found.changes), key=str) == sorted(map(place, by_folder.changes), key=str)
        cell = next(c for c in found.changes if c.number.row == "second" and c.number.column == "dice")
        assert cell.parting.job == "train/alpha/second/split-0-member-1"
        assert diff_commits(made.folder, first, first).changes == ()

    def test_an_unknown_commit_is_told_with_the_known_ones(self, made):
        with pytest.raises(PenumbraError, match=made.commit[:12]):
            diff_commits(made.folder, made.commit, "abc")
        with pytest.raises(PenumbraError, match="no table"):
            diff_commits(made.folder, "", made.commit)

    def test_lost_numbers_are_told(self, made):
        first = made.commit
        made.commit = "f" * 40
        again(made)
        for file in (made.folder / "records/numbers").iterdir():
            file.unlink()
        with pytest.raises(PenumbraError, match="neither in place nor kept"):
            diff_commits(made.folder, first, "f")


def test_records_that_name_each_other_end(made, tmp_path):
    before = copied(made, tmp_path / "before")
    file = made.folder / "records/ingest/alpha.json"
    record = json.loads(file.read_text())
    record["inputs"].append({**record["inputs"][0], "path": "datasets/alpha/prepared", "record_sha256": None})
    again(made)
    file.write_text(sealed(record))
    assert diff(before, made.folder).changes
