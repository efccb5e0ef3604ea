"""The residual U-Net in three dimensions of the varying Tversky loss and its hypernetworks: MONAI's ``UNet``.

Two convolutions a residual unit, strides of 2 between levels, 3x3x3 kernels up and down, batch normalisation, PReLU.
With two output channels the network that the paper calls ResUNet (channels 16 to 256) has 4,808,917 parameters, and the
primary network of its hypernetworks (32, 32, 64, 64, 128) 2,007,173. Each side, along z too, must be a multiple of
2 to the number of levels below the first (16 for five).
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from penumbra.errors import PenumbraError

DIMENSIONS = 3


def build(
    channels_in: int,
    channels_out: int,
    *,
    channels: list[int] = [16, 32, 64, 128, 256],  # noqa: B006 - never changed
    residual_units: Annotated[int, Field(ge=0, le=8)] = 2,
) -> torch.nn.Module:
    """Make the network.

    Parameters
    ----------
    channels : of each level, from the finest. residual_units : convolutions of a level, with a connection around them.

    Raises
    ------
    PenumbraError : there are fewer than two levels, or a level without channels.
    """
    if len(channels) < 2 or min(channels) < 1:
        raise PenumbraError(
            f"the network has the channels {channels}", cure="give at least two levels, each at least one channel"
        )
    from monai.networks.nets import UNet

    network = UNet(
        spatial_dims=DIMENSIONS,
        in_channels=channels_in,
        out_channels=channels_out,
        channels=channels,
        strides=[2] * (len(channels) - 1),
        num_res_units=residual_units,
        norm="BATCH",
        act="PRELU",
    )
    network.register_forward_pre_hook(_check_size)
    return network


def _check_size(network: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    size, step = tuple(inputs[0].shape[2:]), 2 ** len(network.strides)  # type: ignore[arg-type]
    if any(n % step for n in size):
        raise PenumbraError(
            f"the network halves its input {len(network.strides)} times, and the input is {size}",  # type: ignore[arg-type]
            cure=f"set geometry.crop, or the predictor's window, to multiples of {step}",
        )
