"""What a displayed number rests on directly, and the names that this is told in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from penumbra import paths
from penumbra.provenance.jobs import job_of

Run = tuple[str, str, str]
"""Data set, candidate, split."""

GATHERING = ("collect", "test", "claim", "table", "figure", "study_report", "seal", "page")
"""Rules whose jobs read more than any one number of theirs is made of: nobody depends on all of it."""
_RUN_METRICS = re.compile(
    re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(paths.RUN_METRICS)),
)


@dataclass(frozen=True)
class Direct:
    """What one number rests on directly.

    ``files`` : paths relative to the results folder (``checkout:`` before one of the checkout). ``runs`` : data set,
    candidate and split of the runs whose rows it takes. ``jobs`` : the jobs that made the files.
    """

    files: frozenset[str]
    runs: frozenset[Run]
    jobs: frozenset[str]

    def plain(self) -> dict[str, Any]:
        """As plain data, sorted."""
        return {"files": sorted(self.files), "runs": [list(r) for r in sorted(self.runs)], "jobs": sorted(self.jobs)}

    def __or__(self, other: Direct) -> Direct:
        return Direct(self.files | other.files, self.runs | other.runs, self.jobs | other.jobs)


NOTHING = Direct(frozenset(), frozenset(), frozenset())


@cache
def producer(path: str) -> str | None:
    """The job that makes an artefact, or the folder that it lies in, by name; None for what no job makes."""
    while path:
        job = job_of(path)
        if job is not None:
            return job
        path = path.rpartition("/")[0]
    return None


def run_metrics(run: Run) -> str:
    """The metrics file of a run."""
    dataset, candidate, split = run
    return paths.RUN_METRICS.format(dataset=dataset, candidate=candidate, split=split)


def run_of(path: str) -> Run | None:
    """The run whose metrics a path holds; None for any other path."""
    match = _RUN_METRICS.fullmatch(path)
    return None if match is None else (match["dataset"], match["candidate"], match["split"])


def rule_of(job: str) -> str:
    """The rule of a job, by its name."""
    return job.partition("/")[0]


def of_file(path: str) -> Direct:
    """A file, and the job that made it."""
    job = producer(path)
    return Direct(frozenset((path,)), frozenset(), frozenset(() if job is None else (job,)))


def of_runs(runs: frozenset[Run]) -> Direct:
    """Some runs: their metrics, and the jobs that measured them."""
    files = frozenset(map(run_metrics, runs))
    return Direct(files, runs, frozenset(job for job in map(producer, files) if job is not None))
