"""Labels and predictions as outcomes of which exactly one is true: what likelihood losses are computed from."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from penumbra.activations._precision import at_least_float32
from penumbra.errors import PenumbraError
from penumbra.networks.output import ModelOutput


def log_outcomes(output: ModelOutput, floor: float) -> torch.Tensor:
    """Logarithms of the outcomes' probabilities, (B, G, M, ...) as :class:`ModelOutput` describes them.

    They are the activation's own where it has them. Otherwise they are rebuilt from the probabilities: one group,
    background being what the classes leave, and no probability counting as less than ``floor``. Where one does, it
    passes no gradient on.
    """
    if output.log_outcomes is not None:
        return output.log_outcomes(output.logits)
    classes = at_least_float32(output.probabilities)
    background = 1.0 - classes.sum(dim=1, keepdim=True)
    return torch.cat([background, classes], dim=1).clamp(min=floor).log()[:, None]


def label_outcomes(target: torch.Tensor, groups: int) -> torch.Tensor:
    """Labels (B, K, ...) in [0, 1] as shares of outcomes (B, G, M, ...), which sum to 1 over M.

    The first outcome of a group is what its classes leave of 1. Classes of one group that sum to more than 1 (a voxel
    that binarisation gave to two classes) are divided by their sum.
    """
    batch, classes, *size = target.shape
    target = target.reshape(batch, groups, classes // groups, *size)
    total = target.sum(dim=2, keepdim=True).clamp(min=1.0)
    target = target / total
    return torch.cat([(1.0 - target.sum(dim=2, keepdim=True)).clamp(min=0.0), target], dim=2)


def outcome_weights(weights: Sequence[float], classes: int, groups: int, like: torch.Tensor) -> torch.Tensor:
    """Weights of background and K classes, K + 1 numbers, for outcomes ``like`` (B, G, M, ...): (G, M, 1, ...).

    Background's stands in every group.

    Raises
    ------
    PenumbraError : another number of weights.
    """
    if len(weights) != classes + 1:
        raise PenumbraError(
            f"the loss has {len(weights)} weights {list(weights)} for background and {classes} class(es)",
            cure=f"give {classes + 1} weights, background first, or none",
        )
    background, *others = weights
    size = classes // groups
    rows = [[background, *others[k : k + size]] for k in range(0, classes, size)]
    return like.new_tensor(rows).reshape(groups, size + 1, *[1] * (like.ndim - 3))
