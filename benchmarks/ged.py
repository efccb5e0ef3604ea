"""Energy distance and diversity of sampled segmentations: a loop over pairs, broadcast pairs, and matrix products.

::

    .venv/bin/python benchmarks/ged.py            # 100 samples, 4 readers, 128 x 128, one class
    .venv/bin/python benchmarks/ged.py volume     # 20 samples, 1 reader, 240 x 240 x 155, four classes: minutes, 8 GB

Both sides get the same label maps and one thread, and run in turn in one process; medians are printed, and that both
agree to 1e-6. The baseline of ``image`` compares two one-hot maps at a time. That of ``volume`` compares all pairs at
once, by broadcasting the samples against themselves, one class after the other. Both are written here from the
definition. ``volume`` measures each side in a process of its own for its peak memory (on Linux), and the baseline once;
``--samples N`` makes it smaller.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

for library in ("OPENBLAS", "MKL", "OMP"):
    os.environ[f"{library}_NUM_THREADS"] = "1"

import numpy as np  # noqa: E402
from scipy import ndimage  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from penumbra.metrics.distribution import Comparison  # noqa: E402
from penumbra.seeds import generator  # noqa: E402

Values = tuple[float, float]


def label_maps(number: int, shape: tuple[int, ...], classes: int, name: str) -> np.ndarray:
    """Nested blobs ``(number, *shape)`` uint8 whose border differs from map to map; about 2 % are foreground."""
    rng = generator(0, "benchmark", name)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij"))
    maps = np.zeros((number, *shape), dtype=np.uint8)
    for i in range(number):
        centre = rng.normal(0.1, 0.03, len(shape)).astype(np.float32)
        rough = ndimage.zoom(rng.normal(0, 0.06, (8,) * len(shape)), [n / 8 for n in shape], order=1).astype(np.float32)
        distance = np.sqrt(sum((axis - c) ** 2 for axis, c in zip(grid, centre, strict=True))) + rough
        outer = {2: 0.16, 3: 0.34}[len(shape)]
        for k in range(classes):
            maps[i][distance < outer * (1 - k / classes)] = k + 1
    return maps


def iou_distance(a: np.ndarray, b: np.ndarray, classes: int) -> float:
    """1 - mean IoU over foreground classes of two label maps."""
    overlaps = []
    for k in range(1, classes + 1):
        first, second = a == k, b == k
        union = np.logical_or(first, second).sum()
        overlaps.append(np.logical_and(first, second).sum() / union if union else 1.0)
    return 1.0 - float(np.mean(overlaps))


def pair_loop(samples: np.ndarray, readers: np.ndarray, classes: int) -> Values:
    """Two maps at a time."""
    cross = np.mean([[iou_distance(s, r, classes) for r in readers] for s in samples])
    own = np.mean([[iou_distance(s, t, classes) for t in samples] for s in samples])
    others = np.mean([[iou_distance(r, t, classes) for t in readers] for r in readers])
    return float(2 * cross - own - others), float(own)


def broadcast_distance(first: np.ndarray, second: np.ndarray, classes: int) -> float:
    """All pairs of two sets at once, a class at a time: arrays of pairs by voxels."""
    overlaps = []
    axes = tuple(range(2, first.ndim + 1))
    for k in range(1, classes + 1):
        a, b = (first == k)[:, None], (second == k)[None]
        both, union = (a & b).sum(axis=axes), (a | b).sum(axis=axes)
        overlaps.append(np.where(union > 0, both / np.maximum(union, 1), 1.0))
    return float(1.0 - np.mean(overlaps))


def broadcast(samples: np.ndarray, readers: np.ndarray, classes: int) -> Values:
    """All pairs at once."""
    own = broadcast_distance(samples, samples, classes)
    cross = broadcast_distance(samples, readers, classes)
    return 2 * cross - own - broadcast_distance(readers, readers, classes), own


def products(samples: np.ndarray, readers: np.ndarray, classes: int) -> Values:
    """Penumbra."""
    found = Comparison(samples, readers, classes).agreement()
    return found.ged, found.diversity


def agree(one: Values, other: Values) -> None:
    gap = max(abs(a - b) for a, b in zip(one, other, strict=True))
    assert gap < 1e-6, (one, other)
    print(f"GED {other[0]:.6f}, diversity {other[1]:.6f}; largest difference {gap:.1e}")


def image(rounds: int) -> None:
    samples = label_maps(100, (128, 128), 1, "samples")
    readers = label_maps(4, (128, 128), 1, "readers")
    agree(pair_loop(samples, readers, 1), products(samples, readers, 1))
    slow, fast = [], []
    for _ in range(rounds):
        slow.append(timed(pair_loop, samples, readers, 1)[0])
        fast += [timed(products, samples, readers, 1)[0] for _ in range(5)]
    a, b = statistics.median(slow), statistics.median(fast)
    print(f"loop over pairs {a * 1e3:.1f} ms, matrix products {b * 1e3:.2f} ms: {a / b:.0f} times")


def timed(measure: Callable[..., Values], *arguments: object) -> tuple[float, Values]:
    start = time.perf_counter()
    values = measure(*arguments)
    return time.perf_counter() - start, values


def peak_memory() -> float:
    """The largest resident memory of this process so far, in GB (10^9 bytes); Linux alone tells it."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024 / 1e9


def apart(measure: Callable[..., Values], folder: str, pipe: object) -> None:
    """Run in a process of its own: seconds (the median of 3 for what takes under 10 s), values, peak memory added."""
    samples, readers = np.load(f"{folder}/samples.npy"), np.load(f"{folder}/readers.npy")
    before = peak_memory()
    seconds, values = timed(measure, samples, readers, 4)
    peak = peak_memory()
    runs = [seconds, *(timed(measure, samples, readers, 4)[0] for _ in range(2 if seconds < 10 else 0))]
    pipe.send((statistics.median(runs), values, peak - before))  # type: ignore[attr-defined]


def volume(number: int) -> None:
    context, shape = multiprocessing.get_context("spawn"), (240, 240, 155)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name, count in (("samples", number), ("readers", 1)):
            maps = label_maps(count, shape, 4, name)
            np.save(f"{folder}/{name}.npy", maps)
        print(f"{number} samples of {' x '.join(map(str, shape))}, foreground {(maps > 0).mean():.1%}, four classes")
        for measure in (products, broadcast):
            here, there = context.Pipe()
            process = context.Process(target=apart, args=(measure, folder, there))
            process.start()
            there.close()
            found.append(here.recv())
            process.join()
            print(f"{measure.__name__}: {found[-1][0]:.2f} s, {found[-1][2]:.2f} GB beyond the label maps", flush=True)
    agree(found[1][1], found[0][1])
    print(f"{found[1][0] / found[0][0]:.0f} times")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", nargs="?", choices=["image", "volume"], default="image")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=20)
    options = parser.parse_args()
    image(options.rounds) if options.what == "image" else volume(options.samples)
