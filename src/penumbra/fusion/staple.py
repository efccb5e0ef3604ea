"""STAPLE: raters weighted by their estimated sensitivity and specificity (Warfield et al. 2004).

Expectation-maximisation over one unknown binary segmentation T and raters' decisions D_r, conditionally independent
given T:

* E step: ``W(v) = g a(v) / (g a(v) + (1 - g) b(v))``, with ``a = prod_r p_r^D_r (1 - p_r)^(1 - D_r)`` and
  ``b = prod_r (1 - q_r)^D_r q_r^(1 - D_r)``;
* M step: ``p_r = sum_v W D_r / sum_v W`` (sensitivity), ``q_r = sum_v (1 - W)(1 - D_r) / sum_v (1 - W)``
  (specificity).

As in ITK: g is the foreground fraction over all raters and voxels, W starts as the fraction of raters (so the
nominal 0.99999 of ITK's parameters is overwritten by the first M step), and iteration stops once every p and q
moved by at most 1e-7. Voxels where the raters decided alike share one W, so the iteration runs over the patterns of
decisions that occur (at most 2^R) and not over voxels.

Where ITK gives NaN: all raters empty yields 0 everywhere, all full yields 1 everywhere, and the undefined rate
stays NaN. One rater yields that rater. A rater who annotated nothing among others who did is kept, with the
sensitivity 0 that EM finds.

Several classes: one STAPLE a class against the rest. Binary output: foreground at ``W >= 0.5`` (W rounded to 6
decimals, so that ties do not hang on rounding), the class with the largest W, ties to the lower class. Soft output
(``binarise: false``): W itself, divided by its sum over classes where that exceeds 1.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from penumbra.fusion._votes import check, class_maps

_CODED_RATERS = 16
_DECIMALS = 6
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Estimate:
    """``probability`` (...) float64 in [0, 1], ``sensitivity`` and ``specificity`` (R,), and the iterations used."""

    probability: np.ndarray
    sensitivity: np.ndarray
    specificity: np.ndarray
    iterations: int


@dataclass(frozen=True)
class _Patterns:
    """The decisions ``columns`` (R, P) that occur, how often each does, ``occurrences`` (P,), and where.

    Voxels whose place is not in ``at`` have the first pattern; the others have ``pattern``, one entry a place.
    """

    columns: np.ndarray
    occurrences: np.ndarray
    at: np.ndarray
    pattern: np.ndarray
    voxels: int

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Give every voxel its pattern's value: ``(P,)`` to ``(N,)``."""
        everywhere = np.full(self.voxels, values[0])
        everywhere[self.at] = values[self.pattern]
        return everywhere


def _patterns(decisions: np.ndarray) -> _Patterns:
    """What raters decided together, boolean ``(R, N)``; quick where most voxels are marked by none."""
    count, voxels = decisions.shape
    if count > _CODED_RATERS:
        columns, index, occurrences = np.unique(decisions, axis=1, return_inverse=True, return_counts=True)
        return _Patterns(columns, occurrences, np.arange(voxels), index.ravel(), voxels)
    marks = decisions.view(np.uint8)
    codes: np.ndarray = np.zeros(voxels, dtype=np.uint8 if count <= 8 else np.uint16)
    for rater in range(count):
        codes |= np.left_shift(marks[rater], rater, dtype=codes.dtype)
    at = np.flatnonzero(codes != 0)
    marked = codes[at]
    histogram = np.bincount(marked, minlength=1)
    histogram[0] = voxels - len(at)
    present = np.flatnonzero(histogram)
    position = np.zeros(histogram.size, dtype=np.intp)
    position[present] = np.arange(present.size)
    columns = (present[None, :] >> np.arange(count)[:, None]) & 1 == 1
    return _Patterns(columns, histogram[present], at, position[marked], voxels)


def staple(decisions: np.ndarray, *, maximum_iterations: int = 100_000) -> Estimate:
    """Estimate one binary segmentation from R raters.

    Parameters
    ----------
    decisions : ``(R, ...)``, boolean or 0/1.
    maximum_iterations : where to give up; a warning is logged.

    Returns
    -------
    An :class:`Estimate`; its ``sensitivity`` is NaN when no rater marked anything, its ``specificity`` when all
    marked all.

    Raises
    ------
    ValueError : there is no rater or no voxel.
    """
    decisions = np.asarray(decisions)
    if decisions.ndim < 2 or decisions.size == 0:
        raise ValueError(f"decisions must be (R, ...) with at least one rater and voxel, got shape {decisions.shape}")
    raters, shape = decisions.shape[0], decisions.shape[1:]
    if decisions.dtype != bool:
        decisions = decisions != 0
    patterns = _patterns(np.ascontiguousarray(decisions).reshape(raters, -1))
    columns, occurrences = patterns.columns, patterns.occurrences

    # The last row sums everything, in the same order as the raters' rows, so that no rate exceeds 1 by rounding.
    everyone = np.ones_like(columns[:1])
    marked, unmarked = np.concatenate([columns, everyone]), np.concatenate([~columns, everyone])
    weight = columns.mean(axis=0)
    number = float(occurrences.sum())
    prior = float(occurrences @ weight) / number
    if prior in (0.0, 1.0):
        nothing, all_right = np.full(raters, np.nan), np.ones(raters)
        sensitivity, specificity = (nothing, all_right) if prior == 0.0 else (all_right, nothing)
        return Estimate(np.full(shape, prior), sensitivity, specificity, 0)

    sensitivity = specificity = np.full(raters, np.inf)
    iterations = 0
    while iterations < maximum_iterations:
        iterations += 1
        foreground = (marked * (occurrences * weight)).sum(axis=1)
        background = (unmarked * (occurrences * (1.0 - weight))).sum(axis=1)
        if foreground[-1] == 0.0 or background[-1] == 0.0:
            break
        previous_sensitivity, previous_specificity = sensitivity, specificity
        sensitivity, specificity = foreground[:-1] / foreground[-1], background[:-1] / background[-1]
        likely = prior * np.where(columns, sensitivity[:, None], 1.0 - sensitivity[:, None]).prod(axis=0)
        unlikely = (1.0 - prior) * np.where(columns, 1.0 - specificity[:, None], specificity[:, None]).prod(axis=0)
        evidence = likely + unlikely
        weight = np.divide(likely, evidence, out=weight, where=evidence > 0.0)
        moved = max(np.abs(sensitivity - previous_sensitivity).max(), np.abs(specificity - previous_specificity).max())
        if moved * moved <= 1e-14:
            break
    else:
        _log.warning("STAPLE did not settle within %d iterations", maximum_iterations)
    return Estimate(patterns.spread(weight).reshape(shape), sensitivity, specificity, iterations)


def build(
    *, binarise: bool = True, maximum_iterations: Annotated[int, Field(ge=1)] = 1000000
) -> Callable[[np.ndarray, int], np.ndarray]:
    """Make ``fuse(raters (R, X, Y, Z), classes K) -> (1, K, X, Y, Z)`` float32 in [0, 1].

    Parameters
    ----------
    binarise : 0/1 labels with exclusive classes; false keeps the probability ("soft STAPLE").
    maximum_iterations : where EM gives up.
    """

    def fuse(raters: np.ndarray, classes: int) -> np.ndarray:
        check(raters, classes)
        probability = np.stack(
            [staple(raters == k, maximum_iterations=maximum_iterations).probability for k in range(1, classes + 1)]
        )
        if not binarise:
            return (probability / np.maximum(probability.sum(axis=0), 1.0)).astype(np.float32)[None]
        decided = np.round(probability, _DECIMALS)
        return class_maps(np.where(decided.max(axis=0) >= 0.5, decided.argmax(axis=0) + 1, 0), classes)[None]

    return fuse
