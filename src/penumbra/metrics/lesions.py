"""Lesions found and lesions invented: lesion true positive rate and false discovery rate (thesis section 4.3.4).

A lesion is a connected component of a boolean map, of voxels that share a face or an edge (18-connectivity). Small
components are first removed from prediction *and* reference by :func:`remove_small`, a step of its own: in the released
code it comes before every metric, overlap and volume included.

Two conventions. ``released`` is what the thesis' released code does. ``text`` is the definition that the thesis' text
refers to ("as defined in [75]": Nair et al. 2020, Medical Image Analysis 59), taken from the code that its first author
released (github.com/tanyanair/segmentation_uncertainty); the wording of the article itself was not checked.

=====================  ==========================================  ===============================================
point                  ``released`` (made the published numbers)   ``text``
=====================  ==========================================  ===============================================
prediction             as it is                                    grown by one voxel to all 18 neighbours
a reference lesion     at least ``overlap`` (3) of its voxels are  so, or at least half of its voxels are
is found when          predicted
a predicted lesion     it shares fewer than ``overlap`` voxels     grown, it touches no reference lesion that is
is false when          with all reference lesions together         found
false discovery rate   without a reference lesion                  only where nothing is found and nothing false
is undefined
size of a predicted    that of the largest predicted lesion on     its own, not grown
lesion, for size bins  the same reference lesion (see below)
=====================  ==========================================  ===============================================

In both the true positive rate is found / reference lesions, undefined without a reference lesion, and the false
discovery rate is false / (found + false): lesions found are counted in the reference, false ones in the prediction.
With ``released`` a reference lesion smaller than ``overlap`` can never be found. With ``text``, predicted lesions which
grow together are one. Nair's code differs from ``text`` in three points: it numbers lesions by their faces only
(connectivity 6), takes small lesions out of the reference alone, and gives a rate of 1 (true positive) or 0 (false
discovery) where here it is undefined.

**Size bins.** Edges ``(20, 100)`` in voxels make the bins up to 20, 21 to 100, and over 100. The released code does not
put a predicted lesion into the bin of its own size: it takes, among the reference lesions that it touches, the one with
the highest label (the last to begin in the order of the array), or the background when it touches none, and looks up
the largest predicted lesion that has a voxel there. Its rate in a bin is undefined without a reference lesion in the
bin, and is not reported without a predicted lesion of that size either.

Labels of the released code are 8-bit: past 255 lesions they wrap. :func:`match_lesions` does so on request only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from penumbra.metrics.measurement import Measurement, undefined

Convention = Literal["released", "text"]
Connectivity = Literal[6, 18, 26]

NO_REFERENCE_LESION = "no reference lesion"
NO_PREDICTED_LESION = "no predicted lesion"
NO_LESION = "no lesion found, none predicted wrongly"

_RANK = {6: 1, 18: 2, 26: 3}
_GROWTH = ndimage.generate_binary_structure(3, 2)
_WRAP = 256
_SPARSE = 0.05  # share of voxels up to which a graph of them is quicker than a scan of the array


class Components(NamedTuple):
    """Connected components: ``labels`` (X, Y, Z) int32, 0 outside, 1 .. n in the order of the array; ``sizes`` (n,)."""

    labels: np.ndarray
    sizes: np.ndarray


@dataclass(frozen=True)
class LesionMatch:
    """Which lesions of reference and prediction meet: all that the rates need, one entry a lesion.

    Attributes
    ----------
    convention : the convention by which ``found`` and ``false`` were judged.
    reference_sizes, found : ``(n,)`` size in voxels of each reference lesion, and whether the prediction found it.
    predicted_sizes, false : ``(m,)`` size in voxels of each predicted lesion, and whether it is a false one.
    binned_sizes : ``(m,)`` the size by which each predicted lesion goes into a size bin.
    """

    convention: Convention
    reference_sizes: np.ndarray
    found: np.ndarray
    predicted_sizes: np.ndarray
    false: np.ndarray
    binned_sizes: np.ndarray


class LesionRates(NamedTuple):
    """Rates of one case, or of one size bin of it.

    ``ltpr``, ``lfdr`` in [0, 1]; ``reference``, ``found``, ``predicted``, ``false`` are numbers of lesions (in a bin:
    those that fall into it). ``low``, ``high`` : sizes in voxels that the bin holds, both included.
    """

    ltpr: Measurement
    lfdr: Measurement
    reference: int
    found: int
    predicted: int
    false: int
    low: int = 1
    high: float = np.inf


def components(mask: np.ndarray, connectivity: Connectivity = 18) -> Components:
    """The connected components of a boolean map ``(X, Y, Z)``.

    Parameters
    ----------
    connectivity : how many neighbours a voxel has: 6 (faces), 18 (and edges) or 26 (and corners).
    """
    _boolean(mask)
    at = np.flatnonzero(mask)
    if len(at) <= _SPARSE * mask.size:
        return _sparse_components(mask.shape, at, connectivity)
    labels, count = ndimage.label(mask, ndimage.generate_binary_structure(3, _RANK[connectivity]))
    return Components(labels, np.bincount(labels[mask], minlength=count + 1)[1:])


def _sparse_components(shape: tuple[int, ...], at: np.ndarray, connectivity: Connectivity) -> Components:
    """The components of the voxels ``at`` (flat, rising), by looking at these alone: a graph of neighbours."""
    # one empty layer on every side, so that no neighbour is beyond an edge; pages that nothing touches cost nothing
    padded = tuple(n + 2 for n in shape)
    place = np.ravel_multi_index(tuple(axis + 1 for axis in np.unravel_index(at, shape)), padded)
    number = np.zeros(math.prod(padded), dtype=np.int32)
    number[place] = np.arange(1, len(at) + 1)
    steps = np.argwhere(ndimage.generate_binary_structure(3, _RANK[connectivity])) - 1
    offsets = steps @ np.array([padded[1] * padded[2], padded[2], 1])
    first, second = [], []
    for offset in offsets[offsets > 0].tolist():
        neighbour = number[place + offset]
        here = np.flatnonzero(neighbour)
        first.append(here)
        second.append(neighbour[here] - 1)
    ends = np.concatenate(first), np.concatenate(second)
    links = coo_array((np.ones(len(ends[0]), dtype=bool), ends), shape=(len(at), len(at)))
    count, group = connected_components(links, directed=False)
    _, begins = np.unique(group, return_index=True)
    rank = np.empty(count, dtype=np.int32)
    rank[np.argsort(begins)] = np.arange(1, count + 1)
    labels = np.zeros(shape, dtype=np.int32)
    labels.reshape(-1)[at] = rank[group]
    return Components(labels, np.bincount(rank[group], minlength=count + 1)[1:])


def remove_small(mask: np.ndarray, minimum: int = 3, connectivity: Connectivity = 18) -> np.ndarray:
    """A boolean map without its components *strictly smaller* than ``minimum`` voxels; a new array."""
    _boolean(mask)
    if minimum <= 1:
        return mask.copy()
    box = _box(mask)
    labels, sizes = components(mask[box], connectivity)
    small = np.concatenate([[False], sizes < minimum])
    kept = mask.copy()
    if small.any():
        at = np.nonzero(mask[box])
        kept[box][at] = ~small[labels[at]]
    return kept


def match_lesions(
    prediction: np.ndarray,
    reference: np.ndarray,
    *,
    convention: Convention = "released",
    overlap: int = 3,
    connectivity: Connectivity = 18,
    wrap_labels: bool = False,
) -> LesionMatch:
    """Judge every lesion of two boolean maps of one shape ``(X, Y, Z)``; no loop over lesions.

    Parameters
    ----------
    convention : ``"released"`` or ``"text"``, see the module.
    overlap : how many voxels in common make a lesion found, at least 1.
    connectivity : as for :func:`components`.
    wrap_labels : number lesions in 8 bits, as the released code does: lesion 257 is then taken for lesion 1 as well,
        and from 256 on reference lesions are missed and predicted ones false. Up to 255 lesions nothing changes. For
        the convention ``"released"``; does not reach size bins, in which the released code fails.

    Raises
    ------
    ValueError : shapes differ, maps are not three-dimensional, or ``overlap`` is below 1.
    TypeError : a map is not boolean.
    """
    _boolean(prediction)
    _boolean(reference)
    if prediction.shape != reference.shape:
        raise ValueError(f"shapes differ: prediction {prediction.shape}, reference {reference.shape}")
    if overlap < 1:
        raise ValueError(f"lesions meet in at least 1 voxel, got {overlap}")
    box = _box(prediction | reference)
    if convention == "text":
        return _match_grown(prediction, reference, _wider(box, prediction.shape), overlap, connectivity)
    predicted_labels, predicted_sizes = components(prediction[box], connectivity)
    reference_labels, reference_sizes = components(reference[box], connectivity)
    n, m = len(reference_sizes), len(predicted_sizes)
    of_reference, of_predicted, shared = _pairs(reference_labels, predicted_labels, m)
    covered = np.bincount(of_reference, shared, n + 1).astype(np.int64)
    hit = np.bincount(of_predicted, shared, m + 1).astype(np.int64)

    largest = np.zeros(n + 1, dtype=np.int64)  # of the predicted lesions on the background and on each reference lesion
    np.maximum.at(largest, of_reference, predicted_sizes[of_predicted - 1])
    outside = hit[1:] < predicted_sizes
    largest[0] = predicted_sizes[outside].max(initial=0)
    last = np.zeros(m + 1, dtype=np.int64)  # the highest label among the reference lesions that a predicted one touches
    np.maximum.at(last, of_predicted, of_reference)
    binned = largest[last[1:]]
    if wrap_labels:
        covered, hit = _wrapped(covered), _wrapped(hit)
    return LesionMatch(convention, reference_sizes, covered[1:] >= overlap, predicted_sizes, hit[1:] < overlap, binned)


def _match_grown(
    prediction: np.ndarray,
    reference: np.ndarray,
    box: tuple[slice, ...],
    overlap: int,
    connectivity: Connectivity,
) -> LesionMatch:
    """The convention ``"text"``, in a box that holds both maps and one voxel more on every side where there is one."""
    grown_labels, _ = components(ndimage.binary_dilation(prediction[box], _GROWTH), connectivity)
    reference_labels, reference_sizes = components(reference[box], connectivity)
    predicted_sizes = np.bincount(grown_labels[prediction[box]], minlength=grown_labels.max(initial=0) + 1)[1:]
    n, m = len(reference_sizes), len(predicted_sizes)
    of_reference, of_predicted, shared = _pairs(reference_labels, grown_labels, m)
    covered = np.bincount(of_reference, shared, n + 1).astype(np.int64)[1:]
    found = (covered >= overlap) | (2 * covered >= reference_sizes)
    false = np.ones(m, dtype=bool)
    false[of_predicted[found[of_reference - 1]] - 1] = False
    return LesionMatch("text", reference_sizes, found, predicted_sizes, false, predicted_sizes)


def _pairs(
    reference_labels: np.ndarray, predicted_labels: np.ndarray, predicted: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pair of a reference and a predicted lesion that meet: both labels, from 1, and the voxels in common."""
    at = np.flatnonzero(reference_labels)
    of_reference, of_predicted = reference_labels.reshape(-1)[at], predicted_labels.reshape(-1)[at]
    both = of_predicted > 0
    code = of_reference[both].astype(np.int64) * (predicted + 1) + of_predicted[both]
    pairs, shared = np.unique(code, return_counts=True)
    return pairs // (predicted + 1), pairs % (predicted + 1), shared


def lesion_rates(match: LesionMatch) -> LesionRates:
    """Lesion true positive rate and false discovery rate over lesions of all sizes."""
    return _rates(match, 1, np.inf)


def lesion_rates_by_size(match: LesionMatch, edges: Sequence[int] = (20, 100)) -> list[LesionRates]:
    """The rates in bins of size: up to the first edge, over it and up to the second, ..., over the last.

    Parameters
    ----------
    edges : sizes in voxels, rising; each is the largest size of its bin.

    Returns
    -------
    One entry a bin, ``len(edges) + 1`` of them, undefined ones included.
    """
    if not edges or any(high <= low for low, high in zip((0, *edges), edges, strict=False)):
        raise ValueError(f"edges are positive and rise, got {tuple(edges)}")
    bounds: list[tuple[int, float]] = [
        *((low + 1, high) for low, high in zip((0, *edges), edges, strict=False)),
        (edges[-1] + 1, np.inf),
    ]
    return [_rates(match, low, high) for low, high in bounds]


def _rates(match: LesionMatch, low: int, high: float) -> LesionRates:
    def within(sizes: np.ndarray) -> np.ndarray:
        return (sizes >= low) & (sizes <= high)

    here, there = within(match.reference_sizes), within(match.binned_sizes)
    reference, found = int(here.sum()), int(match.found[here].sum())
    predicted, false = int(there.sum()), int(match.false[there].sum())
    ltpr = Measurement(found / reference) if reference else undefined(NO_REFERENCE_LESION)
    released, sized = match.convention == "released", low > 1 or high < np.inf
    if released and not reference:
        lfdr = undefined(NO_REFERENCE_LESION)
    elif released and sized and not within(match.predicted_sizes).any():
        lfdr = undefined(NO_PREDICTED_LESION)
    else:
        lfdr = Measurement(false / (found + false)) if found + false else undefined(NO_LESION)
    return LesionRates(ltpr, lfdr, reference, found, predicted, false, low, high)


def _wrapped(counts: np.ndarray) -> np.ndarray:
    """Voxels by label, 0 first, as counted when labels are stored in 8 bits and compared with whole numbers."""
    labels = np.arange(len(counts))
    stored = np.bincount(labels % _WRAP, counts, _WRAP).astype(np.int64)
    return np.where(labels < _WRAP, stored[labels % _WRAP], 0)


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box that holds all that is True; empty where nothing is."""
    box: tuple[slice, ...] = ()
    for axis in range(mask.ndim):
        rest = mask[box].any(axis=tuple(a for a in range(mask.ndim) if a != axis))
        (at,) = np.nonzero(rest)
        box += (slice(int(at[0]), int(at[-1]) + 1) if len(at) else slice(0, 0),)
    return box


def _wider(box: tuple[slice, ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
    """A box with one voxel more on every side, as far as the array reaches."""
    return tuple(slice(max(b.start - 1, 0), min(b.stop + 1, s)) for b, s in zip(box, shape, strict=True))


def _boolean(mask: np.ndarray) -> None:
    if mask.dtype != bool:
        raise TypeError("lesions are counted on boolean maps")
    if mask.ndim != 3:
        raise ValueError(f"lesions are counted on maps (X, Y, Z), got {mask.shape}")
