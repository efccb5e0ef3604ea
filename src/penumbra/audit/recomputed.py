"""Computing every displayed number again from the rows that it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penumbra.audit.artefacts import MakeProgress
from penumbra.audit.dependents import Dependents, index_of, numbers_of
from penumbra.audit.faults import Found, Number
from penumbra.audit.numbers import Exhibit
from penumbra.errors import PenumbraError
from penumbra.reporting.recompute import check, check_place, read_entries
from penumbra.reporting.sources import Reader

CURE = "make the exhibit again; if the rows are at fault, make these again first"


def verify_numbers(
    dependents: Dependents, reader: Reader, *, deep: bool = False, progress: MakeProgress | None = None
) -> tuple[list[Found], int]:
    """Compute the numbers of every exhibit again, and say how many there were.

    Parameters
    ----------
    reader : reads the tables that numbers are made of. deep : also what is made from images.
    """
    found, count = list[Found](), 0
    bar = progress(dependents.count, "computing again", unit="numbers") if progress else None
    try:
        for exhibit in dependents.exhibits:
            faults, seen = _verify(exhibit, reader, deep)
            found += faults
            count += seen
            if bar is not None:
                bar.update(min(count, dependents.count))
    finally:
        if bar is not None:
            bar.close()
    return found, count


def _verify(exhibit: Exhibit, reader: Reader, deep: bool) -> tuple[list[Found], int]:
    index = index_of(exhibit.job)
    assert index is not None
    file = exhibit.results / index
    if not file.exists():
        return [], 0
    try:
        entries = read_entries(file)
        text = _text(exhibit)
    except (PenumbraError, OSError, ValueError) as error:
        problem = error.problem if isinstance(error, PenumbraError) else str(error)
        return [Found("index", index, problem, CURE, (index,))], 0
    try:
        recorded = numbers_of(exhibit)
    except PenumbraError:
        recorded = []
    by_id = {number.id: number for number in recorded}
    faulty: dict[Number, None] = {}
    first: tuple[Mapping[str, Any], list[str]] | None = None
    count = 0
    for position, entry in enumerate(entries):
        problems = check(entry, reader, deep=deep)
        if text is not None:
            problems = problems + _placed(entry, text)
        if problems:
            # An index that is not the recorded one may name what was never displayed there.
            known = by_id.get(str(entry.get("id"))) or (recorded[position] if len(recorded) == len(entries) else None)
            count += 1
            first = first or (entry, problems)
            if known is not None or not recorded:
                faulty[known or _number(exhibit, entry)] = None
    if first is None:
        return [], len(entries)
    number = _number(exhibit, first[0])
    place = ", ".join(filter(None, (number.row, number.column)))
    told = f"{number.id}{f' ({place})' if place else ''}: {'; '.join(dict.fromkeys(first[1]))}"
    if count > 1:
        told = f"{count} numbers do not follow from their rows, first {told}"
    return [Found("number", index, told, CURE, numbers=tuple(faulty))], len(entries)


def _text(exhibit: Exhibit) -> str | None:
    """The Markdown that the numbers stand in; None for figures, and where it is not there."""
    index = index_of(exhibit.job)
    assert index is not None
    if exhibit.kind == "figure":
        return None
    file = Path(exhibit.results / index.replace(".cells.csv", ".md"))
    return file.read_text(encoding="utf-8", errors="replace") if file.exists() else None


def _placed(entry: Mapping[str, Any], text: str) -> list[str]:
    try:
        return check_place(entry, text)
    except (TypeError, ValueError, KeyError) as error:
        return [f"it cannot be found in the text: {error}"]


def _number(exhibit: Exhibit, entry: Mapping[str, Any]) -> Number:
    """An entry as a number, where none is recorded."""
    row, column = (("panel",), ("mark", "name")) if exhibit.kind == "figure" else (("row",), ("column",))
    parts = (("id",), row, column, ("displayed",))
    told = [" ".join(str(entry[key]) for key in keys if entry.get(key) is not None) for keys in parts]
    return Number(exhibit.title, *told)
