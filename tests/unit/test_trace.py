"""The trail of a displayed number: finding it, what it rests on, and how that is told."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from penumbra.audit import show
from penumbra.audit.ledger import Ledger
from penumbra.audit.trace import Trace, find, places, trace
from penumbra.errors import PenumbraError
from penumbra.files import sha256
from tests.unit.traced_tree import CASES, DATASET, Tree

ABOUT = {
    "title": "Spinal cords",
    "licence": "https://creativecommons.org/licenses/by/4.0/",
    "access": "open",
    "citation": "A 2020",
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Tree(tmp_path_factory.mktemp("traced") / "results", splits=3, members=2).make(ABOUT).results


@pytest.fixture
def ledger(results: Path) -> Ledger:
    return Ledger.open(results)


def at(ledger: Ledger, *where: str, **more: Any) -> dict[str, Any]:
    exhibit, position = find(ledger, *where, **more)
    return exhibit.number(position)


# ---------------------------------------------------------------- finding


@pytest.mark.parametrize(
    "where",
    [
        ("table-1", "conv-average", "Phantom > Dice [%] > gray matter"),
        ("TABLE-1", "Conv-Average", "phantom > dice [%] > GRAY MATTER"),
        ("small/table-1", "conv-av", "Phantom"),
        ("tab", "average", "> gray matter"),
        ("table-1", "conv-average", "Dice"),
        ("table-1", "conv-average", "gray dice"),
        ("table-1", "c0002"),
        ("table-1", "C0002"),
    ],
)
def test_a_number_is_found_by_what_names_it_alone(ledger: Ledger, where: tuple[str, ...]) -> None:
    assert (at(ledger, *where)["id"], at(ledger, *where)["row"]) == ("c0002", "conv-average")


def test_a_mark_is_found_by_id_and_by_panel_name_and_kind(ledger: Ledger) -> None:
    assert at(ledger, "figure-1", "m0006")["mark"] == "ring"
    assert at(ledger, "figure-1", mark="m0006")["id"] == "m0006"
    found = at(ledger, "figure-1", "conv-staple", "<script>", mark="ring")
    assert (found["panel"], found["name"], found["mark"]) == ("conv-staple", "<script>", "ring")


def test_a_number_of_the_report_is_found(ledger: Ledger) -> None:
    assert at(ledger, "report", "rows", "number")["displayed"] == "12"


@pytest.mark.parametrize(
    ("where", "problem", "cure"),
    [
        (("tabel-1", "x", "y"), "there is no table, figure or report 'tabel-1'", "'table-1'"),
        (("table-1", "conv-stapel", "Dice"), "there is no row of small/table-1 'conv-stapel'", "'conv-staple'"),
        (("table-1", "conv", "Dice"), "'conv' is more than one row", "'conv-staple', 'conv-average'"),
        (("table-1", "conv-staple", "Brier"), "there is no column of small/table-1 'Brier'", "Dice"),
        (("table-1", "c0009"), "there is no row of small/table-1 'c0009'", "audit list small/table-1"),
        (("figure-1", "conv-staple", "<script>"), "2 numbers of small/figure-1 answer to that", "m0003 .*dot.*m0004 .*ring"),
    ],
)  # fmt: skip
def test_what_is_not_found_is_told_with_near_names(
    ledger: Ledger, where: tuple[str, ...], problem: str, cure: str
) -> None:
    with pytest.raises(PenumbraError) as error:
        find(ledger, *where)
    assert problem in error.value.problem and re.search(cure, error.value.cure or "", re.S), error.value


def test_an_unknown_id_is_told(ledger: Ledger) -> None:
    with pytest.raises(PenumbraError, match="has no number 'm0099'"):
        find(ledger, "figure-1", mark="m0099")


def test_of_several_studies_one_must_be_named(tmp_path: Path) -> None:
    ledger = Ledger.open(Tree(tmp_path, splits=1, studies=("first", "second")).make().results)
    with pytest.raises(PenumbraError, match="several studies have 'table-1'") as error:
        find(ledger, "table-1", "conv-staple", "Dice")
    assert "first" in str(error.value.cure) and "second" in str(error.value.cure)
    for where in ({"exhibit": "second/table-1"}, {"exhibit": "table-1", "study": "SECOND"}):
        assert find(ledger, row="conv-staple", column="Dice", **where)[0].study == "second"
    with pytest.raises(PenumbraError, match="there is no study 'third'"):
        find(ledger, "third/table-1", "conv-staple", "Dice")


def test_every_place_that_is_listed_leads_to_its_number(ledger: Ledger) -> None:
    for name in ("table-1", "figure-1", "report"):
        exhibit, _ = find(ledger, name, "m0001" if name == "figure-1" else "c0001")
        told = places(exhibit)
        assert len(told) == len(exhibit.numbers)
        for k, place in enumerate(told):
            assert find(ledger, name, place["id"])[1] == k


# ---------------------------------------------------------------- the trail


@pytest.fixture
def cell(ledger: Ledger) -> Trace:
    return trace(ledger, *find(ledger, "table-1", "conv-average", "Dice"))


def test_a_trail_says_how_the_number_was_made(cell: Trace, results: Path) -> None:
    rows = pd.read_parquet(results / f"studies/small/metrics/{DATASET}.parquet").query("candidate == 'conv-average'")
    means = rows.groupby("split")["value"].mean()
    assert cell.number["value"] == pytest.approx(means.mean(), abs=1e-15)
    assert cell.number["std"] == pytest.approx(means.std(ddof=1), abs=1e-15)
    assert cell.number["displayed"] == f"{100 * means.mean():.1f} ± {100 * means.std(ddof=1):.1f}"
    assert cell.number["words"] == "mean over splits of the run mean; std with ddof=1 over splits"
    assert (cell.number["n"], cell.number["n_expected"], cell.number["problems"]) == (3, 3, [])
    assert cell.rows["count"] == len(rows) == 6 and len(cell.rows["shown"]) == 5
    assert [r[0] for r in cell.rows["shown"]] == rows["row"].tolist()[:5]


def test_a_trail_names_the_runs_of_its_rows_and_no_others(cell: Trace) -> None:
    assert [(r["candidate"], r["split"], r["rows"]) for r in cell.runs] == [
        ("conv-average", str(k), 2) for k in range(3)
    ]
    jobs = set(cell.jobs)
    assert not [job for job in jobs if "conv-staple" in job]
    assert {job.split("/")[0] for job in jobs} == {
        "download", "ingest", "preprocess", "split", "fuse", "train", "infer", "evaluate", "collect", "table"
    }  # fmt: skip
    assert len([job for job in jobs if job.startswith("train/")]) == 3 * 2


def test_every_hash_of_a_trail_is_that_of_its_file(cell: Trace, results: Path) -> None:
    named = [cell.runs[0][key] for key in ("metrics", "threshold", "split_file")] + cell.sources
    named += [m[key] for m in cell.runs[0]["members"] for key in ("weights", "history")]
    named += [f for part in (*cell.raw, *cell.cases) for f in part["files"]]
    assert len(named) > 12
    for told in named:
        file = results / told["path"]
        assert file.is_file() and sha256(file) == told["sha256"], told
    for job, told in cell.jobs.items():
        assert sha256(results / told["record"]) == told["record_sha256"], job


def test_a_run_tells_threshold_members_labels_and_split(cell: Trace) -> None:
    run = cell.runs[1]
    assert run["threshold"]["values"] == {"gray_matter": 0.45} and run["binarisation"] == "threshold"
    assert [m["member"] for m in run["members"]] == ["1", "2"]
    assert {m["fusion"] for m in run["members"]} == {"average"} and {m["seed"] for m in run["members"]} == {1}
    assert run["split_file"]["parts"] == {"train": 1, "validation": 1, "test": 2}
    assert run["predictions"]["files"] == 2 and run["recipe"]["predictor"]["name"] == "single_pass"
    assert run["references"]["hard_labels"]["path"].endswith("labels/staple")


def test_raw_files_come_with_source_and_licence(cell: Trace) -> None:
    (raw,) = cell.raw
    assert raw["url"] == "https://example.org/cord.zip" and raw["archive_sha256"] == "a" * 64
    assert {key: raw[key] for key in ABOUT} == ABOUT
    assert [f["path"].split("/")[2] for f in raw["files"]] == sorted([*CASES, "manifest.tsv"])
    (cases,) = cell.cases
    assert cases["cases"] == sorted(CASES[2:]) and cases["of"] == 4 and len(cases["files"]) == 2


def test_a_trail_is_plain_data(cell: Trace) -> None:
    told = cell.plain()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert set(told) == {"number", "rows", "sources", "runs", "cases", "raw", "jobs", "artefacts"}
    assert all({"checkout", "software", "machine", "started", "seconds"} <= set(job) for job in told["jobs"].values())


def test_a_lazy_ledger_tells_the_same_and_reads_only_what_it_needs(results: Path) -> None:
    lazy, whole = Ledger.open(results), Ledger.read(results)
    place = ("figure-1", "conv-staple", "[red]")
    few = trace(lazy, *find(lazy, *place, mark="dot"))
    assert few.plain() == trace(whole, *find(whole, *place, mark="dot")).plain()
    read = {job for job, record in lazy.jobs._read.items() if record is not None}  # type: ignore[attr-defined]
    assert len(read) < len(whole.jobs)
    assert not {j for j in read if j.split("/")[0] in ("train", "infer", "evaluate") and "conv-staple/split-0" not in j}
    assert set(lazy.jobs) == set(whole.jobs) and len(lazy.jobs) == len(whole.jobs)
    assert "records/x" not in lazy.jobs and lazy.jobs.get("numbers/x") is None


def test_a_changed_number_does_not_follow_from_its_rows(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path / "results")
    index = tmp_path / "results/studies/small/tables/table-1.cells.csv"
    shown = at(Ledger.open(results), "table-1", "c0002")["displayed"]
    index.write_text(index.read_text().replace(shown, "99.9 ± 1.0"))
    ledger = Ledger.open(tmp_path / "results")
    found = trace(ledger, *find(ledger, "table-1", "conv-average", "Dice"))
    assert found.number["displayed"].startswith("99.9") and "99.9" in " ".join(found.number["problems"])
    assert "99.9" in text(found) and "computed again from these rows: equal" not in text(found)


def test_a_lost_record_is_told(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path / "results")
    job = f"train/{DATASET}/conv-average/split-1-member-2"
    (tmp_path / f"results/records/{job}.json").unlink()
    ledger = Ledger.open(tmp_path / "results")
    found = trace(ledger, *find(ledger, "table-1", "conv-average", "Dice"))
    assert found.jobs[job] == {"lost": True}
    for full in (True, False):
        assert f"{job}  its record is not there" in text(found, width=200, full=full)
    json.dumps(found.plain(), allow_nan=False)


def test_missing_metrics_are_told(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path / "results")
    (tmp_path / f"results/studies/small/metrics/{DATASET}.parquet").unlink()
    ledger = Ledger.open(tmp_path / "results")
    found = trace(ledger, *find(ledger, "table-1", "conv-average", "Dice"))
    assert "unreadable" in found.rows and found.number["problems"] and len(found.runs) == 3


# ---------------------------------------------------------------- telling it


def text(found: Trace, width: int = 100, **more: Any) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, highlight=False).print(show.tree(found, width=width, **more))
    return stream.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
@pytest.mark.parametrize("full", [False, True])
def test_a_trail_fits_the_width_and_cuts_nothing(cell: Trace, width: int, full: bool) -> None:
    told = text(cell, width=width, full=full)
    assert max(map(len, told.splitlines())) <= width
    assert "\x1b" not in told and "…" not in told.replace("….patch", "")
    flat = re.sub(r"[\s│├└─]+", "", told)
    for word in (cell.number["displayed"], repr(cell.number["value"]), cell.number["filter"], ABOUT["licence"]):
        assert re.sub(r"\s+", "", word) in flat, word
    for run in cell.runs:
        assert run["predictions"]["sha256"][:8] in flat


def test_a_trail_tells_what_it_is_asked_to(cell: Trace, results: Path) -> None:
    short = text(cell)
    whole = trace(Ledger.open(results), cell.exhibit, cell.position, every_row=True)
    assert "and 1 more (--full)" in short and "more (--full)" not in text(whole, full=True)
    weights = [r["members"][1]["weights"]["path"] for r in cell.runs]
    assert not any(w in short for w in weights)
    one = text(cell, width=200, run="1")
    assert weights[1] in one and weights[0] not in one
    assert "A GPU, SLURM" in short and "job 4711" in one


@pytest.mark.parametrize(
    "name", ["1", "split-1", "conv-average/1", "CONV-AVERAGE/split-1", f"{DATASET}/conv-average/split-1"]
)
def test_a_run_is_chosen_by_the_end_of_its_name(cell: Trace, name: str) -> None:
    assert [r["split"] for r in show.chosen_runs(cell, name)] == ["1"]


@pytest.mark.parametrize("name", ["7", "staple/1", "", "verage/1"])
def test_a_run_that_is_none_of_the_number_s_is_told(cell: Trace, name: str) -> None:
    with pytest.raises(PenumbraError, match="rests on no run") as error:
        show.chosen_runs(cell, name)
    assert "conv-average/split-0" in str(error.value.cure)


def test_text_of_the_data_is_text(ledger: Ledger) -> None:
    for case in CASES[2:]:
        found = trace(ledger, *find(ledger, "figure-1", "conv-staple", case, mark="dot"))
        assert f"name  {case}" in text(found)


def test_changed_code_is_marked(tmp_path: Path) -> None:
    ledger = Ledger.open(Tree(tmp_path, splits=1, dirty=True).make().results)
    found = trace(ledger, *find(ledger, "table-1", "conv-staple", "Dice"))
    assert "CHANGED (records/diffs/dddddddddddd….patch)" in text(found)
    assert "licence  not recorded" in text(found)


def test_an_index_without_its_columns_is_told(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path / "copy")
    next((tmp_path / "copy").glob("studies/*/tables/table-1.cells.csv")).write_text("a,b\n1,2\n")
    with pytest.raises(PenumbraError, match="has no column 'column'"):
        find(Ledger.open(tmp_path / "copy"), "small/table-1", "c0001")
