"""Every path of Penumbra, written once; rules, scripts and tests share them.

A pattern holds wildcards in braces, relative to the results folder; the rules use the patterns as they stand, and
:meth:`penumbra.workflow.plan.Plan.path` fills values in.
"""

from __future__ import annotations

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
SEAL = STUDY + "/seal.json"
PAGE = "report"
TOY_FIT = "toy-problem/fits/rank-{rank}-{fit}.json"
TOY_TABLE = "toy-problem/log-likelihoods.csv"
TOY_PAGE = "toy-problem/README.md"
TOY_FIGURE = "toy-problem/figure-2"
TABLE_SUFFIXES = ("csv", "md", "tex", "cells.csv")
FIGURE_SUFFIXES = ("pdf", "png", "csv")

# inside a folder artefact
PREPARED_IMAGES = "images.npy"
PREPARED_SLICES = "slices.csv"
PREPARED_GEOMETRY = "geometry.json"
PREPARED_LABELS = "prepared.npy"
SAMPLES = "samples"
