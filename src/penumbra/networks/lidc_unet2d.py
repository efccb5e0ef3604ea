"""The 2-D U-Net of the LIDC experiments of stochastic segmentation networks (Monteiro et al. 2020, section 5.2).

Not told in the paper; this is the architecture that its released code takes over from PHiSeg's. A level is three times
(3x3 convolution without bias, batch normalisation, ReLU). Encoder: 7 levels of ``base_filters`` x 1, 2, 4, 6, 6, 6, 6
channels, with 2x2 average pooling between them. Decoder: bilinear upsampling by 2, concatenation with the encoder's
level of that size, one level as wide as the *deeper* of the two. Three 1x1 convolutions of ``base_filters`` channels,
normalised and rectified alike, and a last 1x1 convolution with bias to the output channels.

Learnable parameters at 32 base filters, 1 to 1 channels: 10,319,809. Sides must be multiples of 2^(levels - 1), 64 for
7 levels.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from penumbra.networks._lidc import Decoder, Encoder, move_statistics, units, widths

DIMENSIONS = 2


class LidcUNet(nn.Module):
    """Maps (B, channels_in, H, W) to logits (B, channels_out, H, W).

    Initialised by torch's defaults from the global generator: seed it before building.
    """

    def __init__(self, channels_in: int, channels_out: int, *, levels: int, base_filters: int) -> None:
        super().__init__()
        self.encoder = Encoder(channels_in, levels, base_filters)
        self.decoder = Decoder(levels, base_filters)
        self.recombination = units(widths(levels, base_filters)[1], base_filters, kernel=1)
        self.last = nn.Conv2d(base_filters, channels_out, kernel_size=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of a batch; errors as of :class:`penumbra.networks._lidc.Encoder`."""
        logits: torch.Tensor = self.last(self.recombination(self.decoder(self.encoder(images))))
        return logits


def build(
    channels_in: int,
    channels_out: int,
    *,
    levels: Annotated[int, Field(ge=2, le=7)] = 7,
    base_filters: Annotated[int, Field(ge=1)] = 32,
    batch_norm_momentum: Annotated[float, Field(gt=0, le=1)] = 0.01,
) -> LidcUNet:
    """Make the U-Net.

    Parameters
    ----------
    levels : resolutions, the first 2 to 7 of the published ones. base_filters : channels of the first level.
    batch_norm_momentum : weight of the newest batch in the running statistics; the published 0.01 suits long trainings.
    """
    network = LidcUNet(channels_in, channels_out, levels=levels, base_filters=base_filters)
    move_statistics(network, batch_norm_momentum)
    return network
