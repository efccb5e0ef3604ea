"""Correction of p-values for the number of comparisons."""

from __future__ import annotations

import numpy as np
from statsmodels.stats.multitest import multipletests


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down correction of one family's ``(m,)`` p-values, in [0, 1].

    NaN is no member of the family and stays NaN.
    """
    p = np.asarray(p, dtype=np.float64)
    corrected = np.full(p.shape, np.nan)
    tested = np.isfinite(p)
    if tested.any():
        corrected[tested] = multipletests(p[tested], method="holm")[1]
    return corrected
