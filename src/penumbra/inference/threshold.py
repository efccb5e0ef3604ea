"""The binarisation threshold of a run: the one with the best mean Dice over training and validation cases.

As the released ivadomed does (testing.py): thresholds ``arange(0, 1, step)[1:]``, a voxel is foreground when its
probability is ``>=`` the threshold, Dice is computed in each case and averaged over cases that have any foreground in
label or prediction, and of several best thresholds the largest is taken. All thresholds are scored from one histogram
of each case.
"""

from __future__ import annotations

import warnings

import numpy as np

from penumbra.metrics.binarisation import most_probable_class


def thresholds(step: float) -> np.ndarray:
    """``arange(0, 1, step)[1:]``, rounded to ten decimals, so that 0.15 is 0.15."""
    return np.round(np.arange(0, 1, step)[1:], 10)


def dice_at_thresholds(probabilities: np.ndarray, label: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Dice of ``probabilities >= level`` against a binary label, for every level, from one pass.

    Parameters
    ----------
    probabilities : any shape, in [0, 1]. label : same shape, boolean. levels : (T,) ascending.

    Returns
    -------
    (T,) float64 in [0, 1]; NaN where neither label nor prediction has a foreground voxel.
    """
    count = len(levels)
    # Nearly all probabilities are exactly 0, so only the others are sorted into bins.
    positive = np.flatnonzero(probabilities)
    reached = np.searchsorted(levels, probabilities.ravel()[positive].astype(np.float64), side="right")
    inside = label.ravel()[positive].astype(np.int64)
    bins = np.bincount(reached + (count + 1) * inside, minlength=2 * (count + 1)).reshape(2, count + 1)
    # Voxels that reach level k or a higher one: sums from the right, without bin 0, which reaches none.
    above = bins[:, :0:-1].cumsum(axis=1)[:, ::-1]
    total = above.sum(axis=0) + np.count_nonzero(label)
    return np.divide(2.0 * above[1], total, out=np.full(count, np.nan), where=total > 0)


def argmax_classes(probabilities: np.ndarray) -> np.ndarray:
    """Binary class maps (K, ...) of foreground probabilities (K, ...), see :func:`most_probable_class`."""
    classes = np.arange(1, len(probabilities) + 1).reshape(-1, *[1] * (probabilities.ndim - 1))
    return most_probable_class(probabilities)[None] == classes


def dice(prediction: np.ndarray, label: np.ndarray) -> float:
    """Dice of two boolean arrays; NaN when both are empty."""
    total = np.count_nonzero(prediction) + np.count_nonzero(label)
    return 2.0 * np.count_nonzero(prediction & label) / total if total else float("nan")


def mean_over_cases(scores: np.ndarray) -> np.ndarray:
    """Mean over axis 0, leaving out NaN; NaN where there is nothing else."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmean(np.asarray(scores, np.float64), axis=0)


def best_threshold(scores: np.ndarray, levels: np.ndarray) -> tuple[float, float]:
    """The largest of the levels (T,) whose mean score over cases (cases, T) is highest, and that score.

    (0.5, NaN) when no score is defined: there is nothing to choose by.
    """
    means = mean_over_cases(scores)
    if np.isnan(means).all():
        return 0.5, float("nan")
    best = np.nanmax(means)
    return float(levels[np.flatnonzero(means == best)[-1]]), float(best)
