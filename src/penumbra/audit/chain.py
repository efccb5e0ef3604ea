"""Holding the records against each other: each alone, each against those that it names, and what is kept besides."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from penumbra.audit.artefacts import REMAKE, SLACK
from penumbra.audit.dependence import producer, rule_of
from penumbra.audit.faults import Found, short
from penumbra.audit.kept import HEX, said, verify_kept, verify_seals, verify_unrecorded
from penumbra.audit.ledger import Input, Ledger, Record, record_files
from penumbra.errors import PenumbraError
from penumbra.files import sha256
from penumbra.provenance.hashing import folder_sha256
from penumbra.provenance.jobs import JOBS, OUTPUTS, RECORD, SUPERSEDED
from penumbra.provenance.record import CHECKOUT, canonical, sha256_of

BESIDE = ("benchmarks/", "logs/")
"""What jobs may read of the results without a record."""
TELLING = ("page", "seal")
"""Rules whose jobs tell of results and make none."""
_OWN = re.compile(rb'\n  "own_sha256": "([0-9a-f]{64})",')


def head(ledger: Ledger) -> str:
    """SHA-256 over the line ``<sha256>  <job>`` of every current record, sorted by job: one hash for a whole tree.

    What tells of results without making any (:data:`TELLING`) does not count, so that the page can print the hash.
    """
    jobs = sorted(job for job in ledger.jobs if rule_of(job) not in TELLING)
    lines = [f"{ledger.jobs[job].sha256}  {job}\n" for job in jobs]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def own_hash_broken(text: bytes) -> bool:
    """Whether a record's file does not hold the hash of itself; see :func:`penumbra.provenance.record.sealed`."""
    match = _OWN.search(text)
    return match is None or hashlib.sha256(_OWN.sub(b"", text, count=1)).hexdigest().encode() != match[1]


def verify_records(ledger: Ledger) -> list[Found]:
    """Everything about records that needs no artefact: each alone, the chain, what is kept, what has none."""
    chain = _Chain(ledger)
    for job, error in ledger.unreadable.items():
        chain.note("record", job, error.problem)
    for job, file in record_files(ledger.results):
        if job in ledger.jobs:
            chain.alone(job, file)
    for job in ledger.jobs:
        chain.inputs(job)
    chain.settle()
    return [*chain.found, *verify_seals(ledger), *verify_kept(ledger), *verify_unrecorded(ledger, chain.lost)]


@dataclass(frozen=True)
class _Edge:
    """A disagreement between a record and the record of the maker of one of its inputs."""

    child: str
    parent: str
    problem: str


class _Chain:
    """Collects what is wrong with current records."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.found = ledger, list[Found]()
        self.broken: set[str] = set()
        self.lost: set[str] = set()
        self.edges: list[_Edge] = []
        self.agreeing: set[str] = set()
        self._superseded: dict[str, Record | None] = {}

    def note(self, kind: str, job: str, problem: str) -> None:
        self.broken.add(job)
        self.found.append(Found(kind, RECORD.format(job=job), problem, REMAKE, jobs=(job,)))

    # ------------------------------------------------------------ one record

    def alone(self, job: str, file: Path) -> None:
        """What a record says of itself."""
        record = self.ledger.jobs[job]
        for problem in _contradictions(job, record, file.read_bytes()):
            self.note("record", job, problem)
        newest = max((output.mtime_ns for output in record.outputs), default=0)
        late = newest - file.stat().st_mtime_ns
        if late > SLACK:
            told = f"the record is {late / 1e9:.0f} s older than what it says its job made"
            self.found.append(Found("backdated", RECORD.format(job=job), told, REMAKE, jobs=(job,)))

    # ------------------------------------------------------------ the chain

    def inputs(self, job: str) -> None:
        """Each input of a job against the record of the job that made it."""
        for given in self.ledger.jobs[job].inputs:
            if given.path.startswith((CHECKOUT, "/", *BESIDE)):
                continue
            maker = producer(given.path)
            if maker is None:
                self.note("record", job, f"it reads {given.path}, which no job makes")
            elif maker not in self.ledger.jobs:
                if maker not in self.ledger.unreadable:
                    self.lost.add(maker)
            else:
                problem = self._disagreement(given, self.ledger.jobs[maker])
                if problem:
                    self.edges.append(_Edge(job, maker, problem))
                else:
                    self.agreeing.add(maker)

    def _disagreement(self, given: Input, maker: Record) -> str:
        """How an input and its maker's record contradict each other; empty where they do not."""
        now = said(maker, given.path)
        if now != given.sha256:
            return f"read {given.path} as {short(given.sha256)}, its maker says {short(now)}"
        if given.record_sha256 == maker.sha256:
            return ""
        if given.record_sha256 is None:
            return f"read {given.path} when there was no record of its maker"
        former = self._former(given.record_sha256)
        if former is None:
            return f"names a record of the maker of {given.path} ({short(given.record_sha256)}) that is not kept"
        if former.job != maker.job or said(former, given.path) != given.sha256:
            return f"names a former record that does not say of {given.path} what it read"
        return ""

    def _former(self, digest: str) -> Record | None:
        if digest not in self._superseded:
            found = None
            file = self.ledger.results / SUPERSEDED.format(sha256=digest)
            if HEX.fullmatch(digest) and file.is_file() and sha256(file) == digest:
                try:
                    found = self.ledger.superseded(digest)
                except PenumbraError:
                    found = None
            self._superseded[digest] = found
        return self._superseded[digest]

    def settle(self) -> None:
        """Say for each disagreement which of the two records it is a fault of.

        The reader's, where it is at fault otherwise, where anything read of the same maker agrees with the maker's
        record, or where those that read of the reader disagree with it, too; else the maker's.
        """
        doubted = {edge.parent for edge in self.edges}
        told: dict[str, list[str]] = {}
        for edge in self.edges:
            if edge.child in self.broken and edge.parent in self.broken:
                continue
            of_child = edge.parent not in self.broken and (
                edge.child in self.broken or edge.parent in self.agreeing or edge.child in doubted
            )
            blamed = edge.child if of_child else edge.parent
            told.setdefault(blamed, []).append(f"{edge.child} {edge.problem}")
        for job, problems in told.items():
            more = f" (and {len(problems) - 1} more of the kind)" if len(problems) > 1 else ""
            self.note("chain", job, problems[0] + more)


def _contradictions(job: str, record: Record, text: bytes) -> Iterator[str]:
    """What a record says that cannot be so, whatever the other records and the files are."""
    content = record.content
    if own_hash_broken(text):
        yield "its bytes are not those whose hash it holds"
    if record.job != job or record.rule != rule_of(job):
        yield f"it is the record of {record.job} (rule {record.rule}), not of {job}"
        return
    try:
        if sha256_of(canonical(content["params"])) != content["params_sha256"]:
            yield "its parameters are not those whose hash it holds"
        wildcards = {str(k): str(v) for k, v in content["wildcards"].items()}
        if JOBS[record.rule].format(**wildcards) != job:
            yield f"its wildcards {wildcards} are not those of {job}"
        wanted = {pattern.format(**wildcards) for pattern in OUTPUTS[record.rule]}
    except (KeyError, TypeError, AttributeError) as error:
        yield f"it lacks what a record holds: {type(error).__name__}: {error}"
        wanted = set()
    named = {output.path for output in record.outputs}
    for path in sorted(wanted - named):
        yield f"it does not name {path}, which its job makes"
    for output in record.outputs:
        if producer(output.path) != job:
            yield f"it names {output.path}, which its job does not make"
        if output.kind == "folder":
            if folder_sha256({name: digest for name, digest, *_ in output.files}) != output.sha256:
                yield f"the files of {output.path} do not give the hash of the folder"
            if sum(size for _, _, size, _ in output.files) != output.bytes:
                yield f"the files of {output.path} do not give its number of bytes"
