"""Two-sided Wilcoxon signed-rank test of paired differences (thesis section 5.3.3).

Zeros: differences of exactly zero are dropped (Wilcoxon's own policy, ``zero_method="wilcox"``). Ties: equal absolute
differences get their average rank. Null distribution, in the column ``method``:

``exact``
    no ties and at most 50 non-zero differences: the exact distribution of the rank sum.
``exact permutation``
    ties and at most 12 non-zero differences: all 2^n changes of sign.
``approximate``
    otherwise: normal, variance corrected for ties, no continuity correction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

EXACT_LIMIT = 50
PERMUTATION_LIMIT = 12


@dataclass(frozen=True)
class SignedRank:
    """A test's result. ``statistic`` is the smaller rank sum; ``status`` is ``"ok"`` or a reserve on ``p``."""

    n: int
    n_nonzero: int
    statistic: float
    p: float
    method: str
    status: str


def signed_rank(differences: np.ndarray, *, level: float = 0.05) -> SignedRank:
    """Test whether ``(n,)`` paired differences are distributed symmetrically about zero.

    With no pair p is NaN; when all differences are zero p is 1. When so few are non-zero that even one common sign
    cannot give p < ``level``, p is given and the status says so.

    Raises
    ------
    ValueError : a difference is not finite.
    """
    differences = np.asarray(differences, dtype=np.float64)
    if not np.isfinite(differences).all():
        raise ValueError("differences must be finite: leave undefined pairs out")
    nonzero = differences[differences != 0]
    n, m = differences.size, nonzero.size
    if n == 0:
        return SignedRank(0, 0, math.nan, math.nan, "none", "no pairs")
    if m == 0:
        return SignedRank(n, 0, 0.0, 1.0, "none", "all differences are zero")
    ties = np.unique(np.abs(nonzero)).size < m
    if not ties and m <= EXACT_LIMIT:
        name, method = "exact", "exact"
    elif ties and m <= PERMUTATION_LIMIT:
        name, method = "exact permutation", stats.PermutationMethod(n_resamples=2**PERMUTATION_LIMIT)
    else:
        name, method = "approximate", "asymptotic"
    result = stats.wilcoxon(nonzero, zero_method="wilcox", correction=False, alternative="two-sided", method=method)
    few = 2.0 ** (1 - m) >= level
    status = f"too few non-zero differences: p cannot fall below {2.0 ** (1 - m):.3g}" if few else "ok"
    return SignedRank(n, m, float(result.statistic), float(result.pvalue), name, status)
