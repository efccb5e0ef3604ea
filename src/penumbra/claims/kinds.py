"""The kinds of tests: how each turns a study's values into the comparisons that a claim rests on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from penumbra.claims.evidence import Arm
from penumbra.claims.models import Bound, LargestChange, Paired, Ranking, Share, quantity
from penumbra.claims.quantities import Unit

Take = Callable[[str, Unit, Sequence[str]], pd.DataFrame]
"""``take(metric, unit, candidates)``: the values of one data set and target, a row a pair, a column a candidate."""

SIGNS = {"higher": 1.0, "lower": -1.0, "not_lower": 1.0, "not_higher": -1.0}


@dataclass(frozen=True)
class Kind:
    """One kind of test: its comparisons, what its effect is called, in what unit, and on which pairs it can be made."""

    arms: Callable[[Any, Take, Unit], list[Arm]]
    effect: Callable[[Any], str]
    effect_unit: Callable[[Any], str]
    direction: Callable[[Any], str]
    units: tuple[Unit, ...] = ("split", "case")


def _mean(values: pd.DataFrame) -> np.ndarray:
    """The mean over a group's candidates; undefined where one of them is."""
    return values.mean(axis=1, skipna=False).to_numpy(dtype=np.float64)


def _between(
    values: pd.DataFrame, candidates: tuple[str, ...], against: tuple[str, ...], sign: float, margin: float = 0.0
) -> Arm:
    return Arm(candidates, against, _mean(values[list(candidates)]), _mean(values[list(against)]), sign, margin)


def paired(test: Paired, take: Take, unit: Unit) -> list[Arm]:
    """Means of two groups, or the first with the first and so on."""
    values = take(test.metric, unit, [*test.candidates, *test.against])
    sign = SIGNS[test.direction]
    if test.combine == "mean":
        return [_between(values, test.candidates, test.against, sign, test.margin)]
    pairs = zip(test.candidates, test.against, strict=True)
    return [_between(values, (a,), (b,), sign, test.margin) for a, b in pairs]


def ranking(test: Ranking, take: Take, unit: Unit) -> list[Arm]:
    """Every candidate with every other one."""
    values = take(test.metric, unit, [*test.candidates, *test.against])
    return [_between(values, (a,), (b,), SIGNS[test.direction]) for a in test.candidates for b in test.against]


def share(test: Share, take: Take, unit: Unit) -> list[Arm]:
    """Shares of runs below the limit: 1 or 0 a run, mean over a group's candidates; undefined where the metric is."""
    values = take(test.metric, unit, [*test.candidates, *test.against])
    limit = test.below
    if test.of == "against":
        reference = values[list(test.against)].to_numpy()
        reference = reference[np.isfinite(reference)]
        limit *= float(np.median(reference)) if reference.size else np.nan
    below = (values < limit).astype(np.float64).where(values.notna() & np.isfinite(limit))
    return [_between(below, test.candidates, test.against, SIGNS[test.direction])]


def largest_change(test: LargestChange, take: Take, unit: Unit) -> list[Arm]:
    """The absolute difference from the reference of ``changed``, with that of each of the others."""
    values = take(test.metric, unit, [test.reference, test.changed, *test.against])
    change = values.sub(values[test.reference], axis=0).abs()
    return [
        Arm(test.candidates, (other, test.reference), change[test.changed].to_numpy(), change[other].to_numpy(), 1.0)
        for other in test.against
    ]


def bound(test: Bound, take: Take, unit: Unit) -> list[Arm]:
    """The metric, or the ratio of two, with a number."""
    values = take(test.metric, unit, test.candidates)
    if test.over is not None:
        below = take(test.over, unit, test.candidates)
        values = values / below.reindex(values.index).where(lambda v: v != 0)
    groups = [test.candidates] if test.combine == "mean" else [(c,) for c in test.candidates]
    number = np.full(len(values), test.value)
    return [Arm(group, (), _mean(values[list(group)]), number, SIGNS[test.direction]) for group in groups]


def _in_metric(test: Any) -> str:
    return quantity(test.metric).unit


def _paired_direction(test: Paired) -> str:
    return f"{test.direction} (margin {test.margin:g})" if test.margin else test.direction


KINDS: dict[str, Kind] = {
    "paired": Kind(paired, lambda _: "mean paired difference", _in_metric, _paired_direction),
    "ranking": Kind(ranking, lambda _: "mean paired difference", _in_metric, lambda t: f"{t.direction} than each"),
    "share": Kind(
        share,
        lambda t: (
            f"difference between shares of runs with {t.metric} below {t.below:g}"
            + (" of the others' median" if t.of == "against" else "")
        ),
        lambda _: "fraction of runs",
        lambda t: t.direction,
        ("split",),
    ),
    "largest_change": Kind(
        largest_change, lambda _: "mean difference between absolute changes", _in_metric, lambda _: "larger change"
    ),
    "bound": Kind(
        bound,
        lambda t: f"mean {f'of the ratio to {t.over} ' if t.over else ''}minus {t.value:g}",
        lambda t: "ratio" if t.over else _in_metric(t),
        lambda t: f"{t.direction} than {t.value:g}",
    ),
}
