"""Keeping a finished study for others to read; ``python -m penumbra.workflow.keep`` is the command.

Copies the study's report, tables, figures and tests, and writes a ``README.md`` from what the runs recorded: how they
were made, on what machine, how long they took, what became of the paper's claims, and how much of the raters'
disagreement is kept. Every number of it stands in ``README.cells.csv`` with its rows and estimator.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penumbra import paths
from penumbra.claims.section import claims_section, read_verdicts
from penumbra.errors import PenumbraError
from penumbra.files import atomic_folder
from penumbra.metrics.rows import IMAGE
from penumbra.reporting.context import StudyContext
from penumbra.reporting.numbers import CellIndex

if TYPE_CHECKING:
    import pandas as pd


def entropy_shares(runs: pd.DataFrame, context: StudyContext, index: CellIndex) -> list[str]:
    """Markdown: how much of the raters' entropy each candidate keeps, by data set.

    Parameters
    ----------
    runs : one value a run, as :func:`penumbra.statistics.runs.run_means` gives them.
    """
    lines = [
        "## Entropy",
        "",
        "Entropy of the prediction as a share of the raters' entropy, summed over the test cases of a split, mean over "
        "splits: 1 keeps the raters' disagreement, less is overconfidence.",
        "",
    ]
    for dataset in context.datasets.values():
        here = runs[(runs["dataset"] == dataset.name) & (runs["target"] == IMAGE)]
        lines += [f"### {dataset.title}", ""]
        for name, candidate in context.candidates.items():
            own = here[here["candidate"] == name].pivot(index="split", columns="metric", values="value")
            share = own["entropy"] / own["entropy_reference"]
            shown = index.number(
                float(share.mean()),
                row="share of the raters' entropy",
                column=name,
                n=len(share),
                decimals=2,
                dataset=dataset.name,
                estimator="mean over splits of mean entropy / mean entropy_reference",
                candidate=name,
                target=IMAGE,
                metric="entropy",
            )
            lines.append(f"- {candidate.label}: {shown}")
        lines.append("")
    return lines


def machine() -> str:
    """This machine in one line: processor, cores, memory, system."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            model = next((line.split(":", 1)[1].strip() for line in stream if line.startswith("model name")), model)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (OSError, ValueError):
        return f"{model}, {os.cpu_count()} cores, {platform.system()}"
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}"


def how_long(results: Path, dataset: str, candidates: Iterable[str], index: CellIndex) -> list[str]:
    """Markdown table: jobs and processor time by stage, from the benchmark files that the workflow kept.

    Runs of other candidates than ``candidates``, which another study left in the same results folder, do not count.
    """
    lines = []
    for stage in ("download", "ingest", "preprocess", "fuse", "resample_labels", "train", "infer", "evaluate"):
        folder = results / "benchmarks" / stage
        files = [*folder.glob(f"{dataset}.tsv"), *sorted((folder / dataset).glob("*.tsv"))]
        files += [file for name in candidates for file in sorted((folder / dataset / name).rglob("*.tsv"))]
        rows = [row for file in files for row in csv.DictReader(file.open(encoding="utf-8"), delimiter="\t")]
        times = [float(row["cpu_time"]) for row in rows if row.get("cpu_time") not in (None, "", "NA", "-")]
        if not times:
            continue
        total = index.number(
            sum(times) / 60,
            row=f"{stage} of {dataset}",
            column="processor minutes",
            n=len(times),
            dataset=dataset,
            estimator="sum of cpu_time over benchmark files",
        )
        lines.append(f"| {stage} | {len(times)} | {total} |")
    return ["| stage | jobs | processor minutes, all jobs |", "|:---|---:|---:|", *lines] if lines else []


def keep(study: str, told: Mapping[str, Any], results: Path, out: Path, command: str) -> None:
    """Write the kept copy of one finished study.

    Parameters
    ----------
    study : its name.
    told : the study as plain data, as :meth:`penumbra.workflow.plan.Plan.study_params` gives it.
    results : the results folder. out : the folder to write; an older one is replaced whole.
    command : how the study was run.

    Raises
    ------
    PenumbraError : the study is not finished.
    """
    from penumbra.reporting.context import select_rows
    from penumbra.reporting.data import read_metrics
    from penumbra.statistics.runs import run_means

    source = results / paths.STUDY.format(study=study)
    claimed = [Path(paths.CLAIMS).name] if told["study"].get("claims") else []
    exhibits = [f"{kind}/{name}.csv" for kind in ("tables", "figures") for name in told["study"].get(kind, {})]
    measured = [f"metrics/{dataset}.parquet" for dataset in told["datasets"]]
    for name in ("report.md", "report.cells.csv", "tests.csv", *claimed, *exhibits, *measured):
        if not (source / name).exists():
            raise PenumbraError(
                f"the study {study} is not finished", file=source / name, cure="run it to the end with snakemake"
            )
    context = StudyContext.from_told(told)
    metrics, _ = read_metrics(source / name for name in measured)
    index = CellIndex("README")
    lines = [
        f"# {told['study']['title']}: kept results",
        "",
        f"Study `{study}`, run with `{command}` and copied here by `python -m penumbra.workflow.keep`. Everything "
        "below and beside this page is made from the outputs; [report.md](report.md) holds the choices, tables, "
        "figures and tests.",
        "",
        "## How it was run",
        "",
        f"- This page was made on: {machine()}.",
    ]
    for dataset in context.datasets:
        records = [json.loads(f.read_text()) for f in sorted((results / "runs" / dataset).glob("*/*/*/run.json"))]
        records = [r for r in records if r["names"]["candidate"] in context.candidates]
        if records:
            versions = sorted({f"torch {r['device']['torch']} on {r['device']['type']}" for r in records})
            epochs = sorted({r["epochs_run"] for r in records})
            lines.append(
                f"- `{dataset}`: {len(records)} trainings of {records[0]['parameters']:,} parameters, "
                f"{' to '.join(map(str, dict.fromkeys((epochs[0], epochs[-1]))))} epochs, {', '.join(versions)}, "
                f"seed {records[0]['seed']}."
            )
        lines += ["", *how_long(results, dataset, context.candidates, index), ""]
    for name in claimed:
        lines += claims_section(read_verdicts(source / name), index)
    lines += entropy_shares(run_means(select_rows(metrics, context)), context, index)
    with atomic_folder(out) as folder:
        for name in ("report.md", "report.cells.csv", "tests.csv", *claimed):
            shutil.copyfile(source / name, folder / name)
        for name in ("tables", "figures"):
            if not told["study"].get(name):
                continue
            shutil.copytree(source / name, folder / name, ignore=shutil.ignore_patterns(".snakemake*"))
        (folder / "README.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
        index.frame().to_csv(folder / "README.cells.csv", index=False, lineterminator="\n")
