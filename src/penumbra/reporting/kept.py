"""Keeping a finished study for others to read; ``python -m penumbra.workflow.keep`` is the command.

Copies the study's report, tables, figures and tests, and writes a ``README.md`` from what the runs recorded: how they
were made, on what machine, how long they took, what became of the paper's claims, and how much of the raters'
disagreement is kept. Every number of it stands in ``README.cells.csv`` with its rows and estimator.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from penumbra import paths
from penumbra.claims.section import claims_section
from penumbra.errors import PenumbraError
from penumbra.files import atomic_folder
from penumbra.metrics.rows import IMAGE
from penumbra.reporting.context import StudyContext
from penumbra.reporting.estimators import estimate_of
from penumbra.reporting.numbers import CellIndex, Shown, row_filter
from penumbra.reporting.rows import Source
from penumbra.reporting.sources import joined, read_source, told_source
from penumbra.reporting.verdicts import read_verdicts


def entropy_shares(sources: Mapping[str, Source], context: StudyContext, index: CellIndex) -> list[str]:
    """Markdown: how much of the raters' entropy each candidate keeps, by data set.

    Parameters
    ----------
    sources : the long metrics of each data set.
    """
    lines = [
        "## Entropy",
        "",
        "Entropy of the prediction as a share of the raters' entropy, summed over the test cases of a split, mean over "
        "splits: 1 keeps the raters' disagreement, less is overconfidence.",
        "",
    ]
    metrics = ("entropy", "entropy_reference")
    for dataset in context.datasets.values():
        lines += [f"### {dataset.title}", ""]
        for name, candidate in context.candidates.items():
            shown = index.number(
                "ratio_over_splits",
                sources[dataset.name],
                row_filter(dataset=dataset.name, candidate=name, target=IMAGE, metric=metrics),
                row="share of the raters' entropy",
                column=name,
                argument={"metric": metrics[0], "over": metrics[1]},
                decimals=2,
                dataset=dataset.name,
                candidate=name,
                target=IMAGE,
                metric=metrics[0],
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


def how_long(
    results: Path, dataset: str, candidates: Iterable[str], trained: Iterable[str], index: CellIndex
) -> list[str]:
    """Markdown table: jobs and processor time by stage, from the benchmark files that the workflow kept.

    Runs of other candidates than ``candidates``, which another study left in the same results folder, do not count, nor
    do trainings of others than ``trained``.
    """
    lines = []
    for stage in ("download", "ingest", "preprocess", "fuse", "resample_labels", "train", "infer", "evaluate"):
        folder = results / "benchmarks" / stage
        files = [*folder.glob(f"{dataset}.tsv"), *sorted((folder / dataset).glob("*.tsv"))]
        names = trained if stage == "train" else candidates
        files += [file for name in names for file in sorted((folder / dataset / name).rglob("*.tsv"))]
        if not files:
            continue
        source = joined([read_source(file) for file in files], told_source(files, Path(os.path.abspath(results))))
        if not estimate_of(source, "count_of_jobs").value:
            continue
        told: dict[str, Any] = {"row": f"{stage} of {dataset}", "dataset": dataset}
        jobs = index.number("count_of_jobs", source, column="jobs", decimals=0, **told)
        total = index.number("processor_minutes", source, column="processor minutes", **told)
        lines.append(f"| {stage} | {jobs} | {total} |")
    return ["| stage | jobs | processor minutes, all jobs |", "|:---|---:|---:|", *lines] if lines else []


def _trainings(results: Path, dataset: str, trained: Iterable[str], index: CellIndex) -> list[str]:
    """Markdown: how many trainings of a data set, of what size, and on what; from what the runs recorded."""
    every = {file: json.loads(file.read_text()) for file in sorted((results / "runs" / dataset).glob("*/*/*/run.json"))}
    records = {file: r for file, r in every.items() if r["names"]["candidate"] in set(trained)}
    if not records:
        return []
    versions = sorted({f"torch {r['device']['torch']} on {r['device']['type']}" for r in records.values()})
    source = joined([read_source(file) for file in records], told_source(records, results))

    def number(take: str, field: str = "", **more: Any) -> Shown:
        argument = {"take": take, "field": field} | more
        told: dict[str, Any] = {
            "row": f"trainings of {dataset}",
            "column": f"{take} {field}".strip(),
            "dataset": dataset,
        }
        return index.number("field_of_runs", source, argument=argument, decimals=0, **told)

    def span(field: str, **more: Any) -> str:
        ends = ["smallest", "largest"] if len({r[field] for r in records.values()}) > 1 else ["smallest"]
        return " to ".join(str(number(end, field, **more)) for end in ends)

    return [
        f"- `{dataset}`: {number('count')} trainings of {span('parameters', grouped=True)} parameters, "
        f"{span('epochs_run')} epochs, "
        f"{', '.join(versions)}, seed {number('first', 'seed')}."
    ]


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
    from penumbra.reporting.data import read_data

    results = Path(os.path.abspath(results))
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
    data = read_data(context, [source / name for name in measured], results=results)
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
        recipes = told["candidates"][dataset]
        trained = sorted({recipe.get("trained_as") or name for name, recipe in recipes.items()})
        lines += _trainings(results, dataset, trained, index)
        lines += ["", *how_long(results, dataset, context.candidates, trained, index), ""]
    for name in claimed:
        lines += claims_section(read_verdicts(source / name), index, told_source(source / name, results))
    lines += entropy_shares({d: data.rows_of(d) for d in context.datasets}, context, index)
    text = index.place("\n".join(lines).rstrip() + "\n")
    with atomic_folder(out) as folder:
        for name in ("report.md", "report.cells.csv", "tests.csv", *claimed):
            shutil.copyfile(source / name, folder / name)
        for name in ("tables", "figures"):
            if not told["study"].get(name):
                continue
            shutil.copytree(source / name, folder / name, ignore=shutil.ignore_patterns(".snakemake*"))
        (folder / "README.md").write_text(text, encoding="utf-8")
        index.frame().to_csv(folder / "README.cells.csv", index=False, lineterminator="\n")
