"""The probabilistic U-Net (Kohl et al. 2018) as a rival of stochastic segmentation networks on LIDC (their table 1).

A U-Net's last features are joined by ``latent`` numbers that are the same everywhere in the image; three 1x1 units and
a 1x1 convolution make logits of both, so that one draw of the numbers is one segmentation. They are normal. The prior
is an encoder of the image; the posterior one of image and label, the label's shares minus 0.5; each is as deep as the
U-Net's own, followed by two 1x1 convolutions (mean; deviation, through softplus) whose outputs are averaged over the
image.

As the released code of stochastic segmentation networks ran it (which took it from PHiSeg's): 7 levels, 6 latent
variables, units as in ``lidc_unet2d``. A class and its background are one logit here, and one channel of the label: the
released code's two channels, each the other's negative, say the same.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from penumbra.activations._precision import at_least_float32
from penumbra.networks._lidc import Decoder, Encoder, move_statistics, units, widths
from penumbra.networks.latent import Evidence, IndependentNormal, LatentDistribution, shown_labels

DIMENSIONS = 2
LATENT = True
"""Its logits come from latent variables; it is trained by the loss ``elbo``."""


class Global(nn.Module):
    """Images (B, C, H, W) to the normal of latent variables (B, latent)."""

    def __init__(self, channels_in: int, latent: int, *, levels: int, base_filters: int) -> None:
        super().__init__()
        self.encoder = Encoder(channels_in, levels, base_filters)
        deepest = widths(levels, base_filters)[-1]
        self.mean, self.deviation = nn.Conv2d(deepest, latent, 1), nn.Conv2d(deepest, latent, 1)

    def forward(self, images: torch.Tensor) -> IndependentNormal:
        deepest = self.encoder(images)[-1]
        mean, deviation = at_least_float32(self.mean(deepest)), at_least_float32(self.deviation(deepest))
        return IndependentNormal(mean.mean(dim=(2, 3)), functional.softplus(deviation).mean(dim=(2, 3)))


class ProbabilisticUNet(nn.Module):
    """Maps (B, channels_in, H, W) to a :class:`Segmentations` of logits (B, channels_out, H, W).

    Initialised by torch's defaults from the global generator: seed it before building.
    """

    def __init__(self, channels_in: int, channels_out: int, *, latent: int, levels: int, base_filters: int) -> None:
        super().__init__()
        self.encoder = Encoder(channels_in, levels, base_filters)
        self.decoder = Decoder(levels, base_filters)
        self.recombination = units(widths(levels, base_filters)[1] + latent, base_filters, kernel=1)
        self.last = nn.Conv2d(base_filters, channels_out, kernel_size=1)
        self.prior = Global(channels_in, latent, levels=levels, base_filters=base_filters)
        self.posterior = Global(channels_in + channels_out, latent, levels=levels, base_filters=base_filters)

    def forward(self, images: torch.Tensor) -> Segmentations:
        """The distribution of a batch; errors as of :class:`penumbra.networks._lidc.Encoder`."""
        return Segmentations(self, images, self.decoder(self.encoder(images)), self.prior(images))

    def decode(self, features: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
        """Logits of the U-Net's features (B, C, H, W) and latent variables (B, latent)."""
        everywhere = latent[:, :, None, None].expand(-1, -1, *features.shape[2:])
        logits: torch.Tensor = self.last(self.recombination(torch.cat([features, everywhere], dim=1)))
        return logits


class Segmentations(LatentDistribution):
    """The segmentations of a batch of images: their features, and the prior of their latent variables."""

    def __init__(
        self, network: ProbabilisticUNet, images: torch.Tensor, features: torch.Tensor, prior: IndependentNormal
    ) -> None:
        super().__init__(images)
        self.network, self.features, self.prior = network, features, prior

    def _draw(self) -> torch.Tensor:
        return self.network.decode(self.features, self.prior.sample())

    def _central(self) -> torch.Tensor:
        return self.network.decode(self.features, self.prior.mean)

    def _evidence(self, target: torch.Tensor) -> Evidence:
        shown = shown_labels(target, self.network.last.out_channels)
        posterior = self.network.posterior(torch.cat([self.images, shown], dim=1))
        logits = self.network.decode(self.features, posterior.sample())
        return Evidence([logits], [posterior.divergence(self.prior)])


def build(
    channels_in: int,
    channels_out: int,
    *,
    latent: Annotated[int, Field(ge=1)] = 6,
    levels: Annotated[int, Field(ge=2, le=7)] = 7,
    base_filters: Annotated[int, Field(ge=1)] = 32,
    batch_norm_momentum: Annotated[float, Field(gt=0, le=1)] = 0.01,
) -> ProbabilisticUNet:
    """Make the network.

    Parameters
    ----------
    latent : latent variables of an image. levels, base_filters, batch_norm_momentum : of the U-Net and of
        both encoders, as of ``lidc_unet2d``.
    """
    network = ProbabilisticUNet(channels_in, channels_out, latent=latent, levels=levels, base_filters=base_filters)
    move_statistics(network, batch_norm_momentum)
    return network
