"""The page's data: scripts that the browser loads when it needs them.

A page that is opened from the disk may not fetch files, but may load scripts: every part of the data is one script,
``penumbra.put(key, content)``, and no part grows beyond about :data:`LARGEST` bytes, whatever the number of runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from penumbra.audit.dependence import Dependence, Direct, rule_of
from penumbra.audit.ledger import Ledger, Record
from penumbra.page.index import SHOWN, Artefacts, Shown

LARGEST = 400_000
"""Bytes of JSON, about, from which on jobs go into another part."""
NUMBERS = 2000
"""Numbers of an exhibit in one part."""
ENTRIES = 20_000
"""Entries of the search in one part."""
APART = ("params", "checkout", "software", "machine", "determinism")
"""What jobs have in common: kept once a part."""


class Graph:
    """All jobs that the page speaks of, numbered, and how they hang together.

    Parameters
    ----------
    dependence : what rests on what, by the records.
    jobs : those that some number rests on; some of them may have no record.
    """

    def __init__(self, dependence: Dependence, jobs: Iterable[str]) -> None:
        self.dependence = dependence
        self.ledger = ledger = dependence.ledger
        self.names = sorted(jobs)
        self.number = {name: k for k, name in enumerate(self.names)}
        self.recorded = [name for name in self.names if name in ledger.jobs]
        self._parts = list(self._packed())

    def _packed(self) -> Iterator[list[str]]:
        """Jobs of one rule in a row, packed into parts."""
        part: list[str] = []
        size = 0
        for name in self.recorded:
            record = self.ledger.jobs[name]
            if part and (size > LARGEST or self.ledger.jobs[part[0]].rule != record.rule):
                yield part
                part, size = [], 0
            part.append(name)
            size += 1000 + 130 * sum(1 + len(o.files) for o in record.outputs) + 250 * len(record.inputs)
        if part:
            yield part

    def parts(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The records of all jobs, as keys and contents."""
        for k, names in enumerate(self._parts):
            shared: list[Any] = []
            known: dict[str, int] = {}
            yield f"jobs/{k}", {"jobs": {name: self._job(name, shared, known) for name in names}, "shared": shared}

    def _job(self, name: str, shared: list[Any], known: dict[str, int]) -> dict[str, Any]:
        record = self.ledger.jobs[name]
        told: dict[str, Any] = {"sha256": record.sha256}
        for key, value in record.content.items():
            if key in APART:
                text = json.dumps(value, sort_keys=True)
                if text not in known:
                    known[text] = len(shared)
                    shared.append(value)
                told[key] = known[text]
            elif key not in ("job", "schema"):
                told[key] = value
        told["inputs"] = [
            [each.name, each.path, each.kind, each.sha256, each.bytes, each.record_sha256, self._maker(each.path)]
            for each in record.inputs
        ]
        told["outputs"] = [
            [made.name, made.path, made.kind, made.sha256, made.bytes, [[p, s, b] for p, s, b, _ in made.files]]
            for made in record.outputs
        ]
        return told

    def _parents(self, name: str) -> list[int]:
        return sorted({self.number[parent] for parent in self.dependence.parents(name) if parent in self.number})

    def _maker(self, path: str) -> int | None:
        maker = self.ledger.maker(path)
        return None if maker is None else self.number.get(maker.job)

    def content(self, sources: Mapping[str, Any]) -> dict[str, Any]:
        """Names, rules, data sets and candidates of all jobs, which part tells of each, and what each read from."""
        records = [self.ledger.jobs.get(name) for name in self.names]
        part = {name: k for k, names in enumerate(self._parts) for name in names}
        return {
            "names": self.names,
            "rules": [rule_of(name) for name in self.names],
            "wildcards": [{} if record is None else record.content.get("wildcards", {}) for record in records],
            "parents": [self._parents(name) for name in self.names],
            "part": [part.get(name) for name in self.names],
            "sources": dict(sources),
        }


def column(values: Sequence[str]) -> dict[str, Any] | list[str]:
    """A column of texts; where they repeat, each text once and which one stands where."""
    every = list(dict.fromkeys(values))
    if len(every) * 2 > len(values):
        return list(values)
    at = {text: k for k, text in enumerate(every)}
    return {"texts": every, "at": [at[text] for text in values]}


def number_parts(
    shown: Shown, direct: Sequence[Direct], jobs: Mapping[Direct, frozenset[str]], graph: Graph, artefacts: Artefacts
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The numbers of an exhibit with what each rests on, as keys and contents.

    Parameters
    ----------
    direct : what each number rests on directly, in the order of the index.
    jobs : all jobs that it rests on, by that.
    """
    size = NUMBERS if shown.numbered else max(len(shown.lines), 1)
    base = f"numbers/{shown.study}/{shown.kind}/{shown.name}"
    yield (
        base,
        {
            "study": shown.study,
            "exhibit": shown.name,
            "kind": shown.kind,
            "title": shown.title,
            "job": graph.number[shown.exhibit.job],
            "count": len(shown.lines),
            "size": size,
            "linked": [int(shown.has_value(k)) for k in range(len(shown.lines))],
        },
    )
    for part, first in enumerate(range(0, len(shown.lines), size)):
        lines = shown.lines[first : first + size]
        told = {key: [line.get(key) or "" for line in lines] for key in SHOWN if any(line.get(key) for line in lines)}
        groups: dict[Direct, int] = {}
        files: dict[str, int] = {}
        contents = []
        for each in direct[first : first + size]:
            if each in groups:
                continue
            groups[each] = len(groups)
            contents.append(
                {
                    "jobs": sorted(graph.number[job] for job in jobs[each]),
                    "runs": sorted([str(part) for part in run] for run in each.runs),
                    "files": [files.setdefault(path, len(files)) for path in sorted(each.files)],
                }
            )
        yield (
            f"{base}/{part}",
            {
                "columns": {key: column(values) for key, values in told.items()},
                "shown": [shown.text(k) for k in range(first, first + len(lines))],
                "group": [groups[each] for each in direct[first : first + size]],
                "groups": contents,
                "files": [_file(artefacts, path, graph) for path in files],
            },
        )


def _file(artefacts: Artefacts, path: str, graph: Graph) -> list[Any]:
    found = artefacts.find(path)
    if found is None:
        return [path, None, None, None]
    return [path, found.sha256, found.bytes, graph.number.get(found.job)]


def search_entries(
    shown: Sequence[Shown], titles: Mapping[str, Mapping[str, Any]], ledger: Ledger, graph: Graph
) -> Iterator[list[str]]:
    """What the search finds: ``[kind, title, where it is told, link]``, studies first, numbers last."""
    for study, told in titles.items():
        yield ["study", told["title"], f"{study} {told['paper']}", f"studies/{study}/index.html"]
    for each in shown:
        if each.kind != "report":
            page = f"studies/{each.study}/index.html#{each.anchor}"
            yield [each.kind, each.title, f"{each.study} · {each.name}", page]
    for study, told in titles.items():
        for name, label in told["candidates"].items():
            yield ["candidate", label, f"{study} · {name}", f"#c/{quote(name)}"]
    for name in graph.recorded:
        record = ledger.jobs[name]
        if record.rule == "ingest":
            dataset = record.content["wildcards"]["dataset"]
            for case in cases(record):
                yield ["case", case, dataset, f"#j/{quote(name)}?{quote(case)}"]
    for each in shown:
        for position in range(len(each.lines)):
            if each.has_value(position):
                link = f"#n/{each.study}/{each.kind}/{each.name}/{quote(each.lines[position]['id'])}"
                yield ["number", each.text(position), f"{each.label(position)} · {each.study} · {each.title}", link]


def cases(record: Record) -> list[str]:
    """The cases that an ingest job made, sorted."""
    return sorted(
        {PurePosixPath(file[0]).parts[0] for output in record.outputs for file in output.files if "/" in file[0]}
    )


def search_parts(entries: Iterable[list[str]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The entries of the search, as keys and contents; the first tells how many parts there are."""
    every = list(entries)
    starts = range(0, len(every), ENTRIES) or range(1)
    for part, first in enumerate(starts):
        some = every[first : first + ENTRIES]
        yield (
            f"search/{part}",
            {
                "parts": len(starts),
                "columns": [column([entry[k] for entry in some]) for k in range(4)],
            },
        )
