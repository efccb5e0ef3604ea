"""Squared error of two maps, by voxels and by the voxels of one slice (thesis section 4.3.4 and Eq. 5.2).

All arithmetic is float64, whatever the maps are stored in; boolean maps count as 0 and 1.
"""

from __future__ import annotations

import numpy as np


def _squared_error(prediction: np.ndarray, reference: np.ndarray) -> float:
    if prediction.shape != reference.shape:
        raise ValueError(f"shapes differ: prediction {prediction.shape}, reference {reference.shape}")
    difference = np.asarray(prediction, dtype=np.float64) - np.asarray(reference, dtype=np.float64)
    return float(np.sum(np.square(difference)))


def mse(prediction: np.ndarray, reference: np.ndarray) -> float:
    """Mean over all voxels of the squared difference of two maps in [0, 1] of one shape; in [0, 1].

    Of two boolean maps it is the share of voxels in which they differ.
    """
    return _squared_error(prediction, reference) / prediction.size


def mse_depthless(prediction: np.ndarray, reference: np.ndarray) -> float:
    """The squared error summed over ``(X, Y, Z)`` and divided by X * Y only, as ivadomed's ``mse`` does; in [0, Z].

    It equals :func:`mse` times the number of slices; for comparison with published numbers.
    """
    return _squared_error(prediction, reference) / (prediction.shape[0] * prediction.shape[1])
