"""Reliability diagram and expected calibration error (thesis section 5.3.3, Eq. 5.3 to 5.5).

The confidence of a voxel is the largest probability among the background, rebuilt as 1 minus the sum of the classes and
clipped to [0, 1], and the classes; with one class it is max(p, 1 - p). The predicted class is where that largest
probability is (a tie goes to the background, then to the class named first).

Two readings of the last bin are kept:

published
    bins [k/K, (k+1)/K), the last one too: a confidence of exactly 1.0 is in no bin and leaves both numerator and
    denominator. This is what the published numbers come from. Every voxel whose foreground probability is exactly 0
    is thereby left out.
closed
    the last bin is [(K-1)/K, 1].

The stored float32 probabilities are turned into float64 before anything is computed, and bin edges are float64
(``numpy.linspace(0, 1, K + 1)``). So a float32 just below an edge stays below it, and a foreground probability of 1e-9
gives a confidence below 1, where float32 arithmetic would have rounded it to 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from penumbra.metrics.binarisation import with_background
from penumbra.metrics.measurement import ALL_CERTAIN, NO_VOXEL, Measurement, undefined


class ReliabilityTable(NamedTuple):
    """One row a bin: ``voxels`` (K,) counts, mean ``confidence`` and ``accuracy`` (K,) in [0, 1], NaN in empty bins."""

    voxels: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


class Reliability:
    """Streaming accumulator of a reliability diagram, pooled over all voxels of all maps that are added.

    Parameters
    ----------
    bins : the number of bins K of equal width over [0, 1].
    """

    def __init__(self, bins: int = 10) -> None:
        self.bins = bins
        self.edges = np.linspace(0.0, 1.0, bins + 1)
        # one more than `bins`: the last holds the voxels whose confidence is exactly 1
        self._count = np.zeros(bins + 1, dtype=np.int64)
        self._confidence = np.zeros(bins + 1)
        self._correct = np.zeros(bins + 1, dtype=np.int64)

    def add(self, probabilities: np.ndarray, reference: np.ndarray) -> None:
        """Add the voxels of one case.

        Parameters
        ----------
        probabilities : ``(K, ...)`` in [0, 1], foreground classes only.
        reference : ``(...)`` integers, 0 = background, k = k-th class.

        Raises
        ------
        ValueError : the shapes do not fit, or a probability is outside [0, 1] or not finite.
        """
        if probabilities.shape[1:] != reference.shape:
            raise ValueError(f"shapes do not fit: probabilities {probabilities.shape}, reference {reference.shape}")
        if probabilities.size and not (probabilities.min() >= 0 and probabilities.max() <= 1):
            raise ValueError("probabilities must lie in [0, 1]")
        # where every class is exactly 0 the background is certain: most voxels of most maps
        flat, labels = probabilities.reshape(len(probabilities), -1), reference.ravel()
        at = np.flatnonzero(flat.any(axis=0))
        sure = labels.size - len(at)
        right = labels.size - int(np.count_nonzero(labels))
        if sure:
            flat, labels = flat.take(at, axis=1), labels[at]
        p = with_background(flat)
        confidence, correct = p.max(axis=0), p.argmax(axis=0) == labels
        bin_ = np.searchsorted(self.edges, confidence, side="right") - 1
        self._count += np.bincount(bin_, minlength=self.bins + 1)
        self._confidence += np.bincount(bin_, weights=confidence, minlength=self.bins + 1)
        self._correct += np.bincount(bin_[correct], minlength=self.bins + 1)
        self._count[-1] += sure
        self._confidence[-1] += sure
        self._correct[-1] += right - int(np.count_nonzero(labels == 0)) if sure else 0

    @property
    def voxels(self) -> int:
        """All voxels that were added."""
        return int(self._count.sum())

    @property
    def certain(self) -> int:
        """Voxels whose confidence is exactly 1, which the published convention drops."""
        return int(self._count[-1])

    def table(self, *, closed: bool = False) -> ReliabilityTable:
        """The diagram, with a right-open (published) or closed last bin."""
        sums = []
        for total in (self._count, self._confidence, self._correct):
            kept = total[:-1].copy()
            if closed:
                kept[-1] += total[-1]
            sums.append(kept)
        count, confidence, correct = sums
        filled = count > 0
        mean = [np.divide(s, count, out=np.full(self.bins, np.nan), where=filled) for s in (confidence, correct)]
        return ReliabilityTable(count, *mean)

    def expected_calibration_error(self, *, closed: bool = False) -> Measurement:
        """ECE of Eq. 5.5, a fraction in [0, 1]: the mean over bins of abs(accuracy - confidence), weighted by voxels.

        The shares are of the voxels that are in some bin. Undefined (NaN) when no voxel is.
        """
        count, confidence, accuracy = self.table(closed=closed)
        filled = count > 0
        if not filled.any():
            return undefined(ALL_CERTAIN if self.voxels else NO_VOXEL)
        gap = np.abs(accuracy[filled] - confidence[filled])
        return Measurement(float(np.average(gap, weights=count[filled])))
