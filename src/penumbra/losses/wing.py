"""Wing loss (Feng et al. 2018), which the adaptive wing loss grew from; named as open in thesis 6.3.2.

For prediction p, target t, d = |t - p|, natural logarithm:

* ``omega ln(1 + d / epsilon)`` where d < omega (strictly);
* ``d - C`` elsewhere, with ``C = omega - omega ln(1 + omega / epsilon)``, which makes the value continuous at omega;
  the slope jumps there from ``omega / (epsilon + omega)`` to 1.

The same for every label, unlike the adaptive wing loss, and with a kink at distance 0: the slope is
``omega / epsilon`` beside it, and 0 is returned at it.

The defaults are those of Feng et al., whose distances are pixels. Distances between probabilities are at most 1, so
that with them the linear part is never reached. The loss scales: ``omega: 0.5, epsilon: 0.1`` is theirs (up to a
factor) with 20 pixels to a probability of 1, and turns linear at 0.5 as the adaptive wing loss does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field

from penumbra.losses._operands import operands
from penumbra.networks.output import ModelOutput


def wing_loss(
    prediction: torch.Tensor,
    target: torch.Tensor,
    *,
    omega: float = 10.0,
    epsilon: float = 2.0,
    reduction: Literal["sum", "mean", "none"] = "sum",
) -> torch.Tensor:
    """Wing loss of probabilities (...) against targets (...), both in [0, 1].

    Returns
    -------
    A non-negative scalar, or with ``reduction="none"`` the loss of every voxel (...).

    Raises
    ------
    ValueError : the shapes differ.
    """
    prediction, target = operands(prediction, target)
    distance = (target - prediction).abs()
    offset = omega - omega * math.log1p(omega / epsilon)
    loss = torch.where(distance < omega, omega * torch.log1p(distance / epsilon), distance - offset)
    if reduction == "none":
        return loss
    return loss.sum() if reduction == "sum" else loss.mean()


def build(
    *,
    omega: Annotated[float, Field(gt=0)] = 10.0,
    epsilon: Annotated[float, Field(gt=0)] = 2.0,
    reduction: Literal["sum", "mean"] = "sum",
) -> Callable[[ModelOutput, torch.Tensor], torch.Tensor]:
    """Make ``loss(output, target (B, K, ...)) -> scalar``.

    Parameters
    ----------
    omega : distance at which the loss turns linear, and height of the logarithmic part.
    epsilon : curvature of the logarithmic part; small values make small errors matter more.
    reduction : ``sum`` as in Feng et al. (and in the adaptive wing loss), or ``mean`` over voxels, classes and slices.
    """

    def loss(output: ModelOutput, target: torch.Tensor) -> torch.Tensor:
        return wing_loss(output.probabilities, target, omega=omega, epsilon=epsilon, reduction=reduction)

    return loss
