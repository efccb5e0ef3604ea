"""The 2-D U-Net of the thesis (4.3.3), with the layers that its released code builds.

A level is twice (3x3 convolution with bias, ReLU, batch normalisation, spatial dropout). Encoder: ``depth`` levels of
``base_filters`` x 1, 2, 4, ... channels, each followed by 2x2 max pooling; the bottom level keeps the width of the
last one. Decoder: bilinear upsampling (corners aligned) to the size of the skip connection, concatenation, one
level as wide as the skip connection. A last 3x3 convolution gives the output channels; the final activation is a
part of its own. Learnable parameters at 64 base filters: 4,837,249 (depth 3, 1 to 1 channels), 19,592,833 (depth 4,
5 to 1).

Upsampling to the skip's size takes odd sizes too; each side must be at least 2^depth.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from penumbra.networks._unet import UNet

DIMENSIONS = 2


def build(
    channels_in: int,
    channels_out: int,
    *,
    depth: Annotated[int, Field(ge=1, le=8)] = 3,
    base_filters: Annotated[int, Field(ge=1)] = 64,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.4,
    batch_norm_momentum: Annotated[float, Field(gt=0, le=1)] = 0.9,
) -> UNet:
    """Make the U-Net.

    Parameters
    ----------
    depth : number of downsamplings (thesis: 3 for spinal cord, 4 for MS and BraTS).
    base_filters : channels of the first level.
    dropout : rate of the spatial dropout; 0.4 is what the released code applied, the thesis' text says 0.3.
    batch_norm_momentum : weight of the *newest* batch in the running statistics (torch's convention); 0.9 as
        published.
    """
    return UNet(
        DIMENSIONS,
        channels_in,
        channels_out,
        depth=depth,
        base_filters=base_filters,
        dropout=dropout,
        momentum=batch_norm_momentum,
    )
