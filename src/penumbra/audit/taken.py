"""What a number takes of the files that its source names: rows of collected metrics, lines of tests and of claims."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from penumbra import paths
from penumbra.audit.direct import NOTHING, Direct, Run, of_file, of_runs, producer, run_of
from penumbra.audit.ledger import Ledger
from penumbra.errors import PenumbraError
from penumbra.reporting.rows import Source, parsed_filter
from penumbra.reporting.sources import Reader, named_files

if TYPE_CHECKING:
    import numpy as np

RELATIVE = ("composite",)
"""Metrics of a candidate that are scored against all candidates of the study."""
EVERYWHERE = "all"
"""What ``claims.csv`` calls the line over all data sets and classes."""


def _text(value: Any) -> str:
    return "" if value is None or value != value else str(value)


class Taken:
    """Looks up what numbers take, each source, line and filter once.

    Parameters
    ----------
    ledger : the records. reader : reads the tables that numbers are made of.

    A table that cannot be read is no error: what is taken then follows from the filter and from what was gathered.
    """

    def __init__(self, ledger: Ledger, reader: Reader) -> None:
        self.ledger, self.reader = ledger, reader
        self._sources: dict[str, Source | None] = {}
        self._run_codes: dict[int, tuple[np.ndarray, list[Run]]] = {}
        self._gathered: dict[str, frozenset[Run]] = {}
        self._picked: dict[tuple[str, str], Direct] = {}
        self._lines: dict[tuple[Any, ...], Direct] = {}

    def of_entry(self, study: str, source: str, where: str, test: tuple[str, ...], corrected: bool) -> Direct:
        direct = NOTHING
        names = tuple(self._name(name) for name in named_files(source))
        rows = [name for name in names if name.endswith(".parquet")]
        if rows:
            direct |= self._of_metrics("; ".join(rows), where)
        for name in names:
            if name in rows:
                continue
            if name == _file(paths.TESTS, name):
                direct |= self._of_tests(name, where, corrected)
            elif name == _file(paths.CLAIMS, name):
                direct |= self._of_claims(name, where)
            else:
                direct |= of_file(name)
        if test:
            path = paths.TESTS.format(study=study)
            dataset, _, metric, candidate = test[:4]
            direct |= self._of_lines(path, dataset, metric, candidate, whole=corrected)
        return direct

    def _name(self, name: str) -> str:
        name = name.partition("#")[0]
        inside = name.partition("/")[2]
        return inside if name.startswith("results/") and producer(inside) is not None else name

    def _source(self, name: str) -> Source | None:
        if name not in self._sources:
            try:
                self._sources[name] = self.reader.source(name)
            except (PenumbraError, OSError, ValueError, KeyError, TypeError):
                self._sources[name] = None
        return self._sources[name]

    def _of_metrics(self, name: str, where: str) -> Direct:
        if (name, where) not in self._picked:
            runs = self._runs(name, where)
            direct = of_runs(runs)
            for file in named_files(name):
                direct |= of_file(file)
            self._picked[name, where] = direct
        return self._picked[name, where]

    def _runs(self, name: str, where: str) -> frozenset[Run]:
        source = self._source(name)
        if source is not None:
            try:
                positions = source.rows(where).positions
                codes, runs = self._codes(source)
                return frozenset(runs[code] for code in set(codes[positions].tolist()))
            except (KeyError, ValueError, TypeError):
                pass
        gathered = frozenset().union(*(self.gathered(file) for file in named_files(name)))
        told = dict(parsed_filter(where) or ())
        wanted = [frozenset(map(str, told[key])) if key in told else None for key in ("dataset", "candidate", "split")]
        return frozenset(r for r in gathered if all(w is None or v in w for v, w in zip(r, wanted, strict=True)))

    def _codes(self, source: Source) -> tuple[np.ndarray, list[Run]]:
        """For each row of a table the position of its run in the list beside."""
        if id(source) not in self._run_codes:
            groups = source.frame.groupby(["dataset", "candidate", "split"], sort=False, observed=True)
            codes = groups.ngroup().to_numpy()
            first = groups.head(1)
            names = (first[key].astype(str).tolist() for key in ("dataset", "candidate", "split"))
            self._run_codes[id(source)] = codes, list(zip(*names, strict=True))
        return self._run_codes[id(source)]

    def gathered(self, path: str) -> frozenset[Run]:
        """The runs that a file of collected metrics holds: what its job read, or, without a record, what it holds."""
        if path not in self._gathered:
            job = producer(path)
            found: Iterable[Run | None] = ()
            if job is not None and job in self.ledger.jobs:
                found = (run_of(given.path) for given in self.ledger.jobs[job].inputs)
            elif (source := self._source(path)) is not None:
                found = self._codes(source)[1]
            self._gathered[path] = frozenset(run for run in found if run is not None)
        return self._gathered[path]

    # ------------------------------------------------------------ tests.csv

    def _of_tests(self, path: str, where: str, corrected: bool) -> Direct:
        key = (path, where, corrected)
        if key not in self._lines:
            direct = of_file(path)
            for dataset, _, metric, candidate in self._tested(path, where):
                direct |= self._of_lines(path, dataset, metric, candidate, whole=corrected)
            self._lines[key] = direct
        return self._lines[key]

    def _tested(self, path: str, where: str) -> list[tuple[str, str, str, str]]:
        names = ("dataset", "target", "metric", "candidate")
        source = self._source(path)
        if source is not None:
            try:
                rows = source.rows(where)
                return list(dict.fromkeys(zip(*(map(str, rows[name].tolist()) for name in names), strict=True)))
            except (KeyError, ValueError, TypeError):
                pass
        told = {key: list(map(str, values)) for key, values in parsed_filter(where) or ()}
        study = path.split("/")[1]
        runs = [r for file in self._metrics_files(study) for r in self.gathered(file)]
        datasets = told.get("dataset") or sorted({r[0] for r in runs})
        candidates = told.get("candidate") or sorted({r[1] for r in runs})
        return [
            (d, t, m, c)
            for d in datasets
            for t in told.get("target", [""])
            for m in told.get("metric", [""])
            for c in candidates
        ]

    def _metrics_files(self, study: str) -> list[str]:
        return [o.path for r in self.ledger.of_rules(("collect",)) for o in r.outputs if r.job.split("/")[1] == study]

    def _of_lines(self, path: str, dataset: str, metric: str, candidate: str, *, whole: bool) -> Direct:
        """What the lines of one data set, metric and candidate are made of; all of the family if ``whole``."""
        whole = whole or metric in RELATIVE
        key = (path, dataset, "" if whole else candidate, whole)
        if key not in self._lines:
            study = path.split("/")[1]
            file = paths.METRICS.format(study=study, dataset=dataset)
            reference, every = self._compared(path)
            compared = None if whole and not every else every if whole else {candidate, reference}
            runs = frozenset(
                run for run in self.gathered(file) if run[0] == dataset and (compared is None or run[1] in compared)
            )
            self._lines[key] = of_file(path) | of_file(file) | of_runs(runs)
        return self._lines[key]

    def _compared(self, path: str) -> tuple[str, set[str]]:
        """The reference candidate of a study's tests, and all candidates."""
        job = producer(path)
        if job is not None and job in self.ledger.jobs:
            params = self.ledger.jobs[job].content.get("params", {})
            if isinstance(params, Mapping) and "reference" in params:
                return str(params["reference"]), {str(params["reference"]), *map(str, params.get("candidates", ()))}
        source = self._source(path)
        if source is not None and len(source.frame) and {"reference", "candidate"} <= set(source.frame):
            reference = str(source.column("reference")[0])
            return reference, {reference, *map(str, source.column("candidate"))}
        return "", set()

    # ------------------------------------------------------------ claims.csv

    def _of_claims(self, path: str, where: str) -> Direct:
        key = (path, where)
        if key not in self._lines:
            direct = of_file(path)
            source = self._source(path)
            lines: list[dict[str, Any]] = []
            if source is not None:
                try:
                    lines = source.rows(where).frame().to_dict("records")  # type: ignore[assignment]
                    every = source.frame
                    for claim in {line["claim"] for line in lines if line["dataset"] == EVERYWHERE}:
                        lines += every[every["claim"] == claim].to_dict("records")
                except (KeyError, ValueError, TypeError):
                    source = None
            if source is None:
                direct |= of_runs(frozenset().union(*map(self.gathered, self._metrics_files(path.split("/")[1]))))
            for line in lines:
                if line["dataset"] != EVERYWHERE and _text(line["source"]):
                    names = "; ".join(self._name(n) for n in named_files(_text(line["source"])))
                    direct |= self._of_metrics(names, _text(line["filter"]))
            self._lines[key] = direct
        return self._lines[key]


def _file(pattern: str, name: str) -> str:
    """A file of the study that a path lies in."""
    parts = name.split("/")
    return pattern.format(study=parts[1]) if len(parts) > 2 else ""
