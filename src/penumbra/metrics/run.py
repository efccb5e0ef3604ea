"""What is measured over a whole run: the metrics that are pooled over the voxels of all its test cases."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from penumbra.metrics.binarisation import most_probable_class
from penumbra.metrics.calibration import Reliability
from penumbra.metrics.case import CaseMaps
from penumbra.metrics.measurement import EMPTY_BIN, NO_DICE, NOT_FINITE, Measured, Measurement, undefined
from penumbra.metrics.nonzero import BINS as NONZERO_BINS
from penumbra.metrics.nonzero import nonzero_histogram
from penumbra.metrics.truth import TruthCurves

RELIABILITY_BINS = 10


class Pool:
    """Streaming accumulator of a run's pooled metrics.

    Parameters
    ----------
    classes : number K of classes.
    """

    def __init__(self, classes: int) -> None:
        self.reliability = Reliability(RELIABILITY_BINS)
        self.nonzero = np.zeros((classes, NONZERO_BINS), dtype=np.int64)
        self.truth = TruthCurves(classes)
        self.not_finite = 0

    def add(self, maps: CaseMaps) -> None:
        """Add one case; when its prediction is not finite, all that is pooled becomes undefined."""
        self.truth.add(maps.probabilities, maps.fraction, maps.rater_probability)
        if not maps.finite:
            self.not_finite += 1
            return
        self.reliability.add(maps.probabilities, most_probable_class(maps.hard))
        for total, probability in zip(self.nonzero, maps.probabilities, strict=True):
            total += nonzero_histogram(probability)

    def rows(self) -> Iterator[Measured]:
        """Calibration in both conventions, the histogram of the values above 0, and curves against known truth."""
        yield from self._calibration()
        for k, counts in enumerate(self.nonzero.tolist()):
            for bin_, n in enumerate(counts):
                yield Measured(k, "nonzero_count", bin_, self._checked(Measurement(float(n))), n)
        for row in self.truth.rows():
            yield Measured(*row)

    def _checked(self, measurement: Measurement) -> Measurement:
        return undefined(f"{NOT_FINITE} in {self.not_finite} cases") if self.not_finite else measurement

    def _calibration(self) -> Iterator[Measured]:
        reliability = self.reliability
        for suffix, closed in (("", False), ("_closed", True)):
            voxels, confidence, accuracy = reliability.table(closed=closed)
            error = reliability.expected_calibration_error(closed=closed)
            yield Measured(None, f"ece{suffix}", None, self._checked(error), int(voxels.sum()))
            for k, n in enumerate(voxels.tolist()):
                yield Measured(None, f"reliability_count{suffix}", k, self._checked(Measurement(float(n))), n)
                for name, value in (("confidence", confidence[k]), ("accuracy", accuracy[k])):
                    mean = Measurement(float(value)) if n else undefined(EMPTY_BIN)
                    yield Measured(None, f"reliability_{name}{suffix}", k, self._checked(mean), n)
        share = Measurement(reliability.certain / reliability.voxels if reliability.voxels else 0.0)
        yield Measured(None, "ece_dropped", None, self._checked(share), reliability.voxels)


def measure_threshold_curve(curve: np.ndarray, cases: int) -> Iterator[Measured]:
    """The mean Dice of each class at every threshold tried, and how far the highest lies above the lowest.

    Parameters
    ----------
    curve : ``(K, T)`` in [0, 1], thresholds rising; NaN where undefined.
    cases : number of cases that the thresholds were tried on, written as ``n``.
    """
    for k, scores in enumerate(curve):
        defined = np.isfinite(scores)
        for bin_, score in enumerate(scores.tolist()):
            value = Measurement(score) if defined[bin_] else undefined(NO_DICE)
            yield Measured(k, "threshold_dice", bin_, value, cases)
        span = Measurement(float(np.ptp(scores[defined]))) if defined.any() else undefined(NO_DICE)
        yield Measured(k, "threshold_dice_range", None, span, cases)
