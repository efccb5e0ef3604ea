"""Volume differences of two binary maps (thesis section 5.3.3), as fractions of the reference volume (not percent)."""

from __future__ import annotations

import numpy as np

from penumbra.metrics.measurement import BOTH_EMPTY, REFERENCE_EMPTY, Measurement, undefined


def rvd(prediction: np.ndarray, reference: np.ndarray) -> Measurement:
    """Relative volume difference (V_reference - V_prediction) / V_reference, a fraction in (-inf, 1].

    Positive means under-segmentation. Boolean maps of one shape; the voxel volume cancels. Undefined (NaN) when the
    reference is empty.
    """
    if prediction.shape != reference.shape:
        raise ValueError(f"shapes differ: prediction {prediction.shape}, reference {reference.shape}")
    if prediction.dtype != bool or reference.dtype != bool:
        raise TypeError("volumes are measured on boolean maps")
    predicted, referred = int(np.count_nonzero(prediction)), int(np.count_nonzero(reference))
    if referred == 0:
        return undefined(REFERENCE_EMPTY if predicted else BOTH_EMPTY)
    return Measurement((referred - predicted) / referred)


def avd(prediction: np.ndarray, reference: np.ndarray) -> Measurement:
    """Absolute volume difference ``abs(rvd)``, a fraction in [0, inf); undefined where :func:`rvd` is."""
    signed = rvd(prediction, reference)
    return Measurement(abs(signed.value), signed.status)
