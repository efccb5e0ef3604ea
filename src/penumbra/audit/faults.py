"""What an audit finds: faults, each with the displayed numbers that depend on it, and the verdict over a whole tree."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

KINDS = {
    "missing": "an artefact, or a file of one, is not there",
    "changed": "the bytes are not those that the record says",
    "added": "a file lies in an artefact that its record does not name",
    "backdated": "a file is older than when it was made",
    "record": "a record cannot be read, or contradicts itself or its name",
    "chain": "two records contradict each other",
    "unrecorded": "a record is missing",
    "input": "what a job read from outside the results is not what it was",
    "kept": "a superseded record, kept numbers or a kept difference is not what its name says",
    "number": "a displayed number does not follow from its rows",
    "index": "an index of numbers cannot be read, or is not what was recorded",
    "rows": "rows do not follow from the files that they were made of",
}
"""Every kind of fault, in words."""


@dataclass(frozen=True)
class Number:
    """One displayed number: ``exhibit`` is ``study/table``, ``row`` and ``column`` say where it stands.

    Of a figure's mark, ``row`` is its panel and ``column`` its kind and name.
    """

    exhibit: str
    id: str
    row: str
    column: str
    displayed: str

    def plain(self) -> dict[str, str]:
        """As plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Fault:
    """One fault: ``kind`` of :data:`KINDS`, ``path`` relative to the results, and the numbers that depend on it."""

    kind: str
    path: str
    problem: str
    cure: str
    numbers: tuple[Number, ...] = ()

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        told = {"kind": self.kind, "path": self.path, "problem": self.problem, "cure": self.cure}
        return told | {"numbers": [number.plain() for number in self.numbers]}


@dataclass(frozen=True)
class Verdict:
    """What verifying a results folder gave.

    ``artefacts`` : files and folders that were hashed; ``bytes`` in them. ``numbers`` : displayed numbers that were
    computed again. ``records`` : current records. ``head`` : SHA-256 over the hashes of all current records: one
    line in a paper then stands for the whole tree.
    """

    faults: tuple[Fault, ...]
    artefacts: int
    bytes: int
    numbers: int
    records: int
    head: str

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return not self.faults

    @property
    def affected(self) -> tuple[Number, ...]:
        """Every number that depends on some fault, once."""
        return tuple(dict.fromkeys(number for fault in self.faults for number in fault.numbers))

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "sound": self.sound,
            "head": self.head,
            "records": self.records,
            "artefacts": self.artefacts,
            "bytes": self.bytes,
            "numbers": self.numbers,
            "kinds": dict(Counter(fault.kind for fault in self.faults)),
            "affected": len(self.affected),
            "faults": [fault.plain() for fault in self.faults],
        }


@dataclass(frozen=True)
class Found:
    """A fault before it is known which numbers depend on it.

    They are those of ``files`` (or of the artefacts that these lie in), of ``folders`` with all that is in them, of
    ``jobs``, and ``numbers`` themselves.
    """

    kind: str
    path: str
    problem: str
    cure: str
    files: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()
    numbers: tuple[Number, ...] = ()


def short(digest: str | None) -> str:
    """The first digits of a hash, for a message."""
    return "nothing" if digest is None else f"{digest[:12]}..."
