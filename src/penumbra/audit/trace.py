"""The trail of one displayed number: its rows, runs, jobs and files, down to the raw ones.

What is told here is what the records and the index say; :mod:`penumbra.audit.verify` holds that against the disk.
"""

from __future__ import annotations

import csv
import difflib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from penumbra import paths
from penumbra.audit.ledger import Ledger, Record
from penumbra.audit.numbers import Exhibit, exhibits
from penumbra.audit.sources import raw_source
from penumbra.errors import PenumbraError
from penumbra.provenance.jobs import JOBS, RECORD

if TYPE_CHECKING:
    from penumbra.audit.dependence import Dependence, Direct
    from penumbra.reporting.sources import Reader

SHOWN_ROWS = 5
"""How many rows a trail holds, unless all are asked for."""
MOST_NAMES = 12
"""How many near names a message lists."""
PLACES = {"figure": ("panel", "name")}
"""The two columns of an index that say where a number stands; of tables and reports ``row`` and ``column``."""
ROW_COLUMNS = ("row", "dataset", "candidate", "split", "case", "target", "metric", "bin", "value", "unit", "status")
"""What is told of a row of the long metrics, in this order; of other tables all columns."""

COUNTS = ("start", "end", "decimals", "n", "n_expected", "n_cases", "n_undefined", "n_rows")


# ---------------------------------------------------------------- finding a number


def find(
    ledger: Ledger,
    exhibit: str,
    row: str | None = None,
    column: str | None = None,
    mark: str | None = None,
    study: str | None = None,
) -> tuple[Exhibit, int]:
    """The exhibit and the position in its index of one displayed number.

    Parameters
    ----------
    exhibit : name of a table or figure, or ``report``; ``study/name`` where several studies have it.
    row, column : where the number stands, as the index says; of a figure panel and name. Upper and lower case are one;
        what is not the whole text may be its start, its end, a part, or some words, if only one has them.
    mark : the number's id (``c0001``, ``m0001``); ``row`` without ``column`` may be one, too. Beside panel and name
        of a figure, the kind of mark.
    study : the study that the exhibit belongs to.

    Raises
    ------
    PenumbraError : there is no such exhibit or number, or several; the message lists near ones.
    """
    found = find_exhibit(ledger, exhibit, study)
    frame = found.numbers
    keys = PLACES.get(found.kind, ("row", "column"))
    lacking = {*keys, "displayed"} - set(frame)
    if lacking:
        raise PenumbraError(
            f"the index of the numbers of {found.title} has no column {min(lacking)!r}",
            file=found.results / found.index,
            cure="`penumbra audit verify` says what was changed; else make the exhibit again",
        )
    texts = [["" if v != v else str(v) for v in frame[key].tolist()] for key in keys]
    ids = frame["id"].astype(str).tolist() if "id" in frame else []
    wanted = mark if mark is not None else row if column is None else None
    if wanted is not None and wanted.lower() in ids:
        return found, ids.index(wanted.lower())
    if mark is not None and row is None and column is None:
        near = difflib.get_close_matches(mark.lower(), ids, n=MOST_NAMES, cutoff=0.4) or ids
        raise PenumbraError(f"{found.title} has no number {mark!r}", cure=_listing(found, near))
    positions = list(range(len(frame)))
    if mark is not None and "mark" in frame:
        kinds = frame["mark"].astype(str).tolist()
        kind = _choose(mark, kinds, f"kind of mark of {found.title}")
        positions = [p for p in positions if kinds[p] == kind]
    for text, given, key in zip(texts, (row, column), keys, strict=True):
        if given is not None:
            at = [text[p] for p in positions]
            name = _choose(given, at, f"{key} of {found.title}", lambda near: _listing(found, near))
            positions = [p for p in positions if text[p] == name]
    if len(positions) != 1:
        raise PenumbraError(
            f"{len(positions)} numbers of {found.title} answer to that",
            cure="name one by its id: " + "; ".join(_short(found, texts, p) for p in positions[:MOST_NAMES])
            + _more(len(positions)),
        )  # fmt: skip
    return found, positions[0]


def find_exhibit(ledger: Ledger, name: str, study: str | None = None) -> Exhibit:
    """A table, figure or report by its name, or by ``study/name``; a start, end or part will do, if only one has it.

    Raises
    ------
    PenumbraError : there is none of that name, or several.
    """
    every = list(exhibits(ledger))
    if "/" in name and study is None:
        study, name = name.rsplit("/", 1)
    if study is not None:
        study = _choose(study, [e.study for e in every], "study")
        every = [e for e in every if e.study == study]
    name = _choose(name, [e.name for e in every], "table, figure or report")
    found = [e for e in every if e.name == name]
    if len(found) > 1:
        raise PenumbraError(
            f"several studies have {name!r}", cure=f"say which: --study {' | '.join(e.study for e in found)}"
        )
    return found[0]


def places(exhibit: Exhibit) -> list[dict[str, Any]]:
    """Of each number of an exhibit: id, where it stands, and what is displayed."""
    frame = exhibit.numbers
    keys = [k for k in ("id", "panel", "mark", "name", "row", "column", "displayed", "value") if k in frame]
    return [{k: _json(v) for k, v in line.items()} for line in frame[keys].to_dict("records")]  # type: ignore[misc]


def _choose(given: str, names: Iterable[str], what: str, cure: Callable[[list[str]], str] | None = None) -> str:
    """The one name that is, begins with, ends in or holds a text, or all its words; upper and lower case are one."""
    every = list(dict.fromkeys(names))
    wanted = " ".join(given.split()).casefold()
    folded = {name: " ".join(name.split()).casefold() for name in every}
    tests: tuple[Callable[[str], bool], ...] = (
        lambda name: name == wanted,
        lambda name: name.startswith(wanted),
        lambda name: name.endswith(wanted),
        lambda name: wanted in name,
        lambda name: all(word in name for word in wanted.split()),
    )
    told = (lambda found: f"name one of: {_names(found)}") if cure is None else cure
    for test in tests:
        found = [name for name in every if test(folded[name])]
        if len(found) == 1:
            return found[0]
        if found:
            raise PenumbraError(f"{given!r} is more than one {what}", cure=told(found))
    if not every:
        raise PenumbraError(f"there is no {what} at all", cure="run the workflow first")
    back = {text: name for name, text in folded.items()}
    near = [back[t] for t in difflib.get_close_matches(wanted, list(back), n=MOST_NAMES, cutoff=0.4)]
    raise PenumbraError(f"there is no {what} {given!r}", cure=told(near or every))


def _names(found: Sequence[str]) -> str:
    return ", ".join(repr(n) for n in found[:MOST_NAMES]) + _more(len(found))


def _listing(exhibit: Exhibit, found: list[str]) -> str:
    return f"name one of: {_names(found)}; all: penumbra audit list {exhibit.title}"


def _more(count: int) -> str:
    return f" and {count - MOST_NAMES} more" if count > MOST_NAMES else ""


def _short(exhibit: Exhibit, texts: Sequence[Sequence[str]], position: int) -> str:
    number = exhibit.number(position)
    mark = f", {number['mark']}" if number.get("mark") else ""
    return f"{number.get('id', position)} ({texts[0][position]}, {texts[1][position]}{mark})"


# ---------------------------------------------------------------- the trail


@dataclass(frozen=True)
class Trace:
    """The trail of one number; every part is plain data, as :meth:`plain` gives it.

    ``number`` : what is displayed, how it was made, and what is wrong with it, computed again (``problems``).
    ``rows`` : what it was made of. ``runs`` : the runs whose rows it takes. ``jobs`` : every job that it rests on, by
    name. ``artefacts`` : what those jobs made, by path. ``sources`` : the files that it takes its rows from.
    ``cases`` : the ingested cases that the rows name.
    ``raw`` : the raw files of each data set.
    """

    exhibit: Exhibit
    position: int
    number: dict[str, Any]
    rows: dict[str, Any]
    sources: list[dict[str, Any]]
    runs: list[dict[str, Any]]
    cases: list[dict[str, Any]]
    raw: list[dict[str, Any]]
    jobs: dict[str, dict[str, Any]]
    artefacts: dict[str, dict[str, Any]]

    def plain(self) -> dict[str, Any]:
        """Everything as JSON can hold it: no NaN, plain types."""
        parts = ("number", "rows", "sources", "runs", "cases", "raw", "jobs", "artefacts")
        return {part: _json(getattr(self, part)) for part in parts}


def trace(
    ledger: Ledger,
    exhibit: Exhibit,
    position: int,
    *,
    every_row: bool = False,
    dependence: Dependence | None = None,
    reader: Reader | None = None,
) -> Trace:
    """The trail of the number at a position of an exhibit's index.

    Parameters
    ----------
    ledger : of :meth:`Ledger.open`, the trail reads the records that it needs and no others.
    every_row : hold all rows, not the first few.
    dependence, reader : those of an earlier call, so that tables are read once.
    """
    from penumbra.audit.dependence import Dependence
    from penumbra.reporting.recompute import check, read_entries
    from penumbra.reporting.sources import Reader

    reader = reader or Reader(ledger.results)
    dependence = dependence or Dependence(ledger, reader)
    entry = read_entries(exhibit.results / exhibit.index)[position]
    number = {k: _whole(k, v) for k, v in entry.items()}
    direct = dependence.direct(exhibit)[position]
    jobs = sorted(dependence.jobs(direct), key=_order)
    present = [ledger.jobs[job] for job in jobs if job in ledger.jobs]
    artefacts = {o.path: _artefact(r, o.path) for r in present for o in r.outputs}
    builder = _Builder(ledger, artefacts)
    rows, of_runs = builder.rows(number, reader, every_row)
    return Trace(
        exhibit,
        position,
        {"study": exhibit.study, "kind": exhibit.kind, "exhibit": exhibit.name, "index": exhibit.index,
         "job": exhibit.job, **{k: v for k, v in number.items() if k != "exhibit"}, "words": _words(number),
         "deep": _deep(number),
         "problems": check(entry, reader)},
        rows,
        builder.sources(exhibit, direct),
        [builder.run(run, of_runs.get(run)) for run in sorted(direct.runs, key=_run_order)],
        builder.cases(rows.pop("cases", [])),
        builder.raw(present),
        {job: _job(ledger.jobs[job]) if job in ledger.jobs else {"lost": True} for job in jobs},
        artefacts,
    )  # fmt: skip


def _order(job: str) -> tuple[int, str]:
    rules = list(JOBS)
    rule = job.partition("/")[0]
    return (rules.index(rule) if rule in rules else len(rules), job)


def _run_order(run: tuple[str, str, str]) -> tuple[str, str, int, str]:
    dataset, candidate, split = run
    return dataset, candidate, int(split) if split.isdigit() else -1, split


def _words(number: dict[str, Any]) -> str:
    from penumbra.reporting.estimators import in_words

    return in_words(str(number.get("estimator") or ""), number.get("argument") or "")


def _deep(number: dict[str, Any]) -> bool:
    """Whether a number is made from images, not from rows."""
    from penumbra.reporting.estimators import ESTIMATORS

    estimator = ESTIMATORS.get(str(number.get("estimator")))
    return estimator is not None and estimator.deep


def _whole(key: str, value: Any) -> Any:
    """A value of the index as plain data; counts, which the index may hold as floats, whole."""
    value = _plain(value)
    return int(value) if key in COUNTS and isinstance(value, float) and value.is_integer() else value


def _plain(value: Any) -> Any:
    """A value of a data frame as a plain one; None where there is none."""
    if hasattr(value, "item"):
        value = value.item()
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    return value


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_json(v) for v in value]
    value = _plain(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _binarisation(infer: Record) -> str | None:
    found: str | None = infer.content["params"].get("dataset", {}).get("evaluation", {}).get("binarisation")
    return found


def _artefact(record: Record, path: str) -> dict[str, Any]:
    output = next(o for o in record.outputs if o.path == path)
    told = {"path": path, "kind": output.kind, "sha256": output.sha256, "bytes": output.bytes, "job": record.job}
    return told | ({"files": len(output.files)} if output.kind == "folder" else {})


def _job(record: Record) -> dict[str, Any]:
    content = record.content
    return {
        "rule": record.rule,
        "record": RECORD.format(job=record.job),
        "record_sha256": record.sha256,
        **{key: content.get(key) for key in (
            "seed", "params_sha256", "checkout", "software", "machine", "determinism", "device", "threads", "started",
            "ended", "seconds", "peak_memory_bytes", "peak_gpu_memory_bytes", "supersedes",
        )},
        "params": content.get("params"),
        "inputs": [{"name": i.name, "path": i.path, "sha256": i.sha256, "record_sha256": i.record_sha256}
                   for i in record.inputs],
        "outputs": [o.path for o in record.outputs],
    }  # fmt: skip


@dataclass
class _Builder:
    """Puts the parts of a trail together."""

    ledger: Ledger
    artefacts: dict[str, dict[str, Any]]

    def _record(self, job: str) -> Record | None:
        return self.ledger.jobs.get(job)

    def _input(self, record: Record | None, name: str) -> dict[str, Any] | None:
        """The artefact that a job read under a name."""
        return next(iter(self._inputs(record, name)), None)

    def _inputs(self, record: Record | None, name: str) -> list[dict[str, Any]]:
        found = []
        for given in () if record is None else record.inputs:
            if given.name == name:
                noted = {"path": given.path, "kind": given.kind, "sha256": given.sha256, "bytes": given.bytes}
                made = self.artefacts.get(given.path, {})
                # What the job read, and not what its maker made last, is what the number rests on.
                found.append({**{k: v for k, v in made.items() if k not in noted}, **noted})
        return found

    def rows(
        self, number: dict[str, Any], reader: Reader, every: bool
    ) -> tuple[dict[str, Any], dict[tuple[str, ...], int]]:
        """The rows of a number, the cases that they name, and how many are of each run."""
        told: dict[str, Any] = {
            "source": number.get("source"),
            "filter": number.get("filter"),
            "count": number.get("n_rows"),
            "sha256": number.get("rows_sha256"),
            "columns": [],
            "shown": [],
            "cases": [],
        }
        of_runs: dict[tuple[str, ...], int] = {}
        if not number.get("n_rows") or not number.get("source"):
            return told, of_runs
        try:
            source = reader.source(str(number["source"]))
            where = str(number.get("filter") or "")
            frame = source.rows(where).frame()
        except (PenumbraError, OSError, KeyError, ValueError) as error:
            told["unreadable"] = str(error).splitlines()[0]
            return told, of_runs
        long = {"dataset", "candidate", "split"} <= set(frame.columns)
        columns = [c for c in ROW_COLUMNS if c in frame] if long and "case" in frame else list(frame.columns)
        shown = frame if every else frame.head(SHOWN_ROWS)
        told["columns"] = columns
        told["shown"] = [[_plain(v) for v in line] for line in shown[columns].itertuples(index=False, name=None)]
        if long:
            for key in zip(*(frame[c].astype(str).tolist() for c in ("dataset", "candidate", "split")), strict=True):
                of_runs[key] = of_runs.get(key, 0) + 1
        if {"dataset", "case"} <= set(frame.columns):
            named = frame[["dataset", "case"]].drop_duplicates().itertuples(index=False, name=None)
            told["cases"] = [(str(d), str(c)) for d, c in named if _plain(c) not in (None, "")]
        return told, of_runs

    def sources(self, exhibit: Exhibit, direct: Direct) -> list[dict[str, Any]]:
        """The files that the number is taken from, but for the exhibit's own and the runs' metrics."""
        own = self._record(exhibit.job)
        read = {} if own is None else {i.path: i for i in own.inputs}
        mine = set() if own is None else {o.path for o in own.outputs}
        found = []
        for path in sorted(direct.files):
            if path in mine or (path.startswith("runs/") and path.endswith("/metrics.parquet")):
                continue
            told = self.artefacts.get(path) or self._inside(path)
            if told is None and path in read:
                told = {"path": path, "kind": read[path].kind, "sha256": read[path].sha256, "bytes": read[path].bytes}
            if told is not None:
                found.append(told)
        return found

    def _inside(self, path: str) -> dict[str, Any] | None:
        """A file of a folder that a job made."""
        record = self.ledger.maker(path)
        if record is None:
            return None
        for output in record.outputs:
            for name, sha256, size, _ in output.files:
                if f"{output.path}/{name}" == path:
                    return {"path": path, "kind": "file", "sha256": sha256, "bytes": size, "job": record.job}
        return None

    def run(self, run: tuple[str, str, str], rows: int | None) -> dict[str, Any]:
        """One run: its evaluation, predictions, threshold, members and split."""
        dataset, candidate, split = run
        evaluate, infer = (
            self._record(JOBS[rule].format(dataset=dataset, candidate=candidate, split=split))
            for rule in ("evaluate", "infer")
        )
        members = [self.member(weights) for weights in self._inputs(infer, "weights")]
        recipe = {} if infer is None else infer.content["params"].get("candidate", {})
        return {
            "dataset": dataset,
            "candidate": candidate,
            "split": split,
            "rows": rows,
            "metrics": self.artefacts.get(paths.RUN_METRICS.format(dataset=dataset, candidate=candidate, split=split)),
            "predictions": self._input(evaluate, "predictions"),
            "binarisation": None if infer is None else _binarisation(infer),
            "threshold": self._threshold(self._input(evaluate, "threshold")),
            "references": {n: self._input(evaluate, n) for n in ("hard_labels", "soft_labels")},
            "split_file": self._split(self._input(evaluate, "split")),
            "cases": self._input(evaluate, "cases"),
            "prepared": self._input(infer, "prepared"),
            "members": members,
            "recipe": recipe,
            "jobs": [
                *(m["job"] for m in members if m["job"]),
                *(r.job for r in (infer, evaluate) if r is not None),
            ],
        }

    def member(self, weights: dict[str, Any]) -> dict[str, Any]:
        """One trained network: weights, history, label, seed."""
        record = self.ledger.maker(weights["path"])
        labels = self._input(record, "labels")
        outputs = {} if record is None else {o.name: o.path for o in record.outputs}
        fuse = None if labels is None else self.ledger.maker(labels["path"])
        wildcards = {} if fuse is None else fuse.content["wildcards"]
        return {
            "member": None if record is None else record.content["wildcards"].get("member"),
            "job": None if record is None else record.job,
            "weights": weights,
            "history": self.artefacts.get(outputs.get("history", "")),
            "labels": labels,
            "fusion": wildcards.get("fusion"),
            "interpolation": wildcards.get("interpolation"),
            "seed": None if record is None else record.content["seed"],
            "choices": None if record is None else record.content["params"].get("choices"),
        }

    def _threshold(self, told: dict[str, Any] | None) -> dict[str, Any] | None:
        """The threshold's file, and the thresholds by class, where it is there; a class without one has None."""
        if told is None:
            return None
        values: dict[str, Any] | None
        try:
            with open(self.ledger.results / told["path"], encoding="utf-8", newline="") as stream:
                values = {line["class"]: _plain(float(line["threshold"] or "nan")) for line in csv.DictReader(stream)}
        except (OSError, ValueError, KeyError):
            values = None
        return {**told, "values": values}

    def _split(self, told: dict[str, Any] | None) -> dict[str, Any] | None:
        """The split's file, and how many cases are in each part, where it is there."""
        if told is None:
            return None
        parts: dict[str, int] | None
        try:
            content = json.loads((self.ledger.results / told["path"]).read_text(encoding="utf-8"))
            parts = {part: len(content[part]) for part in ("train", "validation", "test")}
        except (OSError, ValueError, KeyError, TypeError):
            parts = None
        return {**told, "parts": parts}

    def cases(self, named: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
        """The ingested files of the cases that the rows name, by data set."""
        found = []
        for dataset in dict.fromkeys(d for d, _ in named):
            wanted = {case for d, case in named if d == dataset}
            folder = paths.INGESTED.format(dataset=dataset)
            record = self.ledger.maker(folder)
            if record is None:
                # A preset of a data set shares its cases.
                folder = paths.INGESTED.format(dataset=dataset.partition(".")[0])
                record = self.ledger.maker(folder)
            if record is None:
                continue
            for output in record.outputs:
                if output.path == folder:
                    files = [
                        {"path": f"{folder}/{name}", "sha256": sha256, "bytes": size}
                        for name, sha256, size, _ in output.files
                        if name.partition("/")[0] in wanted
                    ]
                    found.append(
                        {"dataset": dataset, "job": record.job, "path": folder, "sha256": output.sha256,
                         "cases": sorted(wanted), "of": len({f[0].partition("/")[0] for f in output.files}),
                         "files": files}
                    )  # fmt: skip
        return found

    def raw(self, records: Sequence[Record]) -> list[dict[str, Any]]:
        """The raw files of each data set that the number rests on, with their source."""
        found = []
        for record in records:
            if record.rule == "download":
                (output,) = record.outputs
                found.append(
                    {
                        **raw_source(record).plain(),
                        "job": record.job,
                        "path": output.path,
                        "sha256": output.sha256,
                        "bytes": output.bytes,
                        "files": [
                            {"path": f"{output.path}/{p}", "sha256": s, "bytes": b} for p, s, b, _ in output.files
                        ],
                    }
                )
        return found
