"""Which displayed numbers rest on what, worked out by brute force from the records and tables alone.

Written apart from :mod:`penumbra.audit`, so that the two can be held against each other: no path patterns, no indices,
a pandas query for each number.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

GATHERED = ("collect", "test", "claim", "table", "figure", "study_report", "seal", "page")
Name = tuple[str, str]
"""Exhibit and id of a number."""


@dataclass
class Rest:
    """What one number rests on: single files, and jobs."""

    files: set[str] = field(default_factory=set)
    jobs: set[str] = field(default_factory=set)


class Oracle:
    """A finished results folder, read before anything is changed in it."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self.records: dict[str, dict] = {}
        self.files: dict[str, list[str]] = {}
        self.maker: dict[str, str] = {}
        for file in sorted((results / "records").rglob("*.json")):
            if file.relative_to(results / "records").parts[0] != "superseded":
                record = json.loads(file.read_text())
                self.records[record["job"]] = record
                for output in record["outputs"]:
                    self.maker[output["path"]] = record["job"]
                    inside = [f"{output['path']}/{f[0]}" for f in output.get("files", [])]
                    self.files[output["path"]] = inside or [output["path"]]
        self.tables: dict[str, pd.DataFrame] = {}
        self.rows: dict[tuple[str, str], list[dict]] = {}
        self.numbers = self._numbers()

    def table(self, path: str) -> pd.DataFrame:
        if path not in self.tables:
            file = self.results / path
            self.tables[path] = pd.read_parquet(file) if path.endswith(".parquet") else pd.read_csv(file)
        return self.tables[path]

    def pick(self, path: str, where: str) -> list[dict]:
        if (path, where) not in self.rows:
            table = self.table(path)
            self.rows[path, where] = (table.query(where) if where else table).to_dict("records")
        return self.rows[path, where]

    def _numbers(self) -> dict[Name, Rest]:
        """Every displayed number and what it rests on."""
        found = {}
        for job, record in self.records.items():
            if record["rule"] not in ("table", "figure", "study_report"):
                continue
            for output in record["outputs"]:
                index = output["path"]
                if index.endswith(".cells.csv") or (record["rule"] == "figure" and index.endswith(".csv")):
                    study, name = index.split("/")[1], index.split("/")[-1].split(".")[0]
                    with open(self.results / index, newline="") as stream:
                        for entry in csv.DictReader(stream):
                            found[f"{study}/{name}", entry["id"]] = self.rest(job, study, entry)
        return found

    def rest(self, job: str, study: str, entry: dict) -> Rest:
        rest = Rest()
        rest.jobs.add(job)
        for output in self.records[job]["outputs"]:
            rest.files |= set(self.files[output["path"]])
        corrected = (
            entry.get("p_holm", "") != "" or "p_holm" in entry["argument"] or entry["estimator"] == "significance"
        )
        for name in filter(None, entry["source"].split("; ")):
            if name.endswith("tests.csv"):
                for line in self.pick(name, entry["filter"]):
                    self.line(rest, study, line, corrected)
            elif name.endswith("claims.csv"):
                self.claims(rest, name, entry["filter"])
            elif name.endswith(".parquet"):
                self.metrics(rest, name, entry["filter"])
            else:
                self.file(rest, name)
        if entry.get("p", "") != "" and "tests.csv" not in entry["source"]:
            line = {key: entry[key] for key in ("dataset", "candidate", "metric", "target")}
            self.line(rest, study, line, corrected)
        return rest

    def file(self, rest: Rest, path: str) -> None:
        """A file by itself, and the job that made it."""
        rest.files.add(path)
        owner = [artefact for artefact in self.maker if path == artefact or path.startswith(artefact + "/")]
        for artefact in owner:
            self.job(rest, self.maker[artefact])

    def job(self, rest: Rest, job: str) -> None:
        """A job, and all that it read; of a gathering one the job alone."""
        if job in rest.jobs:
            return
        rest.jobs.add(job)
        if self.records[job]["rule"] in GATHERED:
            return
        for given in self.records[job]["inputs"]:
            rest.files |= set(self.files.get(given["path"], [given["path"]]))
            if given["path"] in self.maker:
                self.job(rest, self.maker[given["path"]])

    def metrics(self, rest: Rest, path: str, where: str) -> None:
        self.file(rest, path)
        for dataset, candidate, split in {(r["dataset"], r["candidate"], r["split"]) for r in self.pick(path, where)}:
            self.file(rest, f"runs/{dataset}/{candidate}/split-{split}/metrics.parquet")

    def line(self, rest: Rest, study: str, line: dict, corrected: bool) -> None:
        """A line of tests.csv: its candidate and the reference, or all candidates where these decide over it."""
        self.file(rest, f"studies/{study}/tests.csv")
        where = f"dataset == '{line['dataset']}'"
        if not corrected and line["metric"] != "composite":
            tests = self.table(f"studies/{study}/tests.csv")
            where += f" and candidate in {[line['candidate'], tests['reference'][0]]!r}"
        self.metrics(rest, f"studies/{study}/metrics/{line['dataset']}.parquet", where)

    def claims(self, rest: Rest, path: str, where: str) -> None:
        self.file(rest, path)
        lines = self.pick(path, where)
        everywhere = [line["claim"] for line in lines if line["dataset"] == "all"]
        for line in [*lines, *(r for c in everywhere for r in self.pick(path, f"claim == {c!r}"))]:
            if line["dataset"] != "all":
                self.metrics(rest, line["source"], line["filter"])

    def on_file(self, *files: str) -> set[Name]:
        """The numbers that rest on any of some files."""
        return {name for name, rest in self.numbers.items() if rest.files & set(files)}

    def on_job(self, *jobs: str) -> set[Name]:
        """The numbers that rest on any of some jobs."""
        return {name for name, rest in self.numbers.items() if rest.jobs & set(jobs)}
