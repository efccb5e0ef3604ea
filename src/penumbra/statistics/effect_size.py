"""Effect size of paired differences."""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import rankdata


def rank_biserial(differences: np.ndarray) -> float:
    """Matched-pairs rank-biserial correlation (W+ - W-) / (W+ + W-) of ``(n,)`` differences, in [-1, 1].

    W+ and W- are the sums of the ranks of the absolute non-zero differences that are positive and negative, ties given
    their average rank. Positive: the first of each pair tends to be larger. 0 when all differences are zero, NaN when
    there are none.
    """
    differences = np.asarray(differences, dtype=np.float64)
    if differences.size == 0:
        return math.nan
    nonzero = differences[differences != 0]
    if nonzero.size == 0:
        return 0.0
    ranks = rankdata(np.abs(nonzero))
    return float(np.sum(np.sign(nonzero) * ranks) / ranks.sum())
