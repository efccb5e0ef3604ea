"""The network's channels are the logits: the head of every network that predicts one segmentation."""

from __future__ import annotations

import torch
from torch import nn

from penumbra.networks.distribution import LogitDistribution


class Logits(nn.Module):
    """Passes channels on; ``channels_in`` of the network, as many as the activation wants."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels_in = channels

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, LogitDistribution | None]:
        """Logits (B, channels, ...), and no distribution."""
        return features, None


def build(channels: int) -> Logits:
    """Make the head for an activation of so many channels."""
    return Logits(channels)
