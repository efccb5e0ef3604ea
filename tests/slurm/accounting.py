"""What SLURM's accounting tells of the jobs of a workflow."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tests.slurm.cluster import Cluster

_FIELDS = "JobID,Comment,State,ReqTRES,TimelimitRaw,MaxRSS,Start,End"
_MEGABYTES = {"K": 1 / 1024, "M": 1.0, "G": 1024.0}


def _megabytes(text: str) -> float:
    return float(text[:-1]) * _MEGABYTES[text[-1]] if text[-1:] in _MEGABYTES else float(text or 0) / 2**20


@dataclass
class Job:
    """A job: its rule, what it asked for, and what it used."""

    number: str
    rule: str
    state: str
    gpus: int
    memory: float
    """MB asked for."""
    minutes: int
    """Minutes asked for."""
    start: datetime
    end: datetime
    peak: float = 0.0
    """MB that its steps used at most, added up."""


def finished_jobs(slurm: Cluster) -> list[Job]:
    """All jobs that have ended, in the order of submission."""
    jobs: dict[str, Job] = {}
    for line in slurm.run("sacct", "-n", "-P", "-o", _FIELDS).splitlines():
        number, comment, state, asked, minutes, peak, start, end = line.split("|")
        if "." in number:
            if (whole := jobs.get(number.split(".")[0])) is not None:
                whole.peak += _megabytes(peak)
            continue
        if end == "Unknown" or start in ("Unknown", "None"):
            continue
        tres = dict(item.split("=") for item in asked.split(",") if item)
        jobs[number] = Job(
            number, rule_of(comment), state, int(tres.get("gres/gpu", 0)), _megabytes(tres.get("mem", "")),
            int(minutes or 0), datetime.fromisoformat(start), datetime.fromisoformat(end),
        )  # fmt: skip
    return list(jobs.values())


def rule_of(comment: str) -> str:
    """The rule that the executor names in a job's comment: ``rule_train_wildcards_...``."""
    return comment.removeprefix("rule_").split("_wildcards_")[0]
