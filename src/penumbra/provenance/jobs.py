"""Every job, what it makes, and where its record stands.

A job's name is that of its record, log and benchmark file. This is apart from :mod:`penumbra.paths` because a stage
does not depend on it: a new kind of job makes nothing anew.
"""

from __future__ import annotations

import re
from functools import cache

from penumbra import paths

JOBS = {
    "download": "download/{dataset}",
    "ingest": "ingest/{dataset}",
    "preprocess": "preprocess/{dataset}",
    "split": "split/{dataset}/{split}",
    "fuse": "fuse/{dataset}/{fusion}",
    "resample_labels": "resample_labels/{dataset}/{fusion}-{interpolation}",
    "train": "train/{dataset}/{candidate}/split-{split}-member-{member}",
    "infer": "infer/{dataset}/{candidate}/split-{split}",
    "evaluate": "evaluate/{dataset}/{candidate}/split-{split}",
    "collect": "collect/{study}/{dataset}",
    "test": "test/{study}",
    "claim": "claim/{study}",
    "table": "table/{study}/{table}",
    "figure": "figure/{study}/{figure}",
    "study_report": "study_report/{study}",
    "seal": "seal/{study}",
    "page": "page",
    "toy_fit": "toy_fit/rank-{rank}-{fit}",
    "toy_problem": "toy_problem",
}
OUTPUTS = {
    "download": (paths.RAW,),
    "ingest": (paths.INGESTED, paths.CASES),
    "preprocess": (paths.PREPARED,),
    "split": (paths.SPLIT,),
    "fuse": (paths.LABELS,),
    "resample_labels": (paths.RESAMPLED_LABELS,),
    "train": (paths.WEIGHTS, paths.HISTORY, paths.PROGRESSION, paths.RUN_RECORD),
    "infer": (paths.PREDICTIONS, paths.THRESHOLD, paths.THRESHOLD_CURVE),
    "evaluate": (paths.RUN_METRICS,),
    "collect": (paths.METRICS,),
    "test": (paths.TESTS,),
    "claim": (paths.CLAIMS,),
    "table": tuple(f"{paths.TABLE}.{suffix}" for suffix in paths.TABLE_SUFFIXES),
    "figure": tuple(f"{paths.FIGURE}.{suffix}" for suffix in paths.FIGURE_SUFFIXES),
    "study_report": (paths.STUDY_REPORT, paths.STUDY_CELLS),
    "seal": (paths.SEAL,),
    "page": (paths.PAGE,),
    "toy_fit": (paths.TOY_FIT,),
    "toy_problem": (
        paths.TOY_TABLE,
        paths.TOY_PAGE,
        *(f"{paths.TOY_FIGURE}.{suffix}" for suffix in paths.FIGURE_SUFFIXES),
    ),
}
"""What a job of each rule makes."""

LOG = "logs/{job}.log"
BENCHMARK = "benchmarks/{job}.tsv"
RECORD = "records/{job}.json"
SUPERSEDED = "records/superseded/{sha256}.json"
NUMBERS = "records/numbers/{sha256}.csv"
DIFF = "records/diffs/{sha256}.patch"


@cache
def _shapes() -> tuple[tuple[str, re.Pattern[str]], ...]:
    found = []
    for rule, patterns in OUTPUTS.items():
        for pattern in patterns:
            pieces = re.split(r"\{(\w+)\}", pattern)
            # Of all names only a data set's, which may end in a preset, holds a full stop.
            named = [
                f"(?P<{p}>{'[^/]+' if p == 'dataset' else '[^/.]+'})" if k % 2 else re.escape(p)
                for k, p in enumerate(pieces)
            ]
            found.append((rule, re.compile("".join(named))))
    return tuple(found)


def job_of(artefact: str) -> str | None:
    """The name of the job that makes an artefact (a path relative to the results folder); None for any other path."""
    for rule, shape in _shapes():
        match = shape.fullmatch(artefact)
        if match:
            return JOBS[rule].format(**match.groupdict())
    return None
