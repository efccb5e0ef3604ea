"""Overlap of two binary maps: Dice score, precision and recall (thesis section 5.3.3)."""

from __future__ import annotations

import numpy as np

from penumbra.metrics.measurement import BOTH_EMPTY, PREDICTION_EMPTY, REFERENCE_EMPTY, Measurement, undefined


def _counts(prediction: np.ndarray, reference: np.ndarray) -> tuple[int, int, int]:
    if prediction.shape != reference.shape:
        raise ValueError(f"shapes differ: prediction {prediction.shape}, reference {reference.shape}")
    if prediction.dtype != bool or reference.dtype != bool:
        raise TypeError("overlap is measured on boolean maps")
    both = int(np.count_nonzero(prediction & reference))
    return both, int(np.count_nonzero(prediction)), int(np.count_nonzero(reference))


def dice(prediction: np.ndarray, reference: np.ndarray) -> Measurement:
    """Dice score 2 |P and R| / (|P| + |R|) of two boolean maps of one shape, in [0, 1].

    Undefined (NaN) only when both are empty; 0 when exactly one is.
    """
    both, predicted, referred = _counts(prediction, reference)
    if predicted + referred == 0:
        return undefined(BOTH_EMPTY)
    return Measurement(2 * both / (predicted + referred))


def precision(prediction: np.ndarray, reference: np.ndarray) -> Measurement:
    """Precision |P and R| / |P| of two boolean maps, in [0, 1]; undefined (NaN) when the prediction is empty."""
    both, predicted, referred = _counts(prediction, reference)
    if predicted == 0:
        return undefined(PREDICTION_EMPTY if referred else BOTH_EMPTY)
    return Measurement(both / predicted)


def recall(prediction: np.ndarray, reference: np.ndarray) -> Measurement:
    """Recall |P and R| / |R| of two boolean maps, in [0, 1]; undefined (NaN) when the reference is empty."""
    both, predicted, referred = _counts(prediction, reference)
    if referred == 0:
        return undefined(REFERENCE_EMPTY if predicted else BOTH_EMPTY)
    return Measurement(both / referred)
