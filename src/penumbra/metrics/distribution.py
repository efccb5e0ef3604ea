"""How well a set of sampled segmentations stands for a set of readers (Monteiro et al. 2020, sections 4 and A.2).

Everything here follows from how many voxels each pair of label maps has in common, class by class. Those counts are
entries of one matrix product ``M @ M.T``, M being the one-hot maps ``(maps, voxels)`` of a class over the voxels where
any map is foreground. :func:`pair_counts` takes the product in blocks of voxels, in float32, whose whole numbers are
exact up to 2^24, and adds blocks up in int64: counts are exact, and no array of pairs by voxels is ever made.

Conventions, each default being what the released code of the paper does:

``absent``
    a class that neither map of a pair has counts with an overlap of 1 (``"one"``), class by class; ``"skip"`` leaves it
    out of the mean over classes, and a pair without any class out of every mean over pairs.
``identical``
    whether a sample is paired with itself. ``True`` is the plain mean over the full matrix of pairs, so that the
    diversity of N different samples cannot exceed (N - 1) / N; ``False`` leaves the diagonal out.
``overlap``
    ``"iou"``, or ``"dice"``. Means are taken over foreground classes, never over the background.

Values under different conventions cannot be compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import linear_sum_assignment

Absent = Literal["one", "skip"]
Overlap = Literal["iou", "dice"]

_BLOCK = 1 << 16  # voxels a matrix product: memory stays small, and float32 counts far below 2^24


@dataclass(frozen=True)
class PairCounts:
    """``both`` (K, N, N) int64: voxels of class k that maps i and j share; the diagonal is each map's own size."""

    both: np.ndarray

    def sizes(self) -> np.ndarray:
        """Voxels of each class in each map, ``(K, N)`` int64."""
        return np.diagonal(self.both, axis1=1, axis2=2)

    def overlaps(self, overlap: Overlap = "iou", absent: Absent = "one") -> np.ndarray:
        """Overlap of every pair, the mean over foreground classes: ``(N, N)`` float64 in [0, 1].

        NaN where ``absent`` is ``"skip"`` and neither map has any foreground.
        """
        return class_mean(self.class_overlaps(overlap), absent)

    def class_overlaps(self, overlap: Overlap = "iou") -> np.ndarray:
        """Overlap of every pair and class, ``(K, N, N)`` float64 in [0, 1]; NaN where neither map has the class."""
        sizes = self.sizes()
        total = sizes[:, :, None] + sizes[:, None, :]
        above, below = (self.both, total - self.both) if overlap == "iou" else (2 * self.both, total)
        return np.divide(above, below, out=np.full(total.shape, np.nan), where=total > 0)


def class_mean(overlaps: np.ndarray, absent: Absent) -> np.ndarray:
    """Mean of overlaps ``(K, ...)`` over classes; NaN, a class that neither map has, counts as ``absent`` says."""
    missing = np.isnan(overlaps)
    if absent == "one":
        return np.where(missing, 1.0, overlaps).mean(axis=0)
    present = (~missing).sum(axis=0)
    total = np.where(missing, 0.0, overlaps).sum(axis=0)
    return np.divide(total, present, out=np.full(total.shape, np.nan), where=present > 0)


def pair_counts(*groups: np.ndarray, classes: int) -> PairCounts:
    """Count the voxels that every two label maps have in common.

    Parameters
    ----------
    groups : label maps ``(N_g, ...)`` of one grid, boolean or integers 0 (background) .. K; put behind one another,
        ``N = sum N_g``.
    classes : number of foreground classes K.

    Raises
    ------
    ValueError : grids differ, there is no map or class, or a label is outside 0..K.
    TypeError : labels are not boolean or integers.
    """
    flat = [_flat(maps, classes) for maps in groups]
    if not flat or not sum(len(maps) for maps in flat):
        raise ValueError("there must be at least one label map")
    if len({maps.shape[1:] for maps in groups}) > 1:
        raise ValueError(f"grids differ: {', '.join(str(maps.shape[1:]) for maps in groups)}")
    count, voxels = sum(len(maps) for maps in flat), flat[0].shape[1]
    both = np.zeros((classes, count, count), dtype=np.int64)
    hot = np.empty((count, min(_BLOCK, voxels)), dtype=np.float32)
    for start in range(0, voxels, _BLOCK):
        parts = [maps[:, start : start + _BLOCK] for maps in flat]
        foreground = np.zeros(parts[0].shape[1], dtype=bool)
        for part in parts:
            foreground |= np.bitwise_or.reduce(part, axis=0).astype(bool)
        at = np.flatnonzero(foreground)
        if not len(at):
            continue
        block = np.concatenate([part.take(at, axis=1) for part in parts])
        one_hot = hot[:, : len(at)] if len(at) == hot.shape[1] else np.empty(block.shape, dtype=np.float32)
        for k in range(classes):
            np.equal(block, k + 1, out=one_hot, casting="unsafe")
            both[k] += np.matmul(one_hot, one_hot.T).astype(np.int64)
    return PairCounts(both)


def _flat(maps: np.ndarray, classes: int) -> np.ndarray:
    maps = np.asarray(maps)
    if maps.ndim < 2:
        raise ValueError(f"label maps must be (N, ...), got shape {maps.shape}")
    if classes < 1:
        raise ValueError(f"there must be at least one foreground class, got {classes}")
    if maps.dtype == bool:
        maps = maps.view(np.uint8)
    if not np.issubdtype(maps.dtype, np.integer):
        raise TypeError(f"labels are boolean or integers, got {maps.dtype}")
    if maps.size and (maps.max() > classes or (np.issubdtype(maps.dtype, np.signedinteger) and maps.min() < 0)):
        raise ValueError(f"labels must lie in 0..{classes}, got {maps.min()}..{maps.max()}")
    return maps.reshape(len(maps), math.prod(maps.shape[1:]))


@dataclass(frozen=True)
class Agreement:
    """Samples against readers of one case.

    Attributes
    ----------
    ged : squared generalised energy distance ``2 E[d(s, r)] - E[d(s, s')] - E[d(r, r')]``, d = 1 - overlap.
    cross, diversity, reader_diversity : its three means, E[d(s, r)], E[d(s, s')] (the sample diversity) and
        E[d(r, r')], in [0, 1].
    """

    ged: float
    cross: float
    diversity: float
    reader_diversity: float


class Comparison:
    """All pairs of samples and readers of one case, counted once; each measure then costs next to nothing.

    Parameters
    ----------
    samples : label maps ``(N, ...)`` drawn from a model, N >= 1.
    readers : label maps ``(R, ...)`` of the same grid, R >= 1.
    classes : number of foreground classes K.

    Raises
    ------
    ValueError, TypeError : as :func:`pair_counts`, or there is no sample or no reader.
    """

    def __init__(self, samples: np.ndarray, readers: np.ndarray, classes: int) -> None:
        if len(samples) < 1 or len(readers) < 1:
            raise ValueError(f"there must be a sample and a reader, got {len(samples)} and {len(readers)}")
        self.samples, self.readers = len(samples), len(readers)
        self.counts = pair_counts(samples, readers, classes=classes)

    def agreement(self, *, overlap: Overlap = "iou", absent: Absent = "one", identical: bool = True) -> Agreement:
        """Generalised energy distance and diversities; NaN where a mean has no pair left."""
        distance, n = 1.0 - self.counts.overlaps(overlap, absent), self.samples
        cross = _mean(distance[:n, n:])
        within = [_within(distance[:n, :n], identical), _within(distance[n:, n:], identical)]
        return Agreement(2.0 * cross - within[0] - within[1], cross, within[0], within[1])

    def matched_iou(self, *, absent: Absent = "one") -> float:
        """Hungarian-matched IoU in [0, 1] (Kohl et al. 2019): the largest mean IoU of a one-to-one matching.

        Samples and readers are each repeated to the least common multiple of their numbers, so that every sample and
        every reader has the same weight. A pair without a class (``absent="skip"``) takes no part in the mean.
        """
        overlaps = self.counts.overlaps("iou", absent)[: self.samples, self.samples :]
        total = math.lcm(self.samples, self.readers)
        square = overlaps.repeat(total // self.samples, axis=0).repeat(total // self.readers, axis=1)
        rows, columns = linear_sum_assignment(np.where(np.isnan(square), 0.0, square), maximize=True)
        return _mean(square[rows, columns])

    def maximum_dice(self, *, absent: Absent = "one") -> float:
        """Maximum Dice matching in [0, 1] (Rahman et al. 2023): each reader's best sample, the mean over readers.

        NaN where no reader has a pair that is defined.
        """
        dice = self.counts.overlaps("dice", absent)[: self.samples, self.samples :]
        return _mean(np.where(np.isnan(dice), -1.0, dice).max(axis=0), lowest=0.0)

    def sample_dice(self) -> np.ndarray:
        """Dice of each sample with each reader and class, ``(K, N, R)`` float64; NaN where both are empty."""
        return self.counts.class_overlaps("dice")[:, : self.samples, self.samples :]


def _within(distance: np.ndarray, identical: bool) -> float:
    return _mean(distance if identical else distance[~np.eye(len(distance), dtype=bool)])


def _mean(values: np.ndarray, lowest: float = -np.inf) -> float:
    defined = values[~np.isnan(values) & (values >= lowest)]
    return float(defined.mean()) if defined.size else float("nan")


def ged(samples: np.ndarray, readers: np.ndarray, classes: int = 1) -> float:
    """Squared generalised energy distance by the released conventions, see :class:`Agreement`."""
    return Comparison(samples, readers, classes).agreement().ged


def diversity(samples: np.ndarray, classes: int = 1, *, absent: Absent = "one", identical: bool = True) -> float:
    """Mean distance 1 - IoU of two maps of one set ``(N, ...)``: sample diversity, or the readers' own; in [0, 1]."""
    return _within(1.0 - pair_counts(samples, classes=classes).overlaps("iou", absent), identical)


def reader_dice(prediction: np.ndarray, readers: np.ndarray, classes: int = 1) -> np.ndarray:
    """Dice of one label map ``(...)`` with each reader ``(R, ...)`` and class: ``(K, R)`` float64, NaN: both empty."""
    return Comparison(prediction[None], readers, classes).sample_dice()[:, 0]


def mean_dice(prediction: np.ndarray, readers: np.ndarray, classes: int = 1, *, annotated: bool = False) -> float:
    """Mean Dice over readers and classes in [0, 1], pairs that are empty on both sides left out.

    Parameters
    ----------
    annotated : only where the reader marked something (DSC_nod); otherwise a prediction on an empty annotation is a 0.

    Returns
    -------
    NaN where no pair is left.
    """
    comparison = Comparison(prediction[None], readers, classes)
    scores = comparison.sample_dice()[:, 0]
    return _mean(np.where(comparison.counts.sizes()[:, 1:] > 0, scores, np.nan) if annotated else scores)


def marginals(samples: np.ndarray, classes: int) -> np.ndarray:
    """The share of samples ``(N, ...)`` that give a voxel each label 0..K: ``(K + 1, ...)`` float64, sum 1."""
    _flat(samples, classes)
    shares = np.empty((classes + 1, *samples.shape[1:]))
    for k in range(classes + 1):
        np.divide(np.count_nonzero(samples == k, axis=0), len(samples), out=shares[k])
    return shares


def marginal_entropy(probabilities: np.ndarray) -> np.ndarray:
    """Entropy of each voxel's categorical distribution divided by log C, in [0, 1] (Eq. 9 of the paper).

    Parameters
    ----------
    probabilities : ``(C, ...)`` in [0, 1], the background included, C >= 2: the mean of the draws' probabilities.

    Raises
    ------
    ValueError : there are fewer than two classes.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if len(p) < 2:
        raise ValueError(f"entropy takes background and classes, at least 2, got {len(p)}")
    terms = p * np.log(p, out=np.zeros_like(p), where=p > 0)
    return np.maximum(-terms.sum(axis=0) / np.log(len(p)), 0.0)


def mean_marginal_entropy(samples: np.ndarray, classes: int) -> float:
    """The mean over voxels of the :func:`marginal_entropy` of label maps ``(N, ...)``, in [0, 1]; NaN without a voxel.

    Voxels that all maps label alike have none, and are not worked on.
    """
    flat = _flat(samples, classes)
    if not flat.shape[1]:
        return float("nan")
    varied = flat[:, (flat != flat[0]).any(axis=0)]
    return float(marginal_entropy(marginals(varied, classes)).sum() / flat.shape[1])


@dataclass(frozen=True)
class SampleScores:
    """How the samples of one case score against one reference.

    Attributes
    ----------
    scores : ``(N,)`` Dice of each sample, the mean over classes that are not empty on both sides; NaN without any.
    better : the share of scored samples that are strictly better than the mean prediction; NaN where that, or every
        sample, has no score.
    upper : the 95 % quantile of the scores, linear between order statistics; NaN without a score.
    """

    scores: np.ndarray
    better: float
    upper: float


def sample_scores(
    samples: np.ndarray, reference: np.ndarray, mean_prediction: np.ndarray, classes: int = 1, *, quantile: float = 0.95
) -> SampleScores:
    """Distribution of the samples' Dice in one case, against that of the mean prediction.

    Parameters
    ----------
    samples : label maps ``(N, ...)``; reference, mean_prediction : label maps ``(...)`` of the same grid.
    """
    both = pair_counts(reference[None], mean_prediction[None], samples, classes=classes)
    scores = class_mean(both.class_overlaps("dice")[:, 0, 1:], "skip")
    mean, scores = scores[0], scores[1:]
    scored = scores[~np.isnan(scores)]
    if not scored.size:
        return SampleScores(scores, float("nan"), float("nan"))
    better = float("nan") if np.isnan(mean) else float((scored > mean).mean())
    return SampleScores(scores, better, float(np.quantile(scored, quantile)))
