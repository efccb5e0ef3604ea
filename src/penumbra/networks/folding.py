"""Batch normalisation folded into the convolution before it: the same function with fewer passes over the data.

At evaluation a batch normalisation is a scale and a shift for each channel, which the convolution's weights and bias
can take over exactly, but for rounding. Other normalisations depend on the input and stay.
"""

from __future__ import annotations

import copy

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.fusion import fuse_conv_bn_eval


def folded(network: torch.nn.Module) -> torch.nn.Module:
    """A copy of a network at evaluation in which each batch normalisation right behind a convolution is folded into it.

    "Right behind" is known of MONAI's ``Convolution`` blocks alone (convolution, then normalisation, then activation);
    a network without them is returned as it is.
    """
    from monai.networks.blocks import Convolution

    if not any(isinstance(block, Convolution) for block in network.modules()):
        return network
    network = copy.deepcopy(network).eval()
    for block in network.modules():
        if not isinstance(block, Convolution):
            continue
        convolution, after = getattr(block, "conv", None), getattr(block, "adn", None)
        if not isinstance(convolution, _ConvNd) or not isinstance(after, torch.nn.Module):
            continue
        first, norm = next(after.named_children(), ("", None))
        if isinstance(norm, _BatchNorm):
            block.conv = fuse_conv_bn_eval(convolution, norm, transpose=isinstance(convolution, _ConvTransposeNd))
            setattr(after, first, torch.nn.Identity())
    return network
