"""Bootstrap interval of a mean paired difference."""

from __future__ import annotations

import numpy as np


def mean_interval(
    differences: np.ndarray, generator: np.random.Generator, *, resamples: int = 2000, confidence: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of ``(n,)`` paired differences, in their unit.

    Pairs are drawn whole, with replacement. (NaN, NaN) with fewer than two pairs: one pair cannot vary.
    """
    differences = np.asarray(differences, dtype=np.float64)
    if differences.size < 2:
        return float("nan"), float("nan")
    draws = generator.integers(0, differences.size, size=(resamples, differences.size))
    means = differences[draws].mean(axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)
