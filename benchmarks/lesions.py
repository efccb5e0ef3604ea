"""Lesion true positive and false discovery rates: a loop over lesions against connected components counted at once.

::

    .venv/bin/python benchmarks/lesions.py

A synthetic reference of 102 lesions in 182 x 218 x 182 voxels and a prediction that misses some, moves the others and
invents more. Both sides label with scipy, take components below 3 voxels out of both maps, and give both rates and all
counts over all sizes and in three bins of size, by the convention ``released``. The loop, written here from the
definition, makes one mask of the whole volume a lesion, as plain code does. All values must be equal.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from penumbra.metrics.lesions import lesion_rates, lesion_rates_by_size, match_lesions, remove_small
from penumbra.seeds import generator

Rates = list[tuple[float, float, int, int, int, int]]
BINS = [(1, np.inf), (1, 20), (21, 100), (101, np.inf)]
NEIGHBOURS = ndimage.generate_binary_structure(3, 2)


def maps(lesions: int = 102, shape: tuple[int, int, int] = (182, 218, 182)) -> tuple[np.ndarray, np.ndarray]:
    """Prediction and reference: balls of 1 to 7 voxels' radius in an ellipsoid, apart in the reference."""
    rng = generator(0, "benchmark", "lesions")
    reference, prediction, taken = (np.zeros(shape, dtype=bool) for _ in range(3))
    half = np.array(shape) / 2

    def ball(into: np.ndarray, centre: np.ndarray, radius: float) -> None:
        low = np.maximum(np.ceil(centre - radius).astype(int), 0)
        box = tuple(slice(a, int(b) + 1) for a, b in zip(low, centre + radius, strict=True))
        grid = np.ogrid[box]
        into[box] |= sum((axis - c) ** 2 for axis, c in zip(grid, centre, strict=True)) <= radius**2

    placed = 0
    while placed < lesions:
        centre = half + rng.uniform(-0.8, 0.8, 3) * half
        radius = float(np.exp(rng.uniform(0.1, np.log(7))))
        probe = np.zeros(shape, dtype=bool)
        ball(probe, centre, radius + 3)
        if np.linalg.norm((centre - half) / half) > 0.8 or (probe & taken).any():
            continue
        ball(reference, np.round(centre), radius)
        taken |= probe
        placed += 1
        if rng.random() < 0.75:
            ball(prediction, np.round(centre + rng.normal(0, 1, 3)), radius * rng.uniform(0.6, 1.2))
        if rng.random() < 0.25:
            ball(prediction, np.round(half + rng.uniform(-0.4, 0.4, 3) * half), radius)
    return prediction, reference


def loop(prediction: np.ndarray, reference: np.ndarray) -> Rates:
    """One mask of the whole volume a lesion."""

    def without_small(mask: np.ndarray) -> np.ndarray:
        labels, count = ndimage.label(mask, NEIGHBOURS)
        kept = mask.copy()
        for i in range(1, count + 1):
            lesion = labels == i
            if lesion.sum() < 3:
                kept[lesion] = False
        return kept

    prediction, reference = without_small(prediction), without_small(reference)
    of_prediction, predicted = ndimage.label(prediction, NEIGHBOURS)
    of_reference, referred = ndimage.label(reference, NEIGHBOURS)
    size_map = np.zeros(reference.shape, dtype=np.int32)
    for j in range(1, predicted + 1):
        lesion = of_prediction == j
        size_map[lesion] = lesion.sum()
    rates = []
    for low, high in BINS:
        lesions = found = there = false = 0
        of_this_size = False
        for i in range(1, referred + 1):
            lesion = of_reference == i
            if low <= lesion.sum() <= high:
                lesions += 1
                found += np.count_nonzero(lesion & prediction) >= 3
        for j in range(1, predicted + 1):
            lesion = of_prediction == j
            of_this_size |= bool(low <= lesion.sum() <= high)
            if low <= size_map[of_reference == of_reference[lesion].max()].max() <= high:
                there += 1
                false += np.count_nonzero(lesion & reference) < 3
        defined = lesions and found + false and (of_this_size or (low, high) == BINS[0])
        ltpr, lfdr = found / lesions if lesions else np.nan, false / (found + false) if defined else np.nan
        rates.append((ltpr, lfdr, lesions, int(found), there, int(false)))
    return rates


def components(prediction: np.ndarray, reference: np.ndarray) -> Rates:
    """Penumbra."""
    match = match_lesions(remove_small(prediction), remove_small(reference))
    rates = [lesion_rates(match), *lesion_rates_by_size(match)]
    return [(r.ltpr.value, r.lfdr.value, r.reference, r.found, r.predicted, r.false) for r in rates]


def seconds(method: Callable[[np.ndarray, np.ndarray], Rates], *arguments: np.ndarray) -> float:
    start = time.perf_counter()
    method(*arguments)
    return time.perf_counter() - start


if __name__ == "__main__":
    prediction, reference = maps()
    slow, fast = [], [seconds(components, prediction, reference)]
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1):
        start = time.perf_counter()
        expected = loop(prediction, reference)
        slow.append(time.perf_counter() - start)
        found = components(prediction, reference)
        fast += [seconds(components, prediction, reference) for _ in range(4)]
    np.testing.assert_array_equal(found, expected)
    for (low, high), rates in zip(BINS, found, strict=True):
        print(f"{low} to {high} voxels: LTPR {rates[0]:.3f}, LFDR {rates[1]:.3f}, lesions and counts {rates[2:]}")
    a, b = statistics.median(slow), statistics.median(fast)
    print(f"loop over lesions {a:.1f} s, components {b:.3f} s: {a / b:.0f} times, all values equal")
