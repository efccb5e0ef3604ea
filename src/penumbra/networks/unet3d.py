"""The U-Net of :mod:`unet2d` in three dimensions, for data sets that keep whole volumes.

Layer by layer the same with 3x3x3 convolutions, 2x2x2 max pooling, trilinear upsampling (corners aligned), batch
normalisation and dropout of whole channels over the volume. Each side, along z too, must be at least 2^depth.

The thesis trains on slices alone.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from penumbra.networks._unet import UNet

DIMENSIONS = 3


def build(
    channels_in: int,
    channels_out: int,
    *,
    depth: Annotated[int, Field(ge=1, le=8)] = 3,
    base_filters: Annotated[int, Field(ge=1)] = 64,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.4,
    batch_norm_momentum: Annotated[float, Field(gt=0, le=1)] = 0.9,
) -> UNet:
    """Make the U-Net; options as those of ``unet2d``."""
    return UNet(
        DIMENSIONS,
        channels_in,
        channels_out,
        depth=depth,
        base_filters=base_filters,
        dropout=dropout,
        momentum=batch_norm_momentum,
    )
