"""Log-cosh Dice loss (Jadon 2020): ``ln(cosh(1 - Dice))``, between 0 and ln(cosh(1)) = 0.434.

Dice is the soft Dice coefficient of the Dice loss, with its options; with ``per_class`` the coefficients are averaged
before the logarithm. The gradient is that of the Dice loss times tanh(1 - Dice): nearly linear while the prediction is
poor, and fading as it becomes right. Thesis 4.5.1 names it as open.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field

from penumbra.losses.dice import dice_loss
from penumbra.networks.output import ModelOutput


def log_cosh_dice_loss(
    prediction: torch.Tensor, target: torch.Tensor, *, smooth: float = 1.0, per_class: bool = False
) -> torch.Tensor:
    """Log-cosh Dice loss of probabilities (B, K, ...) against targets (B, K, ...), both in [0, 1]; a scalar >= 0.

    Raises
    ------
    ValueError : the shapes differ.
    """
    distance = 1.0 + dice_loss(prediction, target, smooth=smooth, per_class=per_class)
    # cosh(x) = 1 + 2 sinh(x / 2)^2 keeps the digits that log(cosh(x)) loses near 0.
    return torch.log1p(2.0 * torch.sinh(distance / 2.0) ** 2)


def build(
    *, smooth: Annotated[float, Field(gt=0)] = 1.0, per_class: bool = False
) -> Callable[[ModelOutput, torch.Tensor], torch.Tensor]:
    """Make ``loss(output, target (B, K, ...)) -> scalar``.

    Parameters
    ----------
    smooth : added to numerator and denominator of the Dice coefficient.
    per_class : average the Dice coefficient over classes instead of pooling them.
    """

    def loss(output: ModelOutput, target: torch.Tensor) -> torch.Tensor:
        return log_cosh_dice_loss(output.probabilities, target, smooth=smooth, per_class=per_class)

    return loss
