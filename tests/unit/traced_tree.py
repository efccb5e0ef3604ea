"""A results folder with the records of a whole small study, made without Snakemake, training or images.

Files hold a few bytes; metrics, tables and their indexes are real, so that numbers can be traced and computed again.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from penumbra import paths
from penumbra.files import sha256
from penumbra.metrics.rows import COLUMNS, row_names
from penumbra.provenance.hashing import state
from penumbra.provenance.jobs import JOBS, NUMBERS, RECORD, job_of
from penumbra.provenance.record import canonical, sealed, sha256_of
from penumbra.reporting.numbers import CellIndex
from penumbra.reporting.rows import Source, row_filter
from tests.conftest import ROOT

STUDY, DATASET = "small", "phantom_cord"
CASES = ("sub-1", "sub-2", "[red]", "<script>")
FUSIONS = {"conv-staple": "staple", "conv-average": "average"}
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SOFTWARE = {
    "python": "3.11.7",
    "packages": {"numpy": "2.4.6", "snakemake": "9.27.1", "torch": "2.13.0"},
    "installed_sha256": "1" * 64,
    "lock_sha256": "2" * 64,
    "cuda": "12.8",
    "driver": None,
}
MACHINE = {
    "host": "node7",
    "system": "Linux 6.1 x86_64",
    "cpu": "A Processor",
    "cores": 8,
    "gpus": ["A GPU", "A GPU"],
    "slurm": {"job": "4711", "partition": "gpu"},
}


class Tree:
    """Writes the files and records of a small study; ``results`` is the folder."""

    def __init__(
        self,
        results: Path,
        splits: int = 2,
        members: int = 1,
        dirty: bool = False,
        studies: tuple[str, ...] = (STUDY,),
    ) -> None:
        self.results, self.splits, self.members, self.dirty, self.studies = results, splits, members, dirty, studies
        self._clock = 0

    # ------------------------------------------------------------ parts

    def write(self, path: str, content: str | bytes) -> str:
        file = self.results / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def folder(self, path: str, files: dict[str, str]) -> str:
        for name, content in files.items():
            self.write(f"{path}/{name}", content)
        return path

    def job(
        self,
        rule: str,
        wildcards: dict[str, Any],
        inputs: list[tuple[str, str]],
        outputs: list[tuple[str, str]],
        **params: Any,
    ) -> None:
        """Write a job's record; inputs and outputs are pairs of name and path."""
        job = JOBS[rule].format(**wildcards)
        self._clock += 1
        clock = f"2026-01-02T{self._clock // 60 % 24:02d}:{self._clock % 60:02d}"
        place = self.results / RECORD.format(job=job)
        record = {
            "schema": 1,
            "job": job,
            "rule": rule,
            "wildcards": {k: str(v) for k, v in wildcards.items()},
            "params": params,
            "params_sha256": sha256_of(canonical(params)),
            "seed": params.get("seed"),
            "device": "auto",
            "threads": 1,
            "resources": {"mem_mb": 1000},
            "checkout": {
                "commit": COMMIT,
                "dirty": self.dirty,
                "diff_sha256": "d" * 64 if self.dirty else None,
                "code": "c" * 16,
                "modules": {},
            },
            "software": SOFTWARE,
            "machine": MACHINE if rule in ("train", "infer") else {**MACHINE, "gpus": [], "slurm": None},
            "determinism": {"environment": {"OMP_NUM_THREADS": "1"}},
            "started": f"{clock}:00.000+00:00",
            "ended": f"{clock}:30.000+00:00",
            "seconds": 30.0,
            "peak_memory_bytes": 10**8,
            "peak_gpu_memory_bytes": 10**9 if rule == "train" else None,
            "inputs": [self._input(*pair) for pair in inputs],
            "outputs": [self._output(*pair) for pair in outputs],
            "supersedes": None,
        }
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(sealed(record))

    def _input(self, name: str, path: str) -> dict[str, Any]:
        inside = path.startswith("checkout:")
        found = state(ROOT / path.removeprefix("checkout:") if inside else self.results / path)
        maker = job_of(path)
        record = None if maker is None else sha256(self.results / RECORD.format(job=maker))
        return {"name": name, "path": path, "kind": found.kind, "sha256": found.sha256, "bytes": found.bytes,
                "hashed": True, "record_sha256": record}  # fmt: skip

    def _output(self, name: str, path: str) -> dict[str, Any]:
        found = state(self.results / path)
        told = {"name": name, "path": path, "kind": found.kind, "sha256": found.sha256, "bytes": found.bytes,
                "mtime_ns": found.mtime_ns}  # fmt: skip
        if found.kind == "folder":
            told["files"] = [list(asdict(f).values()) for f in found.files]
        return told

    # ------------------------------------------------------------ the study

    def make(self, about: dict[str, str] | None = None) -> Tree:
        """Write everything. ``about`` : what the download's record tells of licence and title, if anything."""
        data = {"dataset": DATASET}
        raw = self.folder(paths.RAW.format(**data), {f"{c}/image.nii.gz": f"raw {c}" for c in CASES})
        listed = ((f, self.results / raw / f) for f in (f"{c}/image.nii.gz" for c in sorted(CASES)))
        lines = [f"{name}\t{file.stat().st_size}\t{sha256(file)}" for name, file in listed]
        self.write(paths.MANIFEST.format(**data), "\n".join(["path\tbytes\tsha256", *lines]) + "\n")
        told = {} if about is None else {"about": about}
        source = {"kind": "url", "url": "https://example.org/cord.zip", "sha256": "a" * 64, "path": None}
        self.job("download", data, [], [("", raw)], source=source, seed=1, code="c", **told)
        cases = self.folder(paths.INGESTED.format(**data), {f"{c}/image.nii.gz": f"case {c}" for c in CASES})
        table = self.write(paths.CASES.format(**data), "case\n" + "\n".join(CASES) + "\n")
        self.job("ingest", data, [("raw", raw)], [("cases", cases), ("table", table)], seed=1)
        ingested = [("cases", cases), ("table", table)]
        prepared = self.folder(paths.PREPARED.format(**data), {"images.npy": "array"})
        self.job("preprocess", data, ingested, [("", prepared)])
        labels = {}
        for fusion in sorted({*FUSIONS.values()}):
            values = {**data, "fusion": fusion}
            labels[fusion] = self.folder(paths.LABELS.format(**values), {f"{c}.nii.gz": f"{fusion} {c}" for c in CASES})
            self.job("fuse", values, [*ingested, ("prepared", prepared)], [("", labels[fusion])])
        metrics = []
        for split in range(self.splits):
            values = {**data, "split": split}
            parts = {"train": list(CASES[:1]), "validation": list(CASES[1:2]), "test": list(CASES[2:])}
            path = self.write(paths.SPLIT.format(**values), json.dumps({"split": split, **parts}))
            self.job("split", values, [("table", table)], [("", path)], seed=1)
            for candidate, fusion in FUSIONS.items():
                metrics.append(self._run(candidate, split, labels, fusion, cases, prepared, path))
        for study in self.studies:
            self._study(study, metrics)
        return self

    def _run(
        self,
        candidate: str,
        split: int,
        labels: dict[str, str],
        fusion: str,
        cases: str,
        prepared: str,
        split_file: str,
    ) -> str:
        run = {"dataset": DATASET, "candidate": candidate, "split": split}
        recipe = {"network": {"name": "unet2d"}, "labels": {"encoding": "hard", "fusion": fusion},
                  "loss": {"name": "dice"}, "activation": {"name": "sigmoid"}}  # fmt: skip
        weights = []
        for member in range(1, self.members + 1):
            values = {**run, "member": member}
            made = [
                (name, self.write(pattern.format(**values), f"{name} of {values}"))
                for name, pattern in (("weights", paths.WEIGHTS), ("history", paths.HISTORY),
                                      ("progression", paths.PROGRESSION), ("record", paths.RUN_RECORD))
            ]  # fmt: skip
            inputs = [("prepared", prepared), ("labels", labels[fusion]), ("split", split_file)]
            self.job("train", values, inputs, made, candidate=recipe, seed=1, deterministic=True)
            weights.append(("weights", made[0][1]))
        predictions = self.folder(paths.PREDICTIONS.format(**run), {f"{c}.nii.gz": f"{run} {c}" for c in CASES[2:]})
        threshold = self.write(paths.THRESHOLD.format(**run), "class,threshold,dice\ngray_matter,0.45,0.8\n")
        curve = self.write(paths.THRESHOLD_CURVE.format(**run), "class,threshold,dice\ngray_matter,0.45,0.8\n")
        inputs = [
            *weights,
            ("cases", cases),
            ("prepared", prepared),
            ("hard_labels", labels["staple"]),
            ("split", split_file),
        ]
        outputs = [("predictions", predictions), ("threshold", threshold), ("threshold_curve", curve)]
        evaluation = {"evaluation": {"binarisation": "threshold"}}
        self.job("infer", run, inputs, outputs, candidate={**recipe, "predictor": {"name": "single_pass"}},
                 dataset=evaluation, seed=1)  # fmt: skip
        file = paths.RUN_METRICS.format(**run)
        self._metrics(run).to_parquet(_made(self.results / file))
        inputs = [("hard_labels", labels["staple"]), ("soft_labels", labels["average"]), ("predictions", predictions),
                  ("cases", cases), ("threshold", threshold), ("threshold_curve", curve), ("split", split_file)]  # fmt: skip
        self.job("evaluate", run, inputs, [("", file)], dataset=evaluation)
        return file

    def _metrics(self, run: dict[str, Any]) -> pd.DataFrame:
        shift = list(FUSIONS).index(run["candidate"]) / 50
        table = pd.DataFrame(
            [
                {**run, "case": case, "scope": "class", "target": "gray_matter", "metric": "dice", "bin": pd.NA,
                 "value": 0.8 + shift + run["split"] / 100 + k / 1000, "n": 100, "status": "ok"}
                for k, case in enumerate(CASES[2:])
            ]
        ).astype({"bin": "Int64"})  # fmt: skip
        table["row"] = row_names(table)
        return table[["row", *COLUMNS]]

    def _study(self, name: str, metrics: list[str]) -> None:
        study = {"study": name}
        frame = pd.concat([pd.read_parquet(self.results / m) for m in metrics], ignore_index=True)
        collected = paths.METRICS.format(**study, dataset=DATASET)
        frame.to_parquet(_made(self.results / collected))
        self.job("collect", {**study, "dataset": DATASET}, [("", m) for m in metrics], [("", collected)])
        tests = self.write(paths.TESTS.format(**study), "view,dataset,target,metric,candidate,reference,p\n")
        self.job(
            "test",
            study,
            [("", collected)],
            [("", tests)],
            candidates=list(FUSIONS),
            reference="conv-staple",
            level=0.05,
        )
        source = Source(frame, collected)
        table = self._table(study, "table-1", source, tests)
        figure = self._figure(study, "figure-1", source)
        self._report(study, source, tests, [*table, *figure])

    def _where(self, candidate: str, **more: Any) -> str:
        return row_filter(dataset=DATASET, candidate=candidate, metric="dice", target="gray_matter", **more)

    def _table(self, study: dict[str, str], name: str, source: Source, tests: str) -> list[str]:
        index = CellIndex(name)
        lines = ["| Candidate | Dice |", "|---|---|"]
        for candidate in FUSIONS:
            shown = index.number(
                "mean_over_splits", source, self._where(candidate), row=candidate, column="Phantom > Dice [%] > gray matter",
                scale=100.0, decimals=1, dataset=DATASET, candidate=candidate, target="gray_matter", metric="dice",
                unit="%", n_expected=self.splits, n_cases=2, n_undefined=0,
            )  # fmt: skip
            lines.append(f"| {candidate} | {shown} |")
        text = index.place("\n".join(lines) + "\n")
        prefix = paths.TABLE.format(**study, table=name)
        made = [
            ("", self.write(f"{prefix}.csv", "candidate,dice\n")),
            ("", self.write(f"{prefix}.tex", "\\begin{tabular}\n")),
            ("", self.write(f"{prefix}.cells.csv", index.frame().to_csv(index=False))),
            ("md", self.write(f"{prefix}.md", text)),
        ]
        published = ("published", "checkout:config/published/softseg_thesis.csv")
        self.job("table", {**study, "table": name}, [("metrics", source.name), ("tests", tests), published], made)
        self._keep(made[2][1])
        return [path for _, path in made]

    def _figure(self, study: dict[str, str], name: str, source: Source) -> list[str]:
        index = CellIndex(name)
        for candidate in FUSIONS:
            for case in CASES[2:]:
                for mark in ("dot", "ring"):
                    index.number(
                        "value_as_measured", source, self._where(candidate, case=case, split=0), row=candidate, column=case,
                        dataset=DATASET, candidate=candidate, status="ok", unit=mark,
                    )  # fmt: skip
        frame = index.frame().drop(columns=["displayed", "start", "end"])
        frame["id"] = [f"m{k:04d}" for k in range(1, len(frame) + 1)]
        frame = frame.assign(x=range(len(frame)), y=frame["value"], mark=frame["unit"])
        frame = frame.rename(columns={"row": "panel", "column": "name"}).assign(unit="fraction", displayed=None)
        prefix = paths.FIGURE.format(**study, figure=name)
        made = [
            ("", self.write(f"{prefix}.pdf", "%PDF")),
            ("", self.write(f"{prefix}.csv", frame.to_csv(index=False))),
            ("png", self.write(f"{prefix}.png", "PNG")),
        ]
        self.job("figure", {**study, "figure": name}, [("metrics", source.name)], made)
        self._keep(made[1][1])
        return [path for _, path in made]

    def _report(self, study: dict[str, str], source: Source, tests: str, exhibits: list[str]) -> None:
        index = CellIndex("report")
        shown = index.number("count_of_values", source, "", row="rows", column="number", decimals=0)
        text = index.place(f"There are {shown} rows.\n")
        made = [
            ("cells", self.write(paths.STUDY_CELLS.format(**study), index.frame().to_csv(index=False))),
            ("report", self.write(paths.STUDY_REPORT.format(**study), text)),
        ]
        self.job("study_report", study, [("tests", tests), *(("exhibits", p) for p in exhibits)], made)
        self._keep(made[0][1])

    def _keep(self, index: str) -> None:
        content = (self.results / index).read_bytes()
        self.write(NUMBERS.format(sha256=sha256(self.results / index)), content)


def _made(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    return file
