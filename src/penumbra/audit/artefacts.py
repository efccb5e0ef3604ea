"""Hashing everything that the records name, and holding it against them.

Threads hash side by side: hashing releases the interpreter. Whatever cannot be read is a fault like any other.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from penumbra import paths
from penumbra.audit.dependence import producer
from penumbra.audit.faults import Found, short
from penumbra.audit.ledger import Ledger, Output
from penumbra.files import sha256
from penumbra.provenance.hashing import FileState, state
from penumbra.provenance.jobs import RECORD
from penumbra.provenance.record import CHECKOUT

SLACK = 2_000_000_000
"""Nanoseconds by which a time may lie before the one that was noted: archives and some disks keep whole seconds."""
REMAKE = "restore it from a copy, or make it again (snakemake --forcerun)"
_CHUNK, _LARGE = 64, 2**20

MakeProgress = Callable[..., Any]
"""Called as ``(total, title, unit=...)``; gives something like :class:`penumbra.progress.Progress`."""


@dataclass(frozen=True)
class _Task:
    """One file to hash: of which artefact, by what name in it, and what the record says of it."""

    artefact: str
    name: str
    file: Path
    sha256: str
    bytes: int
    mtime_ns: int

    @property
    def path(self) -> str:
        return f"{self.artefact}/{self.name}" if self.name else self.artefact


@dataclass
class Hashed:
    """What was hashed: number of artefacts and bytes, and the hash of each file that was read, by path.

    ``originals`` : the state of what links lead to, by its real path.
    """

    artefacts: int = 0
    bytes: int = 0
    sha256: dict[str, str] = field(default_factory=dict)
    originals: dict[str, FileState] = field(default_factory=dict)


def outputs(ledger: Ledger) -> Iterator[tuple[str, Output]]:
    """Every output that a record names and that is its job's own, with the job's name."""
    for job, record in ledger.jobs.items():
        for output in record.outputs:
            if producer(output.path) == job:
                yield job, output


def verify_artefacts(
    ledger: Ledger, checkout: Path | None = None, progress: MakeProgress | None = None
) -> tuple[list[Found], Hashed]:
    """Hash every artefact of the records, folders file by file, and what jobs read from outside the results.

    Parameters
    ----------
    checkout : the folder that paths after ``checkout:`` are relative to; they are not looked at where None.
    progress : makes a progress bar.
    """
    found, hashed, tasks = list[Found](), Hashed(), list[_Task]()
    for job, output in outputs(ledger):
        hashed.artefacts += 1
        faults, own = _tasks(ledger.results, job, output)
        found += faults
        tasks += own
    found += _hash(tasks, hashed, progress)
    found += _manifests(ledger, hashed)
    found += _outside(ledger, checkout, hashed)
    return found, hashed


def _tasks(results: Path, job: str, output: Output) -> tuple[list[Found], list[_Task]]:
    """What is missing, added or of another kind, and the files that are left to hash."""
    whole = results / output.path
    if output.kind != "folder":
        if whole.is_dir():
            return [Found("changed", output.path, f"{job} made a file, this is a folder", REMAKE, (output.path,))], []
        return [], [_Task(output.path, "", whole, output.sha256, output.bytes, output.mtime_ns)]
    if not whole.is_dir():
        return [Found("missing", output.path, f"the folder that {job} made is not there", REMAKE, (),
                      (output.path,))], []  # fmt: skip
    there, named = set(_names(whole)), {name for name, *_ in output.files}
    found = [
        Found(
            "added", f"{output.path}/{name}", f"{job} did not make this file", "remove it", (f"{output.path}/{name}",)
        )
        for name in sorted(there - named)
    ]
    return found, [_Task(output.path, n, whole / n, digest, size, at) for n, digest, size, at in output.files]


def _names(folder: Path) -> Iterator[str]:
    """Every file below a folder by relative path, without hidden ones; broken links count, and those that lead back."""
    waiting: list[tuple[str, str, frozenset[tuple[int, int]]]] = [("", str(folder), frozenset())]
    while waiting:
        prefix, place, above = waiting.pop()
        try:
            status = os.stat(place)
            own = (status.st_dev, status.st_ino)
            if own in above:
                yield prefix.rstrip("/")
                continue
            with os.scandir(place) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        waiting.append((f"{prefix}{entry.name}/", entry.path, above | {own}))
                    else:
                        yield prefix + entry.name
        except OSError:
            continue


def _hash(tasks: list[_Task], hashed: Hashed, progress: MakeProgress | None) -> list[Found]:
    """Hash files in threads, large ones one at a time, small ones many at a time."""
    chunks: list[list[_Task]] = []
    small: list[_Task] = []
    for task in tasks:
        if task.bytes >= _LARGE:
            chunks.append([task])
        else:
            small.append(task)
    chunks += [small[k : k + _CHUNK] for k in range(0, len(small), _CHUNK)]
    found: list[Found] = []
    bar = progress(len(tasks), "hashing", unit="files") if progress else None
    done = 0
    try:
        with ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 2)) as pool:
            for chunk, told in zip(chunks, pool.map(_hash_chunk, chunks), strict=True):
                for task, (now, faults) in zip(chunk, told, strict=True):
                    found += faults
                    if now is not None:
                        hashed.bytes += now.bytes
                        hashed.sha256[task.path] = now.sha256
                        if task.file.is_symlink():
                            hashed.originals[os.path.realpath(task.file)] = now
                done += len(chunk)
                if bar is not None:
                    bar.update(done)
    finally:
        if bar is not None:
            bar.close()
    return found


def _hash_chunk(chunk: list[_Task]) -> list[tuple[FileState | None, list[Found]]]:
    return [_hash_one(task) for task in chunk]


def _hash_one(task: _Task) -> tuple[FileState | None, list[Found]]:
    """The state of a file, and what is wrong with it."""
    where: Any = {"files": (task.path,)}
    try:
        status = task.file.stat()
        if not stat.S_ISREG(status.st_mode):
            told = "it is no file"
            return None, [Found("changed", task.path, told, REMAKE, **where)]
        digest = sha256(task.file)
    except FileNotFoundError:
        return None, [Found("missing", task.path, "the file is not there", REMAKE, **where)]
    except OSError as error:
        told = f"the file cannot be read: {error.strerror}"
        return (
            None,
            [Found("missing", task.path, told, f"see to the disk and its permissions, or {REMAKE}", **where)],
        )
    found = []
    if digest != task.sha256:
        size = "" if status.st_size == task.bytes else f", {status.st_size} bytes instead of {task.bytes}"
        told = f"its SHA-256 is {digest[:12]}..., its record says {task.sha256[:12]}...{size}"
        found.append(Found("changed", task.path, told, REMAKE, **where))
    elif status.st_size != task.bytes:
        told = f"it has {status.st_size} bytes, its record says {task.bytes}"
        found.append(Found("record", RECORD.format(job=producer(task.path)), f"{task.path}: {told}", REMAKE, **where))
    if status.st_mtime_ns < task.mtime_ns - SLACK:
        told = f"it is {(task.mtime_ns - status.st_mtime_ns) / 1e9:.0f} s older than when its job made it"
        found.append(Found("backdated", task.path, told, REMAKE, **where))
    return FileState("", digest, status.st_size, status.st_mtime_ns), found


def _manifests(ledger: Ledger, hashed: Hashed) -> Iterable[Found]:
    """Raw files against their manifest, where neither is at fault already."""
    for job, output in outputs(ledger):
        if not job.startswith("download/"):
            continue
        name = paths.MANIFEST.rpartition("/")[2]
        manifest = f"{output.path}/{name}"
        named = {path: digest for path, digest, *_ in output.files}
        if hashed.sha256.get(manifest) != named.get(name):
            continue
        if name not in named:
            yield Found("record", RECORD.format(job=job), "it names no manifest", REMAKE, jobs=(job,))
            continue
        lines = (ledger.results / manifest).read_text(encoding="utf-8").splitlines()[1:]
        told = {path: digest for path, _, digest in (line.split("\t") for line in lines if line.count("\t") == 2)}
        for path in sorted(told.keys() | named.keys() - {name}):
            if told.get(path) != named.get(path):
                problem = f"the manifest says {short(told.get(path))} of {path}, the record {short(named.get(path))}"
                yield Found("chain", manifest, problem, REMAKE, (f"{output.path}/{path}",))


def _outside(ledger: Ledger, checkout: Path | None, hashed: Hashed) -> Iterable[Found]:
    """What jobs read from the checkout or from elsewhere; what is not on this machine cannot be looked at."""
    told: dict[str, dict[str, list[str]]] = {}
    for job, record in ledger.jobs.items():
        for given in record.inputs:
            if given.path.startswith((CHECKOUT, "/")):
                told.setdefault(given.path, {}).setdefault(given.sha256, []).append(job)
    for path, hashes in sorted(told.items()):
        if path.startswith(CHECKOUT) and checkout is None:
            continue
        place = checkout / path.removeprefix(CHECKOUT) if checkout and path.startswith(CHECKOUT) else Path(path)
        inside = os.path.realpath(place) + os.sep
        linked = {p.removeprefix(inside): known for p, known in hashed.originals.items() if p.startswith(inside)}
        try:
            now = state(place, {name: replace(known, path=name) for name, known in linked.items()})
        except OSError:
            if path.startswith(f"{CHECKOUT}config/"):
                yield Found(
                    "input", path, "the checkout does not hold it", "audit with the checkout that made it", (path,)
                )
            continue
        hashed.sha256[path] = now.sha256
        hashed.bytes += now.bytes
        for digest, jobs in hashes.items():
            if digest != now.sha256:
                problem = f"its SHA-256 is {now.sha256[:12]}..., {_first(jobs)} read {digest[:12]}..."
                cure = "restore it, or run the workflow again so that its results follow"
                yield Found("input", path, problem, cure, (path,))


def _first(jobs: list[str]) -> str:
    return jobs[0] if len(jobs) == 1 else f"{jobs[0]} and {len(jobs) - 1} more"
