"""All job records of a results folder, and how they hang together.

Nothing here hashes an artefact: what the records say is read and linked; :mod:`penumbra.audit.verify` holds it against
the disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any

from penumbra.errors import PenumbraError
from penumbra.provenance.jobs import RECORD, SUPERSEDED, job_of
from penumbra.provenance.record import CHECKOUT

COMMON = {"checkout", "software", "machine", "determinism", "resources", "params"}
"""Parts of a record that many records have in common."""
OWN_FOLDERS = ("superseded", "numbers", "diffs")
"""Folders below ``records`` that hold no current record."""


@dataclass(frozen=True, slots=True)
class Input:
    """What a job read: ``record_sha256`` is the hash of its maker's record at that time, None for a raw input."""

    name: str
    path: str
    kind: str
    sha256: str
    bytes: int
    hashed: bool
    record_sha256: str | None


@dataclass(frozen=True, slots=True)
class Output:
    """What a job made; ``files`` holds path, SHA-256, bytes and time of each file of a folder."""

    name: str
    path: str
    kind: str
    sha256: str
    bytes: int
    mtime_ns: int
    files: tuple[tuple[str, str, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """One job's record: ``sha256`` of its file, and ``content`` without inputs and outputs, as plain data."""

    job: str
    rule: str
    sha256: str
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    content: dict[str, Any]

    @classmethod
    def parse(cls, text: bytes, file: Path, shared: dict[str, Any] | None = None) -> Record:
        """A record from its file's bytes.

        Parameters
        ----------
        shared : what records have in common is held once in it: thousands of them name the same code and packages.

        Raises
        ------
        PenumbraError : it is not a record.
        """
        try:
            content = json.loads(text)
            if b"\\ud" in text.lower():
                json.dumps(content, ensure_ascii=False).encode()  # half a character that no file can hold
            _check_content(content)
            inputs = tuple(Input(**_held(given, shared)) for given in content.pop("inputs"))
            outputs = tuple(
                Output(**{**made, "files": tuple((p, s, b, t) for p, s, b, t in made.get("files", ()))})
                for made in content.pop("outputs")
            )
            if shared is not None:
                for key in COMMON & content.keys():
                    content[key] = shared.setdefault(f"{key} {json.dumps(content[key], sort_keys=True)}", content[key])
            found = cls(content["job"], content["rule"], hashlib.sha256(text).hexdigest(), inputs, outputs, content)
            _check_places(found)
            return found
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise PenumbraError(
                f"this is no job record: {type(error).__name__}: {error}",
                file=file,
                cure="restore it, or make its job's outputs again (snakemake --forcerun)",
            ) from error


_CONTENT: dict[str, dict[str, Any]] = {
    "": {
        "job": str,
        "rule": str,
        "wildcards": dict,
        "params": dict,
        "checkout": dict,
        "software": dict,
        "machine": dict,
        "determinism": (dict, NoneType),
        "started": str,
        "ended": str,
        "supersedes": (str, NoneType),
    },
    "checkout": {"commit": (str, NoneType), "diff_sha256": (str, NoneType), "modules": dict},
    "software": {"packages": dict},
    "determinism": {"environment": dict},
}
"""What a record and some of its parts have to hold, where they hold it."""
_HASH = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")


def _check_content(content: Any) -> None:
    """Refuse parts of another type than others rely on."""
    for within, shape in _CONTENT.items():
        told = (content.get(within) or {}) if within else content
        for key, kind in shape.items():
            if key in told and not isinstance(told[key], kind):
                raise TypeError(f"{within or 'the record'} holds {key!r} as {type(told[key]).__name__}")
    if not {"wildcards", "params"} <= content.keys():
        raise KeyError("wildcards or params")
    checkout = content.get("checkout") or {}
    for text in (checkout.get("commit"), checkout.get("diff_sha256"), content.get("supersedes")):
        if text is not None and not _HASH.fullmatch(text):
            raise ValueError(f"{text!r} is no hash")


def _check_places(record: Record) -> None:
    """Refuse what is no path below the results (or, of an input, elsewhere), no hash or no count.

    Whoever writes a record could otherwise make an audit read and copy any file of the reader's.
    """
    for made in record.outputs:
        _check_state(made, (made.name, made.path, made.sha256))
        _check_inside(made.path)
        if not _count(made.mtime_ns):
            raise ValueError(f"{made.path} has the time {made.mtime_ns!r}")
        for name, digest, size, at in made.files:
            _check_inside(name)
            if not (isinstance(digest, str) and _count(size) and _count(at)):
                raise ValueError(f"{name} of {made.path} has no hash, size and time")
    for given in record.inputs:
        _check_state(given, (given.name, given.path, given.sha256, given.record_sha256 or ""))
        _check_inside(given.path.removeprefix(CHECKOUT).lstrip("/"))


def _check_state(told: Input | Output, texts: tuple[str, ...]) -> None:
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"{text!r} stands where a text belongs")
        text.encode()
    if told.kind not in ("file", "folder") or not _count(told.bytes):
        raise ValueError(f"{told.path!r} is {told.kind!r} of {told.bytes!r} bytes")


def _check_inside(path: str) -> None:
    if not isinstance(path, str) or "\0" in path or {"", ".", ".."} & set(path.split("/")):
        raise ValueError(f"{path!r} is no path that a job reads or makes")


def _count(value: Any) -> bool:
    return type(value) is int and abs(value) < 2**63


def _held(given: dict[str, Any], shared: dict[str, Any] | None) -> dict[str, Any]:
    """An input whose texts are held once."""
    if shared is None:
        return given
    return {key: shared.setdefault(value, value) if isinstance(value, str) else value for key, value in given.items()}


@dataclass
class Ledger:
    """The current records of a results folder by job name, and what could not be read."""

    results: Path
    jobs: Mapping[str, Record] = field(default_factory=dict)
    unreadable: dict[str, PenumbraError] = field(default_factory=dict)
    _makers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, results: str | Path) -> Ledger:
        """Read every record below ``results/records``.

        Raises
        ------
        PenumbraError : there are no records.
        """
        jobs: dict[str, Record] = {}
        ledger = cls(Path(results), jobs)
        shared: dict[str, Any] = {}
        for job, file in record_files(ledger.results):
            try:
                record = Record.parse(_bytes(file), file, shared)
            except PenumbraError as error:
                ledger.unreadable[job] = error
                continue
            jobs[job] = record
            ledger._makers |= {output.path: job for output in record.outputs}
        if not ledger.jobs and not ledger.unreadable:
            raise _no_records(ledger.results)
        return ledger

    @classmethod
    def open(cls, results: str | Path) -> Ledger:
        """A ledger that reads a record when it is first asked for: for what needs a few records of many thousands.

        A record that cannot be read raises its :class:`PenumbraError` when it is asked for; ``unreadable`` stays empty.

        Raises
        ------
        PenumbraError : there are no records.
        """
        results = Path(results)
        if (
            next((f for f in _files(results / "records") if f.parts[len(results.parts) + 1] not in OWN_FOLDERS), None)
            is None
        ):
            raise _no_records(results)
        return _OpenLedger(results, _Records(results))

    def maker(self, path: str) -> Record | None:
        """The record of the job that made an artefact, or the folder that it lies in; None for what no job made."""
        while path:
            job = self._maker(path)
            if job is not None:
                return self.jobs[job]
            path = path.rpartition("/")[0]
        return None

    def _maker(self, path: str) -> str | None:
        return self._makers.get(path)

    def of_rules(self, rules: Collection[str]) -> list[Record]:
        """The records of jobs of some rules."""
        return [record for record in self.jobs.values() if record.rule in rules]

    def parents(self, job: str) -> list[str]:
        """The jobs whose outputs a job read, each once, in the order of its inputs."""
        made = (self._maker(given.path) for given in self.jobs[job].inputs)
        return list(dict.fromkeys(name for name in made if name is not None))

    def ancestors(self, jobs: Iterable[str]) -> set[str]:
        """The given jobs and all that they rest on."""
        found: set[str] = set()
        waiting = [job for job in jobs if job in self.jobs]
        while waiting:
            job = waiting.pop()
            if job not in found:
                found.add(job)
                waiting.extend(self.parents(job))
        return found

    def superseded(self, sha256: str) -> Record | None:
        """A record that was replaced, by its hash; None where it is not kept."""
        file = self.results / SUPERSEDED.format(sha256=sha256)
        return Record.parse(_bytes(file), file) if file.is_file() else None


class _Records(Mapping[str, Record]):
    """The current records of a results folder by job name, each read when it is first asked for."""

    def __init__(self, results: Path) -> None:
        self._results, self._read = results, dict[str, Record | None]()

    def _get(self, job: str) -> Record | None:
        if job not in self._read:
            file = self._results / RECORD.format(job=job)
            own = job.partition("/")[0] in OWN_FOLDERS
            self._read[job] = Record.parse(_bytes(file), file) if not own and os.path.lexists(file) else None
        return self._read[job]

    def __getitem__(self, job: str) -> Record:
        found = self._get(job)
        if found is None:
            raise KeyError(job)
        return found

    def __contains__(self, job: object) -> bool:
        return isinstance(job, str) and self._get(job) is not None

    def __iter__(self) -> Iterator[str]:
        return (job for job, _ in record_files(self._results))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _OpenLedger(Ledger):
    """What :meth:`Ledger.open` gives."""

    def _maker(self, path: str) -> str | None:
        job = job_of(path)
        return job if job is not None and job in self.jobs else None

    def of_rules(self, rules: Collection[str]) -> list[Record]:
        root = self.results / "records"
        found = (file.relative_to(root) for rule in rules for file in _files(root / rule))
        return [self.jobs[job] for job in sorted(place.with_suffix("").as_posix() for place in found)]


def _bytes(file: Path) -> bytes:
    """A record's bytes.

    Raises
    ------
    PenumbraError : it cannot be read, or is no file.
    """
    try:
        if file.is_file():
            return file.read_bytes()
        problem = "this is no job record: it is no file"
    except OSError as error:
        problem = f"this job record cannot be read: {error.strerror}"
    raise PenumbraError(problem, file=file, cure="restore it, or make its job's outputs again (snakemake --forcerun)")


def _no_records(results: Path) -> PenumbraError:
    return PenumbraError(
        "there are no job records",
        file=results / "records",
        cure="name a results folder that Penumbra made: --results FOLDER",
    )


def _files(folder: Path) -> Iterator[Path]:
    """The record files below a folder, in no order."""
    for file in folder.rglob("*.json"):
        if not any(part.startswith(".") for part in file.relative_to(folder).parts):
            yield file


def record_files(results: Path) -> Iterator[tuple[str, Path]]:
    """Job name and file of every current record, sorted."""
    root = results / "records"
    for file in sorted(_files(root)):
        place = file.relative_to(root)
        if place.parts[0] not in OWN_FOLDERS:
            yield place.with_suffix("").as_posix(), file
