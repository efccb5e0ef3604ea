"""What a network and its activation give to a loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """Both sides of the final activation.

    ``logits`` (B, channels, H, W): the network's output. ``probabilities`` (B, K, H, W): foreground classes only,
    in [0, 1].
    """

    logits: torch.Tensor
    probabilities: torch.Tensor
