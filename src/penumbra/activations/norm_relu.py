"""Normalised ReLU (thesis eq. 4.1): ``relu(x) / max(relu(x))``, and 0 where that maximum is 0.

``scope: batch`` takes the maximum over the whole mini-batch, as the released code does in training and testing
alike: a prediction then depends on the slices that share its batch. ``scope: image`` takes it over each slice alone.

Several classes: K + 1 channels, background first. The ReLU is divided by its maximum over all channels (and the
scope), then, voxel by voxel, by its sum over background and classes; a voxel whose channels are all <= 0 stays 0 in
every class. Background is left out of what is returned. The maximum cancels in the second division, so the scope
matters with one class only.

The gradient flows through the maximum too. A normaliser below the smallest normal float counts as 0, which keeps
every gradient finite.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from penumbra.activations._precision import at_least_float32


def _divide(values: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    positive = by >= torch.finfo(by.dtype).tiny
    return torch.where(positive, values / torch.where(positive, by, torch.ones_like(by)), torch.zeros_like(values))


class NormReLU(nn.Module):
    """Logits (B, channels, H, W) to probabilities (B, K, H, W) in [0, 1]."""

    def __init__(self, classes: int, scope: Literal["batch", "image"]) -> None:
        super().__init__()
        self.channels = 1 if classes == 1 else classes + 1
        self.scope = scope

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        """Apply the normalised ReLU (and drop background)."""
        values = torch.relu(at_least_float32(logits))
        values = _divide(values, values.max() if self.scope == "batch" else values.amax(dim=(1, 2, 3), keepdim=True))
        if self.channels == 1:
            return values
        return _divide(values, values.sum(dim=1, keepdim=True))[:, 1:]


def build(classes: int, *, scope: Literal["batch", "image"] = "batch") -> NormReLU:
    """Make the activation for K foreground classes.

    Parameters
    ----------
    scope : what the maximum is taken over; ``batch`` is what produced the published numbers.
    """
    return NormReLU(classes, scope)
