"""Cross-entropy of soft or hard labels: ``-sum_m w_m t_m log p_m`` over the outcomes m of a voxel.

Softmax: the outcomes are background and the K classes, the background's label being what the classes leave of 1.
Sigmoid: every class is a yes or no of its own, ``-w_k t_k log p_k - w_0 (1 - t_k) log(1 - p_k)``, summed or averaged
over classes; with one class the two agree. Natural logarithm.

Both are computed from the logits and stay exact where the probabilities round to 0 or 1. An activation whose
probabilities are no logistic function of its logits (the normalised ReLU and softplus) has no such logarithm, and the
loss works from its probabilities, background being what the classes leave. Those may be exactly 0 or 1: probabilities
count as at least ``floor``, so that a voxel costs at most ``-log(floor)`` (13.8), and below it no gradient flows.

With soft labels the smallest possible value is the labels' entropy, not 0. Cross-entropy is the other conventional
loss that thesis 6.2.2 would have compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field

from penumbra.losses._operands import operands
from penumbra.losses._outcomes import label_outcomes, log_outcomes, outcome_weights
from penumbra.networks.output import ModelOutput


def cross_entropy_loss(
    output: ModelOutput,
    target: torch.Tensor,
    *,
    weights: Sequence[float] = (),
    reduction: Literal["mean", "weighted_mean", "sum"] = "mean",
    floor: float = 1e-6,
) -> torch.Tensor:
    """Cross-entropy of a model's output against targets (B, K, ...) in [0, 1]; a non-negative scalar.

    ``weights`` and ``reduction`` as :func:`build` describes them.

    Raises
    ------
    ValueError : probabilities and target differ in shape.
    PenumbraError : the number of weights is neither 0 nor K + 1.
    """
    _, target = operands(output.probabilities, target)
    logarithms = log_outcomes(output, floor)
    groups = logarithms.shape[1]
    label = label_outcomes(target, groups).to(logarithms.dtype)
    if weights:
        label = label * outcome_weights(weights, target.shape[1], groups, like=label)
    loss = -(label * logarithms).sum(dim=2)
    if reduction == "mean":
        return loss.mean()
    if reduction == "weighted_mean":
        return loss.sum() / label.sum().clamp(min=torch.finfo(label.dtype).tiny)
    return loss.sum()


def build(
    *,
    weights: tuple[Annotated[float, Field(ge=0)], ...] = (),
    reduction: Literal["mean", "weighted_mean", "sum"] = "mean",
    floor: Annotated[float, Field(gt=0, lt=0.5)] = 0.000001,
) -> Callable[[ModelOutput, torch.Tensor], torch.Tensor]:
    """Make ``loss(output, target (B, K, ...)) -> scalar``.

    Parameters
    ----------
    weights : of background and each class, background first; none means 1 for all.
    reduction : ``mean`` over voxels and slices (and independent classes), whatever the weights; ``weighted_mean``
        divides by the sum of the labels' weights instead, as PyTorch does for hard labels, and is 0 where no label
        has a weight; ``sum``.
    floor : the smallest probability that counts, where logarithms are taken of probabilities.
    """

    def loss(output: ModelOutput, target: torch.Tensor) -> torch.Tensor:
        return cross_entropy_loss(output, target, weights=weights, reduction=reduction, floor=floor)

    return loss
