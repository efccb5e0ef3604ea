"""What paired values say of a claim: effect, interval, test, and the verdict that follows from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import rankdata

from penumbra.statistics.bootstrap import mean_interval
from penumbra.statistics.effect_size import rank_biserial
from penumbra.statistics.holm import holm
from penumbra.statistics.wilcoxon import signed_rank

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"
RESIDUE = 1e-12
"""Differences up to this share of the largest value are what rounding leaves of equal values."""
RESAMPLES = 2000


@dataclass(frozen=True)
class Arm:
    """One comparison that a claim rests on: ``(n,)`` pairs of values, NaN where undefined.

    The claim holds of it where ``sign * (values - others) + margin`` is above zero; ``sign`` is 1 or -1.
    """

    candidates: tuple[str, ...]
    against: tuple[str, ...]
    values: np.ndarray
    others: np.ndarray
    sign: float
    margin: float = 0.0

    @property
    def pairs(self) -> np.ndarray:
        """The ``(m, 2)`` pairs of which both values are defined."""
        both = np.column_stack([self.values, self.others]).astype(np.float64)
        return both[np.isfinite(both).all(axis=1)]

    @property
    def name(self) -> str:
        """Who is compared with whom."""
        return " and ".join(self.candidates) + (f" against {' and '.join(self.against)}" if self.against else "")


@dataclass(frozen=True)
class Evidence:
    """What one comparison gave.

    ``effect`` is the mean of values minus others in their unit, ``low`` and ``high`` its bootstrap interval.
    ``standardised`` is the matched-pairs rank-biserial correlation towards the claim, in [-1, 1]: 1 where every pair
    agrees with the claim, -1 where every pair disagrees. ``p`` is two-sided.
    """

    arm: Arm
    verdict: str
    reason: str
    mean: float
    mean_against: float
    effect: float
    low: float
    high: float
    standardised: float
    standardised_low: float
    standardised_high: float
    p: float
    n: int
    n_undefined: int


def rank_biserial_interval(
    differences: np.ndarray, generator: np.random.Generator, *, resamples: int = RESAMPLES, confidence: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of the rank-biserial correlation of ``(n,)`` differences; NaN with fewer than two.

    A resample of zeros alone counts as 0, as in :func:`penumbra.statistics.effect_size.rank_biserial`.
    """
    if differences.size < 2:
        return math.nan, math.nan
    drawn = differences[generator.integers(0, differences.size, size=(resamples, differences.size))]
    zeros = (drawn == 0).sum(axis=1, keepdims=True)  # they take the lowest ranks
    ranks = np.where(drawn == 0, 0.0, rankdata(np.abs(drawn), axis=1) - zeros)
    total = ranks.sum(axis=1)
    signed = (np.sign(drawn) * ranks).sum(axis=1)
    values = np.divide(signed, total, out=np.zeros_like(total), where=total > 0)
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def smallest_p(pairs: int) -> float:
    """The smallest p that the signed-rank test of ``pairs`` pairs can give."""
    return min(1.0, 2.0 ** (1 - pairs))


def weigh(arm: Arm, level: float, unit: str, generator: np.random.Generator) -> Evidence:
    """Test one comparison.

    Supported: two-sided p below ``level``, and the interval of confidence ``1 - level`` on the claimed side.
    Contradicted: the same on the other side. Undecided otherwise, with the reason.

    Parameters
    ----------
    unit : what a pair is (``"splits"``, ``"cases"``), for the reason.
    """
    pairs = arm.pairs
    difference = pairs[:, 0] - pairs[:, 1]
    towards = arm.sign * difference + arm.margin
    scale = max(float(np.abs(pairs).max(initial=0.0)), arm.margin)
    towards = np.where(np.abs(towards) <= RESIDUE * scale, 0.0, towards)
    test = signed_rank(towards, level=level)
    low, high = mean_interval(difference, generator, resamples=RESAMPLES, confidence=1 - level)
    # the interval of the mean moves with its values, so that one bootstrap serves effect and verdict
    shifted = sorted((arm.sign * low + arm.margin, arm.sign * high + arm.margin))
    standard_low, standard_high = rank_biserial_interval(towards, generator, confidence=1 - level)
    undefined = len(arm.values) - len(pairs)
    verdict, reason = UNDECIDED, "ok"
    if test.n == 0:
        reason = "no pair of defined values"
    elif smallest_p(test.n) >= level:
        reason = f"too few {unit}: p cannot fall below {smallest_p(test.n):.3g} with {test.n}"
    elif smallest_p(test.n_nonzero) >= level:
        reason = f"only {test.n_nonzero} of {test.n} {unit} differ"
    elif test.p >= level:
        reason = "not significant"
    elif shifted[0] > 0:
        verdict = SUPPORTED
    elif shifted[1] < 0:
        verdict = CONTRADICTED
    else:
        reason = "the test is significant, the interval of the mean holds no difference"
    if undefined:
        reason = f"{'' if reason == 'ok' else reason + '; '}{undefined} pairs undefined"
    means = pairs.mean(axis=0) if len(pairs) else np.full(2, np.nan)
    return Evidence(
        arm=arm, verdict=verdict, reason=reason, mean=float(means[0]), mean_against=float(means[1]),
        effect=float(difference.mean()) if len(pairs) else math.nan, low=low, high=high,
        standardised=rank_biserial(towards), standardised_low=standard_low, standardised_high=standard_high,
        p=test.p, n=test.n, n_undefined=undefined,
    )  # fmt: skip


def together(found: Sequence[Evidence], level: float) -> Evidence:
    """One verdict from all comparisons that a claim needs to hold at once.

    Supported where each is: as an intersection-union test it has the level of one, without correction, and its p is
    the largest. Contradicted where one is on the other side after Holm's correction over all of them. The numbers
    returned are those of the one comparison that decides: the one with the largest p where all hold (of equal ones the
    smallest effect), the one on the other side with the smallest p, else the weakest of those that do not hold.
    """
    if len(found) == 1:
        return found[0]
    corrected = holm(np.array([e.p for e in found]))
    opposed = [e for e, p in zip(found, corrected, strict=True) if e.verdict == CONTRADICTED and p < level]
    open_ones = [e for e in found if e.verdict != SUPPORTED]
    if opposed:
        verdict, decides = CONTRADICTED, min(opposed, key=lambda e: e.p)
    elif open_ones:
        weakest = min(open_ones, key=lambda e: -math.inf if math.isnan(e.standardised) else e.standardised)
        verdict, decides = UNDECIDED, weakest
    else:
        verdict, decides = SUPPORTED, max(found, key=lambda e: (e.p, -e.arm.sign * e.effect))
    reason = f"{len(found) - len(open_ones)} of {len(found)} comparisons hold"
    if verdict != decides.verdict:
        reason += ", not significant after Holm's correction"
    elif decides.reason != "ok":
        reason += f", {decides.reason}"
    return replace(decides, verdict=verdict, reason=reason)
