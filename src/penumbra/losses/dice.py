"""Dice loss: ``-(2 sum(p t) + s) / (sum(p) + sum(t) + s)``, sums over the flattened batch; between -1 and 0.

The sums run over all slices, classes and voxels of the batch at once and nothing is squared, as in the released
code of the thesis, which cites Milletari et al. for it though their denominator is squared. ``per_class: true``
forms the ratio for each class and averages. With p and t empty the loss is -1 (perfect).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field

from penumbra.losses._operands import operands
from penumbra.networks.output import ModelOutput


def dice_loss(
    prediction: torch.Tensor, target: torch.Tensor, *, smooth: float = 1.0, per_class: bool = False
) -> torch.Tensor:
    """Dice loss of probabilities (B, K, ...) against targets (B, K, ...), both in [0, 1]; a scalar in [-1, 0).

    Raises
    ------
    ValueError : the shapes differ.
    """
    prediction, target = operands(prediction, target)
    axes = [axis for axis in range(prediction.ndim) if not (per_class and axis == 1)]
    overlap = (prediction * target).sum(dim=axes)
    ratio = (2.0 * overlap + smooth) / (prediction.sum(dim=axes) + target.sum(dim=axes) + smooth)
    return -ratio.mean()


def build(
    *, smooth: Annotated[float, Field(gt=0)] = 1.0, per_class: bool = False
) -> Callable[[ModelOutput, torch.Tensor], torch.Tensor]:
    """Make ``loss(output, target (B, K, ...)) -> scalar``.

    Parameters
    ----------
    smooth : added to numerator and denominator.
    per_class : average over classes instead of pooling them.
    """

    def loss(output: ModelOutput, target: torch.Tensor) -> torch.Tensor:
        return dice_loss(output.probabilities, target, smooth=smooth, per_class=per_class)

    return loss
