"""Every path of Penumbra, written once; rules, scripts and tests share them.

A pattern holds wildcards in braces, relative to the results folder; the rules use the patterns as they stand, and
:meth:`penumbra.workflow.plan.Plan.path` fills values in.
"""

from __future__ import annotations

import re
from functools import cache

# one data set
RAW = "raw/{dataset}"
MANIFEST = "raw/{dataset}/manifest.tsv"
INGESTED = "datasets/{dataset}/cases"
CASES = "datasets/{dataset}/cases.tsv"
FAULTS = "datasets/{dataset}/faults.tsv"
PREPARED = "datasets/{dataset}/prepared"
LABELS = "datasets/{dataset}/labels/{fusion}"
RESAMPLED_LABELS = "datasets/{dataset}/labels-{interpolation}/{fusion}"
SPLIT = "datasets/{dataset}/splits/split-{split}.json"

# one run
RUN = "runs/{dataset}/{candidate}/split-{split}"
MEMBER = RUN + "/member-{member}"
WEIGHTS = MEMBER + "/weights.safetensors"
HISTORY = MEMBER + "/history.csv"
RUN_RECORD = MEMBER + "/run.json"
PROGRESSION = MEMBER + "/progression.npz"
PREDICTIONS = RUN + "/predictions"
THRESHOLD = RUN + "/threshold.csv"
THRESHOLD_CURVE = RUN + "/threshold-curve.csv"
RUN_METRICS = RUN + "/metrics.parquet"

# one study
STUDY = "studies/{study}"
METRICS = STUDY + "/metrics/{dataset}.parquet"
TESTS = STUDY + "/tests.csv"
CLAIMS = STUDY + "/claims.csv"
TABLE = STUDY + "/tables/{table}"
FIGURE = STUDY + "/figures/{figure}"
STUDY_REPORT = STUDY + "/report.md"
STUDY_CELLS = STUDY + "/report.cells.csv"
TABLE_SUFFIXES = ("csv", "md", "tex", "cells.csv")
FIGURE_SUFFIXES = ("pdf", "png", "csv")

# inside a folder artefact
PREPARED_IMAGES = "images.npy"
PREPARED_SLICES = "slices.csv"
PREPARED_GEOMETRY = "geometry.json"
PREPARED_LABELS = "prepared.npy"

# one job: the name of its record, log and benchmark file
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
}
OUTPUTS = {
    "download": (RAW,),
    "ingest": (INGESTED, CASES),
    "preprocess": (PREPARED,),
    "split": (SPLIT,),
    "fuse": (LABELS,),
    "resample_labels": (RESAMPLED_LABELS,),
    "train": (WEIGHTS, HISTORY, PROGRESSION, RUN_RECORD),
    "infer": (PREDICTIONS, THRESHOLD, THRESHOLD_CURVE),
    "evaluate": (RUN_METRICS,),
    "collect": (METRICS,),
    "test": (TESTS,),
    "claim": (CLAIMS,),
    "table": tuple(f"{TABLE}.{suffix}" for suffix in TABLE_SUFFIXES),
    "figure": tuple(f"{FIGURE}.{suffix}" for suffix in FIGURE_SUFFIXES),
    "study_report": (STUDY_REPORT, STUDY_CELLS),
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
