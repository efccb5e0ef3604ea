"""Training on a GPU: slices a second, share of the arithmetic limit, memory, sharing, and loading.

::

    .venv/bin/python benchmarks/gpu.py [--device cuda|cpu] [--quick]

Without a GPU it says so and ends well; ``--device cpu --quick`` walks the same way on a CPU, with a small network, to
show that the script works: its figures mean nothing. Printed, of the thesis' U-Net at batches of 8 of 128 x 128:

* float32 and bfloat16 in turns, by Penumbra's own ``Trainer``: slices a second, share of the limit measured in the same
  run in the same precision, peak memory, and the seconds of one SCGM training of the thesis (112,800 slices; the goal
  is at most 65 s on an H200), with bfloat16 also at larger batches;
* three small trainings in processes that share the device, against one after the other;
* the batched loader against one slice at a time, and against the step: it must never be the bottleneck.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(Path(__file__).resolve().parent)]

import augmentation  # noqa: E402
import training_step as one  # noqa: E402

from penumbra import device as devices  # noqa: E402

SCGM_SLICES, GOAL = 112_800, 65.0
TOGETHER = 3


def small_training(device: str, steps: int, filters: int, start: object) -> None:
    """So many steps of a small network, after a first one that warms up and a common start."""
    place = torch.device(device)
    devices.prepare(place, threads=1, deterministic=True)
    step = one.steps(one.trainer(one.candidate(filters=filters), place))
    step()
    start.wait()  # type: ignore[attr-defined]
    for _ in range(steps):
        step()
    if place.type == "cuda":
        torch.cuda.synchronize()
    start.wait()  # type: ignore[attr-defined]


def seconds_of(count: int, device: str, steps: int, filters: int) -> float:
    """Seconds of ``count`` small trainings side by side, without their start."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(count + 1)
    children = [
        context.Process(target=small_training, args=(device, steps, filters, start), daemon=True) for _ in range(count)
    ]
    for child in children:
        child.start()
    start.wait(300)
    began = time.perf_counter()
    start.wait(600)
    taken = time.perf_counter() - began
    for child in children:
        child.join()
    return taken


def precisions(place: torch.device, rounds: int, times: int, filters: int, side: int) -> float:
    """Print slices a second in both precisions; the seconds of a step of the faster."""
    own = {
        p: one.steps(one.trainer(one.candidate(p, filters=filters), place, side=side)) for p in ("float32", "bfloat16")
    }
    memory = {}
    for name, step in own.items():
        step()
        if place.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            step()
            torch.cuda.synchronize()
            memory[name] = f", {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB"
    found = one.medians(own, rounds, place, times)
    operations = one.arithmetic(side, filters)
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        limit = operations / one.peak(dtype, place, rounds)
        print(
            f"{name:16} {one.BATCH / found[name]:.0f} slices/s, {100 * limit / found[name]:.0f} % of the limit"
            f"{memory.get(name, '')}; SCGM in {SCGM_SLICES / one.BATCH * found[name]:.0f} s (goal {GOAL:.0f} s, H200)"
        )
    print(f"mixed precision  {found['float32'] / found['bfloat16']:.2f}x float32")
    return min(found.values())


def larger(place: torch.device, rounds: int, times: int) -> None:
    """Print slices a second in bfloat16 at larger batches, which another recipe may take."""
    for batch in (32, 128):
        recipe = one.candidate("bfloat16", batch_size=batch)
        step = one.steps(one.trainer(recipe, place, count=2 * batch))
        seconds = one.medians({"step": step}, rounds, place, times)["step"]
        print(f"batches of {batch:<5} {batch / seconds:.0f} slices/s in bfloat16")


def shared(device: str, rounds: int, steps: int, filters: int) -> None:
    """Print several small trainings side by side against one after the other."""
    taken: dict[str, list[float]] = {"together": [], "in turn": []}
    for _ in range(rounds):
        taken["together"].append(seconds_of(TOGETHER, device, steps, filters))
        taken["in turn"].append(sum(seconds_of(1, device, steps, filters) for _ in range(TOGETHER)))
    together, turn = (statistics.median(values) for values in taken.values())
    print(f"{TOGETHER} small ones      {together:.2f} s together, {turn:.2f} s in turn: {turn / together:.2f}x")


def loading(place: torch.device, rounds: int, step: float) -> None:
    """Print the batched loader against the others, and its share of a step."""
    with tempfile.TemporaryDirectory() as folder:
        measured, _ = augmentation.sides(Path(folder), place)
        found = one.medians(measured, rounds, place, 4)
    own = found["Penumbra"]
    others = ", ".join(f"{s / own:.1f}x {name}" for name, s in found.items() if name != "Penumbra")
    print(f"loader           {1e3 * own:.2f} ms a batch, {others}; {100 * own / step:.0f} % of a step")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--quick", action="store_true", help="a small network and few rounds")
    asked = parser.parse_args()
    if asked.device == "cuda" and not torch.cuda.is_available():
        print(f"no GPU here (torch {torch.__version__}): nothing was measured")
        return
    place = torch.device(asked.device)
    devices.prepare(place, threads=1, deterministic=True)
    rounds, times, filters, side = (2, 1, 4, 32) if asked.quick else (9, 20, 64, one.SIDE)
    print(f"{devices.describe(place)}, deterministic")
    one.show_agreement(place, side, filters, strict=not asked.quick)
    step = precisions(place, rounds, times, filters, side)
    if not asked.quick:
        larger(place, rounds, times)
    shared(asked.device, 1 if asked.quick else 3, 2 if asked.quick else 200, 4 if asked.quick else 16)
    loading(place, rounds, step)


if __name__ == "__main__":
    main()
