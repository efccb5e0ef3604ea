"""Adaptive wing loss (Wang et al. 2019; thesis eq. 3.1): a regression loss that is stricter on foreground.

For prediction p, target t, d = |t - p| and e = alpha - t, natural logarithm:

* ``omega ln(1 + (d / epsilon)^e)`` where d < theta (strictly);
* ``A d - C`` elsewhere, with ``A = omega e (theta / epsilon)^(e - 1) / (epsilon (1 + (theta / epsilon)^e))`` and
  ``C = theta A - omega ln(1 + (theta / epsilon)^e)``, which make value and slope continuous at theta.

The released code of the thesis *sums* over voxels, classes and slices (the published numbers come from that);
``reduction: mean`` divides by their number. Its additional foreground weight is 1 everywhere and therefore absent
here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field

from penumbra.losses._operands import operands
from penumbra.networks.output import ModelOutput


def adaptive_wing_loss(
    prediction: torch.Tensor,
    target: torch.Tensor,
    *,
    theta: float = 0.5,
    alpha: float = 2.1,
    omega: float = 8.0,
    epsilon: float = 1.0,
    reduction: Literal["sum", "mean", "none"] = "sum",
) -> torch.Tensor:
    """Adaptive wing loss of probabilities (...) against targets (...), both in [0, 1].

    Returns
    -------
    A non-negative scalar, or with ``reduction="none"`` the loss of every voxel (...).

    Raises
    ------
    ValueError : the shapes differ.
    """
    prediction, target = operands(prediction, target)
    distance = (target - prediction).abs()
    exponent = alpha - target
    ratio = torch.exp(exponent * math.log(theta / epsilon))
    slope = omega * exponent * ratio / (theta * (1.0 + ratio))
    offset = theta * slope - omega * torch.log1p(ratio)
    near = omega * torch.log1p((distance / epsilon) ** exponent)
    loss = torch.where(distance < theta, near, slope * distance - offset)
    if reduction == "none":
        return loss
    return loss.sum() if reduction == "sum" else loss.mean()


def build(
    *,
    theta: Annotated[float, Field(gt=0)] = 0.5,
    alpha: Annotated[float, Field(gt=2)] = 2.1,
    omega: Annotated[float, Field(gt=0)] = 8.0,
    epsilon: Annotated[float, Field(gt=0)] = 1.0,
    reduction: Literal["sum", "mean"] = "sum",
) -> Callable[[ModelOutput, torch.Tensor], torch.Tensor]:
    """Make ``loss(output, target (B, K, ...)) -> scalar``.

    Parameters
    ----------
    theta : distance at which the loss turns linear.
    alpha : exponent at target 0; alpha - target at other targets, above 1 so that the loss is smooth at distance 0.
    omega : height of the logarithmic part; 8 as in thesis table 4.1 (the code's own default is 14).
    epsilon : width of the logarithmic part.
    reduction : ``sum`` as published, or ``mean`` over voxels, classes and slices.
    """

    def loss(output: ModelOutput, target: torch.Tensor) -> torch.Tensor:
        return adaptive_wing_loss(
            output.probabilities, target, theta=theta, alpha=alpha, omega=omega, epsilon=epsilon, reduction=reduction
        )

    return loss
