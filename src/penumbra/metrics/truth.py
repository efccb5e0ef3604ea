"""Predictions against a truth that only a phantom has: the fraction of a voxel that a class truly takes, and the
probability that a rater picked at random gives the voxel that class (docs/known-truth.md).

For one class, ``p`` is the prediction, ``f`` the true fraction and ``q`` the true rater probability, all in [0, 1].
Which voxels count never depends on the prediction: a mean over the voxels that are predicted or true would grow smaller
with every small value that a candidate strews about. Errors are means over the *mixed* voxels, where the truth is not
within :data:`NEGLIGIBLE` of 0 or 1 (Gaussian tails of a truth have no end), or sums over all voxels in relation to the
true volume. A prediction is 0 where ``evaluation.discard_below`` has made it 0.

Everything is computed in float64. Which bin a value is in is decided in float32, in which the maps are stored: there,
0.2 is in (0.1, 0.2].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from penumbra.metrics.measurement import (
    BOTH_EMPTY,
    EMPTY_BIN,
    NO_THRESHOLD,
    NO_VOXEL,
    NOT_FINITE,
    REFERENCE_EMPTY,
    Measurement,
    undefined,
)

NEGLIGIBLE = 1e-3
BINS = 10
FRACTION_BINS = BINS + 2
"""Bins of the true fraction: 0, (0, 0.1], ..., (0.8, 0.9], (0.9, 1), 1; NEGLIGIBLE away from 0 or 1 counts as such."""


def mixed(truth: np.ndarray) -> np.ndarray:
    """Where a class truly takes a part of the voxel, or raters may differ: booleans of the map's shape."""
    return (truth >= NEGLIGIBLE) & (truth <= 1.0 - NEGLIGIBLE)


def error_where_mixed(prediction: np.ndarray, truth: np.ndarray) -> Measurement:
    """Mean of abs(prediction - truth) over the :func:`mixed` voxels, in [0, 1]; undefined (NaN) where there is none."""
    where = mixed(truth)
    if not where.any():
        return undefined(NO_VOXEL)
    return Measurement(float(np.abs(_difference(prediction, truth)[where]).mean()))


def squared_error(prediction: np.ndarray, truth: np.ndarray) -> Measurement:
    """Mean of (prediction - truth)^2 over all voxels, in [0, 1]."""
    return Measurement(float(np.square(_difference(prediction, truth)).mean()))


def volume_error(prediction: np.ndarray, truth: np.ndarray) -> Measurement:
    """(sum of the prediction - sum of the true fraction) / sum of the true fraction, in [-1, inf): positive when the
    volume is overestimated. ``prediction`` may be boolean. Undefined (NaN) where the true volume is 0."""
    return _relative(_difference(prediction, truth).sum(), prediction, truth)


def misplaced_volume(prediction: np.ndarray, truth: np.ndarray) -> Measurement:
    """Sum of abs(prediction - true fraction) / sum of the true fraction, in [0, inf): what is too much in some voxels
    and too little in others, over the true volume. At least abs(:func:`volume_error`), where these cancel out.
    Undefined (NaN) where the true volume is 0."""
    return _relative(np.abs(_difference(prediction, truth)).sum(), prediction, truth)


def _difference(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.asarray(prediction, dtype=np.float64) - np.asarray(truth, dtype=np.float64)


def _relative(amount: float, prediction: np.ndarray, truth: np.ndarray) -> Measurement:
    volume = float(np.sum(truth, dtype=np.float64))
    if volume == 0:
        return undefined(REFERENCE_EMPTY if prediction.any() else BOTH_EMPTY)
    return Measurement(float(amount) / volume)


FRACTION: dict[str, Callable[[np.ndarray, np.ndarray], Measurement]] = {
    "truth_error": error_where_mixed,
    "truth_squared_error": squared_error,
    "volume_misplaced": misplaced_volume,
    "volume_error_soft": volume_error,
}


def measure_case(
    probabilities: np.ndarray,
    binary: np.ndarray,
    fraction: np.ndarray | None,
    rater_probability: np.ndarray | None,
    *,
    binarised: np.ndarray | None = None,
) -> Iterator[tuple[int, str, Measurement]]:
    """Every metric against known truth of one case, as (class index, metric, measurement).

    Parameters
    ----------
    probabilities : ``(K, X, Y, Z)`` in [0, 1]; where a value is not finite all metrics of the case are undefined.
    binary : ``(K, X, Y, Z)`` booleans, the binarised prediction.
    fraction, rater_probability : ``(K, X, Y, Z)`` in [0, 1], or None where it is not known; then its metrics are not
        given at all.
    binarised : ``(K,)`` booleans, which classes could be binarised; None for all.

    Raises
    ------
    ValueError : shapes differ.
    """
    _same_shape(probabilities, binary, fraction, rater_probability)
    finite = bool(np.isfinite(probabilities).all())
    for k, p in enumerate(probabilities):
        if fraction is not None:
            for name, metric in FRACTION.items():
                yield k, name, metric(p, fraction[k]) if finite else undefined(NOT_FINITE)
            if finite and binarised is not None and not binarised[k]:
                yield k, "volume_error_binary", undefined(NO_THRESHOLD)
            else:
                hard = volume_error(binary[k], fraction[k]) if finite else undefined(NOT_FINITE)
                yield k, "volume_error_binary", hard
        if rater_probability is not None:
            error = error_where_mixed(p, rater_probability[k]) if finite else undefined(NOT_FINITE)
            yield k, "rater_probability_error", error


class _Bins:
    """Sums of several quantities by class and bin, over all voxels that are added."""

    def __init__(self, classes: int, bins: int, quantities: int) -> None:
        self.count = np.zeros((classes, bins), dtype=np.int64)
        self.sums = np.zeros((quantities, classes, bins))

    def add(self, k: int, bins: np.ndarray, *values: np.ndarray) -> None:
        width = self.count.shape[1]
        self.count[k] += np.bincount(bins, minlength=width)
        for total, value in zip(self.sums, values, strict=True):
            total[k] += np.bincount(bins, weights=value, minlength=width)

    def mean(self, quantity: int, k: int, bin_: int) -> Measurement:
        n = int(self.count[k, bin_])
        return Measurement(float(self.sums[quantity, k, bin_]) / n) if n else undefined(EMPTY_BIN)


def fraction_bins(fraction: np.ndarray) -> np.ndarray:
    """Which of :data:`FRACTION_BINS` each value in [0, 1] is in, from 0."""
    f = np.asarray(fraction, dtype=np.float32)
    inner = np.clip(np.searchsorted(_EDGES, f, side="left"), 1, BINS)
    return np.where(f < NEGLIGIBLE, 0, np.where(f > np.float32(1.0 - NEGLIGIBLE), BINS + 1, inner))


def prediction_bins(prediction: np.ndarray) -> np.ndarray:
    """Which of ten bins [0, 0.1), ..., [0.9, 1] each value in [0, 1] is in, from 0."""
    p = np.asarray(prediction, dtype=np.float32)
    return np.minimum(np.searchsorted(_EDGES, p, side="right") - 1, BINS - 1)


_EDGES = np.linspace(0.0, 1.0, BINS + 1).astype(np.float32)


class TruthCurves:
    """Streaming accumulator of curves against known truth, pooled over the voxels of all cases of a run.

    **Against the true fraction**: mean prediction and mean fraction by :func:`fraction_bins` of the fraction, over
    *all* voxels; a faithful prediction lies on the diagonal.

    **Against the true rater probability**: mean prediction and mean true probability by :func:`prediction_bins` of the
    prediction, over all voxels too. The rater calibration error is the sum over bins of abs(sum of the prediction - sum
    of the true probability), over the sum of the true probability, in [0, inf): the gaps of the curve, weighted by
    voxels, in relation to the volume that raters mark on average.

    Parameters
    ----------
    classes : number K of classes.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self._truth: _Bins | None = None
        self._raters: _Bins | None = None
        self._not_finite = 0

    def add(self, probabilities: np.ndarray, fraction: np.ndarray | None, rater_probability: np.ndarray | None) -> None:
        """Add the voxels of one case: maps ``(K, ...)`` in [0, 1], or None for a truth that is not known.

        Where a probability is not finite, all rows of the run become undefined.

        Raises
        ------
        ValueError : shapes differ, or there are not K classes.
        """
        _same_shape(probabilities, fraction, rater_probability)
        if len(probabilities) != self.classes:
            raise ValueError(f"there are {self.classes} classes, got {len(probabilities)} maps")
        finite = bool(np.isfinite(probabilities).all())
        self._not_finite += not finite and not (fraction is None and rater_probability is None)
        if fraction is not None:
            self._truth = self._truth or _Bins(self.classes, FRACTION_BINS, 2)
            for k in range(self.classes) if finite else ():
                p, f = _flat(probabilities[k]), _flat(fraction[k])
                self._truth.add(k, fraction_bins(f), p, f)
        if rater_probability is not None:
            self._raters = self._raters or _Bins(self.classes, BINS, 2)
            for k in range(self.classes) if finite else ():
                p, q = _flat(probabilities[k]), _flat(rater_probability[k])
                self._raters.add(k, prediction_bins(p), p, q)

    def rows(self) -> Iterator[tuple[int, str, int | None, Measurement, int]]:
        """The curves as (class index, metric, bin or None, measurement, number of voxels); none without known truth."""
        for k in range(self.classes):
            if self._truth is not None:
                yield from self._curve(k, "truth_curve", self._truth, ("prediction", "fraction"))
            if self._raters is not None:
                yield from self._curve(k, "rater_curve", self._raters, ("prediction", "probability"))
                error, n = self._calibration_error(k, self._raters)
                yield k, "rater_calibration_error", None, self._checked(error), n

    def _curve(
        self, k: int, name: str, bins: _Bins, quantities: tuple[str, ...]
    ) -> Iterator[tuple[int, str, int | None, Measurement, int]]:
        for b, n in enumerate(bins.count[k].tolist()):
            yield k, f"{name}_count", b, self._checked(Measurement(float(n))), n
            for i, quantity in enumerate(quantities):
                yield k, f"{name}_{quantity}", b, self._checked(bins.mean(i, k, b)), n

    def _checked(self, measurement: Measurement) -> Measurement:
        return undefined(f"{NOT_FINITE} in {self._not_finite} cases") if self._not_finite else measurement

    @staticmethod
    def _calibration_error(k: int, bins: _Bins) -> tuple[Measurement, int]:
        n, volume = int(bins.count[k].sum()), float(bins.sums[1, k].sum())
        gaps = np.abs(bins.sums[0, k] - bins.sums[1, k]).sum()
        return (Measurement(float(gaps) / volume) if volume else undefined(REFERENCE_EMPTY)), n


def _flat(array: np.ndarray) -> np.ndarray:
    return np.asarray(array, dtype=np.float64).ravel()


def _same_shape(first: np.ndarray, *others: np.ndarray | None) -> None:
    shapes = [o.shape for o in others if o is not None and o.shape != first.shape]
    if shapes:
        raise ValueError(f"shapes differ: prediction {first.shape}, {', '.join(map(str, shapes))}")
