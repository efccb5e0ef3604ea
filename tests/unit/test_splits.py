"""Splits: partitions, seeded by name, indifferent to the order of cases."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penumbra import parts
from penumbra.config.models import Part
from penumbra.errors import PenumbraError
from penumbra.splits._make import counts, make_split

SETS = ("train", "validation", "test")
seeds, indices = st.integers(0, 2**63 - 1), st.integers(0, 60)


@st.composite
def cohorts(draw, minimum_centres=3, per_centre=2):
    sizes = draw(st.lists(st.integers(per_centre, 9), min_size=minimum_centres, max_size=6))
    return [(f"case-{centre}-{i}", f"centre {centre}") for centre, size in enumerate(sizes) for i in range(size)]


schemes = st.sampled_from(
    [
        ("fractions", {}),
        ("fractions", {"train": 0.05, "validation": 0.9}),
        ("held_out_centre", {}),
        ("held_out_centre", {"validation": "centre"}),
        ("held_out_centre", {"train": 0.99}),
        ("k_fold", {}),
        ("k_fold", {"folds": 3, "validation": 0.5}),
    ]
)


def split(scheme, cases, seed=1, index=0, dataset="cord"):
    return parts.build("split", scheme[0], scheme[1])(cases, seed, index, dataset)


@given(schemes, cohorts(), seeds, indices)
def test_every_case_is_in_exactly_one_non_empty_set(scheme, cases, seed, index):
    sets = split(scheme, cases, seed, index)
    assert all(sets[kind] and sets[kind] == sorted(sets[kind]) for kind in SETS)
    assert sorted(sets["train"] + sets["validation"] + sets["test"]) == sorted(name for name, _ in cases)


@given(schemes, cohorts(), seeds, indices, st.randoms())
def test_order_of_cases_does_not_matter(scheme, cases, seed, index, random):
    sets = split(scheme, cases, seed, index)
    random.shuffle(cases)
    assert split(scheme, cases, seed, index) == sets


@given(schemes, cohorts(), seeds)
def test_no_state_is_kept_between_splits(scheme, cases, seed):
    part = parts.build("split", *scheme)
    alone = [part(cases, seed, index, "cord") for index in range(4)]
    between = []
    for index in (3, 2, 1, 0):
        part(cases[::-1][: len(cases)], seed + 1, index, "another data set")
        between.append(part(cases, seed, index, "cord"))
    assert between[::-1] == alone


@pytest.mark.parametrize("scheme", [("fractions", {}), ("held_out_centre", {}), ("k_fold", {})])
def test_seed_index_and_dataset_all_matter(scheme):
    cases = [(f"c{i:03}", f"s{i % 4}") for i in range(80)]
    first = split(scheme, cases)
    assert split(scheme, cases) == first
    assert split(scheme, cases, seed=2) != first
    assert split(scheme, cases, index=4) != first
    assert split(scheme, cases, dataset="lesions") != first


def test_fractions_have_the_thesis_sizes():
    for number, sizes in ((15, (9, 3, 3)), (335, (201, 67, 67)), (3, (1, 1, 1)), (10, (6, 2, 2)), (7, (4, 2, 1))):
        sets = split(("fractions", {}), [(f"c{i}", "") for i in range(number)])
        assert tuple(len(sets[kind]) for kind in SETS) == sizes


@given(st.integers(1, 400), st.lists(st.integers(1, 50), min_size=1, max_size=6))
def test_counts_are_whole_non_empty_and_near(number, weights):
    fractions = [weight / sum(weights) for weight in weights]
    if number < len(fractions):
        with pytest.raises(ValueError, match="non-empty"):
            counts(number, fractions)
        return
    whole = counts(number, fractions)
    assert sum(whole) == number and min(whole) >= 1
    if min(number * fraction for fraction in fractions) >= 1:
        assert all(abs(w - number * f) < 1 for w, f in zip(whole, fractions, strict=True))


def test_held_out_centre_follows_the_released_code():
    cases = [(f"{centre}{i:02}", centre) for centre in "dbca" for i in range(20)]
    for index in range(8):
        sets = split(("held_out_centre", {}), cases, index=index)
        held = "abcd"[index % 4]
        assert sets["test_centre"] == held
        assert sets["test"] == sorted(name for name, centre in cases if centre == held)
        assert len(sets["train"]) == len(sets["validation"]) == 30
        assert {name[0] for name in sets["train"]} == {name[0] for name in sets["validation"]} == set("abcd") - {held}


def test_held_out_centre_as_the_text_has_it():
    cases = [(f"{centre}{i:02}", centre) for centre in "abcd" for i in range(20)]
    validated = set()
    for index in range(0, 80, 4):
        sets = split(("held_out_centre", {"validation": "centre"}), cases, index=index)
        validation, train = ({name[0] for name in sets[kind]} for kind in ("validation", "train"))
        assert validation == {sets["validation_centre"]} and len(train) == 2 and not train & (validation | {"a"})
        validated |= validation
    assert validated == set("bcd")


@given(st.integers(2, 7), st.integers(0, 3), seeds, st.integers(8, 30))
def test_folds_of_a_round_test_every_case_once(folds, turn, seed, number):
    cases = [(f"c{i}", "") for i in range(number)]
    tests = [split(("k_fold", {"folds": folds}), cases, seed, turn * folds + fold)["test"] for fold in range(folds)]
    assert sorted(name for test in tests for name in test) == sorted(name for name, _ in cases)
    assert max(map(len, tests)) - min(map(len, tests)) <= 1


@pytest.mark.parametrize(
    ("scheme", "cases", "word"),
    [
        (("fractions", {}), [("a", ""), ("b", "")], "2 cases"),
        (("k_fold", {"folds": 5}), [(c, "") for c in "abcd"], "4 cases"),
        (("k_fold", {"folds": 2}), [(c, "") for c in "abc"], "too few"),
        (("held_out_centre", {}), [(c, "one") for c in "abcd"], "1 centre"),
        (("held_out_centre", {}), [("a", "x"), ("b", "unknown"), ("c", "y")], "unknown centre"),
        (("held_out_centre", {}), [("a", "x"), ("b", ""), ("c", "y")], "unknown centre"),
        (("held_out_centre", {}), [("a", "x"), ("b", "x"), ("c", "y")], "1 case outside"),
        (("held_out_centre", {"validation": "centre"}), [("a", "x"), ("b", "x"), ("c", "y")], "2 centre"),
        (("fractions", {}), [("a", ""), ("a", ""), ("b", "")], "same name"),
        (("fractions", {"train": 0.8, "validation": 0.2}), [(c, "") for c in "abcd"], "no case for testing"),
    ],
)
def test_what_cannot_be_split_is_told_with_a_cure(scheme, cases, word):
    with pytest.raises(PenumbraError, match=word) as caught:
        for index in range(2):
            split(scheme, cases, index=index)
    assert caught.value.cure


def write_cases(path, cases):
    lines = ["case\tcentre\tx\ty\tz"] + [f"{name}\t{centre}\t1\t1\t1" for name, centre in cases]
    path.write_text("\n".join(lines) + "\n")


def test_make_split_writes_what_the_part_says(tmp_path):
    cases = [(f"{i:03}", f"NA{i % 3}") for i in range(12)]
    write_cases(tmp_path / "cases.tsv", cases)
    part = Part(name="held_out_centre", options={"train": 0.5, "validation": "subjects"})
    for out in ("one.json", "two.json"):
        make_split(tmp_path / "cases.tsv", part, tmp_path / out, dataset="cord", seed=7, index=2)
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    written = json.loads((tmp_path / "one.json").read_text())
    assert written["dataset"] == "cord" and written["split"] == 2 and written["seed"] == 7
    assert written["scheme"] == {"name": "held_out_centre", "train": 0.5, "validation": "subjects"}
    assert {k: written[k] for k in SETS} == {k: split(("held_out_centre", {}), cases, 7, 2)[k] for k in SETS}


def test_make_split_names_the_table_at_fault(tmp_path):
    write_cases(tmp_path / "cases.tsv", [("a", "x")])
    with pytest.raises(PenumbraError) as caught:
        make_split(tmp_path / "cases.tsv", Part(name="fractions"), tmp_path / "s.json", dataset="d", seed=1, index=0)
    assert caught.value.file == tmp_path / "cases.tsv" and caught.value.cure
    (tmp_path / "cases.tsv").write_text("name\tcentre\na\tx\n")
    with pytest.raises(PenumbraError, match="no column case"):
        make_split(tmp_path / "cases.tsv", Part(name="fractions"), tmp_path / "s.json", dataset="d", seed=1, index=0)
    assert not (tmp_path / "s.json").exists()


def test_split_modules_import_nothing_heavy():
    code = (
        "import sys, penumbra.splits._make, penumbra.splits.fractions, penumbra.splits.k_fold, "
        "penumbra.splits.held_out_centre; "
        "print(sorted({'torch', 'pandas', 'numpy', 'scipy', 'nibabel', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_fractions_drawn_as_one_name_are_alike_in_all_data_sets():
    cases = [(f"case-{i}", "") for i in range(20)]
    usual, named = ("fractions", {}), ("fractions", {"drawn_as": "fine"})
    assert split(named, cases, dataset="coarse") == split(usual, cases, dataset="fine")
    assert split(usual, cases, dataset="coarse") != split(usual, cases, dataset="fine")
