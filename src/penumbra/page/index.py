"""What the page tells of each number: its line of the index as it stands there, and what it rests on."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from penumbra.audit.ledger import Ledger, Output, Record
from penumbra.audit.numbers import Exhibit
from penumbra.errors import PenumbraError
from penumbra.page.markdown import Place
from penumbra.reporting.estimators import in_words

SHOWN = (
    "id", "displayed", "row", "column", "panel", "mark", "name", "x", "y", "value", "std", "unit", "scale", "decimals",
    "estimator", "n", "n_expected", "n_cases", "n_undefined", "p", "p_holm", "status", "dataset", "candidate", "target",
    "metric", "source", "filter", "n_rows", "rows_sha256",
)  # fmt: skip
"""The columns of an index that a trail shows, in this order."""
COUNTS = ("n", "n_expected", "n_cases", "n_undefined", "n_rows", "decimals")
"""Columns of whole numbers, which an index writes with a point where some are missing."""
VERDICTS = ("supported", "contradicted", "undecided")


@dataclass(frozen=True)
class Artefact:
    """A file that a number rests on: its hash, size, and the job that made it (empty where none did)."""

    path: str
    sha256: str
    bytes: int
    job: str


class Artefacts:
    """Hash, size and maker of any file that the records know."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._read = {given.path: given for record in ledger.jobs.values() for given in record.inputs}

    def find(self, path: str) -> Artefact | None:
        """The file or folder at a path as the records give it; None where they do not know it."""
        record = self.ledger.maker(path)
        if record is None:
            given = self._read.get(path)
            return None if given is None else Artefact(path, given.sha256, given.bytes, "")
        for output in record.outputs:
            if output.path == path:
                return Artefact(path, output.sha256, output.bytes, record.job)
            if path.startswith(output.path + "/"):
                inside = path.removeprefix(output.path + "/")
                for name, sha256, size, _ in output.files:
                    if name == inside:
                        return Artefact(path, sha256, size, record.job)
        return None


@dataclass(frozen=True)
class Shown:
    """An exhibit with its numbers as the page shows them."""

    exhibit: Exhibit
    record: Record

    @property
    def study(self) -> str:
        """Its study's name."""
        return self.exhibit.study

    @property
    def name(self) -> str:
        """Its name in the study."""
        return self.exhibit.name

    @property
    def kind(self) -> str:
        """``table``, ``figure`` or ``report``."""
        return "report" if self.exhibit.kind == "study_report" else self.exhibit.kind

    @property
    def anchor(self) -> str:
        """Where it stands on its study's page."""
        return f"{self.kind}-{self.name}"

    @cached_property
    def title(self) -> str:
        """Its title in the study's configuration, as its job was told."""
        told = self.record.content.get("params", {}).get("told", {})
        if self.kind == "report":
            return "Report"
        return str(told.get("exhibit", {}).get("title") or self.name)

    @cached_property
    def lines(self) -> list[dict[str, str]]:
        """The lines of its index, every value as it is written there.

        Raises
        ------
        PenumbraError : the index cannot be read.
        """
        file = self.exhibit.results / self.exhibit.index
        try:
            with open(file, encoding="utf-8", newline="") as stream:
                lines = list(csv.DictReader(stream))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise PenumbraError(
                f"the index of its numbers cannot be read: {error}", file=file, cure="make the exhibit again"
            ) from error
        letter = "m" if self.kind == "figure" else "c"
        for position, line in enumerate(lines):
            line["id"] = line.get("id") or f"{letter}{position + 1:04d}"
            for key in COUNTS:
                line[key] = (line.get(key) or "").removesuffix(".0")
            line["estimator"] = in_words(line.get("estimator") or "", line.get("argument") or None)
        return lines

    @cached_property
    def numbered(self) -> bool:
        """Whether every id is a letter and its position, counted from 1: then an id tells the part."""
        return all(re.fullmatch(rf"[a-z]0*{n}", line["id"]) for n, line in enumerate(self.lines, 1))

    def has_value(self, position: int) -> bool:
        """Whether there is a number: marks of an empty bin, for instance, have none."""
        line = self.lines[position]
        return bool(line.get("displayed") or line.get("value"))

    def text(self, position: int) -> str:
        """The number as a reader sees it: as displayed; a mark that displays none, to six digits."""
        line = self.lines[position]
        if line.get("displayed"):
            return line["displayed"]
        value = line.get("value") or ""
        try:
            return f"{float(value):.6g}"
        except ValueError:
            return value

    def label(self, position: int) -> str:
        """Where the number stands: row and column, or panel, mark and name."""
        line = self.lines[position]
        keys = ("panel", "mark", "name") if self.kind == "figure" else ("row", "column")
        return " · ".join(line[key] for key in keys if line.get(key))

    def places(self) -> list[Place]:
        """Where its numbers stand in its Markdown; none where its index does not say."""
        return [
            Place(int(float(line["start"])), int(float(line["end"])), position)
            for position, line in enumerate(self.lines)
            if line.get("start") and line.get("end")
        ]

    def outputs(self) -> Iterator[Output]:
        """The files that its job made."""
        yield from self.record.outputs

    def file(self, suffix: str) -> Path | None:
        """Its file of a suffix (``.md``, ``.png``), where it has one."""
        for output in self.record.outputs:
            if output.path.endswith(suffix):
                return self.exhibit.results / output.path
        return None


def told_of(record: Record) -> Mapping[str, Any]:
    """What a job was told of its study; nothing where it was not told."""
    told = record.content.get("params", {}).get("told", {})
    return told if isinstance(told, Mapping) else {}
