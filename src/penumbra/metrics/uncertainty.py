"""How well a probability map keeps the raters' disagreement: Brier score and entropy (thesis Eq. 5.1 and 5.2).

All arithmetic is float64, whatever the maps are stored in. Entropies are in nats and have foreground terms only.
"""

from __future__ import annotations

import numpy as np

from penumbra.metrics.squared_error import mse, mse_depthless


def brier(probability: np.ndarray, reference: np.ndarray) -> float:
    """Brier score of Eq. 5.2: mean over all voxels of the squared difference of one class' maps, in [0, 1].

    Parameters
    ----------
    probability, reference : maps in [0, 1] of one shape; the reference is the average over the raters.
    """
    return mse(probability, reference)


def brier_depthless(probability: np.ndarray, reference: np.ndarray) -> float:
    """:func:`brier` times the number of slices, see :func:`penumbra.metrics.squared_error.mse_depthless`."""
    return mse_depthless(probability, reference)


def entropy(probability: np.ndarray) -> float:
    """Entropy of Eq. 5.1: the sum over all elements of -p ln p, in nats, with 0 ln 0 = 0.

    There is no (1 - p) term and no background term. Given class maps ``(K, X, Y, Z)`` the sum runs over the classes
    too.
    """
    p = np.asarray(probability, dtype=np.float64)
    positive = p[p > 0]
    return float(-np.sum(positive * np.log(positive))) + 0.0


def entropy_error(probability: np.ndarray, reference: np.ndarray) -> float:
    """Absolute difference of the two maps' entropies, in nats: one patient's term of the MAE in table 5.2."""
    return abs(entropy(probability) - entropy(reference))


def entropy_error_per_voxel(probability: np.ndarray, reference: np.ndarray) -> float:
    """:func:`entropy_error` divided by the number of voxels of the last three axes ``(X, Y, Z)``, in nats per voxel."""
    return entropy_error(probability, reference) / int(np.prod(probability.shape[-3:]))
