"""Proving that a results folder is what its records say, down to the bytes, and naming what is not.

Four things are held against each other: the bytes of every artefact and what its record says; the records among
themselves, which are chained by hash; the displayed numbers and the rows that they are made of; and, if asked for
(``deep``), the rows and the predictions that they were measured on. For each fault the verdict names exactly the
displayed numbers that depend on what is at fault; :mod:`penumbra.audit.dependence` says what that means.

A time that is newer than the one noted is no fault: copying and touching make such. An older one is.
"""

from __future__ import annotations

from pathlib import Path

from penumbra.audit.artefacts import MakeProgress, verify_artefacts
from penumbra.audit.chain import head, verify_records
from penumbra.audit.dependence import Dependence
from penumbra.audit.dependents import Dependents
from penumbra.audit.faults import Fault, Found, Number, Verdict
from penumbra.audit.ledger import Ledger
from penumbra.audit.recomputed import verify_numbers
from penumbra.provenance.code_digest import SOURCE
from penumbra.reporting.sources import PUBLISHED, Reader

CURE_INDEX = "restore it from records/numbers, or make the exhibit again"


def checkout_of(results: str | Path) -> Path | None:
    """The checkout that a results folder belongs to: the folder around it, the current one, or the library's own.

    None where none of them holds published numbers.
    """
    for place in (Path(results).resolve().parent, Path.cwd(), SOURCE.parent):
        if place.joinpath(*PUBLISHED).is_dir():
            return place
    return None


def verify(
    results: str | Path,
    *,
    deep: bool = False,
    checkout: str | Path | None = None,
    progress: MakeProgress | None = None,
) -> Verdict:
    """Verify a results folder.

    Parameters
    ----------
    deep : also measure the kept predictions again and compare every row, collect, test and judge again, and compute
        again what figures show of images; takes as long as evaluating did.
    checkout : holds the published numbers; :func:`checkout_of` where None.
    progress : makes a progress bar, called as ``(total, title, unit=...)``, such as
        :class:`penumbra.progress.Progress`.

    Raises
    ------
    PenumbraError : there are no records at all.
    """
    ledger = Ledger.read(results)
    place = checkout_of(results) if checkout is None else Path(checkout)
    reader = Reader(ledger.results, place)
    found, hashed = verify_artefacts(ledger, place, progress)
    found += verify_records(ledger)
    dependents = Dependents(ledger, Dependence(ledger, reader))
    for job, error in dependents.unreadable.items():
        found.append(
            Found("index", next(e.index for e in dependents.exhibits if e.job == job), error.problem, CURE_INDEX)
        )
    faults, count = verify_numbers(dependents, reader, deep=deep, progress=progress)
    found += faults
    if deep:
        from penumbra.audit.deep import verify_rows

        found += verify_rows(ledger, progress=progress)
    told = tuple(_fault(one, dependents) for one in found)
    return Verdict(told, hashed.artefacts, hashed.bytes, count, len(ledger.jobs), head(ledger))


def _fault(found: Found, dependents: Dependents) -> Fault:
    """A fault with the numbers that depend on it."""
    numbers: dict[Number, None] = dict.fromkeys(found.numbers)
    for path in found.files:
        numbers |= dict.fromkeys(dependents.of_file(path))
    for path in found.folders:
        numbers |= dict.fromkeys(dependents.of_folder(path))
    if found.jobs:
        numbers |= dict.fromkeys(dependents.of_jobs(*found.jobs))
    return Fault(found.kind, found.path, found.problem, found.cure, tuple(numbers))


__all__ = ["Fault", "Number", "Verdict", "checkout_of", "verify"]
