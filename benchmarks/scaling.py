"""What whole studies cost: hours of one CPU core and of a GPU, from measured steps and the configured numbers.

::

    .venv/bin/python benchmarks/scaling.py [RESULTS]

For each data set a training step of its recipe runs here on random images, on one core, as processor time: forward,
backward and optimiser, on the whole batch where that is quick and else on one slice times the batch. The rest is
arithmetic: steps an epoch from the slices of the training cases (:data:`EXTENTS`), epochs from the recipe as if
nothing stopped early, a third of a step for every slice that is predicted, in validation after each epoch and once for
all cases at the end. Hours of a GPU are an assumption, not a measurement: the floating-point operations of the same
passes at :data:`GPU_FLOPS`, with no step under :data:`GPU_STEP` seconds. With RESULTS, a finished study, the mean
seconds of each kind of job there are printed too.
"""

from __future__ import annotations

import json
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import torch  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from penumbra import parts  # noqa: E402
from penumbra.config.load import Configuration, read_yaml  # noqa: E402
from penumbra.config.models import Candidate  # noqa: E402
from penumbra.training.model import build_model  # noqa: E402

GPU_FLOPS = 5e12
"""Assumed: what a data-centre GPU sustains in single precision without TensorFloat-32, a quarter of an A100's peak."""
GPU_STEP = 0.015
"""Assumed: seconds below which no step falls on a GPU, for starting its kernels."""
QUICK = 0.5
SPLITS = 40

SCGM, MS = (40, 14, 0.375, 0.375), (15, 150, 0.6, 0.2)
EXTENTS: dict[str, tuple[int, float, float, float]] = {
    "scgm": SCGM,
    "scgm_gray": SCGM,
    "ms_brain": MS,
    "ms_lesions": MS,
    "brats": (20, 140, 0.6, 0.2),
    "lidc": (866, 4, 0.6, 0.2),
    "hippocampus_whole": (260, 35, 0.6, 0.2),
    "hippocampus_whole_volumes": (260, 1, 0.6, 0.2),
    "hippocampus": (260, 35, 0.6, 0.2),
    "hippocampus_volumes": (260, 1, 0.6, 0.2),
}
"""Cases, items (slices that are not constant, or volumes) a case, and the shares that train and validate; rough, and
assumed for data that only its owners hand out. Phantoms are left out: they run in minutes."""


@dataclass(frozen=True)
class Step:
    """One training step of a whole batch: seconds on one core, and floating-point operations."""

    seconds: float
    flops: float
    batch: int


def step(configuration: Configuration, dataset: str, candidate: Candidate) -> Step:
    """Measure a training step of a candidate on random images of a data set's grid."""
    content = configuration.dataset(dataset)
    model = build_model(candidate, content).train()
    loss = parts.build("loss", candidate.loss.name, candidate.loss.options)
    optimiser = torch.optim.Adam(model.parameters(), fused=True)
    size = tuple(content.geometry.crop or ())

    def once(items: int) -> float:
        images = torch.randn(items, len(content.contrasts), *size)
        target = torch.rand(items, len(content.classes), *size).round()
        started = time.process_time()
        optimiser.zero_grad(set_to_none=True)
        loss(model(images), target).backward()
        optimiser.step()
        return time.process_time() - started

    batch = candidate.training.batch_size
    with FlopCounterMode(display=False) as counter:
        once(1)
    alone = min(once(1), once(1))
    seconds = min(once(batch), once(batch)) if alone * batch < 8 * QUICK else alone * batch
    return Step(seconds, float(counter.get_total_flops() * batch), batch)


def training(dataset: str, candidate: Candidate) -> tuple[float, float]:
    """Steps of a training, and steps' worth of predicting: a prediction is a third of a step on the same slices."""
    cases, items, train, validation = EXTENTS[dataset]
    options = candidate.training
    shown = min(options.slices_per_epoch or math.inf, cases * items * train)
    steps = math.ceil(shown / options.batch_size) * options.epochs
    predicted = cases * items * validation * options.epochs
    return steps, predicted / options.batch_size / 3


def hours(measured: Step, dataset: str, candidate: Candidate) -> tuple[float, float]:
    """Hours of one run, its inference included: on one core, and assumed on a GPU."""
    cases, items, *_ = EXTENTS[dataset]
    steps, predicted = training(dataset, candidate)
    whole = candidate.members.count * (steps + predicted + cases * items / measured.batch / 3)
    on_gpu = max(measured.flops / GPU_FLOPS, GPU_STEP)
    return whole * measured.seconds / 3600, whole * on_gpu / 3600


def jobs_of(results: Path) -> None:
    """Print the mean seconds of each kind of job of a finished study, from its records and benchmark files."""
    found: dict[str, list[tuple[float, float]]] = {}
    for file in sorted((results / "records").rglob("*.json")):
        if {"superseded", "numbers"} & set(file.parts):
            continue
        told = json.loads(file.read_text(encoding="utf-8"))
        clock = results / "benchmarks" / f"{told['job']}.tsv"
        whole = float(clock.read_text().splitlines()[1].split("\t")[-1]) if clock.exists() else math.nan
        found.setdefault(told["rule"], []).append((told["seconds"], whole))
    print("| rule | jobs | seconds, of the work | of the processor, with starting Python |\n|---|---|---|---|")
    for rule, rows in found.items():
        work, whole = (sum(column) / len(rows) for column in zip(*rows, strict=True))
        print(f"| `{rule}` | {len(rows)} | {work:.2f} | {'' if math.isnan(whole) else f'{whole:.2f}'} |")


def main() -> None:
    """Print a table of data sets, and one of studies."""
    torch.set_num_threads(1)
    studies = sorted(path.stem for path in (ROOT / "config/studies").glob("*.yaml"))
    settings = {**read_yaml(ROOT / "config/config.yaml"), "studies": studies}
    configuration = Configuration.load(settings, ROOT / "config")
    print("| data set | batch | steps a run | seconds a step, one core | GFLOP a step | hours a run, core | GPU |")
    print("|---|---|---|---|---|---|---|")
    every: dict[str, Step] = {}
    for dataset in EXTENTS:
        recipe = configuration.candidate("soft-relu-wing", dataset)
        every[dataset] = found = step(configuration, dataset, recipe)
        core, gpu = hours(found, dataset, recipe)
        steps = training(dataset, recipe)[0]
        print(f"| {dataset} | {found.batch} | {steps:,.0f} | {found.seconds:.2f} | {found.flops / 1e9:,.0f} |", end="")
        print(f" {core:,.1f} | {gpu:.2f} |", flush=True)
    print("\n| study | runs | core hours | GPU hours |\n|---|---|---|---|")
    for study in studies:
        content = configuration.study(study)
        entries = [(entry.name, entry.splits) for entry in content.datasets]
        if all(name in EXTENTS for name, _ in entries):
            total(configuration, study, entries, content.candidates, every)
    total(configuration, f"all candidates, all these data sets, {SPLITS} splits", [(d, SPLITS) for d in EXTENTS],
          list(configuration.candidate_entries), every)  # fmt: skip


def total(
    configuration: Configuration,
    name: str,
    datasets: list[tuple[str, int]],
    candidates: list[str],
    every: dict[str, Step],
) -> None:
    """Print one row of the table of studies."""
    core = gpu = runs = 0.0
    for dataset, splits in datasets:
        for candidate in candidates:
            one = hours(every[dataset], dataset, configuration.candidate(candidate, dataset))
            core, gpu, runs = core + splits * one[0], gpu + splits * one[1], runs + splits
    print(f"| {name} | {runs:,.0f} | {core:,.0f} | {gpu:,.0f} |")


if __name__ == "__main__":
    main()
    if len(sys.argv) > 1:
        print()
        jobs_of(Path(sys.argv[1]))
