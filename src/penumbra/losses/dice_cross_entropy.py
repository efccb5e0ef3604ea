"""Weighted sum of Dice loss and cross-entropy: ``dice_weight D + cross_entropy_weight C``.

D is the Dice loss between -1 and 0, C the cross-entropy's mean over voxels; each with the options of the loss of its
own name. The sum can be negative: at best it is ``-dice_weight``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field

from penumbra.losses.cross_entropy import cross_entropy_loss
from penumbra.losses.dice import dice_loss
from penumbra.networks.output import ModelOutput


def build(
    *,
    dice_weight: Annotated[float, Field(gt=0)] = 1.0,
    cross_entropy_weight: Annotated[float, Field(gt=0)] = 1.0,
    smooth: Annotated[float, Field(gt=0)] = 1.0,
    per_class: bool = False,
    weights: tuple[Annotated[float, Field(ge=0)], ...] = (),
    floor: Annotated[float, Field(gt=0, lt=0.5)] = 0.000001,
) -> Callable[[ModelOutput, torch.Tensor], torch.Tensor]:
    """Make ``loss(output, target (B, K, ...)) -> scalar``.

    Parameters
    ----------
    dice_weight, cross_entropy_weight : of the two losses.
    smooth, per_class : of the Dice loss.
    weights, floor : of the cross-entropy.
    """

    def loss(output: ModelOutput, target: torch.Tensor) -> torch.Tensor:
        dice = dice_loss(output.probabilities, target, smooth=smooth, per_class=per_class)
        return dice_weight * dice + cross_entropy_weight * cross_entropy_loss(
            output, target, weights=weights, floor=floor
        )

    return loss
