"""Squared error ``(p - t)^2`` between probabilities and labels: the plainest regression loss (thesis 6.3.2, "MSE").

``mean`` over voxels, classes and slices, the mean squared error, or ``sum``. Background has no term of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch

from penumbra.losses._operands import operands
from penumbra.networks.output import ModelOutput


def squared_error_loss(
    prediction: torch.Tensor, target: torch.Tensor, *, reduction: Literal["mean", "sum"] = "mean"
) -> torch.Tensor:
    """Squared error of probabilities (...) against targets (...), both in [0, 1]; a non-negative scalar.

    Raises
    ------
    ValueError : the shapes differ.
    """
    prediction, target = operands(prediction, target)
    loss = (prediction - target) ** 2
    return loss.mean() if reduction == "mean" else loss.sum()


def build(*, reduction: Literal["mean", "sum"] = "mean") -> Callable[[ModelOutput, torch.Tensor], torch.Tensor]:
    """Make ``loss(output, target (B, K, ...)) -> scalar``.

    Parameters
    ----------
    reduction : ``mean`` over voxels, classes and slices, or ``sum``.
    """

    def loss(output: ModelOutput, target: torch.Tensor) -> torch.Tensor:
        return squared_error_loss(output.probabilities, target, reduction=reduction)

    return loss
