"""The 2-D U-Net of the LIDC experiments of stochastic segmentation networks (Monteiro et al. 2020, section 5.2).

Not told in the paper; this is the architecture that its released code takes over from PHiSeg's. A level is three times
(3x3 convolution without bias, batch normalisation, ReLU). Encoder: 7 levels of ``base_filters`` x 1, 2, 4, 6, 6, 6, 6
channels, with 2x2 average pooling between them. Decoder: bilinear upsampling by 2, concatenation with the encoder's
level of that size, one level as wide as the *deeper* of the two. Three 1x1 convolutions of ``base_filters`` channels,
normalised and rectified alike, and a last 1x1 convolution with bias to the output channels. Batch normalisation has an
epsilon of 1e-3 and running statistics that move by 0.01 a step.

Upsampling keeps every value in place and puts means of neighbours between them, as TensorFlow 1 did: value 2i of the
output is value i of the input, value 2i + 1 the mean of i and i + 1, the last one repeated. Learnable parameters at 32
base filters, 1 to 1 channels: 10,319,809.

Sides must be multiples of 2^(levels - 1), 64 for 7 levels.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from penumbra.errors import PenumbraError

DIMENSIONS = 2

MULTIPLES = (1, 2, 4, 6, 6, 6, 6)


def upsampled(features: torch.Tensor) -> torch.Tensor:
    """Twice the size, (B, C, H, W) to (B, C, 2H, 2W), with values in place and means between them."""
    height, width = features.shape[2:]
    longer = functional.pad(features, (0, 1, 0, 1), mode="replicate")
    size = (2 * height + 1, 2 * width + 1)
    return functional.interpolate(longer, size=size, mode="bilinear", align_corners=True)[..., :-1, :-1]


def _unit(channels_in: int, channels_out: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(channels_out, eps=1e-3, momentum=0.01),
        nn.ReLU(),
    )


def _level(channels_in: int, channels_out: int, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(*(_unit(c, channels_out, kernel) for c in (channels_in, channels_out, channels_out)))


class LidcUNet(nn.Module):
    """Maps (B, channels_in, H, W) to logits (B, channels_out, H, W).

    Initialised by torch's defaults from the global generator: seed it before building.
    """

    def __init__(self, channels_in: int, channels_out: int, *, levels: int, base_filters: int) -> None:
        super().__init__()
        widths = [base_filters * multiple for multiple in MULTIPLES[:levels]]
        self.encoder = nn.ModuleList(_level(a, b) for a, b in zip([channels_in, *widths[:-1]], widths, strict=True))
        before = [widths[-1], *widths[:1:-1]]
        self.decoder = nn.ModuleList(
            _level(below + skip, wide) for below, skip, wide in zip(before, widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.recombination = _level(widths[1], base_filters, kernel=1)
        self.last = nn.Conv2d(base_filters, channels_out, kernel_size=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of a batch.

        Raises
        ------
        PenumbraError : a side is no multiple of 2^(levels - 1), or, in training, batch normalisation has one value a
            channel at the bottom.
        """
        unit, size = 2 ** (len(self.encoder) - 1), images.shape[2:]
        if any(side % unit or not side for side in size):
            raise PenumbraError(
                f"slices of {' x '.join(map(str, size))} pixels cannot be halved {len(self.encoder) - 1} times",
                cure=f"crop to multiples of {unit} (`geometry.crop`), or lower `levels`",
            )
        if self.training and len(images) == 1 and max(size) == unit:
            raise PenumbraError(
                f"a batch of one slice of {' x '.join(map(str, size))} pixels leaves one value a channel at the "
                "deepest level, of which batch normalisation has no deviation",
                cure="enlarge geometry.crop, lower `levels`, or choose training.batch_size so that no batch is of one",
            )
        features, skips = images, []
        for number, level in enumerate(self.encoder):
            features = level(functional.avg_pool2d(features, 2) if number else features)
            skips.append(features)
        for level, skip in zip(self.decoder, skips[-2::-1], strict=True):
            features = level(torch.cat([upsampled(features), skip], dim=1))
        logits: torch.Tensor = self.last(self.recombination(features))
        return logits


def build(
    channels_in: int,
    channels_out: int,
    *,
    levels: Annotated[int, Field(ge=2, le=7)] = 7,
    base_filters: Annotated[int, Field(ge=1)] = 32,
) -> LidcUNet:
    """Make the U-Net.

    Parameters
    ----------
    levels : resolutions, the first 2 to 7 of the published ones. base_filters : channels of the first level.
    """
    return LidcUNet(channels_in, channels_out, levels=levels, base_filters=base_filters)
