"""From class probabilities to binary maps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def with_background(probabilities: np.ndarray) -> np.ndarray:
    """Put the background in front of class maps: ``(K, ...)`` -> ``(K + 1, ...)`` float64.

    The background is 1 minus the sum of the classes, clipped to [0, 1]: independent sigmoids may sum to more than 1.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    return np.concatenate([np.clip(1.0 - p.sum(axis=0, keepdims=True), 0.0, 1.0), p])


def most_probable_class(probabilities: np.ndarray) -> np.ndarray:
    """The most probable of background (0) and classes (1..K), ``(K, ...)`` -> ``(...)`` integers.

    A tie goes to the lowest index: to the background first, then to the class named first.
    """
    return np.argmax(with_background(probabilities), axis=0)


def by_threshold(probabilities: np.ndarray, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """p >= t for every class on its own; a voxel may belong to several classes or none.

    The stored float32 probabilities are compared in float64. A class whose threshold is NaN cannot be binarised.

    Returns
    -------
    ``(K, ...)`` booleans, and ``(K,)`` booleans: whether the class could be binarised.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    t = np.asarray(thresholds, dtype=np.float64)
    return p >= t.reshape(-1, *(1,) * (p.ndim - 1)), np.isfinite(t)


def by_argmax(probabilities: np.ndarray, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The most probable of background and classes; ties as in :func:`most_probable_class`.

    ``thresholds`` are not used. Returns as :func:`by_threshold` does; every class can be binarised.
    """
    winner = most_probable_class(probabilities)
    classes = range(1, len(probabilities) + 1)
    return np.stack([winner == k for k in classes]), np.ones(len(probabilities), dtype=bool)


BINARISATIONS: dict[str, Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    "threshold": by_threshold,
    "argmax": by_argmax,
}
