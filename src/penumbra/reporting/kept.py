"""Keeping a finished study for others to read; ``python -m penumbra.workflow.keep`` is the command.

Copies the study's report, tables, figures and tests, and writes a ``README.md`` from what the runs recorded: how they
were made, on what machine, how long they took, and what they say about the comparison of training frameworks that the
study is about. Every number of it stands in ``README.cells.csv`` with its rows and estimator.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penumbra import paths
from penumbra.errors import PenumbraError
from penumbra.files import atomic_folder
from penumbra.metrics.rows import IMAGE, METRICS
from penumbra.reporting.context import StudyContext, target_title
from penumbra.reporting.numbers import CellIndex, row_filter

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Expectation:
    """What a paper found when it compared SoftSeg with the conventional framework at the same label fusion."""

    metric: str
    section: str
    found: str
    scale: float
    unit: str


EXPECTATIONS = (
    Expectation("ece", "5.4.3", "lower with SoftSeg", 100.0, "%"),
    Expectation("ece_closed", "-", "not reported", 100.0, "%"),
    Expectation("brier", "5.4.1", "lower with SoftSeg", 1000.0, "×10³"),
    Expectation("entropy_error", "5.4.1", "lower with SoftSeg", 1.0, "nats"),
    Expectation("dice", "5.4.4", "not lower with SoftSeg", 100.0, "%"),
)


def framework_pairs(context: StudyContext, dataset: str) -> dict[str, tuple[str, str]]:
    """Fusion -> (candidate with hard labels, candidate with soft labels), where a study has exactly one of each."""
    found: dict[str, dict[str, list[str]]] = {}
    for name, recipe in context.recipes[dataset].items():
        found.setdefault(recipe["labels"]["fusion"], {}).setdefault(recipe["labels"]["encoding"], []).append(name)
    return {
        fusion: (kinds["hard"][0], kinds["soft"][0])
        for fusion, kinds in found.items()
        if len(kinds.get("hard", [])) == 1 and len(kinds.get("soft", [])) == 1
    }


def compare_frameworks(runs: pd.DataFrame, context: StudyContext, index: CellIndex) -> list[str]:
    """Markdown: each measure at each fusion, conventional against SoftSeg, and in how many splits SoftSeg is better.

    Parameters
    ----------
    runs : one value a run, as :func:`penumbra.statistics.runs.run_means` gives them.
    """
    lines = []
    for dataset in context.datasets.values():
        pairs = framework_pairs(context, dataset.name)
        here = runs[runs["dataset"] == dataset.name]
        head = ["measure", *(f"{fusion}: conventional → SoftSeg" for fusion in pairs), "the thesis", "here"]
        lines += [
            f"### {dataset.title}",
            "",
            "| " + " | ".join(head) + " |",
            "|:---|" + "---:|" * len(pairs) + ":---|:---|",
        ]
        for expected in EXPECTATIONS:
            for target in dict.fromkeys(here.loc[here["metric"] == expected.metric, "target"]):
                if expected.metric == "entropy_error" and target != IMAGE:
                    continue
                cells, better = [], 0
                for fusion, (hard, soft) in pairs.items():
                    text, is_better = _pair(here, index, dataset.name, target, expected, fusion, hard, soft)
                    cells.append(text)
                    better += is_better
                name = METRICS[expected.metric].label
                name += f" [{expected.unit}]" + (f", {target_title(target)}" if target != IMAGE else "")
                told = expected.found if expected.section == "-" else f"{expected.found} ({expected.section})"
                here_it_is = f"better with SoftSeg at {better} of {len(pairs)} fusions"
                lines.append(f"| {name} | {' | '.join(cells)} | {told} | {here_it_is} |")
        lines += ["", *_entropy_share(here, context, index, dataset.name), ""]
    return lines


def _values(here: pd.DataFrame, candidate: str, target: str, metric: str) -> pd.Series[float]:
    chosen = (here["candidate"] == candidate) & (here["target"] == target) & (here["metric"] == metric)
    return here[chosen].set_index("split")["value"].sort_index()


def _pair(
    here: pd.DataFrame,
    index: CellIndex,
    dataset: str,
    target: str,
    expected: Expectation,
    fusion: str,
    hard: str,
    soft: str,
) -> tuple[str, bool]:
    shown, values = [], []
    for candidate in (hard, soft):
        value = _values(here, candidate, target, expected.metric)
        values.append(value)
        shown.append(
            index.number(
                float(value.mean()),
                row=f"{expected.metric} of {target}",
                column=f"{fusion}, {candidate}",
                n=len(value),
                estimator="mean over splits of the run mean",
                scale=expected.scale,
                decimals=1,
                dataset=dataset,
                candidate=candidate,
                target=target,
                metric=expected.metric,
                unit=expected.unit,
                filter=row_filter(dataset=dataset, candidate=candidate, target=target, metric=expected.metric),
            )
        )
    sign = 1.0 if METRICS[expected.metric].better == "high" else -1.0
    gain = sign * (values[1] - values[0])
    wins = index.number(
        float((gain > 0).sum()),
        row=f"{expected.metric} of {target}",
        column=f"{fusion}, splits",
        n=len(gain),
        decimals=0,
        estimator=f"count of splits in which {soft} is better than {hard}",
        dataset=dataset,
        target=target,
        metric=expected.metric,
    )
    return f"{shown[0]} → {shown[1]}<br>better in {wins} of {len(gain)} splits", bool(gain.mean() > 0)


def _entropy_share(here: pd.DataFrame, context: StudyContext, index: CellIndex, dataset: str) -> list[str]:
    lines = [
        "Entropy of the prediction as a share of the raters' entropy, summed over the test cases of a split, mean over "
        "splits (1 keeps the raters' disagreement, less is overconfidence; the thesis found less than 1 for all "
        "conventional candidates and more than 1 for SoftSeg-Average):",
        "",
    ]
    for name, candidate in context.candidates.items():
        share = _values(here, name, IMAGE, "entropy") / _values(here, name, IMAGE, "entropy_reference")
        shown = index.number(
            float(share.mean()),
            row="share of the raters' entropy",
            column=name,
            n=len(share),
            decimals=2,
            dataset=dataset,
            estimator="mean over splits of mean entropy / mean entropy_reference",
            candidate=name,
            target=IMAGE,
            metric="entropy",
        )
        lines.append(f"- {candidate.label}: {shown}")
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
    for stage in ("download", "ingest", "preprocess", "fuse", "train", "infer", "evaluate"):
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
    import pandas as pd

    from penumbra.reporting.context import select_rows
    from penumbra.statistics.runs import run_means

    source = results / paths.STUDY.format(study=study)
    if not (source / "report.md").exists():
        raise PenumbraError(
            f"the study {study} is not finished", file=source / "report.md", cure="run it to the end with snakemake"
        )
    context = StudyContext.from_plain(told["name"], told["study"], told["datasets"], told["candidates"])
    metrics = pd.concat([pd.read_parquet(file) for file in sorted((source / "metrics").glob("*.parquet"))])
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
    lines += ["## SoftSeg against the conventional framework", ""]
    lines += [
        "Means over splits. The thesis compared the two frameworks on its own data at full scale; what is printed here "
        "is what these runs say, at their scale, with the number of splits that they have.",
        "",
        *compare_frameworks(run_means(select_rows(metrics, context)), context, index),
    ]
    with atomic_folder(out) as folder:
        for name in ("report.md", "report.cells.csv", "tests.csv"):
            shutil.copyfile(source / name, folder / name)
        for name in ("tables", "figures"):
            shutil.copytree(source / name, folder / name, ignore=shutil.ignore_patterns(".snakemake*"))
        (folder / "README.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
        index.frame().to_csv(folder / "README.cells.csv", index=False, lineterminator="\n")
