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

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from penumbra.errors import PenumbraError


class _Level(nn.Sequential):
    def __init__(self, channels_in: int, channels_out: int, dropout: float, momentum: float) -> None:
        layers: list[nn.Module] = []
        for width in (channels_in, channels_out):
            layers += [
                nn.Conv2d(width, channels_out, kernel_size=3, padding=1),
                nn.ReLU(),
                nn.BatchNorm2d(channels_out, momentum=momentum),
                nn.Dropout2d(dropout),
            ]
        super().__init__(*layers)


class UNet2D(nn.Module):
    """See the module's docstring; ``forward`` maps (B, channels_in, H, W) to logits (B, channels_out, H, W).

    Initialised by torch's defaults from the global generator: seed it before building.
    """

    def __init__(
        self, channels_in: int, channels_out: int, depth: int, base_filters: int, dropout: float, momentum: float
    ) -> None:
        super().__init__()
        self.depth = depth
        widths = [base_filters * 2**level for level in range(depth)]
        self.encoder = nn.ModuleList(
            _Level(before, after, dropout, momentum)
            for before, after in zip([channels_in, *widths[:-1]], widths, strict=True)
        )
        self.bottom = _Level(widths[-1], widths[-1], dropout, momentum)
        self.decoder = nn.ModuleList(
            _Level(below + width, width, dropout, momentum)
            for below, width in zip([widths[-1], *reversed(widths[1:])], reversed(widths), strict=True)
        )
        self.last = nn.Conv2d(base_filters, channels_out, kernel_size=3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of a batch.

        Raises
        ------
        PenumbraError : a side of the images is shorter than 2^depth.
        """
        if min(images.shape[-2:]) < 2**self.depth:
            raise PenumbraError(
                f"slices of {images.shape[-2]} x {images.shape[-1]} pixels are too small for depth {self.depth}",
                cure=f"crop to at least {2**self.depth} pixels a side (`geometry.crop`), or lower `depth`",
            )
        features, skips = images, []
        for level in self.encoder:
            features = level(features)
            skips.append(features)
            features = functional.max_pool2d(features, 2)
        features = self.bottom(features)
        for level, skip in zip(self.decoder, reversed(skips), strict=True):
            features = functional.interpolate(features, size=skip.shape[-2:], mode="bilinear", align_corners=True)
            features = level(torch.cat([features, skip], dim=1))
        logits: torch.Tensor = self.last(features)
        return logits


def build(
    channels_in: int,
    channels_out: int,
    *,
    depth: Annotated[int, Field(ge=1, le=8)] = 3,
    base_filters: Annotated[int, Field(ge=1)] = 64,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.4,
    batch_norm_momentum: Annotated[float, Field(gt=0, le=1)] = 0.9,
) -> UNet2D:
    """Make the U-Net.

    Parameters
    ----------
    depth : number of downsamplings (thesis: 3 for spinal cord, 4 for MS and BraTS).
    base_filters : channels of the first level.
    dropout : rate of the spatial dropout; 0.4 is what the released code applied, the thesis' text says 0.3.
    batch_norm_momentum : weight of the *newest* batch in the running statistics (torch's convention); 0.9 as
        published.
    """
    return UNet2D(channels_in, channels_out, depth, base_filters, dropout, batch_norm_momentum)
