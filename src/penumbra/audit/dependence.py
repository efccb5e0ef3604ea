"""Which artefacts, runs and jobs each displayed number rests on, and which numbers rest on a given one.

A displayed number *depends* on

- the files of its own exhibit (all outputs of the exhibit's job), and that job;
- every file that its ``source`` names, and the job that made it. Where the file is an image, a prediction, a training's
  record or anything else that no later stage gathers, on that file alone, and on all that its job read, whatever case
  it was for (a job reads folders whole);
- for collected metrics: the ``collect`` job, and the metrics of exactly the runs whose rows its ``filter`` picks;
- for ``tests.csv``: the ``test`` job, and what the lines that its filter picks are made of: the collected metrics of
  the line's data set and the runs of the line's candidate and of the reference. Where the number is corrected over a
  family of tests (``p_holm``), or stands beside such a number, the runs of all candidates of the family; so, too, where
  the metric is a score that is relative to all candidates;
- for ``claims.csv``: the ``claim`` job, and the rows that the line's own ``source`` and ``filter`` pick; a line over
  all data sets and classes rests on the claim's other lines;
- of a table's cell, value and deviation count, and the line of ``tests.csv`` whose p it carries;
- for every run: its evaluation, and every job and artefact that this read, directly or through others.

It does *not* depend on what ``collect``, ``test`` and ``claim`` read for other numbers, on an artefact that none of its
jobs read (a training's history), or on a neighbour that decides over bold type or the number of digits alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from penumbra.audit.direct import GATHERING, Direct, Run, producer, rule_of, run_metrics, run_of
from penumbra.audit.ledger import Ledger
from penumbra.audit.numbers import Exhibit
from penumbra.audit.taken import Taken
from penumbra.provenance.jobs import OUTPUTS
from penumbra.reporting.sources import Reader

CORRECTED = ("significance",)
"""Estimators of ``tests.csv`` that read ``p_holm``."""


class Dependence:
    """Answers what displayed numbers rest on.

    Parameters
    ----------
    ledger : the records.
    reader : reads the tables that numbers are made of; one of its own where None.

    A table that cannot be read is no error: what a number takes of it then follows from its filter and from what the
    records say was gathered.
    """

    def __init__(self, ledger: Ledger, reader: Reader | None = None) -> None:
        self.ledger, self.reader = ledger, reader or Reader(ledger.results)
        self.taken = Taken(ledger, self.reader)
        self._ancestors: dict[str, frozenset[str]] = {}

    # ------------------------------------------------------------ one exhibit

    def direct(self, exhibit: Exhibit) -> list[Direct]:
        """What each number of an exhibit rests on directly, in the order of its index.

        Raises
        ------
        PenumbraError : the index cannot be read.
        """
        own = self.own(exhibit)
        known: dict[tuple[Any, ...], Direct] = {}
        found = []
        for entry in _entries(exhibit):
            if entry not in known:
                known[entry] = own | self.taken.of_entry(exhibit.study, *entry)
            found.append(known[entry])
        return found

    def one(self, exhibit: Exhibit, position: int) -> Direct:
        """What the number at a position of an exhibit's index rests on directly; quick for a single one.

        Raises
        ------
        PenumbraError : the index cannot be read.
        """
        (entry,) = _entries(exhibit, slice(position, position + 1))
        return self.own(exhibit) | self.taken.of_entry(exhibit.study, *entry)

    def own(self, exhibit: Exhibit) -> Direct:
        """The exhibit's own files and its job, on which all of its numbers rest."""
        values = _wildcards(exhibit)
        files = {pattern.format(**values) for pattern in OUTPUTS[exhibit.kind]}
        return Direct(frozenset(files), frozenset(), frozenset((exhibit.job,)))

    def jobs(self, direct: Direct) -> frozenset[str]:
        """All jobs that a number rests on: those of its files, and, but for gathering ones, all that these rest on."""
        found = set(direct.jobs)
        for job in direct.jobs:
            if rule_of(job) not in GATHERING:
                found |= self.ancestors(job)
        return frozenset(found)

    def ancestors(self, job: str) -> frozenset[str]:
        """A job and all jobs that it rests on, by the artefacts that records say were read; lost records stay named."""
        if job not in self._ancestors:
            found: set[str] = set()
            waiting = [job]
            while waiting:
                name = waiting.pop()
                if name not in found:
                    found.add(name)
                    waiting += self.parents(name)
            self._ancestors[job] = frozenset(found)
        return self._ancestors[job]

    def parents(self, job: str) -> list[str]:
        """The jobs whose artefacts a job read, whether their records are there or not."""
        if job not in self.ledger.jobs:
            return []
        made = (producer(given.path) for given in self.ledger.jobs[job].inputs)
        return list(dict.fromkeys(name for name in made if name is not None))


def _wildcards(exhibit: Exhibit) -> dict[str, str]:
    return {"study": exhibit.study, exhibit.kind: exhibit.name}


def _entries(exhibit: Exhibit, which: slice = slice(None)) -> Iterator[tuple[str, str, tuple[str, ...], bool]]:
    """Of each number: source, filter, the line of tests whose p it carries (or nothing), whether that is corrected."""
    frame = exhibit.numbers.iloc[which]
    size = len(frame)

    def column(name: str) -> list[str]:
        return [_text(v) for v in frame[name].tolist()] if name in frame else [""] * size

    names = ("source", "filter", "estimator", "argument", "p", "p_holm", "dataset", "target", "metric", "candidate")
    for source, where, estimator, argument, p, p_holm, *line in zip(*map(column, names), strict=True):
        corrected = bool(p_holm) or estimator in CORRECTED or "p_holm" in f"{estimator} {argument}"
        carries = bool(p or p_holm) and exhibit.kind == "table" and "tests.csv" not in source
        yield source, where, tuple(line) if carries else (), corrected


def _text(value: Any) -> str:
    return "" if value is None or value != value else str(value)


__all__ = ["GATHERING", "Dependence", "Direct", "Run", "producer", "rule_of", "run_metrics", "run_of"]
