"""What the normalised ReLU and the normalised softplus share: dividing by a maximum, then by a sum over channels.

``scope: batch`` takes the maximum over the whole mini-batch, ``scope: image`` over each slice (or volume) alone. One
class has 1 channel, several classes K + 1 with background first. With several, the values are divided by their maximum
over all channels (and the scope), then, voxel by voxel, by their sum over background and classes; background is left
out of what is returned. The maximum cancels in the second division, so the scope matters with one class only.

A normaliser below the smallest normal float, or below ``smallest`` where that is more, counts as 0, and what it would
divide becomes 0. A rectifier that falls towards 0 without reaching it needs a ``smallest`` whose reciprocal, summed
over a batch, is still a float: else gradients overflow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

from penumbra.activations._precision import at_least_float32


def divide(values: torch.Tensor, by: torch.Tensor, smallest: float = 0.0) -> torch.Tensor:
    """``values / by``, and 0 where ``by`` is no normal number or below ``smallest``; ``by`` broadcasts.

    NaN stays NaN, so that a training that diverged is noticed.
    """
    vanishing = by < max(smallest, torch.finfo(by.dtype).tiny)
    return torch.where(vanishing, torch.zeros_like(values), values / torch.where(vanishing, torch.ones_like(by), by))


class Normalised(nn.Module):
    """Logits (B, channels, ...) to probabilities (B, K, ...) in [0, 1], of slices or volumes.

    Parameters
    ----------
    rectify : maps logits, value by value, to values >= 0.
    smallest : normalisers below this count as 0.
    """

    def __init__(
        self,
        classes: int,
        scope: Literal["batch", "image"],
        rectify: Callable[[torch.Tensor], torch.Tensor],
        smallest: float = 0.0,
    ) -> None:
        super().__init__()
        self.channels = 1 if classes == 1 else classes + 1
        self.scope = scope
        self.rectify = rectify
        self.smallest = smallest

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        """Rectify and normalise (and drop background)."""
        values = self.rectify(at_least_float32(logits))
        highest = values.max() if self.scope == "batch" else values.amax(dim=[*range(1, values.ndim)], keepdim=True)
        values = divide(values, highest, self.smallest)
        if self.channels == 1:
            return values
        return divide(values, values.sum(dim=1, keepdim=True), self.smallest)[:, 1:]
