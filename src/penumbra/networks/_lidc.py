"""What the networks of the LIDC experiments are built of: the U-Net, the probabilistic U-Net and PHiSeg.

A unit is a convolution without bias, batch normalisation (an epsilon of 1e-3, running statistics that move by 0.01 a
step unless told otherwise) and a ReLU. An encoder has up to 7 levels of ``base_filters`` x 1, 2, 4, 6, 6, 6, 6
channels, each three 3x3 units, with 2x2 average pooling between them.

Upsampling keeps every value in place and puts means of neighbours between them, as TensorFlow 1 did: value 2i of the
output is value i of the input, value 2i + 1 the mean of i and i + 1, the last one repeated.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from penumbra.errors import PenumbraError

MULTIPLES = (1, 2, 4, 6, 6, 6, 6)


def widths(levels: int, base_filters: int) -> list[int]:
    """Channels of each level, full resolution first."""
    return [base_filters * multiple for multiple in MULTIPLES[:levels]]


def upsampled(features: torch.Tensor) -> torch.Tensor:
    """Twice the size, (B, C, H, W) to (B, C, 2H, 2W), with values in place and means between them."""
    height, width = features.shape[2:]
    longer = functional.pad(features, (0, 1, 0, 1), mode="replicate")
    size = (2 * height + 1, 2 * width + 1)
    return functional.interpolate(longer, size=size, mode="bilinear", align_corners=True)[..., :-1, :-1]


def move_statistics(network: nn.Module, momentum: float) -> None:
    """Have all running statistics of a network move by this share towards a batch's."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = momentum


def units(channels_in: int, channels_out: int, *, count: int = 3, kernel: int = 3) -> nn.Sequential:
    """So many units one after another, the first from ``channels_in`` channels."""
    return nn.Sequential(
        *(
            nn.Sequential(
                nn.Conv2d(channels_out if k else channels_in, channels_out, kernel, padding=kernel // 2, bias=False),
                nn.BatchNorm2d(channels_out, eps=1e-3, momentum=0.01),
                nn.ReLU(),
            )
            for k in range(count)
        )
    )


class Encoder(nn.ModuleList):
    """Maps (B, channels_in, H, W) to the features of every level, full resolution first."""

    def __init__(self, channels_in: int, levels: int, base_filters: int) -> None:
        wide = widths(levels, base_filters)
        super().__init__(units(a, b) for a, b in zip([channels_in, *wide[:-1]], wide, strict=True))

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Features of a batch.

        Raises
        ------
        PenumbraError : a side is no multiple of 2^(levels - 1), or, in training, batch normalisation has one value a
            channel at the bottom.
        """
        unit, size = 2 ** (len(self) - 1), images.shape[2:]
        if any(side % unit or not side for side in size):
            raise PenumbraError(
                f"slices of {' x '.join(map(str, size))} pixels cannot be halved {len(self) - 1} times",
                cure=f"crop to multiples of {unit} (`geometry.crop`), or lower `levels`",
            )
        if self.training and len(images) == 1 and max(size) == unit:
            raise PenumbraError(
                f"a batch of one slice of {' x '.join(map(str, size))} pixels leaves one value a channel at the "
                "deepest level, of which batch normalisation has no deviation",
                cure="enlarge geometry.crop, lower `levels`, or choose training.batch_size so that no batch is of one",
            )
        features, found = images, []
        for number, level in enumerate(self):
            features = level(functional.avg_pool2d(features, 2) if number else features)
            found.append(features)
        return found


class Decoder(nn.ModuleList):
    """Maps an encoder's features to features of full resolution, as many channels as the second level has.

    A level upsamples, concatenates the encoder's features of that size, and has three 3x3 units as wide as the *deeper*
    of the two.
    """

    def __init__(self, levels: int, base_filters: int) -> None:
        wide = widths(levels, base_filters)
        before = [wide[-1], *wide[:1:-1]]
        super().__init__(units(a + skip, b) for a, skip, b in zip(before, wide[-2::-1], wide[:0:-1], strict=True))

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Features (B, widths[1], H, W)."""
        found = features[-1]
        for level, skip in zip(self, features[-2::-1], strict=True):
            found = level(torch.cat([upsampled(found), skip], dim=1))
        return found
