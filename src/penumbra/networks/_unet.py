"""The U-Net of the thesis in two and three dimensions: one definition for :mod:`unet2d` and :mod:`unet3d`."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from penumbra.errors import PenumbraError

_SMALL = 2**18
"""Voxels."""


class _Level(nn.Sequential):
    def __init__(self, dimensions: int, channels_in: int, channels_out: int, dropout: float, momentum: float) -> None:
        norm, drop = (nn.BatchNorm2d, nn.Dropout2d) if dimensions == 2 else (nn.BatchNorm3d, nn.Dropout3d)
        layers: list[nn.Module] = []
        for width in (channels_in, channels_out):
            layers += [
                _convolution(dimensions, width, channels_out),
                nn.ReLU(),
                norm(channels_out, momentum=momentum),
                drop(dropout),
            ]
        super().__init__(*layers)


def _convolution(dimensions: int, channels_in: int, channels_out: int) -> nn.Module:
    convolution = nn.Conv2d if dimensions == 2 else nn.Conv3d
    return convolution(channels_in, channels_out, kernel_size=3, padding=1)


def max_pool3d(volumes: torch.Tensor) -> torch.Tensor:
    """2x2x2 max pooling as torch's, ties included, by operations that have a deterministic gradient on CUDA too."""
    if volumes.device.type == "cpu":
        return functional.max_pool3d(volumes, 2)
    batch, channels, height, width, depth = volumes.shape
    pooled = functional.max_pool2d(volumes.reshape(batch, channels, height * width, depth), (1, 2))
    pooled = pooled.reshape(batch * channels, height, width, depth // 2).movedim(3, 1)
    pooled = functional.max_pool2d(pooled, 2).movedim(1, 3)
    return pooled.reshape(batch, channels, height // 2, width // 2, depth // 2)


class UNet(nn.Module):
    """Maps (B, channels_in, H, W), in three dimensions (B, channels_in, H, W, D), to logits with ``channels_out``.

    Initialised by torch's defaults from the global generator: seed it before building.
    """

    def __init__(
        self,
        dimensions: int,
        channels_in: int,
        channels_out: int,
        *,
        depth: int,
        base_filters: int,
        dropout: float,
        momentum: float,
    ) -> None:
        super().__init__()
        self.dimensions, self.depth = dimensions, depth
        widths = [base_filters * 2**level for level in range(depth)]
        self.encoder = nn.ModuleList(
            _Level(dimensions, before, after, dropout, momentum)
            for before, after in zip([channels_in, *widths[:-1]], widths, strict=True)
        )
        self.bottom = _Level(dimensions, widths[-1], widths[-1], dropout, momentum)
        self.decoder = nn.ModuleList(
            _Level(dimensions, below + width, width, dropout, momentum)
            for below, width in zip([widths[-1], *reversed(widths[1:])], reversed(widths), strict=True)
        )
        self.last = _convolution(dimensions, base_filters, channels_out)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of a batch.

        Raises
        ------
        PenumbraError : a side of the images is shorter than 2^depth, or, in training, batch normalisation has one value
            a channel at the bottom.
        """
        size = images.shape[2:]
        if min(size) < 2**self.depth:
            items, unit = ("slices", "pixels") if self.dimensions == 2 else ("volumes", "voxels")
            raise PenumbraError(
                f"{items} of {' x '.join(map(str, size))} {unit} are too small for depth {self.depth}",
                cure=f"crop to at least {2**self.depth} {unit} a side (`geometry.crop`), or lower `depth`",
            )
        if self.training and len(images) == 1 and max(size) < 2 ** (self.depth + 1):
            raise PenumbraError(
                f"a batch of one item of {' x '.join(map(str, size))} leaves one value a channel at depth {self.depth},"
                " of which batch normalisation has no deviation",
                cure="enlarge geometry.crop, lower `depth`, or choose training.batch_size so that no batch is of one",
            )
        if self._slow_alone(images):
            return self._logits(images.expand(2, -1, -1, -1, -1))[:1]
        return self._logits(images)

    def _slow_alone(self, images: torch.Tensor) -> bool:
        """Whether torch convolves them faster twice: one small volume alone takes a native loop instead of oneDNN."""
        small = images.ndim == 5 and len(images) == 1 and images.numel() < _SMALL
        return small and images.device.type == "cpu" and not self.training

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        mode = "bilinear" if self.dimensions == 2 else "trilinear"
        features, skips = images, []
        for level in self.encoder:
            features = level(features)
            skips.append(features)
            features = functional.max_pool2d(features, 2) if self.dimensions == 2 else max_pool3d(features)
        features = self.bottom(features)
        for level, skip in zip(self.decoder, reversed(skips), strict=True):
            features = functional.interpolate(features, size=skip.shape[2:], mode=mode, align_corners=True)
            features = level(torch.cat([features, skip], dim=1))
        logits: torch.Tensor = self.last(features)
        return logits
