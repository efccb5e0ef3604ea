"""Every displayed number is an entry of the index, and every entry can be computed again from its rows.

The first by a metamorphic test: a whole study is written twice, from metrics that differ in every value but not in
structure; outside of what the indices of both name, no character of a text may differ.
"""

from __future__ import annotations

import difflib
import itertools
import json
import random
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from penumbra import parts
from penumbra.errors import PenumbraError
from penumbra.reporting.context import StudyData
from penumbra.reporting.estimators import ESTIMATORS
from penumbra.reporting.numbers import CellIndex, displayed_at
from penumbra.reporting.recompute import check, check_place, read_entries, recompute
from penumbra.reporting.rows import Source
from penumbra.reporting.sources import Reader, results_folder, told_source
from penumbra.tables._layout import Table
from penumbra.tables._render import markdown
from tests.conftest import ROOT
from tests.unit.finished_study import FIGURES, TABLES, Finished, context, finish, synthetic

SEED = int(np.random.SeedSequence().entropy % 2**31)
EXHIBITS = [*(f"table {name}" for name in TABLES), *(f"figure {name}" for name in FIGURES), "report"]
TEXTS = [*(f"table {name}" for name in TABLES), "report"]


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Finished:
    print("seed", SEED)
    return finish(tmp_path_factory.mktemp("one"), SEED)


@pytest.fixture(scope="module")
def other(one, tmp_path_factory) -> Finished:
    return finish(tmp_path_factory.mktemp("other"), SEED + 1, like=one)


@pytest.fixture(scope="module")
def reader(one) -> Reader:
    return Reader(one.results, ROOT)


class Edited(Reader):
    """Reads another table where one file is asked for."""

    def __init__(self, done: Finished, name: str, frame: pd.DataFrame) -> None:
        super().__init__(done.results, ROOT)
        self.edited, self.frame = name, frame

    def __call__(self, name: str) -> pd.DataFrame:
        return self.frame if name == self.edited else super().__call__(name)


def page_of(done: Finished, exhibit: str) -> str:
    index = done.exhibits()[exhibit]
    return index.with_name(index.name.replace(".cells.csv", ".md")).read_text(encoding="utf-8")


def skeleton(text: str, entries: list[dict]) -> str:
    """A text with every entry cut out."""
    for entry in sorted(entries, key=lambda e: -e["start"]):
        text = text[: entry["start"]] + "□" + text[entry["end"] :]
    return text


# ---------------------------------------------------------------- a number without an entry cannot exist


@pytest.mark.parametrize("exhibit", TEXTS)
def test_all_that_varies_in_a_text_is_indexed(exhibit, one, other):
    bare = []
    for done in (one, other):
        text, entries = page_of(done, exhibit), read_entries(done.exhibits()[exhibit])
        assert [fault for entry in entries for fault in check_place(entry, text)] == []
        places = sorted((e["start"], e["end"]) for e in entries)
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(places))
        text = skeleton(text, entries)
        for name in TABLES if exhibit == "report" else ():
            table = page_of(done, f"table {name}").rstrip()
            assert text.count(table) == 1  # the report repeats each table word for word, whose own index names it
            text = text.replace(table, "")
        bare.append(text)
    assert bare[0] == bare[1]
    assert one_differs(one, other, exhibit) > 0.4


def one_differs(one: Finished, other: Finished, exhibit: str) -> float:
    """The share of entries that are displayed otherwise in the other study; else the comparison would prove nothing."""
    first, second = (read_entries(done.exhibits()[exhibit]) for done in (one, other))
    assert [e["id"] for e in first] == [e["id"] for e in second]
    return float(np.mean([a["displayed"] != b["displayed"] for a, b in zip(first, second, strict=True)]))


def within(text: str, start: int, end: int, shown: set[str]) -> bool:
    """Whether part of a text lies inside a number that is displayed in it."""
    return any(
        found.start() <= start and end <= found.end() for each in shown for found in re.finditer(re.escape(each), text)
    )


def leaks(first: list[str], second: list[str], shown: tuple[set[str], set[str]]) -> list[str]:
    """What differs between the texts of two figures without being displayed by a mark."""
    found = [] if len(first) == len(second) else ["another number of texts"]
    for texts in zip(first, second, strict=False):
        words = [[(m.start(), m.end(), m.group()) for m in re.finditer(r"[\w.,±%/ -]+?(?=\s|$)|\S", t)] for t in texts]
        matcher = difflib.SequenceMatcher(None, *([w[2] for w in side] for side in words), autojunk=False)
        for kind, a0, a1, b0, b1 in matcher.get_opcodes():
            for side, (low, high) in enumerate(((a0, a1), (b0, b1))):
                if kind != "equal" and high > low:
                    start, end = words[side][low][0], words[side][high - 1][1]
                    start += len(texts[side][start:end]) - len(texts[side][start:end].lstrip())
                    if not within(texts[side], start, end, shown[side]):
                        found.append(texts[side][start:end])
    return found


@pytest.mark.parametrize("name", FIGURES)
def test_all_that_varies_in_a_figure_is_a_mark(name, one, other):
    shown = tuple(
        {e["displayed"] for e in read_entries(done.exhibits()[f"figure {name}"]) if e["displayed"]}
        for done in (one, other)
    )
    assert leaks(one.figure_texts[name], other.figure_texts[name], shown) == []
    if name not in (
        "composite_violins",
        "known_truth",
        "visual",
        "samples",
        "sample_scores",
    ):  # which show no number as text
        assert one.figure_texts[name] != other.figure_texts[name]
    values = [[e["value"] for e in read_entries(d.exhibits()[f"figure {name}"])] for d in (one, other)]
    assert np.mean([a != b for a, b in zip(*values, strict=False)]) > 0.3


def test_the_comparison_finds_a_number_that_goes_past_the_index():
    """A note with a mean in it, and a title: the test above would fail on both."""
    study, bare = context(), []
    for seed in (SEED, SEED + 1):
        metrics = synthetic.long_metrics(study, seed)
        table: Table = parts.build("table", "calibration")(StudyData(metrics), study, "t", "T")
        leaked = replace(table, notes=(*table.notes, f"The mean is {metrics['value'].mean():.6f}"))
        bare.append(skeleton(markdown(leaked), table.index.frame().to_dict("records")))
    assert bare[0] != bare[1]
    assert leaks(["MAE 1.5"], ["MAE 1.7"], ({"1.5"}, {"1.7"})) == []
    assert leaks(["MAE 1.5 and 2"], ["MAE 1.7 and 3"], ({"1.5"}, {"1.7"})) == ["2", "3"]


def test_a_text_cannot_hold_an_unknown_number_nor_the_index_one_that_is_not_shown():
    index, stranger = CellIndex("here"), CellIndex("elsewhere")
    number = {"row": "r", "column": "c", "argument": {"pairs": 3}, "decimals": 2}
    shown = index.number("smallest_p", None, **number)
    second = [stranger.number("smallest_p", None, **number) for _ in range(2)][1]
    assert index.place(f"p = {shown}, no more") == "p = 0.25, no more"
    (record,) = index.records
    assert (record["start"], record["end"]) == (4, 8)
    for text in (f"{shown} {second}", f"{shown} {shown}", "nothing", f"{shown} \ue001"):
        with pytest.raises(ValueError, match="here"):
            index.place(text)


# ---------------------------------------------------------------- every entry can be computed again


@pytest.mark.parametrize("exhibit", EXHIBITS)
def test_every_entry_is_computed_again_without_a_fault(exhibit, one, other, reader):
    for done, read in ((one, reader), (other, Reader(other.results, ROOT))):
        entries = read_entries(done.exhibits()[exhibit])
        assert entries and len({e["id"] for e in entries}) == len(entries)
        assert {e["id"]: f for e in entries if (f := check(e, read, deep=True))} == {}
        assert all(e["estimator"] in ESTIMATORS for e in entries if e["value"] is not None)


def test_every_estimator_is_used(one):
    used = {e["estimator"] for path in one.exhibits().values() for e in read_entries(path)}
    kept_only = {"ratio_over_splits", "processor_minutes", "count_of_jobs", "field_of_runs"}  # see test_kept
    assert set(ESTIMATORS) - used - {None} <= kept_only


def test_sources_stand_below_the_results_folder_and_a_moved_tree_still_resolves(one, tmp_path):
    sources = {s for p in one.exhibits().values() for e in read_entries(p) for s in (e["source"] or "").split("; ")}
    allowed = r"(studies/fusion/(tests|claims)\.csv|studies/fusion/metrics/[\w.]+\.parquet|datasets/.+)?"
    assert all(re.fullmatch(allowed, s) for s in sources - {"checkout:config/published/softseg_thesis.csv"})
    shutil.copytree(one.results, tmp_path / "moved")
    moved = Finished(tmp_path / "moved")
    read = Reader(moved.results, ROOT)
    for path in moved.exhibits().values():
        entries = read_entries(path)
        assert all(not check(e, read, deep=True) for e in random.sample(entries, min(20, len(entries))))


def test_names_of_sources(tmp_path):
    results = tmp_path / "studies" / "results"
    assert results_folder(results / "studies" / "s" / "tables" / "t") == results
    assert results_folder(tmp_path.parent / "t") is None
    assert told_source(results / "a" / "b.csv", results) == "a/b.csv"
    assert told_source([results / "a", results / "b"], results) == "a; b"
    assert told_source(tmp_path / "else.csv", results) == (tmp_path / "else.csv").as_posix()
    assert told_source("somewhere/config/published/p.csv", results) == "checkout:config/published/p.csv"
    assert Reader(results, tmp_path).path("checkout:config/p.csv") == tmp_path / "config" / "p.csv"


# ---------------------------------------------------------------- whatever is edited is found


COUNTS = ("count_of", "reserve", "reasons_of_undefined", "smallest_p")
"""Estimators that do not look at the size of a value."""


def another_digit(number: float, rng: random.Random, digits: int = 17) -> float:
    """A number with one digit changed, among the first so many that count."""
    text = repr(float(number))
    mantissa = text.partition("e")[0]
    first = next((i for i, c in enumerate(mantissa) if c in "123456789"), None)
    places = [i for i, c in enumerate(mantissa) if c.isdigit() and first is not None and i >= first][:digits]
    if not places:
        return 1.0
    while True:
        at = rng.choice(places)
        changed = float(text[:at] + rng.choice("0123456789") + text[at + 1 :])
        if changed != number:
            return changed


def some(entries: list[dict], rng: random.Random, of_each: int = 6) -> list[dict]:
    """Some entries of every estimator."""
    groups: dict[str, list[dict]] = {}
    for entry in entries:
        groups.setdefault(entry["estimator"], []).append(entry)
    return [e for name, group in groups.items() if name for e in rng.sample(group, min(of_each, len(group)))]


@pytest.mark.parametrize("exhibit", EXHIBITS)
def test_a_changed_digit_is_found(exhibit, one, reader):
    rng = random.Random(SEED)
    for entry in some(read_entries(one.exhibits()[exhibit]), rng):
        tolerant = ESTIMATORS[entry["estimator"]].tolerance > 0
        for key in ("value", "std"):
            if entry[key] is not None:
                edited = entry | {key: another_digit(entry[key], rng, 8 if tolerant else 17)}
                assert any(f.startswith(key) for f in check(edited, reader, deep=True)), (edited, key)
        for key, word in (("n", "n is"), ("n_rows", "rows")):
            assert any(word in f for f in check(entry | {key: (entry[key] or 0) + 1}, reader, deep=True))
        if entry["displayed"] and any(c.isdigit() for c in entry["displayed"]):
            at = rng.choice([i for i, c in enumerate(entry["displayed"]) if c.isdigit()])
            digit = rng.choice([d for d in "0123456789" if d != entry["displayed"][at]])
            edited = entry | {"displayed": entry["displayed"][:at] + digit + entry["displayed"][at + 1 :]}
            assert any(f.startswith("displayed") for f in check(edited, reader))
        if entry["rows_sha256"]:
            edited = entry | {"rows_sha256": "0" * 64}
            assert any("digest" in f for f in check(edited, reader, deep=True))


@pytest.mark.parametrize("exhibit", EXHIBITS)
def test_a_changed_digit_in_a_row_of_the_source_is_found(exhibit, one, reader):
    rng = random.Random(SEED)
    tried = 0
    defined = [e for e in read_entries(one.exhibits()[exhibit]) if e["value"] is not None]
    for entry in some(defined, rng, 3):
        estimator = ESTIMATORS[entry["estimator"]]
        if estimator.deep or entry["estimator"].startswith(COUNTS):
            continue
        column = {"tests": None, "claims": None, "published": "mean", "thresholds": "threshold"}.get(
            estimator.reads, "value"
        ) or _column_of(entry)  # fmt: skip
        frame = reader(entry["source"])
        rows = Source(frame).rows(entry["filter"] or "")
        at = [p for p, row in zip(rows.positions, rows.frame().to_dict("records"), strict=True) if _counts(entry, row)]
        where = frame.index[rng.choice(at)]
        old = float(frame.loc[where, column])
        printed = estimator.reads == "published"
        changed = frame if printed else frame.astype({column: float})
        new = another_digit(old, rng, 3 if printed else 6)
        changed = changed.assign(
            **{column: changed[column].where(changed.index != where, str(new) if printed else new)}
        )
        edited = Edited(one, entry["source"], changed)
        assert check(entry, reader, deep=True) == []
        if entry["estimator"] in ("minimum_over_runs", "maximum_over_runs", "best_threshold", "composite_quantile"):
            continue  # which need not move with every row
        assert check(entry, edited) != [], (entry, where, old)
        tried += 1
    assert tried or exhibit in (
        *("figure learning_progression", "figure visual", "figure samples", "figure sample_scores"),
    )


def _column_of(entry: dict) -> str:
    usual = {"significance": "p", "better_or_worse": "mean_difference", "verdict_of_claim": "effect"}
    return usual.get(entry["estimator"]) or json.loads(entry["argument"] or "{}").get("column", "n")


def _counts(entry: dict, row: dict) -> bool:
    """Whether an entry depends on the value of a row that its filter picks."""
    argument = json.loads(entry["argument"] or "{}")
    same = all(row[key] == argument[key] for key in ("candidate", "split", "case", "class") if key in argument)
    return same and ("value" not in row or row["value"] == row["value"]) and (
        "metric" not in argument or row["metric"] == argument["metric"]
    )  # fmt: skip


def test_a_row_that_is_gone_or_another_is_found(one, reader):
    entry = next(e for e in read_entries(one.exhibits()["table calibration"]) if e["estimator"] == "mean_over_splits")
    frame = reader(entry["source"])
    positions = Source(frame).rows(entry["filter"]).positions
    for changed, fault in (
        (frame.drop(frame.index[positions[0]]), "rows, not"),
        (frame.assign(row=frame["row"].where(frame.index != frame.index[positions[0]], "x/y")), "digest"),
    ):
        assert any(fault in f for f in check(entry, Edited(one, entry["source"], changed)))


def test_faults_are_told_in_words(one, reader):
    entry = next(e for e in read_entries(one.exhibits()["table calibration"]) if e["estimator"] == "mean_over_splits")
    for edit, words in (
        ({"estimator": "guessed"}, "there is no estimator 'guessed'"),
        ({"estimator": None}, "no estimator"),
        ({"source": None}, "names no source"),
        ({"source": "studies/fusion/metrics/none.parquet"}, "cannot read what numbers are made from"),
        ({"filter": "dataset === 3"}, "cannot be computed again"),
        ({"filter": "colour == 'red'"}, "cannot be computed again"),
        ({"argument": "{"}, "cannot be computed again"),
        ({"scale": None}, "no scale or decimals"),
    ):
        faults = check(entry | edit, reader)
        assert len(faults) >= 1 and words in faults[0], (edit, faults)
    assert check({"estimator": None, "value": None, "displayed": None}, reader) == []
    assert check_place(entry | {"start": None}, "") == ["it does not say where it is displayed"]
    text = page_of(one, "table calibration")
    assert "the text has" in check_place(entry | {"start": entry["start"] + 1}, text)[0]
    with pytest.raises(PenumbraError, match="index of numbers cannot be read"):
        read_entries(one.results / "none.csv")


def test_recompute_gives_value_deviation_and_number(one, reader):
    entry = next(e for e in read_entries(one.exhibits()["table known_truth"]) if e["estimator"] == "mean_over_splits")
    value, std, n = recompute(entry, reader)
    assert (value, std, n) == (entry["value"], entry["std"], entry["n"])


def test_filters_are_looked_up_as_pandas_would(reader, one):
    """The index behind simple filters, against ``DataFrame.query``."""
    rng = random.Random(SEED)
    filters = {
        (e["source"], e["filter"])
        for p in one.exhibits().values()
        for e in read_entries(p)
        if e["filter"] and "tests" not in e["source"]
    }
    for source, where in rng.sample(sorted(filters), 40):
        frame = reader(source)
        expected = frame.reset_index(drop=True).query(where, engine="python").index
        np.testing.assert_array_equal(reader.source(source).rows(where).positions, expected)
    frame = pd.DataFrame({"a": [1, 2, 3, None], "row": list("wxyz")})
    assert Source(frame).rows("a > 1 and a < 3").plain("row") == ["x"]
    assert Source(frame).rows("").plain("row") == list("wxyz")
    assert Source(frame).rows("a in [3, 1]").plain("row") == ["w", "y"]


def test_bold_and_escaped_numbers_are_read_back(one):
    text = page_of(one, "table segmentation_performance")
    entries = read_entries(one.exhibits()["table segmentation_performance"])
    bold = [e for e in entries if e.get("best") is True]
    assert bold and all(text[e["start"] : e["end"]].startswith("**") for e in bold)
    assert all(displayed_at(text, e) == e["displayed"] for e in bold)


def test_index_files_are_small_to_import():
    import subprocess
    import sys

    code = (
        "import sys; import penumbra.reporting.estimators, penumbra.reporting.numbers, penumbra.reporting.recompute; "
        "assert not {'pandas', 'numpy', 'torch', 'matplotlib'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)
