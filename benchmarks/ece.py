"""Expected calibration error: a mask for each bin against one sort of voxels into bins.

::

    .venv/bin/python benchmarks/ece.py

40 volumes of 128 x 128 x 20 with 3 foreground classes, pooled; 10 bins, the last one right-open and closed. The loop is
written here from the definition. Both sides start from the same stored float32 probabilities and run in turn, medians
are printed, and both conventions must agree to 1e-12. Printed beside is what it costs to form nothing but the
confidence and the class of every voxel in float64; Penumbra forms them where some class is above 0, here a fifth of the
voxels.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from penumbra.metrics.binarisation import with_background
from penumbra.metrics.calibration import Reliability
from penumbra.seeds import generator

Case = tuple[np.ndarray, np.ndarray]


def cases(number: int = 40, shape: tuple[int, int, int] = (128, 128, 20), classes: int = 3) -> list[Case]:
    """Probabilities ``(K, X, Y, Z)`` float32, 0 in most of the background, and label maps."""
    found = []
    for i in range(number):
        rng = generator(0, "benchmark", "ece", i)
        odds = np.exp(rng.normal(0, 2, (classes + 1, *shape)))
        odds[1:, rng.random(shape) < 0.8] = 0
        p = odds / odds.sum(axis=0)
        reference = (rng.random(shape) > p.cumsum(axis=0)).sum(axis=0)
        found.append((p[1:].astype(np.float32), np.minimum(reference, classes)))
    return found


def loop(volumes: list[Case], bins: int = 10) -> tuple[float, float]:
    """One mask a bin and volume."""
    edges = np.linspace(0.0, 1.0, bins + 1)
    totals = np.zeros((2, bins, 3))
    for probabilities, reference in volumes:
        p = probabilities.astype(np.float64)
        everything = np.concatenate([np.clip(1 - p.sum(axis=0, keepdims=True), 0, 1), p])
        confidence, correct = everything.max(axis=0), everything.argmax(axis=0) == reference
        for closed in (0, 1):
            for k in range(bins):
                inside = (confidence >= edges[k]) & (confidence < edges[k + 1])
                if closed and k == bins - 1:
                    inside = confidence >= edges[k]
                totals[closed, k] += inside.sum(), confidence[inside].sum(), correct[inside].sum()
    opened, closed = (float(np.abs(t[:, 2] - t[:, 1]).sum() / t[:, 0].sum()) for t in totals)
    return opened, closed


def accumulator(volumes: list[Case]) -> tuple[float, float]:
    """Penumbra."""
    reliability = Reliability()
    for probabilities, reference in volumes:
        reliability.add(probabilities, reference)
    values = [reliability.expected_calibration_error(closed=closed).value for closed in (False, True)]
    return values[0], values[1]


def confidences(volumes: list[Case]) -> tuple[float, float]:
    """Confidence and class alone."""
    for probabilities, reference in volumes:
        p = with_background(probabilities)
        p.max(axis=0)
        p.argmax(axis=0) == reference  # noqa: B015
    return 0.0, 0.0


def seconds(method: Callable[[list[Case]], tuple[float, float]], volumes: list[Case]) -> float:
    start = time.perf_counter()
    method(volumes)
    return time.perf_counter() - start


if __name__ == "__main__":
    volumes = cases()
    expected, found = loop(volumes), accumulator(volumes)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    runs = [[seconds(method, volumes) for method in (loop, accumulator, confidences)] for _ in range(5)]
    slow, fast, least = (statistics.median(column) for column in zip(*runs, strict=True))
    print(f"ECE {found[0]:.4f} (right-open last bin), {found[1]:.4f} (closed)")
    print(
        f"a mask a bin {slow:.2f} s, accumulator {fast:.2f} s: {slow / fast:.1f} times; confidences alone {least:.2f} s"
    )
