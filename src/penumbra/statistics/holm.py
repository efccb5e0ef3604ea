"""Holm's correction of a family of tests."""

from __future__ import annotations

import gc

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
        gc.freeze()  # statsmodels collects garbage at each call: 47 ms among the objects of a large study, else 0.03
        try:
            corrected[tested] = multipletests(p[tested], method="holm")[1]
        finally:
            gc.unfreeze()
    return corrected
