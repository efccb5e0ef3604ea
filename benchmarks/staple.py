"""STAPLE: SimpleITK's filter against expectation-maximisation over the histogram of raters' decisions.

::

    .venv/bin/python benchmarks/staple.py

Two settings: 40 volumes of 128 x 128 x 20 with 4 raters, and one of 160 x 224 x 160 with 7. Both sides get the same
arrays and return the probability as an array; they run in turn (A, B, A, B, ...), medians are printed, and that
probabilities, sensitivities and specificities agree to 1e-5. The limit printed beside is one pass over the raters'
arrays (their bitwise or): no method can read less.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from penumbra.fusion.staple import staple
from penumbra.seeds import generator

Result = tuple[np.ndarray, np.ndarray, np.ndarray]


def raters(shape: tuple[int, int, int], number: int, index: int) -> np.ndarray:
    """A ball seen by raters ``(R, X, Y, Z)`` uint8: each has a centre, a radius and stray voxels of his own."""
    rng = generator(0, "benchmark", "staple", index)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    maps = np.empty((number, *shape), dtype=np.uint8)
    for r in range(number):
        centre = rng.normal(0, 0.04, 3)
        inside = sum((axis - c) ** 2 for axis, c in zip(grid, centre, strict=True)) < rng.uniform(0.3, 0.45) ** 2
        maps[r] = inside ^ (rng.random(shape) < 0.001)
    return maps


def itk(decisions: np.ndarray) -> Result:
    """SimpleITK, with as many threads as it takes."""
    stapler = SimpleITK.STAPLEImageFilter()
    stapler.SetForegroundValue(1)
    image = stapler.Execute([SimpleITK.GetImageFromArray(d) for d in decisions])
    return (
        SimpleITK.GetArrayFromImage(image),
        np.array(stapler.GetSensitivity()),
        np.array(stapler.GetSpecificity()),
    )


def histogram(decisions: np.ndarray) -> Result:
    """Penumbra."""
    found = staple(decisions)
    return found.probability, found.sensitivity, found.specificity


def passes(decisions: np.ndarray) -> Result:
    """One look at every decision."""
    seen = np.bitwise_or.reduce(decisions, axis=0)
    return seen, seen, seen


def compare(title: str, volumes: list[np.ndarray], rounds: int) -> None:
    gap = 0.0
    for decisions in volumes:
        gap = max(gap, *(float(np.abs(a - b).max()) for a, b in zip(itk(decisions), histogram(decisions), strict=True)))
    assert gap < 1e-5, gap

    def seconds(method: Callable[[np.ndarray], Result]) -> float:
        start = time.perf_counter()
        for decisions in volumes:
            method(decisions)
        return time.perf_counter() - start

    runs = [(seconds(itk), seconds(histogram), seconds(passes)) for _ in range(rounds)]
    slow, fast, limit = (statistics.median(column) for column in zip(*runs, strict=True))
    print(f"{title}: SimpleITK {slow * 1e3:.0f} ms, histogram {fast * 1e3:.1f} ms: {slow / fast:.0f} times")
    print(f"    one pass over the arrays {limit * 1e3:.1f} ms; largest difference {gap:.1e}")


if __name__ == "__main__":
    compare("40 x 128 x 128 x 20, 4 raters", [raters((20, 128, 128), 4, i) for i in range(40)], 5)
    compare("160 x 224 x 160, 7 raters", [raters((160, 224, 160), 7, 99)], 5)
