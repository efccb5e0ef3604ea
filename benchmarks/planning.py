"""What planning costs at scale: dry runs of 1,000, 5,000 and 20,000 jobs, a rerun with nothing to do, one figure.

::

    .venv/bin/python benchmarks/planning.py [JOBS ...] [--times 3] [--plan-only]

For each size a study of the phantom of the cord with as many splits is planned three times by Penumbra and by a bare
workflow: the same rules, inputs, outputs and scripts written down as plain patterns, without anything of Penumbra, so
that the difference is what Penumbra's own plan costs. The two alternate; seconds are of the processor (user and
system), since other work may share the machine. Then every output is put there empty and touched by Snakemake's own
``--touch``, which is a run of all jobs whose work is nothing: its largest memory is that of a head process. Last come
a dry run with nothing to do, and the figure of reliability alone: with all that it depends on, and from the collected
metrics as they are (``--allowed-rules figure``). Goals: at most 1.3 times the bare workflow, 600 MB
for 20,000 jobs, 1 GB for a run, and 2 s for a figure.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from penumbra import paths  # noqa: E402
from penumbra.config.load import read_yaml  # noqa: E402
from penumbra.provenance.jobs import OUTPUTS  # noqa: E402
from penumbra.workflow.plan import Plan  # noqa: E402

SIZES = (1_000, 5_000, 20_000)
STUDY, DATASET = "many", "phantom_cord"
FIGURE = f"results/{paths.FIGURE.format(study=STUDY, figure='figure-5-4')}.pdf"
FUSIONS = ("staple", "average", "random_rater")
FOLDERS = (paths.RAW, paths.INGESTED, paths.PREPARED, paths.LABELS, paths.PREDICTIONS, paths.PAGE)


@dataclass(frozen=True)
class Measured:
    """One process: seconds, of these on the processor, largest resident memory in MB (10^6 bytes), and what it said."""

    seconds: float
    processor: float
    megabytes: float
    text: str

    @property
    def jobs(self) -> int:
        """How many jobs a dry run found."""
        found = re.search(r"(?m)^total +(\d+)$", self.text)
        return int(found[1]) if found else 0


def snakemake(place: Path, *arguments: str) -> Measured:
    """Run Snakemake in a folder.

    Raises
    ------
    RuntimeError : it failed; its output is the message.
    """
    output = place.parent / "output"
    with open(output, "wb") as stream:
        started = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--cores", "1", *arguments],
            cwd=place, stdout=stream, stderr=subprocess.STDOUT,
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
    text = output.read_text()
    if status:
        raise RuntimeError(text[-5000:])
    kilobytes = usage.ru_maxrss / 1024 if sys.platform == "darwin" else usage.ru_maxrss
    return Measured(seconds, usage.ru_utime + usage.ru_stime, kilobytes * 1024 / 1e6, text)


def checkout(place: Path, splits: int) -> list[str]:
    """Copy what a clone holds, with a study of so many splits as its default; the study's candidates."""
    place.mkdir(parents=True)
    for name in ("Snakefile", "config", "profiles", "src", "workflow", "envs"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy2)(ROOT / name, place / name)
    study = read_yaml(ROOT / "config/studies/label-fusion-phantom.yaml")
    study["datasets"] = [{"name": DATASET, "splits": splits}]
    (place / f"config/studies/{STUDY}.yaml").write_text(yaml.safe_dump(study))
    config = read_yaml(ROOT / "config/config.yaml") | {"studies": [STUDY]}
    (place / "config/config.yaml").write_text(yaml.safe_dump(config))
    return list(study["candidates"])


def bare(place: Path, candidates: list[str], splits: int) -> None:
    """Write a workflow of the same shape that holds nothing of Penumbra."""
    dataset, split = [paths.INGESTED, paths.CASES], paths.SPLIT
    label = paths.LABELS.replace("{fusion}", FUSIONS[0])
    other = paths.LABELS.replace("{fusion}", FUSIONS[1])
    weights = paths.WEIGHTS.replace("{member}", "1")
    inputs = {
        "download": [],
        "ingest": [paths.RAW],
        "preprocess": dataset,
        "fuse": [*dataset, paths.PREPARED],
        "split": [paths.CASES],
        "train": [paths.PREPARED, label, split],
        "infer": [weights, paths.INGESTED, paths.PREPARED, label, split],
        "evaluate": [label, other, paths.PREDICTIONS, paths.INGESTED, paths.THRESHOLD, paths.THRESHOLD_CURVE, split],
    }
    rules = [f"rule all:\n    input: {[f'results/{paths.TESTS.format(study=STUDY)}']}\n"]
    for rule, needs in inputs.items():
        made = [f"directory({'results/' + o!r})" if o in FOLDERS else repr(f"results/{o}") for o in OUTPUTS[rule]]
        needed = ", ".join(repr(f"results/{n}") for n in needs)
        rules.append(f"rule {rule}:\n    input: {needed}\n    output: {', '.join(made)}\n    script: 'script.py'\n")
    run = "results/" + paths.RUN_METRICS.replace("{dataset}", DATASET)
    rules.append(
        f"rule collect:\n    input: expand({run!r}, candidate={candidates!r}, split=range({splits}))\n"
        f"    output: {'results/' + paths.METRICS!r}\n    script: 'script.py'\n"
    )
    metrics = "results/" + paths.METRICS.replace("{dataset}", DATASET)
    rules.append(
        f"rule test:\n    input: {metrics!r}\n    output: {'results/' + paths.TESTS!r}\n    script: 'script.py'\n"
    )
    place.mkdir(parents=True)
    (place / "Snakefile").write_text("\n".join(rules))
    (place / "script.py").write_text("")


def everything_made(place: Path, candidates: list[str], splits: int) -> None:
    """Put an empty file or folder wherever a run of the study would leave one."""
    plan = Plan(read_yaml(place / "config/config.yaml"), place)
    files = [place / file for file in (*plan.tables(STUDY), *plan.figures(STUDY), plan.path(paths.PAGE))]

    def add(patterns: tuple[str, ...], **values: object) -> None:
        files.extend(place / plan.path(pattern, **values) for pattern in patterns)

    whole = ("download", "ingest", "preprocess", "fuse", "collect", "test", "claim", "study_report")
    for rule in whole:
        for fusion in FUSIONS if rule == "fuse" else ("",):
            add(OUTPUTS[rule], dataset=DATASET, study=STUDY, fusion=fusion)
    for split in range(splits):
        add(OUTPUTS["split"], dataset=DATASET, split=split)
        for candidate in candidates:
            for rule in ("train", "infer", "evaluate"):
                add(OUTPUTS[rule], dataset=DATASET, candidate=candidate, split=split, member=1)
    ends = ("predictions", "prepared", "cases", "report", f"raw/{DATASET}", *(f"labels/{f}" for f in FUSIONS))
    for file in files:
        if str(file).endswith(ends):
            file.mkdir(parents=True, exist_ok=True)
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()


def compare(jobs: int, place: Path, repeat: int, plan_only: bool) -> None:
    """Print what one size costs."""
    splits = max(1, round((jobs - 25) / 19))
    ours, plain = place / "ours" / "checkout", place / "bare" / "workflow"
    candidates = checkout(ours, splits)
    bare(plain, candidates, splits)
    dry = ("-n", "-q", "rules")
    first = snakemake(ours, *dry)
    print(f"{first.jobs:,} jobs, {splits * len(candidates):,} runs")
    print(f"  first dry run, nothing noted      {first.processor:6.1f} s")
    times: dict[str, list[Measured]] = {"bare": [], "ours": []}
    for _ in range(repeat):
        times["bare"].append(snakemake(plain, *dry))
        times["ours"].append(snakemake(ours, *dry))
    found = {who: statistics.median(m.processor for m in measured) for who, measured in times.items()}
    memory = {who: max(m.megabytes for m in measured) for who, measured in times.items()}
    print(f"  dry run, bare workflow           {found['bare']:6.1f} s  {memory['bare']:5.0f} MB", end="")
    print(f"  ({times['bare'][0].jobs:,} jobs)")
    print(f"  dry run, Penumbra                {found['ours']:6.1f} s  {memory['ours']:5.0f} MB", end="")
    print(f"  {found['ours'] / found['bare']:.2f} times the bare one")
    if plan_only:
        return
    everything_made(ours, candidates, splits)
    touched = snakemake(ours, "--touch", "--forceall", "-q", "all")
    print(f"  run whose jobs do nothing        {touched.processor:6.1f} s  {touched.megabytes:5.0f} MB")
    again = snakemake(ours, *dry)
    if "Nothing to be done" not in again.text:
        raise RuntimeError(again.text[-3000:])
    print(f"  dry run, nothing to do           {again.processor:6.1f} s  {again.megabytes:5.0f} MB")
    for what, only in (("one figure", ()), ("one figure, from collected", ("--allowed-rules", "figure"))):
        figure = snakemake(ours, *dry, *only, "--", FIGURE)
        print(f"  dry run, {what:23} {figure.processor:6.1f} s  {figure.megabytes:5.0f} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What planning costs at scale.")
    parser.add_argument("jobs", type=int, nargs="*", default=SIZES, help=f"about how many jobs (default: {SIZES})")
    parser.add_argument("--times", type=int, default=3, help="how often each dry run is measured (default: 3)")
    parser.add_argument("--plan-only", action="store_true", help="leave out what needs every job to have run")
    given = parser.parse_args()
    for size in given.jobs:
        with tempfile.TemporaryDirectory() as folder:
            compare(size, Path(folder), given.times, given.plan_only)
