"""Counting raters: what every fusion starts from."""

from __future__ import annotations

import numpy as np


def votes(raters: np.ndarray, classes: int) -> np.ndarray:
    """How many raters gave each class to each voxel.

    Parameters
    ----------
    raters : label maps ``(R, X, Y, Z)``, 0 = background, k = the k-th class (1-based).
    classes : number of foreground classes K.

    Returns
    -------
    ``(K, X, Y, Z)`` integers in 0..R; background votes are ``R - sum over K``.

    Raises
    ------
    ValueError : the array is not 4-D, holds no rater, or holds labels outside 0..K.
    """
    check(raters, classes)
    counts = np.empty((classes, *raters.shape[1:]), dtype=np.int32)
    for index in range(classes):
        np.sum(raters == index + 1, axis=0, dtype=np.int32, out=counts[index])
    return counts


def check(raters: np.ndarray, classes: int) -> None:
    """Refuse arrays that are not R >= 1 label maps of K classes (see :func:`votes`)."""
    if raters.ndim != 4 or raters.shape[0] < 1:
        raise ValueError(f"raters must be (R, X, Y, Z) with R >= 1, got shape {raters.shape}")
    if classes < 1:
        raise ValueError(f"there must be at least one foreground class, got {classes}")
    if raters.size and (raters.max() > classes or raters.min() < 0):
        raise ValueError(f"labels must lie in 0..{classes}, got {raters.min()}..{raters.max()}")


def class_maps(labels: np.ndarray, classes: int) -> np.ndarray:
    """One-hot foreground maps ``(K, ...)`` float32 of a label map ``(...)`` with values 0..K."""
    maps = np.empty((classes, *labels.shape), dtype=np.float32)
    for index in range(classes):
        maps[index] = labels == index + 1
    return maps
