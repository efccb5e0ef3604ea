"""A made-up results folder: every stage's files, small and random, with records like those that jobs write.

Numbers go through the same functions as in the workflow, so that they can be computed again from their rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from penumbra import paths
from penumbra.figures._inputs import Marks
from penumbra.metrics.rows import COLUMNS, row_names
from penumbra.provenance.hashing import State, state
from penumbra.provenance.jobs import JOBS, NUMBERS, OUTPUTS, RECORD, SUPERSEDED, job_of
from penumbra.provenance.record import NUMBERS_OF, canonical, sealed, sha256_of
from penumbra.reporting.numbers import CellIndex
from penumbra.reporting.rows import Source, row_filter

FUSIONS = ("staple", "average")
METRICS = ("dice", "brier")


class SyntheticResults:
    """Writes a results folder, and makes parts of it again.

    Parameters
    ----------
    folder : the results folder, not there yet. rng : all content comes from it.
    datasets, candidates : names. splits, cases : how many; every split tests the same cases.
    modules : how many modules of code each record names.
    """

    def __init__(
        self,
        folder: Path,
        rng: np.random.Generator,
        *,
        datasets: Sequence[str] = ("alpha", "beta"),
        candidates: Sequence[str] = ("first", "second", "third"),
        splits: int = 2,
        cases: int = 3,
        study: str = "made-up",
        modules: int = 3,
    ) -> None:
        self.folder, self.rng, self.study = folder, rng, study
        self.datasets, self.candidates, self.splits = list(datasets), list(candidates), splits
        self.cases = [f"case-{k}" for k in range(cases)]
        self.commit = sha256_of(str(rng.integers(2**62)))[:40]
        self.modules = {f"penumbra.module_{k}": sha256_of(str(rng.integers(2**62)))[:16] for k in range(modules)}
        self.packages = {"numpy": "2.0.0"}
        self._clock = datetime(2024, 1, 1, tzinfo=UTC)
        self._states: dict[str, State] = {}
        self._records: dict[str, str] = {}

    # ------------------------------------------------------------ files and records

    def bytes(self, path: str, size: int = 60) -> str:
        """Write random bytes."""
        return self.write(path, self.rng.bytes(size))

    def write(self, path: str, content: bytes | str) -> str:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def table(self, path: str, frame: pd.DataFrame) -> str:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if path.endswith(".parquet"):
            frame.to_parquet(file, index=False)
        else:
            frame.to_csv(file, index=False)
        return path

    def _state(self, path: str) -> State:
        if path not in self._states:
            place = (
                self.folder.parent / path.removeprefix("checkout:")
                if path.startswith("checkout:")
                else self.folder / path
            )
            self._states[path] = state(place)
        return self._states[path]

    def record(
        self, rule: str, inputs: Iterable[tuple[str, str]] = (), params: dict[str, Any] | None = None, **wildcards: Any
    ) -> Path:
        """Write the record of a job over what lies on the disk; an older one is kept."""
        wildcards = {key: str(value) for key, value in wildcards.items()}
        job = JOBS[rule].format(**wildcards)
        params = {"code": sha256_of(rule)[:16], "seed": 1, **(params or {})}
        outputs = []
        for pattern in OUTPUTS[rule]:
            path = pattern.format(**wildcards)
            self._states.pop(path, None)
            found = self._state(path)
            told = {"name": "", "path": path, "kind": found.kind, "sha256": found.sha256, "bytes": found.bytes,
                    "mtime_ns": found.mtime_ns}  # fmt: skip
            if found.kind == "folder":
                told["files"] = [[f.path, f.sha256, f.bytes, f.mtime_ns] for f in found.files]
            outputs.append(told)
            if path.endswith(NUMBERS_OF.get(rule, "|")) and path.startswith("studies/"):
                self.write(NUMBERS.format(sha256=found.sha256), (self.folder / path).read_bytes())
        given = []
        for name, path in inputs:
            maker = job_of(path)
            found = self._state(path)
            given.append({"name": name, "path": path, "kind": found.kind, "sha256": found.sha256, "bytes": found.bytes,
                          "hashed": True, "record_sha256": self._records.get(maker or "")})  # fmt: skip
        self._clock += timedelta(seconds=3)
        content = {
            "schema": 1, "job": job, "rule": rule, "wildcards": wildcards, "params": params,
            "params_sha256": sha256_of(canonical(params)), "seed": 1, "device": "cpu", "threads": 1, "resources": {},
            "checkout": {"commit": self.commit, "dirty": False, "diff_sha256": None, "code": params["code"],
                         "modules": self.modules},
            "software": {"python": "3.11.0", "packages": self.packages, "installed_sha256": "0" * 64,
                         "lock_sha256": "0" * 64, "cuda": None, "driver": None},
            "machine": {"host": "a", "system": "Linux", "cpu": "a processor", "cores": 2, "gpus": [], "slurm": None},
            "determinism": {"environment": {}}, "started": self._clock.isoformat(),
            "ended": (self._clock + timedelta(seconds=2)).isoformat(), "seconds": 2.0, "peak_memory_bytes": 1,
            "peak_gpu_memory_bytes": None, "inputs": given, "outputs": outputs, "supersedes": None,
        }  # fmt: skip
        file = self.folder / RECORD.format(job=job)
        if file.exists():
            old = file.read_text()
            content["supersedes"] = sha256_of(old)
            self.write(SUPERSEDED.format(sha256=content["supersedes"]), old)
        text = sealed(content)
        self.write(RECORD.format(job=job), text)
        self._records[job] = sha256_of(text)
        return file

    # ------------------------------------------------------------ stages

    def build(self) -> SyntheticResults:
        """Everything, from raw files to the report."""
        for dataset in self.datasets:
            self.data(dataset)
            for candidate in self.candidates:
                for split in range(self.splits):
                    self.run(dataset, candidate, split)
            self.collect(dataset)
        self.show()
        return self

    def data(self, dataset: str) -> None:
        """Raw files, ingested cases, prepared arrays, labels and splits of a data set."""
        raw = paths.RAW.format(dataset=dataset)
        for case in self.cases:
            for name in ("image", "rater-1", "rater-2"):
                self.bytes(f"{raw}/{case}/{name}.nii.gz")
                self.bytes(f"{paths.INGESTED.format(dataset=dataset)}/{case}/{name}.nii.gz")
        files = state(self.folder / raw).files
        lines = ["path\tbytes\tsha256", *(f"{f.path}\t{f.bytes}\t{f.sha256}" for f in files)]
        self.write(paths.MANIFEST.format(dataset=dataset), "\n".join(lines) + "\n")
        self.record("download", dataset=dataset)
        table = self.write(paths.CASES.format(dataset=dataset), "\n".join(["case", *self.cases]) + "\n")
        self.record("ingest", [("raw", raw)], dataset=dataset)
        ingested = [("cases", paths.INGESTED.format(dataset=dataset)), ("table", table)]
        prepared = paths.PREPARED.format(dataset=dataset)
        self.bytes(f"{prepared}/images.npy", 200)
        self.record("preprocess", ingested, dataset=dataset)
        for fusion in FUSIONS:
            for case in self.cases:
                self.bytes(f"{paths.LABELS.format(dataset=dataset, fusion=fusion)}/{case}.nii.gz")
            self.record("fuse", [*ingested, ("prepared", prepared)], dataset=dataset, fusion=fusion)
        for split in range(self.splits):
            content = json.dumps({"train": [], "validation": [], "test": self.cases, "of": split})
            self.write(paths.SPLIT.format(dataset=dataset, split=split), content)
            self.record("split", [("table", table)], dataset=dataset, split=split)

    def run(self, dataset: str, candidate: str, split: int, params: dict[str, Any] | None = None) -> None:
        """Weights, predictions and metrics of a run; ``params`` of its training."""
        names = {"dataset": dataset, "candidate": candidate, "split": split}
        fusion = FUSIONS[self.candidates.index(candidate) % len(FUSIONS)]
        labels, prepared = paths.LABELS.format(dataset=dataset, fusion=fusion), paths.PREPARED.format(dataset=dataset)
        divided = paths.SPLIT.format(**names)
        for pattern in OUTPUTS["train"]:
            self.bytes(pattern.format(**names, member=1))
        self.record(
            "train", [("prepared", prepared), ("labels", labels), ("split", divided)], params, **names, member=1
        )
        predictions, threshold, curve = (pattern.format(**names) for pattern in OUTPUTS["infer"])
        for case in self.cases:
            self.bytes(f"{predictions}/{case}.nii.gz")
        self.write(threshold, f"class,threshold\nwhole,{self.rng.uniform():.3f}\n")
        self.bytes(curve)
        cases = paths.INGESTED.format(dataset=dataset)
        weights = paths.WEIGHTS.format(**names, member=1)
        self.record(
            "infer", [("weights", weights), ("cases", cases), ("prepared", prepared), ("split", divided)], **names
        )
        self.measure(dataset, candidate, split)

    def measure(self, dataset: str, candidate: str, split: int) -> None:
        """The metrics of a run."""
        names = {"dataset": dataset, "candidate": candidate, "split": split}
        rows = [
            {**names, "case": case, "scope": "case", "target": "whole", "metric": metric, "bin": None,
             "value": self.rng.uniform(), "n": 10, "status": "ok"}
            for case in self.cases for metric in METRICS
        ]  # fmt: skip
        self.table(paths.RUN_METRICS.format(**names), pd.DataFrame(rows).astype({"bin": "Int64"})[COLUMNS])
        predictions, threshold, curve = (pattern.format(**names) for pattern in OUTPUTS["infer"])
        hard, soft = (paths.LABELS.format(dataset=dataset, fusion=fusion) for fusion in FUSIONS)
        inputs = [("hard_labels", hard), ("soft_labels", soft), ("predictions", predictions), ("threshold", threshold),
                  ("threshold_curve", curve), ("cases", paths.INGESTED.format(dataset=dataset)),
                  ("split", paths.SPLIT.format(**names))]  # fmt: skip
        self.record("evaluate", inputs, **names)

    def collect(self, dataset: str) -> None:
        """The metrics of all runs of a data set in one file."""
        files = [
            paths.RUN_METRICS.format(dataset=dataset, candidate=candidate, split=split)
            for candidate in self.candidates
            for split in range(self.splits)
        ]
        frame = pd.concat([pd.read_parquet(self.folder / file) for file in files], ignore_index=True)
        frame.insert(0, "row", row_names(frame))
        self.table(paths.METRICS.format(study=self.study, dataset=dataset), frame)
        self.record("collect", [("", file) for file in files], study=self.study, dataset=dataset)

    def show(self) -> None:
        """Tests, a table and a figure for each data set, and the report."""
        metrics = [paths.METRICS.format(study=self.study, dataset=dataset) for dataset in self.datasets]
        reference, *others = self.candidates
        lines = [
            {"dataset": d, "target": "whole", "metric": m, "view": "split", "candidate": c, "reference": reference,
             "n": self.splits, "mean_difference": self.rng.normal(), "p": self.rng.uniform(), "p_holm": self.rng.uniform()}
            for d in self.datasets for m in METRICS for c in others
        ]  # fmt: skip
        tests = self.table(paths.TESTS.format(study=self.study), pd.DataFrame(lines))
        told = {"candidates": self.candidates, "reference": reference}
        self.record("test", [("", path) for path in metrics], told, study=self.study)
        tested = Source(pd.read_csv(self.folder / tests, float_precision="round_trip"), tests)
        shown: list[tuple[str, str]] = []
        for dataset, path in zip(self.datasets, metrics, strict=True):
            source = Source(pd.read_parquet(self.folder / path), path)
            shown += self._table(dataset, source, tested)
            shown += self._figure(dataset, source)
        index = CellIndex("report")
        sentences = []
        for dataset in self.datasets:
            for metric in METRICS:
                for candidate in others:
                    where = row_filter(
                        view="split", dataset=dataset, target="whole", metric=metric, candidate=candidate
                    )
                    for column in ("mean_difference", "p_holm"):
                        number = index.number(
                            "column_of_tests", tested, where, row=f"{dataset}, {metric}, {candidate}", column=column,
                            argument={"column": column}, decimals=3,
                        )  # fmt: skip
                        sentences.append(f"{dataset}, {metric}, {candidate}, {column}: {number}")
        self.write(paths.STUDY_REPORT.format(study=self.study), index.place("\n".join(sentences) + "\n"))
        self.table(paths.STUDY_CELLS.format(study=self.study), index.frame())
        self.record("study_report", [("tests", tests), *shown], study=self.study)

    def _table(self, dataset: str, source: Source, tested: Source) -> list[tuple[str, str]]:
        index, lines = CellIndex(dataset), []
        for candidate in self.candidates:
            for metric in METRICS:
                told = {"dataset": dataset, "candidate": candidate, "target": "whole", "metric": metric}
                line = tested.rows(row_filter(view="split", **told))
                p = {key: float(line.first(key)) for key in ("p", "p_holm")} if len(line) else {}
                number = index.number("mean_over_splits", source, row_filter(**told), row=candidate, column=metric,
                                      decimals=3, **told, **p)  # fmt: skip
                lines.append(f"{candidate} {metric} {number}")
        names = {"study": self.study, "table": dataset}
        place = paths.TABLE.format(**names)
        self.write(f"{place}.md", index.place("\n".join(lines) + "\n"))
        self.bytes(f"{place}.csv")
        self.bytes(f"{place}.tex")
        self.table(f"{place}.cells.csv", index.frame())
        self.record("table", [("metrics", source.name), ("tests", tested.name)], **names)
        return [("tables", f"{place}.{suffix}") for suffix in paths.TABLE_SUFFIXES]

    def _figure(self, dataset: str, source: Source) -> list[tuple[str, str]]:
        marks = Marks()
        for candidate in self.candidates:
            for split in range(self.splits):
                for case in self.cases:
                    where = row_filter(dataset=dataset, candidate=candidate, split=split, case=case, metric="dice")
                    marks.add("dot", "value_as_measured", source, where, dataset=dataset, panel=candidate,
                              candidate=candidate, name=f"{case} of {split}", x=split)  # fmt: skip
        names = {"study": self.study, "figure": dataset}
        place = paths.FIGURE.format(**names)
        frame = marks.frame()
        frame.insert(0, "exhibit", dataset)
        self.table(f"{place}.csv", frame)
        self.bytes(f"{place}.pdf")
        self.bytes(f"{place}.png")
        self.record("figure", [("metrics", source.name)], **names)
        return [("figures", f"{place}.{suffix}") for suffix in paths.FIGURE_SUFFIXES]
