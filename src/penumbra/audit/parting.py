"""Where two trails part: the earliest job of a number that is not the same in both, and in what it differs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from penumbra.audit.dependence import GATHERING, Direct, producer, rule_of
from penumbra.audit.ledger import Record

MOST_NAMED = 6
"""So many differences of one kind are told."""


@dataclass(frozen=True)
class Parting:
    """The first place where two trails part: ``job``, and ``differs``: what is not the same, in words."""

    job: str
    differs: tuple[str, ...]

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return {"job": self.job, "differs": list(self.differs)}


Jobs = Mapping[str, Record]


def first_parting(before: Jobs, after: Jobs, direct: Direct, jobs: Iterable[str]) -> Parting | None:
    """The earliest job, from the raw data upwards, that differs; None where none does.

    Jobs differ in their parameters, their code, and the bytes of what they read and made, as far as the number rests on
    these. What else differs (modules, package versions, machine) is told beside, since it may be the cause.

    Parameters
    ----------
    before, after : the records of each side, by job. direct : what the number rests on directly.
    jobs : all jobs of the number, on either side.
    """
    wanted = set(jobs)
    read = {given.path for side in (before, after) for job in wanted if job in side and rule_of(job) not in GATHERING
            for given in side[job].inputs} | direct.files  # fmt: skip
    for job in _upwards(before, after, wanted):
        differs = tuple(_differences(before.get(job), after.get(job), read))
        if differs:
            return Parting(job, differs)
    return None


def _upwards(before: Jobs, after: Jobs, jobs: set[str]) -> list[str]:
    """Jobs so that each follows those that it rests on; of the same depth by name."""
    parents: dict[str, set[str]] = {job: set() for job in jobs}
    for side in (before, after):
        for job in jobs:
            for given in side[job].inputs if job in side else ():
                made = producer(given.path)
                if made in jobs and made is not None and made != job:
                    parents[job].add(made)
    depths: dict[str, int] = {}
    waiting = sorted(jobs, reverse=True)
    while waiting:
        job = waiting[-1]
        open_ = [p for p in parents[job] if p not in depths]
        if job in depths or not open_:
            depths.setdefault(job, 1 + max((depths[p] for p in parents[job]), default=-1))
            waiting.pop()
        elif any(p in waiting[-len(jobs) - 1 :] and _circular(waiting, p) for p in open_):
            depths[job] = 0
            waiting.pop()
        else:
            waiting += sorted(open_, reverse=True)
    return sorted(jobs, key=lambda job: (depths[job], job))


def _circular(waiting: list[str], job: str) -> bool:
    """Records that name each other as inputs were tampered with; more visits than jobs give it away."""
    return waiting.count(job) > 50


def _differences(before: Record | None, after: Record | None, read: set[str]) -> Iterator[str]:
    if before is None or after is None:
        if before is not after:
            yield f"it has a record on {'the second' if before is None else 'the first'} side only"
        return
    params = list(_params(before.content.get("params", {}), after.content.get("params", {})))
    code = _get(before, "params", "code") != _get(after, "params", "code")
    inputs = list(_files("read", before.inputs, after.inputs, read))
    outputs = list(_files("made", before.outputs, after.outputs, read))
    if not (params or code or inputs or outputs):
        return
    yield from _some(params)
    if code:
        modules = list(_entries("module", _get(before, "checkout", "modules"), _get(after, "checkout", "modules")))
        yield from _some(modules) if modules else ["code: its digest"]
    yield from _some(inputs)
    yield from _some(outputs)
    yield from _some(_surroundings(before, after))


def _some(told: Iterable[str]) -> list[str]:
    every = list(told)
    return every if len(every) <= MOST_NAMED else [*every[:MOST_NAMED], f"and {len(every) - MOST_NAMED} more"]


def _get(record: Record, *keys: str) -> Any:
    found: Any = record.content
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _params(before: Any, after: Any, prefix: str = "") -> Iterator[str]:
    """The keys whose values differ, nested ones joined by a full stop; the code's digest is told apart."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            if (prefix or key) != "code":
                name = f"{prefix}.{key}" if prefix else key
                yield from _params(before.get(key, _Nothing), after.get(key, _Nothing), name)
    elif before != after or type(before) is not type(after):
        yield f"parameter {prefix}: {_told(before)} -> {_told(after)}"


class _Nothing:
    """Stands for a key that is not there."""


def _told(value: Any) -> str:
    text = "nothing" if value is _Nothing else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _entries(what: str, before: Any, after: Any) -> Iterator[str]:
    old, new = (side if isinstance(side, dict) else {} for side in (before, after))
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield f"{what} {name}: {_told(old.get(name, _Nothing))} -> {_told(new.get(name, _Nothing))}"


def _files(what: str, before: Iterable[Any], after: Iterable[Any], read: set[str]) -> Iterator[str]:
    old, new = ({file.path: file.sha256 for file in side if file.path in read} for side in (before, after))
    for path in sorted(old.keys() | new.keys()):
        if old.get(path) != new.get(path):
            sides = [f"{side[path][:12]}..." if path in side else "nothing" for side in (old, new)]
            yield f"{what} {path}: {sides[0]} -> {sides[1]}"


def _surroundings(before: Record, after: Record) -> Iterator[str]:
    """What else is not the same, and may be why."""
    yield from _entries("package", _get(before, "software", "packages"), _get(after, "software", "packages"))
    for words, keys in (
        ("Python", ("software", "python")),
        ("CUDA", ("software", "cuda")),
        ("driver", ("software", "driver")),
        ("all installed packages", ("software", "installed_sha256")),
        ("processor", ("machine", "cpu")),
        ("GPUs", ("machine", "gpus")),
        ("host", ("machine", "host")),
        ("threads", ("threads",)),
        ("determinism", ("determinism",)),
        ("commit", ("checkout", "commit")),
    ):
        old, new = _get(before, *keys), _get(after, *keys)
        if old != new:
            yield f"{words}: {_told(old)} -> {_told(new)}"
