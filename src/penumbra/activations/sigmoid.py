"""Logistic sigmoid, each class on its own: ``p_k = 1 / (1 + exp(-x_k))``.

K channels. With several classes the probabilities are independent, so they may sum to more than 1. Source: thesis
4.3.1.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import logsigmoid

from penumbra.activations._precision import at_least_float32


class Sigmoid(nn.Module):
    """Logits (B, K, ...) to probabilities (B, K, ...) in [0, 1]; ``channels`` is K."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.channels = classes

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        """Apply the sigmoid to every channel."""
        return torch.sigmoid(at_least_float32(logits))

    def log_outcomes(self, logits: torch.Tensor) -> torch.Tensor:
        """``log(1 - p_k)`` and ``log p_k`` of every class by itself, (B, K, 2, ...); finite for finite logits."""
        logits = at_least_float32(logits)
        return torch.stack([logsigmoid(-logits), logsigmoid(logits)], dim=2)


def build(classes: int) -> Sigmoid:
    """Make the activation for K foreground classes."""
    return Sigmoid(classes)
