"""Softmax over background and classes: ``p_k = exp(x_k) / sum_j exp(x_j)``, j over channels, background first.

K + 1 channels; background is left out of what is returned. One class: 1 channel and the sigmoid, which is the
softmax over the logits (0, x).
"""

from __future__ import annotations

import torch
from torch import nn

from penumbra.activations._precision import at_least_float32


class Softmax(nn.Module):
    """Logits (B, channels, ...) to probabilities (B, K, ...) in [0, 1] with sum over K at most 1."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.channels = 1 if classes == 1 else classes + 1

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        """Apply the softmax and drop background."""
        logits = at_least_float32(logits)
        return torch.sigmoid(logits) if self.channels == 1 else torch.softmax(logits, dim=1)[:, 1:]

    def log_outcomes(self, logits: torch.Tensor) -> torch.Tensor:
        """Logarithms of background and classes, one group (B, 1, K + 1, ...); finite for finite logits."""
        logits = at_least_float32(logits)
        if self.channels == 1:
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        return torch.log_softmax(logits, dim=1)[:, None]


def build(classes: int) -> Softmax:
    """Make the activation for K foreground classes."""
    return Softmax(classes)
