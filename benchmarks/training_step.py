"""A training step of the thesis' U-Net at full width: float32, bfloat16, the plain way, and the machine's limit.

::

    .venv/bin/python benchmarks/training_step.py [--threads N] [--rounds N]

Batches of 8 slices of 128 x 128, depth 3, 64 base filters, dropout 0.4, Dice loss. Three sides take turns, and the
median of each is printed (of one thread its processor time): the plain way, as released code does it (channels first,
Adam over single tensors, gradients zeroed, the loss copied to the host, float32); the steps of Penumbra's own
``Trainer`` in float32; and in bfloat16, gathering, augmentation and optimiser included on both of those. The limit is
the step's arithmetic over the fastest that this machine multiplies matrices and convolves, measured in the same run,
in each precision. That the sides agree is checked before, from the same weights and batch: how far each side's
gradients are from those of float64, without dropout. PyTorch's batch normalisation on a CPU adds up naively in float32
with channels last, which is what is seen of the float32 side: not the convolutions.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from penumbra import parts  # noqa: E402
from penumbra.config.models import Candidate, Dataset  # noqa: E402
from penumbra.training.model import Model, build_model  # noqa: E402
from penumbra.training.slices import Slices  # noqa: E402
from penumbra.training.trainer import Names, Trainer  # noqa: E402

SIDE, BATCH, ITEMS = 128, 8, 16
NAMES = Names(1, "benchmark", "unet", 0, 0)


def dataset(side: int = SIDE) -> Dataset:
    """One contrast and one class."""
    return Dataset.model_validate(
        {"contrasts": ["T2star"], "classes": ["gray"], "raters": {"count": 4}, "geometry": {"crop": (side, side)}}
    )


def candidate(precision: str = "float32", *, dropout: float = 0.4, filters: int = 64, **training: object) -> Candidate:
    """The thesis' network with a sigmoid and the Dice loss."""
    return Candidate.model_validate(
        {
            "labels": {"fusion": "average", "encoding": "soft"},
            "network": {"name": "unet2d", "dropout": dropout, "base_filters": filters},
            "activation": "sigmoid",
            "loss": "dice",
            "training": {"epochs": 10_000, "batch_size": BATCH, "precision": precision, **training},
        }
    )


def items(count: int, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """Slices of noise (N, 1, H, W) with a disc in each, and the discs (N, 1, 1, H, W)."""
    rng = np.random.default_rng(5)
    y, x = np.indices((side, side)) - side / 2
    radius = rng.uniform(side / 10, side / 4, count)[:, None, None]
    discs = np.clip(radius - np.hypot(y, x) + 0.5, 0, 1).astype(np.float32)
    images = rng.normal(size=discs.shape).astype(np.float32) + 2 * discs
    return images[:, None], discs[:, None, None]


def trainer(recipe: Candidate, place: torch.device, count: int = ITEMS, side: int = SIDE) -> Trainer:
    """A training of these slices."""
    images, labels = items(count, side)
    slices = [Slices(images, labels, np.arange(n), hard=False, device=place) for n in (count, BATCH)]
    return Trainer(NAMES, recipe, dataset(side), *slices, str, place)


def steps(training: Trainer) -> Callable[[], None]:
    """One step at each call; a new epoch begins by itself, without validation."""

    def endless():  # type: ignore[no-untyped-def]
        while True:
            yield from training.epoch_steps()
            training.state.step, training.state.losses = 0, []
            training.state.epoch += 1

    taking = endless()
    return lambda: next(taking)


def plain_steps(place: torch.device, side: int = SIDE, filters: int = 64) -> Callable[[], None]:
    """Steps as released code takes them, on batches that are ready."""
    torch.manual_seed(1)
    model = build_model(candidate(filters=filters), dataset(side)).to(place)
    loss = parts.build("loss", "dice")
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, foreach=False, fused=False)
    arrays = items(BATCH, side)
    batch, target = torch.from_numpy(arrays[0]).to(place), torch.from_numpy(arrays[1][:, 0]).to(place)

    def step() -> None:
        optimiser.zero_grad(set_to_none=False)
        value = loss(model(batch), target)
        value.backward()
        optimiser.step()
        value.item()

    return step


def gradients(
    precision: str, layout: torch.memory_format, place: torch.device, side: int, filters: int
) -> torch.Tensor:
    """Of ``float64``, ``float32`` or ``bfloat16``: all gradients of the first batch in one vector, without dropout."""
    torch.manual_seed(1)
    model: Model = build_model(candidate(dropout=0.0, filters=filters), dataset(side))
    dtype = torch.float64 if precision == "float64" else torch.float32
    model = model.to(device=place, dtype=dtype, memory_format=layout)  # type: ignore[call-overload]
    arrays = items(BATCH, side)
    batch, target = (torch.from_numpy(a).to(place, dtype) for a in (arrays[0], arrays[1][:, 0]))
    with torch.autocast(place.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        output = model(batch.contiguous(memory_format=layout))
    parts.build("loss", "dice")(output, target).backward()
    return torch.cat([p.grad.flatten().double().cpu() for p in model.parameters() if p.grad is not None])


def agreement(place: torch.device, side: int = SIDE, filters: int = 64) -> dict[str, float]:
    """Relative distance of each side's gradients from those of float64."""
    first, last = torch.contiguous_format, torch.channels_last
    own = first if place.type == "cuda" else last
    exact = gradients("float64", first, place, side, filters)
    sides = {"plain": ("float32", first), "float32": ("float32", own), "bfloat16": ("bfloat16", last)}
    return {
        name: float((gradients(precision, layout, place, side, filters) - exact).norm() / exact.norm())
        for name, (precision, layout) in sides.items()
    }


AGREES = {"plain": 1e-2, "float32": 5e-2, "bfloat16": 2e-1}


def show_agreement(place: torch.device, side: int = SIDE, filters: int = 64, *, strict: bool = True) -> None:
    """Print it, and leave where a side is further away than :data:`AGREES` allows."""
    apart = agreement(place, side, filters)
    told = ", ".join(f"{name} {100 * value:.2g} %" for name, value in apart.items())
    print(f"agreement        gradients differ from float64's by: {told}")
    if strict and any(not value < AGREES[name] for name, value in apart.items()):
        sys.exit("the sides do not agree")


def arithmetic(side: int = SIDE, filters: int = 64) -> int:
    """Floating-point operations of a step: convolutions forward and backward."""
    step = plain_steps(torch.device("cpu"), side, filters)
    with FlopCounterMode(display=False) as counter:
        step()
    return int(counter.get_total_flops())


def clock(place: torch.device) -> Callable[[], float]:
    """Of one thread its processor time, which other work on the machine hardly lengthens; else the time that passes."""
    alone = place.type == "cpu" and torch.get_num_threads() == 1
    return time.process_time if alone else time.perf_counter


def peak(dtype: torch.dtype, place: torch.device, rounds: int) -> float:
    """The most operations a second, of a matrix product and of the network's widest-used convolution, forward."""
    now, wait = clock(place), torch.cuda.synchronize if place.type == "cuda" else (lambda: None)
    n = 8192 if place.type == "cuda" else 2048
    a, b = (torch.randn(n, n, device=place, dtype=dtype) for _ in range(2))
    image = torch.randn(BATCH, 128, SIDE, SIDE, device=place, dtype=dtype).contiguous(memory_format=torch.channels_last)
    layer = torch.nn.Conv2d(128, 128, 3, padding=1, bias=False, device=place, dtype=dtype)
    layer = layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    works = [(lambda: a @ b, 2 * n**3), (lambda: layer(image), 2 * BATCH * SIDE**2 * 128 * 128 * 9)]
    best = 0.0
    with torch.no_grad():
        for work, operations in works:
            work()
            for _ in range(rounds):
                wait()
                began = now()
                work()
                wait()
                best = max(best, operations / (now() - began))
    return best


def medians(
    sides: dict[str, Callable[[], object]], rounds: int, place: torch.device, times: int = 1
) -> dict[str, float]:
    """Median seconds of each side; they take turns, ``times`` calls at a time."""
    now, wait = clock(place), torch.cuda.synchronize if place.type == "cuda" else (lambda: None)
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, work in sides.items():
            wait()
            began = now()
            for _ in range(times):
                work()
            wait()
            if number:
                taken[name].append((now() - began) / times)
    return {name: statistics.median(values) for name, values in taken.items()}


def units() -> str:
    """What of bfloat16 this CPU has."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii").split()
    except OSError:
        return "unknown"
    return ", ".join(flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags) or "none: bfloat16 is emulated"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.set_flush_denormal(True)
    place = torch.device("cpu")
    print(f"{asked.threads} thread(s), torch {torch.__version__}, bfloat16 units: {units()}")
    show_agreement(place)
    own = {p: steps(trainer(candidate(p), place)) for p in ("float32", "bfloat16")}
    found = medians({"plain": plain_steps(place), **own}, asked.rounds, place)
    operations = arithmetic()
    print(f"plain            {found['plain']:.2f} s a step")
    for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        limit = operations / peak(dtype, place, asked.rounds)
        print(
            f"{precision:16} {found[precision]:.2f} s, {found['plain'] / found[precision]:.2f}x the plain way; "
            f"limit {limit:.2f} s ({operations / 1e9:.0f} GFLOP), {100 * limit / found[precision]:.0f} % of it reached"
        )


if __name__ == "__main__":
    main()
