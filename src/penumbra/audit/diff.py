"""Which displayed numbers differ between two results folders, or two commits of one, and where their trails part.

Numbers are matched by where they stand: exhibit, row and column, or panel, candidate, kind and name of a mark; those
that stand in the same place are matched in their order. The trail of a number is walked along the hashes in the
records, so that a side is what was read when its exhibit was made, even where it has been made again since.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penumbra.audit.dependence import Direct
from penumbra.audit.dependents import numbers_of
from penumbra.audit.faults import Number
from penumbra.audit.parting import Parting, first_parting
from penumbra.audit.sides import Side, side_of_commit, side_of_folder

TOLD = ("displayed", "value", "std", "n", "unit", "status")
"""What of a number is compared."""


@dataclass(frozen=True)
class Change:
    """One number that differs: as it was, as it is, and the first place where its trails part.

    ``before``, ``after`` : :data:`TOLD` of both sides, None where the number does not stand on that side.
    """

    number: Number
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    parting: Parting | None

    @property
    def kind(self) -> str:
        """``changed``, ``appeared`` or ``vanished``."""
        return "appeared" if self.before is None else "vanished" if self.after is None else "changed"

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        told = {"kind": self.kind, **self.number.plain(), "before": _plain(self.before), "after": _plain(self.after)}
        return told | {"parting": self.parting.plain() if self.parting else None}


def _plain(content: dict[str, Any] | None) -> dict[str, Any] | None:
    """What is told of a number as JSON can hold it: infinities as text."""
    if content is None:
        return None
    return {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in content.items()}


@dataclass(frozen=True)
class Difference:
    """What differs between two sides, ``before`` and ``after``, out of ``compared`` places where numbers stand."""

    before: str
    after: str
    changes: tuple[Change, ...]
    compared: int

    def of_kind(self, kind: str) -> tuple[Change, ...]:
        """The changes that are ``changed``, ``appeared`` or ``vanished``."""
        return tuple(change for change in self.changes if change.kind == kind)

    @property
    def partings(self) -> dict[Parting, tuple[Number, ...]]:
        """The numbers of each place where trails part, those of most numbers first."""
        found: dict[Parting, list[Number]] = {}
        for change in self.changes:
            if change.parting is not None:
                found.setdefault(change.parting, []).append(change.number)
        return {p: tuple(found[p]) for p in sorted(found, key=lambda p: (-len(found[p]), p.job))}

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "before": self.before,
            "after": self.after,
            "compared": self.compared,
            **{kind: len(self.of_kind(kind)) for kind in ("changed", "appeared", "vanished")},
            "partings": [p.plain() | {"numbers": [n.plain() for n in of]} for p, of in self.partings.items()],
            "changes": [change.plain() for change in self.changes],
        }


def diff(before: str | Path, after: str | Path) -> Difference:
    """Compare two results folders.

    Raises
    ------
    PenumbraError : one of them has no records.
    """
    return _compare(side_of_folder(Path(before)), side_of_folder(Path(after)))


def diff_commits(results: str | Path, before: str, after: str) -> Difference:
    """Compare what a results folder showed at two commits: of each exhibit the newest record of that commit.

    Parameters
    ----------
    before, after : commits, or the first digits of them.

    Raises
    ------
    PenumbraError : no exhibit was made at one of them, or there are no records.
    """
    return _compare(side_of_commit(Path(results), before), side_of_commit(Path(results), after))


# ---------------------------------------------------------------- comparing


@dataclass(frozen=True)
class _Told:
    """A number with what is compared of it and what it rests on."""

    number: Number
    content: dict[str, Any]
    direct: Direct


def _told(side: Side, job: str) -> dict[tuple[Any, ...], _Told]:
    """The numbers of an exhibit by where they stand."""
    exhibit = side.exhibit(job)
    _, dependence = side.trail(job)
    frame = exhibit.numbers
    contents = frame[[key for key in TOLD if key in frame]].to_dict("records")
    candidates = frame["candidate"].tolist() if "candidate" in frame else [None] * len(frame)
    found: dict[tuple[Any, ...], _Told] = {}
    seen: Counter[tuple[str, str, str]] = Counter()
    for number, content, candidate, direct in zip(
        numbers_of(exhibit), contents, candidates, dependence.direct(exhibit), strict=True
    ):
        place = (number.row, number.column, str(candidate) if exhibit.kind == "figure" else "")
        plain = {str(k): None if v != v else v for k, v in content.items()}
        found[(*place, seen[place])] = _Told(number, plain, direct)
        seen[place] += 1
    return found


def _compare(before: Side, after: Side) -> Difference:
    changes: list[Change] = []
    compared = 0
    partings: dict[tuple[str, Direct], Parting | None] = {}
    for job in sorted(before.exhibits.keys() | after.exhibits.keys(), key=lambda j: (j.split("/")[1], j)):
        old = _told(before, job) if job in before.exhibits else {}
        new = _told(after, job) if job in after.exhibits else {}
        places = list(dict.fromkeys([*new, *old]))
        compared += len(places)
        for place in places:
            one, other = old.get(place), new.get(place)
            if one is not None and other is not None and one.content == other.content:
                continue
            told = other or one
            assert told is not None
            direct = (one.direct if one else told.direct) | (other.direct if other else told.direct)
            if (job, direct) not in partings:
                partings[job, direct] = _parting(before, after, job, direct)
            then, now = (side.content if side else None for side in (one, other))
            changes.append(Change(told.number, then, now, partings[job, direct]))
    return Difference(before.name, after.name, tuple(changes), compared)


def _parting(before: Side, after: Side, job: str, direct: Direct) -> Parting | None:
    if job not in before.exhibits or job not in after.exhibits:
        return Parting(job, (f"it was made on {'the second' if job in after.exhibits else 'the first'} side only",))
    (old, of_old), (new, of_new) = before.trail(job), after.trail(job)
    return first_parting(old, new, direct, of_old.jobs(direct) | of_new.jobs(direct))
