"""The record of one job: written by the job itself, where it runs, when its outputs are complete.

Records are chained by hash: a record names the hash of each input and the hash of the record of the job that made it,
so that a change of any ancestor shows in all that follows. A record is replaced when its job runs again; the old one
is kept under its own hash.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from penumbra.errors import PenumbraError
from penumbra.files import as_json, atomic_path, write_text
from penumbra.provenance import checkout, surroundings
from penumbra.provenance.hashing import FileState, State, state
from penumbra.provenance.jobs import JOBS, LOG, NUMBERS, RECORD, SUPERSEDED, job_of

SCHEMA = 1
CHECKOUT = "checkout:"
"""What stands before the path of a file of the checkout itself, such as a table of published numbers."""


def canonical(content: Any) -> str:
    """Content as JSON that is the same for the same content."""
    return json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def sha256_of(text: str) -> str:
    """Hexadecimal SHA-256 of a text as UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def sealed(record: Mapping[str, Any]) -> str:
    """A record as text, with the hash of itself: ``own_sha256`` is that of the text without the line it stands on."""
    plain = {key: value for key, value in record.items() if key != "own_sha256"}
    return as_json({**plain, "own_sha256": sha256_of(as_json(plain))})


class Recorder:
    """Notes one job.

    Parameters
    ----------
    snakemake : the object that Snakemake gives a script.
    root : the checkout.

    Raises
    ------
    PenumbraError : what the workflow's head noted of the checkout cannot be read.
    """

    def __init__(self, snakemake: Any, root: Path) -> None:
        self.snakemake, self.root = snakemake, root
        log = str(snakemake.log[0])
        self.job = JOBS[snakemake.rule].format(**dict(snakemake.wildcards))
        self.results = Path(log.removesuffix("/" + LOG.format(job=self.job)))
        self._head = checkout.at_start()
        self._started, self._clock = datetime.now(UTC), time.perf_counter()

    @property
    def file(self) -> Path:
        """Where the record goes."""
        return self.results / RECORD.format(job=self.job)

    def write(self, about: Mapping[str, Any] | None = None) -> Path:
        """Write the record; an older one is kept. ``about`` : what it tells of the job's subject besides.

        Raises
        ------
        PenumbraError : the code changed since the workflow started, an output is missing, or the disk is full.
        """
        record = self.content()
        if about is not None:
            record["about"] = dict(about)
        if self.file.exists():
            old = self.file.read_bytes()
            record["supersedes"] = hashlib.sha256(old).hexdigest()
            _keep(self.results / SUPERSEDED.format(sha256=record["supersedes"]), old)
        self._keep_numbers(record["outputs"])
        write_text(self.file, sealed(record))
        return self.file

    def content(self) -> dict[str, Any]:
        """Everything that the record says."""
        modules = checkout.ran(self._head, self.root.joinpath(*checkout.SCRIPTS, f"{self.snakemake.rule}.py"))
        here = self._head or checkout.look(self.root)[0]
        params = self._params()
        ended, seconds = datetime.now(UTC), time.perf_counter() - self._clock
        return {
            "schema": SCHEMA,
            "job": self.job,
            "rule": self.snakemake.rule,
            "wildcards": dict(self.snakemake.wildcards),
            "params": params,
            "params_sha256": sha256_of(canonical(params)),
            "seed": params.get("seed"),
            "device": self.snakemake.config.get("device"),
            "threads": int(self.snakemake.threads),
            "resources": {k: v for k, v in self.snakemake.resources.items() if k in ("gpu", "mem_mb", "runtime")},
            "checkout": {
                "commit": here.commit,
                "dirty": here.dirty,
                "diff_sha256": here.diff_sha256,
                "code": params.get("code"),
                "modules": modules,
            },
            "software": surroundings.software(self.root),
            "machine": surroundings.machine(),
            "determinism": surroundings.determinism(),
            "started": self._started.isoformat(timespec="milliseconds"),
            "ended": ended.isoformat(timespec="milliseconds"),
            "seconds": round(seconds, 3),
            **surroundings.peak_memory(),
            "inputs": [self._input(name, path) for name, path in _named(self.snakemake.input)],
            "outputs": [self._output(name, path) for name, path in _named(self.snakemake.output)],
            "supersedes": None,
        }

    # ------------------------------------------------------------ parts

    def _params(self) -> dict[str, Any]:
        named = dict(self.snakemake.params.items())
        return {key: json.loads(canonical(value)) for key, value in named.items()}

    def _place(self, path: str) -> str:
        """A path as the record gives it: relative to the results, to the checkout, or absolute."""
        whole = os.path.abspath(path)
        for base, prefix in ((self.results, ""), (self.root, CHECKOUT)):
            inside = os.path.relpath(whole, os.path.abspath(base))
            if not inside.startswith(".."):
                return prefix + Path(inside).as_posix()
        return whole

    def _input(self, name: str, path: str) -> dict[str, Any]:
        place = self._place(path)
        job = job_of(place)
        file = self.results / RECORD.format(job=job) if job else None
        noted: dict[str, FileState] = {}
        own = None
        if file is not None and file.exists():
            content = file.read_bytes()
            own, noted = hashlib.sha256(content).hexdigest(), _noted(content, place)
        found = self._state(path, noted)
        return {
            "name": name,
            "path": place,
            "kind": found.kind,
            "sha256": found.sha256,
            "bytes": found.bytes,
            "hashed": found.hashed,
            "record_sha256": own,
        }

    def _output(self, name: str, path: str) -> dict[str, Any]:
        found = self._state(path)
        told = {
            "name": name,
            "path": self._place(path),
            "kind": found.kind,
            "sha256": found.sha256,
            "bytes": found.bytes,
            "mtime_ns": found.mtime_ns,
        }
        if found.kind == "folder":
            told["files"] = [list(asdict(f).values()) for f in found.files]
        return told

    def _state(self, path: str, noted: Mapping[str, FileState] | None = None) -> State:
        try:
            return state(path, noted)
        except OSError as error:
            raise PenumbraError(
                f"it cannot be read for the job's record: {error.strerror}",
                file=path,
                cure="look at the file, its permissions and its disk, then run the same command again",
            ) from error

    def _keep_numbers(self, outputs: list[dict[str, Any]]) -> None:
        """Keep the index of an exhibit's numbers under its hash, so that later results can be held against it."""
        for output in outputs:
            if output["path"].startswith("studies/") and output["path"].endswith(
                NUMBERS_OF.get(self.snakemake.rule, "|")
            ):
                kept = self.results / NUMBERS.format(sha256=output["sha256"])
                if not kept.exists():
                    _keep(kept, (self.results / output["path"]).read_bytes())


NUMBERS_OF = {"table": ".cells.csv", "study_report": ".cells.csv", "figure": ".csv"}
"""How the index of displayed numbers ends, of what each of these rules makes."""


def _named(files: Any) -> Iterator[tuple[str, str]]:
    """Each path of a job's inputs or outputs with the name that the rule gives it (empty where it gives none)."""
    names: dict[int, str] = {}
    for name, (first, end) in files._names.items():
        for position in range(first, first + 1 if end is None else end):
            names[position] = name
    for position, path in enumerate(files):
        yield names.get(position, ""), str(path)


def _keep(file: Path, content: bytes) -> None:
    with atomic_path(file) as temporary:
        temporary.write_bytes(content)


def _noted(record: bytes, path: str) -> dict[str, FileState]:
    """What a record says of the files of one of its outputs; nothing where it is damaged, which an audit tells."""
    try:
        for output in json.loads(record)["outputs"]:
            if output["path"] == path:
                if output["kind"] == "folder":
                    return {f[0]: FileState(*f) for f in output["files"]}
                return {"": FileState("", output["sha256"], output["bytes"], output["mtime_ns"])}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        pass
    return {}
