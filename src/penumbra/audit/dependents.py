"""The other way round: which displayed numbers rest on a file or on a job."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from penumbra import paths
from penumbra.audit.dependence import GATHERING, Dependence, Direct, producer, rule_of
from penumbra.audit.faults import Number
from penumbra.audit.ledger import Ledger
from penumbra.audit.numbers import KINDS, Exhibit
from penumbra.errors import PenumbraError
from penumbra.files import sha256
from penumbra.provenance.jobs import NUMBERS


def index_of(job: str) -> str | None:
    """The index of numbers that a job of an exhibit makes, by its name; None for any other job."""
    rule, _, rest = job.partition("/")
    if rule not in KINDS:
        return None
    study, _, name = rest.partition("/")
    if rule == "study_report":
        return paths.STUDY_CELLS.format(study=study)
    pattern = paths.TABLE if rule == "table" else paths.FIGURE
    return pattern.format(study=study, **{rule: name}) + KINDS[rule]


def every_exhibit(ledger: Ledger) -> list[Exhibit]:
    """Every exhibit that a record speaks of or that lies in the results, whatever state its record is in.

    Where the index on the disk is not what the record says, the exhibit's numbers are those of the copy that was kept
    when it was made.
    """
    studies = ledger.results / "studies"
    found = {*ledger.jobs, *ledger.unreadable}
    for pattern in ("*/tables/*.cells.csv", "*/figures/*.csv", "*/report.cells.csv"):
        found |= {producer(file.relative_to(ledger.results).as_posix()) or "" for file in studies.glob(pattern)}
    order = list(KINDS)
    jobs = [job for job in found if index_of(job) is not None]
    return [
        _recorded(ledger, job)
        for job in sorted(jobs, key=lambda job: (job.split("/")[1], order.index(rule_of(job)), job))
    ]


def _recorded(ledger: Ledger, job: str) -> Exhibit:
    rule, study, *name = job.split("/")
    index = index_of(job)
    assert index is not None
    exhibit = Exhibit(study, rule, name[0] if name else "report", job, index, ledger.results)
    record = ledger.jobs.get(job)
    said = next((o.sha256 for o in record.outputs if o.path == index), None) if record else None
    file = ledger.results / index
    if said is None or (file.is_file() and sha256(file) == said):
        return exhibit
    kept = NUMBERS.format(sha256=said)
    there = (ledger.results / kept).is_file() and sha256(ledger.results / kept) == said
    return replace(exhibit, index=kept) if there else exhibit


def numbers_of(exhibit: Exhibit) -> list[Number]:
    """The numbers of an exhibit, in the order of its index.

    Raises
    ------
    PenumbraError : the index cannot be read.
    """
    frame = exhibit.numbers
    size = len(frame)

    def column(name: str) -> list[Any]:
        return [None if v != v else v for v in frame[name].tolist()] if name in frame else [None] * size

    def text(*parts: Any) -> str:
        return " ".join(str(part) for part in parts if part is not None)

    letter = "m" if exhibit.kind == "figure" else "c"
    ids = [f"{letter}{k + 1:04d}" if given is None else str(given) for k, given in enumerate(column("id"))]
    if exhibit.kind == "figure":
        rows = [text(panel) for panel in column("panel")]
        columns = [text(*parts) for parts in zip(column("mark"), column("name"), strict=True)]
    else:
        rows, columns = list(map(text, column("row"))), list(map(text, column("column")))
    shown = map(text, column("displayed"))
    title = exhibit.title
    return [Number(title, *told) for told in zip(ids, rows, columns, shown, strict=True)]


class Dependents:
    """Answers which displayed numbers depend on something, over all exhibits of a results folder.

    Attributes
    ----------
    exhibits : all of them. unreadable : those whose index cannot be read, and why; nothing is known of their numbers.
    """

    def __init__(self, ledger: Ledger, dependence: Dependence | None = None) -> None:
        self.ledger = ledger
        self.dependence = dependence or Dependence(ledger)
        self.exhibits = every_exhibit(ledger)
        self.unreadable: dict[str, PenumbraError] = {}
        self._numbers: list[tuple[Number, ...]] = []
        self._of_file: dict[str, set[int]] = {}
        self._of_job: dict[str, set[int]] = {}
        groups: dict[Direct, list[tuple[int, Number]]] = {}
        position = 0
        for exhibit in self.exhibits:
            try:
                told = zip(numbers_of(exhibit), self.dependence.direct(exhibit), strict=True)
            except PenumbraError as error:
                self.unreadable[exhibit.job] = error
                continue
            for number, direct in told:
                groups.setdefault(direct, []).append((position, number))
                position += 1
        self._positions: list[tuple[int, ...]] = []
        for group, (direct, members) in enumerate(groups.items()):
            self._numbers.append(tuple(number for _, number in members))
            self._positions.append(tuple(at for at, _ in members))
            for file in direct.files:
                self._of_file.setdefault(file, set()).add(group)
            for job in direct.jobs:
                self._of_job.setdefault(job, set()).add(group)
        self._children: dict[str, set[str]] = {}
        self._readers: dict[str, set[str]] = {}
        for job, record in ledger.jobs.items():
            for given in record.inputs:
                self._readers.setdefault(given.path, set()).add(job)
                made = producer(given.path)
                if made is not None:
                    self._children.setdefault(made, set()).add(job)

    @property
    def count(self) -> int:
        """How many numbers are displayed in all."""
        return sum(map(len, self._numbers))

    def of_jobs(self, *jobs: str) -> tuple[Number, ...]:
        """The numbers that depend on some jobs, or on what only these jobs made."""
        return self._told(self._reached(jobs) | {g for job in jobs for g in self._of_job.get(job, ())})

    def of_file(self, path: str) -> tuple[Number, ...]:
        """The numbers that depend on a file, or on a folder or the artefact that it lies in."""
        groups: set[int] = set()
        place = path
        while place:
            groups |= self._of_file.get(place, set())
            groups |= self._reached(job for job in self._readers.get(place, ()) if rule_of(job) not in GATHERING)
            place = place.rpartition("/")[0]
        return self._told(groups)

    def of_folder(self, path: str) -> tuple[Number, ...]:
        """The numbers that depend on a folder artefact, or on any file in it."""
        inside = {g for file, groups in self._of_file.items() if file.startswith(f"{path}/") for g in groups}
        readers = [job for job in self._readers.get(path, ()) if rule_of(job) not in GATHERING]
        return self._told(inside | self._of_file.get(path, set()) | self._reached(readers))

    def readers(self, path: str) -> list[str]:
        """The jobs that read an artefact, sorted."""
        return sorted(self._readers.get(path, ()))

    def _reached(self, jobs: Iterable[str]) -> set[int]:
        """The numbers' groups of all jobs that follow from these without gathering."""
        seen: set[str] = set()
        waiting = [job for job in jobs if rule_of(job) not in GATHERING]
        while waiting:
            job = waiting.pop()
            if job not in seen:
                seen.add(job)
                waiting.extend(c for c in self._children.get(job, ()) if rule_of(c) not in GATHERING)
        return {group for job in seen for group in self._of_job.get(job, ())}

    def _told(self, groups: Iterable[int]) -> tuple[Number, ...]:
        found = [pair for g in groups for pair in zip(self._positions[g], self._numbers[g], strict=True)]
        return tuple(number for _, number in sorted(found, key=lambda pair: pair[0]))
