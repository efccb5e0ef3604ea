"""What is kept beside the current records, and what has no record at all."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from penumbra import paths
from penumbra.audit.dependence import producer
from penumbra.audit.dependents import index_of
from penumbra.audit.faults import Found
from penumbra.audit.ledger import Ledger, Record
from penumbra.files import sha256
from penumbra.provenance.jobs import DIFF, NUMBERS, OUTPUTS, RECORD, SUPERSEDED, job_of

HEX = re.compile(r"[0-9a-f]{64}")
"""A SHA-256 in hexadecimal digits."""


def said(record: Record, path: str) -> str | None:
    """What a record says of an output."""
    return next((output.sha256 for output in record.outputs if output.path == path), None)


def verify_kept(ledger: Ledger) -> Iterator[Found]:
    """Superseded records, numbers and differences that are kept: each is what its name says, and none is missing."""
    readers: dict[str, set[str]] = {}
    wanted: dict[str, str] = {}
    for job, record in ledger.jobs.items():
        for given in record.inputs:
            maker = producer(given.path)
            current = ledger.jobs[maker].sha256 if maker is not None and maker in ledger.jobs else None
            if given.record_sha256 and given.record_sha256 != current:
                readers.setdefault(given.record_sha256, set()).add(job)
        old = record.content.get("supersedes")
        if isinstance(old, str) and HEX.fullmatch(old):
            wanted[SUPERSEDED.format(sha256=old)] = job
        checkout = record.content.get("checkout")
        patch = checkout.get("diff_sha256") if isinstance(checkout, dict) else None
        if isinstance(patch, str) and HEX.fullmatch(patch):
            wanted[DIFF.format(sha256=patch)] = job
        index = said(record, index_of(job) or "")
        if index is not None and HEX.fullmatch(index):
            wanted[NUMBERS.format(sha256=index)] = job
    there = set[str]()
    for folder, words in (("superseded", "record"), ("numbers", "index of numbers"), ("diffs", "difference")):
        place = ledger.results / "records" / folder
        for file in sorted(place.iterdir()) if place.is_dir() else ():
            if file.name.startswith("."):
                continue
            path = file.relative_to(ledger.results).as_posix()
            there.add(path)
            jobs = tuple(sorted(readers.get(file.stem, ()))) if folder == "superseded" else ()
            try:
                digest = sha256(file) if file.is_file() else ""
            except OSError as error:
                yield Found("kept", path, f"the kept {words} cannot be read: {error.strerror}", "restore it", jobs=jobs)
                continue
            if digest != file.stem:
                yield Found("kept", path, f"the kept {words} is not what its name says", "restore it", jobs=jobs)
            elif folder == "superseded":
                old = _supersedes(file)
                if old:
                    wanted.setdefault(SUPERSEDED.format(sha256=old), f"the superseded record {file.stem[:12]}...")
    for path in sorted(wanted.keys() - there):
        jobs = tuple(sorted(readers.get(Path(path).stem, ())))
        yield Found("kept", path, f"{wanted[path]} names it, it is not there", "restore it from a copy", jobs=jobs)


def _supersedes(file: Path) -> str | None:
    try:
        content: Any = json.loads(file.read_bytes())
    except ValueError:
        return None
    old = content.get("supersedes") if isinstance(content, dict) else None
    return old if isinstance(old, str) and HEX.fullmatch(old) else None


def verify_seals(ledger: Ledger) -> Iterator[Found]:
    """The records that a study's seal names, against those that are there."""
    for file in sorted(ledger.results.glob(paths.SEAL.format(study="*"))):
        path = file.relative_to(ledger.results).as_posix()
        try:
            sealed = json.loads(file.read_bytes())["records"].items()
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            yield Found(
                "record", path, f"the seal cannot be read: {type(error).__name__}: {error}", "seal the study again"
            )
            continue
        for job, digest in sealed:
            if job not in ledger.jobs and job not in ledger.unreadable:
                told = f"{path} names it, it is not there"
                yield Found("unrecorded", RECORD.format(job=job), told, "restore the record, or run the job again",
                            jobs=(job,))  # fmt: skip
            elif job in ledger.jobs and ledger.jobs[job].sha256 != digest:
                cure = "if it was made again, seal the study again (snakemake final)"
                told = f"it is not the record that {path} names"
                yield Found("chain", RECORD.format(job=job), told, cure, jobs=(job,))


def verify_unrecorded(ledger: Ledger, lost: set[str]) -> Iterator[Found]:
    """Jobs whose record is gone: others read what they made, or what they made lies in the results."""
    known = {*ledger.jobs, *ledger.unreadable}
    lying: dict[str, list[str]] = {}
    for path in artefacts_on_disk(ledger.results):
        job = producer(path)
        if job is not None and job not in known:
            lying.setdefault(job, []).append(path)
    for job in sorted({*lost, *lying}):
        told = f"{job} has no record"
        if job in lying:
            told += f", but what it makes is there: {', '.join(sorted(lying[job]))}"
        yield Found("unrecorded", RECORD.format(job=job), told, "restore the record, or run the job again",
                    jobs=(job,))  # fmt: skip


def artefacts_on_disk(results: Path) -> Iterator[str]:
    """Every file and folder of a results folder that some job makes, relative to it; nothing inside such folders."""
    for top in sorted({pattern.partition("/")[0] for patterns in OUTPUTS.values() for pattern in patterns}):
        if job_of(top) is not None:
            if (results / top).exists():
                yield top
            continue
        waiting = [top]
        while waiting:
            place = waiting.pop()
            try:
                entries = sorted(os.scandir(results / place), key=lambda entry: entry.name)
            except OSError:
                continue
            for entry in entries:
                path = f"{place}/{entry.name}"
                if job_of(path) is not None:
                    yield path
                elif not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
