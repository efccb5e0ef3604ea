"""What Snakemake itself noted of each job, and whether the job's record says the same.

Snakemake keeps one JSON file an output below ``.snakemake/metadata`` of the folder that it ran in. Its name is the
URL-safe base64 of the output's path as the rule gave it; one that is too long for the file system goes on in folders
whose names begin with ``@``.
"""

from __future__ import annotations

import ast
import base64
import json
import os
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from penumbra.audit.ledger import Record
from penumbra.provenance.record import CHECKOUT, canonical

FOLDER = Path(".snakemake/metadata")
SLACK = 60.0
"""Seconds by which the clocks of a job's machine and of the workflow's head may differ."""


def metadata_file(folder: Path, output: str) -> Path:
    """Where Snakemake notes an output.

    Parameters
    ----------
    folder : ``.snakemake/metadata``. output : its path as the rule gave it.
    """
    try:
        longest = os.pathconf(folder, "PC_NAME_MAX") or 255
    except (OSError, ValueError, AttributeError):
        longest = 255
    name = base64.urlsafe_b64encode(output.encode()).decode()
    pieces = [name[k : k + longest - 1] for k in range(0, len(name), longest - 1)]
    return folder.joinpath(*(f"@{piece}" for piece in pieces[:-1]), pieces[-1])


class Metadata:
    """Snakemake's notes in the folder that the workflow ran in.

    Parameters
    ----------
    root : that folder. results : the results folder, below it or elsewhere.
    """

    def __init__(self, root: str | Path, results: str | Path) -> None:
        self.folder = Path(root) / FOLDER
        whole, base = os.path.abspath(results), os.path.abspath(root)
        inside = os.path.relpath(whole, base)
        self._prefixes = (inside, whole) if not inside.startswith("..") else (whole,)
        self._root = base

    @property
    def there(self) -> bool:
        """Whether there are any notes."""
        return self.folder.is_dir()

    def of(self, path: str) -> dict[str, Any] | None:
        """What is noted of an artefact, by its path relative to the results; None for nothing, or nothing readable."""
        for prefix in self._prefixes:
            file = metadata_file(self.folder, f"{prefix}/{path}")
            if file.is_file():
                try:
                    content = json.loads(file.read_bytes())
                except ValueError:
                    return None
                return content if isinstance(content, dict) else None
        return None

    def _place(self, path: str) -> str:
        """A noted path as records give it."""
        for prefix in self._prefixes:
            if path.startswith(f"{prefix}/"):
                return path.removeprefix(f"{prefix}/")
        if os.path.isabs(path):
            inside = os.path.relpath(path, self._root)
            return path if inside.startswith("..") else CHECKOUT + inside
        return CHECKOUT + path

    def disagreements(self, record: Record) -> Iterator[str]:
        """In what Snakemake's notes contradict a record, in words; each once for all outputs."""
        seen: set[str] = set()
        for output in record.outputs:
            noted = self.of(output.path)
            told = ["it has no note of this output"] if noted is None else self._disagreements(record, noted)
            for problem in told:
                if problem not in seen:
                    seen.add(problem)
                    yield f"{output.path}: {problem}"

    def _disagreements(self, record: Record, noted: dict[str, Any]) -> Iterator[str]:
        if noted.get("rule") != record.rule:
            yield f"it names the rule {noted.get('rule')}, the record {record.rule}"
        ours = {given.path for given in record.inputs}
        theirs = {self._place(str(path)) for path in noted.get("input") or ()}
        if ours != theirs:
            other = sorted(ours ^ theirs)
            more = f" and {len(other) - 1} more" if len(other) > 1 else ""
            yield f"only one of the two names the input {other[0]}{more}"
        lacking = _params(noted) - Counter(map(canonical, record.content.get("params", {}).values()))
        if lacking:
            yield f"it names a parameter that the record has not: {next(iter(lacking))[:80]}"
        yield from _times(record, noted)


def _params(noted: dict[str, Any]) -> Counter[str]:
    """The parameters that Snakemake noted, as canonical JSON; those that are no plain data are left out."""
    found: Counter[str] = Counter()
    for text in noted.get("params") or ():
        try:
            found[canonical(ast.literal_eval(text))] += 1
        except (ValueError, SyntaxError, TypeError):
            continue
    return found


def _times(record: Record, noted: dict[str, Any]) -> Iterator[str]:
    try:
        started = datetime.fromisoformat(record.content["started"]).timestamp()
        ended = datetime.fromisoformat(record.content["ended"]).timestamp()
        start, end = float(noted["starttime"]), float(noted["endtime"])
    except (KeyError, TypeError, ValueError):
        yield "start and end of the job are not told by both"
        return
    if started < start - SLACK or ended < start - SLACK or started > end + SLACK:
        here, there = datetime.fromtimestamp(start), datetime.fromtimestamp(end)
        yield f"it says that the job ran from {here:%Y-%m-%d %H:%M:%S} to {there:%H:%M:%S}, the record another time"
