"""How a prediction's values above 0 are distributed: how many there are, and how many are neither sure nor absent."""

from __future__ import annotations

import numpy as np

from penumbra.metrics.measurement import ALL_ZERO, NO_VOXEL, Measurement, undefined

BINS = 100
EDGES = np.arange(BINS + 1) / BINS
INTERMEDIATE = (0.05, 0.95)


def nonzero_share(probability: np.ndarray) -> Measurement:
    """The share of voxels of a map in [0, 1] whose value is above 0, in [0, 1]."""
    if probability.size == 0:
        return undefined(NO_VOXEL)
    return Measurement(int(np.count_nonzero(probability > 0)) / probability.size)


def nonzero_intermediate(probability: np.ndarray) -> Measurement:
    """The share, among the voxels above 0, of those above 0.05 and below 0.95 (both left out), in [0, 1].

    Undefined (NaN) where no voxel is above 0.
    """
    positive = np.asarray(probability[probability > 0], dtype=np.float64)
    if positive.size == 0:
        return undefined(ALL_ZERO)
    low, high = INTERMEDIATE
    return Measurement(int(np.count_nonzero((positive > low) & (positive < high))) / positive.size)


def nonzero_histogram(probability: np.ndarray) -> np.ndarray:
    """Histogram ``(100,)`` of the values above 0 of a map in [0, 1]: bin b holds those in (b / 100, (b + 1) / 100].

    The values are turned into float64 first and edges are float64: what is stored as float32 next to an edge counts on
    the side on which its stored value lies.
    """
    positive = np.asarray(probability[probability > 0], dtype=np.float64)
    return np.bincount(np.searchsorted(EDGES, positive, side="left") - 1, minlength=BINS)
