"""A low-rank multivariate normal over logits (stochastic segmentation networks, Monteiro et al. 2020, section 3).

The network's last channels are, in this order, the mean (channels), the logarithm of the diagonal (channels) and the
factor (rank x channels, the rank outermost): what three 1x1 convolutions on the same features give. The diagonal is
``exp(.) + 1e-5``, as in the released code.

Rank 0 is the paper's diagonal baseline. As many logits as the activation has channels are distributed; where the
released code gives two logits to a problem of one class, one suffices, since only their difference matters and it is
normal with a covariance of the same rank.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from penumbra.activations._precision import at_least_float32
from penumbra.networks.distribution import LowRankNormal

NORMAL = True
"""It gives a normal distribution over logits."""

SMALLEST = 1e-5


class LowRankNormalHead(nn.Module):
    """Channels (B, channels (2 + rank), ...) to a mean (B, channels, ...) and the normal around it."""

    def __init__(self, channels: int, rank: int) -> None:
        super().__init__()
        self.channels, self.rank = channels, rank
        self.channels_in = channels * (2 + rank)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, LowRankNormal]:
        """The mean as logits, and the distribution; in float32 at least, whatever the network ran in."""
        features = at_least_float32(features)
        mean, log_diagonal, factor = features.split([self.channels, self.channels, self.rank * self.channels], dim=1)
        factor = factor.reshape(len(features), self.rank, self.channels, *features.shape[2:])
        return mean, LowRankNormal(mean, factor, log_diagonal.exp() + SMALLEST)


def build(channels: int, *, rank: Annotated[int, Field(ge=0)] = 10) -> LowRankNormalHead:
    """Make the head.

    Parameters
    ----------
    rank : R of the covariance's factor; 0 leaves the diagonal.
    """
    return LowRankNormalHead(channels, rank)
