"""Splitting the cases of a data set and writing the split down.

A split part makes ``split(cases, seed, index, dataset) -> {"train": [...], "validation": [...], "test": [...],
...}``: three disjoint, non-empty, sorted lists that together hold every case. ``cases`` are pairs (name, centre) in
any order; ``seed`` is the study's, ``index`` counts the splits of a data set. Nothing but these four decides the
outcome.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penumbra import parts
from penumbra.errors import PenumbraError
from penumbra.files import write_json

if TYPE_CHECKING:
    import numpy as np

SETS = ("train", "validation", "test")
SplitFunction = Callable[[Sequence[tuple[str, str]], int, int, str], dict[str, Any]]


def counts(number: int, fractions: Sequence[float]) -> list[int]:
    """Whole parts of ``number`` in proportion to ``fractions`` (which sum to 1), each at least 1.

    Largest remainders; equal remainders go to the earlier part. An empty part is given one from the largest.

    Raises
    ------
    ValueError : there are more parts than things.
    """
    if number < len(fractions):
        raise ValueError(f"cannot make {len(fractions)} non-empty parts of {number}")
    exact = [number * fraction for fraction in fractions]
    whole = [int(value + 1e-9) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: (-round(exact[i] - whole[i], 9), i))
    for position in by_remainder[: number - sum(whole)]:
        whole[position] += 1
    while 0 in whole:
        whole[whole.index(max(whole))] -= 1
        whole[whole.index(0)] += 1
    return whole


def shuffled(names: Sequence[str], generator: np.random.Generator) -> list[str]:
    """The names in random order, whatever order they came in."""
    ordered = sorted(names)
    return [ordered[i] for i in generator.permutation(len(ordered))]


def need(cases: Sequence[tuple[str, str]], minimum: int, dataset: str) -> list[str]:
    """The names of all cases, sorted.

    Raises
    ------
    PenumbraError : there are fewer than ``minimum``, or two bear one name.
    """
    names = sorted(name for name, _ in cases)
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise PenumbraError(
            f"cases of {dataset!r} bear the same name: {', '.join(twice)}", cure="give each its own name"
        )
    if len(names) < minimum:
        raise PenumbraError(
            f"data set {dataset!r} has {len(names)} cases, this split needs at least {minimum}",
            cure="add cases, or look in faults.tsv for cases that were refused",
        )
    return names


def result(train: Sequence[str], validation: Sequence[str], test: Sequence[str], **notes: Any) -> dict[str, Any]:
    """The sets as sorted lists, beside notes on how they came about."""
    return {"train": sorted(train), "validation": sorted(validation), "test": sorted(test), **notes}


def read_cases(cases_table: str | Path) -> list[tuple[str, str]]:
    """The pairs (case, centre) of ``cases.tsv``.

    Raises
    ------
    PenumbraError : the table has no column ``case`` or ``centre``.
    """
    with open(cases_table, encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream, delimiter="\t")
        missing = {"case", "centre"} - set(reader.fieldnames or ())
        if missing:
            raise PenumbraError(
                f"the table of cases has no column {', '.join(sorted(missing))}",
                file=cases_table,
                cure="delete the file and let the workflow ingest the data set again",
            )
        return [(row["case"], row["centre"] or "") for row in reader]


def read_split(path: str | Path, *sets: str) -> dict[str, list[str]]:
    """The named sets, or all three, of a split that :func:`make_split` wrote.

    Raises
    ------
    PenumbraError : the file is missing or no JSON, or lacks a set.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        found = {kind: content[kind] for kind in sets or SETS}
        if not all(isinstance(names, list) and all(isinstance(n, str) for n in names) for names in found.values()):
            raise ValueError("a set is a list of names of cases")
        return found
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise PenumbraError(
            f"cannot read the split: {error!r}", file=path, cure="remove the file, so that the split is made again"
        ) from error


def make_split(
    cases_table: str | Path, part: parts.Named, out: str | Path, *, dataset: str, seed: int, index: int
) -> None:
    """Split the cases of a table and write the split as JSON.

    Parameters
    ----------
    cases_table : ``cases.tsv`` of the data set.
    part : the split part and its options.
    out : the JSON file: ``dataset``, ``split`` (the index), ``seed``, ``scheme`` (part and options), ``train``,
        ``validation``, ``test`` (sorted case names) and what the part notes (the test centre, the fold).
    dataset : name of the data set, part of the random generator's name.
    seed : the study's seed.
    index : which split, from 0.

    Raises
    ------
    PenumbraError : there are too few cases or centres.
    """
    cases = read_cases(cases_table)
    split: SplitFunction = parts.build("split", part.name, part.options)
    try:
        sets = split(cases, seed, index, dataset)
    except PenumbraError as error:
        raise PenumbraError(error.problem, file=error.file or cases_table, case=error.case, cure=error.cure) from error
    assigned = [name for kind in SETS for name in sets[kind]]
    if sorted(assigned) != sorted(name for name, _ in cases) or not all(sets[kind] for kind in SETS):
        raise ValueError(f"split part {part.name!r} does not partition the cases into three non-empty sets")
    scheme = {"name": part.name, **part.options}
    write_json(out, {"dataset": dataset, "split": index, "seed": seed, "scheme": scheme, **sets})
