"""The value of a metric together with whether, and if not why not, it is defined."""

from __future__ import annotations

import math
from typing import NamedTuple

OK = "ok"
BOTH_EMPTY = "reference and prediction empty"
PREDICTION_EMPTY = "prediction empty"
REFERENCE_EMPTY = "reference empty"
NO_THRESHOLD = "no threshold"
NOT_FINITE = "prediction not finite"
EMPTY_BIN = "no voxel in bin"
ALL_CERTAIN = "no voxel has a confidence below 1"
NO_VOXEL = "no voxel"
ALL_ZERO = "no voxel above 0"
NO_DICE = "no case with a Dice score"


class Measurement(NamedTuple):
    """A metric's value; NaN exactly when ``status`` is not ``"ok"`` but the reason why it is undefined."""

    value: float
    status: str = OK


def undefined(reason: str) -> Measurement:
    """A measurement that has no value, and why."""
    return Measurement(math.nan, reason)


class Measured(NamedTuple):
    """One row of a run's metrics, but for the names of run and case.

    ``target`` is the index of a class, or None for the whole image. ``bin`` is None where the metric has no bins. ``n``
    is the number of voxels that the value was computed on, unless the metric counts something else.
    """

    target: int | None
    metric: str
    bin: int | None
    measurement: Measurement
    n: int
