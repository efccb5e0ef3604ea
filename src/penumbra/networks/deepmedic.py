"""DeepMedic as in the BraTS experiments of stochastic segmentation networks (Monteiro et al. 2020, section 5.3).

The paper names it; this is the architecture that its code built. Three paths see the image at 1/5, 1/3 and its full
resolution: every fifth (third) voxel is taken, eight 3x3x3 convolutions without padding of 30, 30, 40, 40, 40, 40, 50,
50 channels follow, and each voxel is repeated again. Then three 1x1x1 convolutions of 250, 250 and the output channels,
the last two after dropout. Units are pre-activated (batch normalisation, dropout, PReLU of one slope, convolution
without bias), but for the first of each path, whose normalisation and slope were built and never used: they are kept,
since they count in the published size. A unit's input is added to its output where both have as many channels, so never
in the first unit of a width.

Learnable parameters, 4 contrasts to 4 channels: 1,037,091. With ``features: 50`` the last of the three convolutions
gives 50 channels, and a ReLU and one more 1x1x1 convolution with bias follow: with the head ``low_rank_normal`` of rank
10 that is 1,051,039, the stochastic network of the paper.

A path's receptive field is 81, 49 or 17 voxels a side. The released code trains on patches that are 40 voxels larger on
each side than their labels (110 for 30, 140 for 60), which :meth:`DeepMedic.valid` does; to predict as many voxels as
it is shown the network pads the image with zeros, as much as the coarsest path needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from penumbra.networks.windows import Size, centre

DIMENSIONS = 3

SCALES = (5, 3, 1)
WIDTHS = (30, 30, 40, 40, 40, 40, 50, 50)
FULLY_CONNECTED = (250, 250)
DROPOUT = (0.0, 0.5, 0.5)
MARGIN = 2 * len(WIDTHS)
"""Voxels a side, of a path's own resolution, that its convolutions take off."""


def repeated(volumes: torch.Tensor, times: int) -> torch.Tensor:
    """Every voxel of (B, C, H, W, D) ``times`` along each side; its gradient is a plain sum, deterministic on CUDA."""
    batch, channels, *size = volumes.shape
    apart = volumes[:, :, :, None, :, None, :, None]
    spread = apart.expand(batch, channels, *(n for side in size for n in (side, times)))
    return spread.reshape(batch, channels, *(side * times for side in size))


def shown(size: Size, scale: int) -> Size:
    """What a path must be shown, in voxels a side, to give labels for ``size``."""
    return tuple((-(-side // scale) + MARGIN) * scale for side in size)


class _Unit(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, kernel: int, dropout: float, first: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm3d(channels_in)
        self.dropout = nn.Dropout(dropout)
        self.slope = nn.PReLU()
        self.convolution = nn.Conv3d(channels_in, channels_out, kernel, bias=False)
        self.first, self.cut = first, kernel - 1

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        active = volumes if self.first else self.slope(self.dropout(self.norm(volumes)))
        found: torch.Tensor = self.convolution(active)
        if volumes.shape[1] == found.shape[1]:
            found = found + centre(volumes, tuple(found.shape[2:]))
        return found


class DeepMedic(nn.Module):
    """Maps (B, channels_in, H, W, D) to logits (B, channels_out, H, W, D).

    Initialised by torch's defaults from the global generator: seed it before building.
    """

    def __init__(self, channels_in: int, channels_out: int, *, features: int | None) -> None:
        super().__init__()
        before = [channels_in, *WIDTHS[:-1]]
        self.paths = nn.ModuleList(
            nn.Sequential(*(_Unit(a, b, 3, 0.0, not k) for k, (a, b) in enumerate(zip(before, WIDTHS, strict=True))))
            for _ in SCALES
        )
        widths = [len(SCALES) * WIDTHS[-1], *FULLY_CONNECTED, features or channels_out]
        units = [_Unit(a, b, 1, d, False) for a, b, d in zip(widths[:-1], widths[1:], DROPOUT, strict=True)]
        self.connected = nn.Sequential(*units)
        self.last = nn.Sequential(nn.ReLU(), nn.Conv3d(features, channels_out, 1)) if features else nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of a batch, for every voxel; beyond its border an image is taken to be 0."""
        size = tuple(images.shape[2:])
        needed = shown(size, max(SCALES))
        padding = []
        for side, whole in zip(reversed(size), reversed(needed), strict=True):
            low = whole // 2 - side // 2
            padding += [low, whole - side - low]
        return self._logits(functional.pad(images, padding), size)

    def valid(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of the middle of a batch of patches, as many as need nothing from beyond their border.

        Raises
        ------
        ValueError : a side is shorter than 85 voxels, which give 5 labels.
        """
        scale = max(SCALES)
        size = tuple((side // scale - MARGIN) * scale for side in images.shape[2:])
        if min(size) < 1:
            raise ValueError(f"a patch needs {(MARGIN + 1) * scale} voxels a side, got {tuple(images.shape[2:])}")
        return self._logits(images, size)

    def middle(self, images: torch.Tensor, size: Sequence[int]) -> torch.Tensor | None:
        """Logits of the middle of a batch of patches, or None where a path sees too little to give so many."""
        seen = shown(tuple(size), max(SCALES))
        if any(whole < side for whole, side in zip(images.shape[2:], seen, strict=True)):
            return None
        return self._logits(images, tuple(size))

    def _logits(self, images: torch.Tensor, size: Size) -> torch.Tensor:
        found = []
        for scale, path in zip(SCALES, self.paths, strict=True):
            seen = centre(images, shown(size, scale))
            every = slice(scale // 2, None, scale)
            features = path(seen[..., every, every, every])
            found.append(centre(repeated(features, scale), size))
        logits: torch.Tensor = self.last(self.connected(torch.cat(found, dim=1)))
        return logits


def build(channels_in: int, channels_out: int, *, features: Annotated[int, Field(ge=1)] | None = None) -> DeepMedic:
    """Make the network.

    Parameters
    ----------
    features : channels before one more convolution; none as deterministic, 50 as stochastic in the paper.
    """
    return DeepMedic(channels_in, channels_out, features=features)
