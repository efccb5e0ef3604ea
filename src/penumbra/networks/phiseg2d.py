"""PHiSeg (Baumgartner et al. 2019) as a rival of stochastic segmentation networks on LIDC (their table 1).

Latent variables are maps at several resolutions, ``latent`` channels each: the finest at 1 / 2^(levels -
latent_levels) of the image's sides, every coarser one at half of that. Prior and posterior are of one form (the
posterior also sees the label's shares minus 0.5): an encoder, and then from the coarsest level to the finest a normal
whose mean and deviation (softplus) are convolutions of the encoder's features there and, below the coarsest, of the
level above's draw. In training the prior is conditioned on the posterior's draws.

Each level's draw is decoded by two units, and enlarged levels - latent_levels times, a unit after each; from coarse to
fine the next coarser features, enlarged, join by two units. Every level gives logits by a 1x1 convolution, which are
repeated to the image's size; the segmentation is the sum over levels, and a loss may see the sum up to each.

As the released code of stochastic segmentation networks ran it: 7 resolutions, 5 latent levels of 2 channels. Its
branches that lead nowhere (draws enlarged beyond the next level) are left out. Labels and logits as in
``probabilistic_unet2d``.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Annotated

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from penumbra.activations._precision import at_least_float32
from penumbra.errors import PenumbraError
from penumbra.networks._lidc import Encoder, move_statistics, units, upsampled, widths
from penumbra.networks.latent import Evidence, IndependentNormal, LatentDistribution, shown_labels

DIMENSIONS = 2
LATENT = True
"""Its logits come from latent variables; it is trained by the loss ``elbo``."""

Choose = Callable[[int, IndependentNormal], torch.Tensor]
"""The latent variables of a level, given its number and normal."""


class _Level(nn.Module):
    """The normal of one level, from the encoder's features and the draw above."""

    def __init__(self, features: int, wide: int, latent: int, base_filters: int, coarsest: bool) -> None:
        super().__init__()
        self.above = None if coarsest else units(latent, latent * base_filters, count=2)
        self.joined = None if coarsest else units(features + latent * base_filters, wide, count=2)
        last = features if coarsest else wide
        self.mean = nn.Conv2d(last, latent, 3, padding=1) if coarsest else nn.Conv2d(last, latent, 1)
        self.deviation = nn.Conv2d(last, latent, 1)

    def forward(self, features: torch.Tensor, above: torch.Tensor | None) -> IndependentNormal:
        if self.above is not None and self.joined is not None and above is not None:
            features = self.joined(torch.cat([features, self.above(upsampled(above))], dim=1))
        return IndependentNormal(
            at_least_float32(self.mean(features)), functional.softplus(at_least_float32(self.deviation(features)))
        )


class Ladder(nn.Module):
    """Prior or posterior: features of images, and a walk down the levels, the coarsest first."""

    def __init__(self, channels_in: int, latent: int, *, levels: int, latent_levels: int, base_filters: int) -> None:
        super().__init__()
        self.encoder = Encoder(channels_in, levels, base_filters)
        wide, self.skipped = widths(levels, base_filters), levels - latent_levels
        self.normals = nn.ModuleList(
            _Level(wide[level + self.skipped], wide[level], latent, base_filters, level == latent_levels - 1)
            for level in range(latent_levels)
        )

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The encoder's features at the scale of each latent level, the finest first."""
        return list(self.encoder(images)[self.skipped :])

    def walk(self, features: list[torch.Tensor], choose: Choose) -> tuple[list[IndependentNormal], list[torch.Tensor]]:
        """Normals and chosen latent variables of all levels, the finest first."""
        normals: list[IndependentNormal] = []
        chosen: list[torch.Tensor] = []
        for level in range(len(features) - 1, -1, -1):
            normal = self.normals[level](features[level], chosen[0] if chosen else None)
            chosen.insert(0, choose(level, normal))
            normals.insert(0, normal)
        return normals, chosen


class Enlarged(nn.Module):
    """:func:`upsampled` as a layer."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return upsampled(features)


class Likelihood(nn.Module):
    """Latent variables of all levels to logits of each (B, channels_out, H, W), the finest first."""

    def __init__(self, channels_out: int, latent: int, *, levels: int, latent_levels: int, base_filters: int) -> None:
        super().__init__()
        wide = widths(levels, base_filters)
        self.decoded = nn.ModuleList(units(latent, wide[level], count=2) for level in range(latent_levels))
        self.larger = nn.ModuleList(
            nn.Sequential(*(nn.Sequential(Enlarged(), units(w, w, count=1)) for _ in range(levels - latent_levels)))
            for w in wide[:latent_levels]
        )
        # The coarsest level has nothing to join: as wide as its own draw is decoded.
        joined = [wide[level + levels - latent_levels] for level in range(latent_levels - 1)] + [
            wide[latent_levels - 1]
        ]
        self.coarser = nn.ModuleList(units(joined[k + 1], wide[k], count=1) for k in range(latent_levels - 1))
        self.joined = nn.ModuleList(units(2 * wide[k], joined[k], count=2) for k in range(latent_levels - 1))
        self.last = nn.ModuleList(nn.Conv2d(joined[level], channels_out, 1) for level in range(latent_levels))

    def forward(self, latent: list[torch.Tensor]) -> list[torch.Tensor]:
        own = []
        for level, values in enumerate(latent):
            own.append(self.larger[level](self.decoded[level](values)))
        found = [own[-1]]
        for level in range(len(latent) - 2, -1, -1):
            coarser = self.coarser[level](upsampled(found[0]))
            found.insert(0, self.joined[level](torch.cat([own[level], coarser], dim=1)))
        logits = [last(features) for last, features in zip(self.last, found, strict=True)]
        return [
            each.repeat_interleave(2**level, dim=2).repeat_interleave(2**level, dim=3) if level else each
            for level, each in enumerate(logits)
        ]


class PHiSeg(nn.Module):
    """Maps (B, channels_in, H, W) to a :class:`Segmentations` of logits (B, channels_out, H, W).

    Initialised by torch's defaults from the global generator: seed it before building.
    """

    def __init__(
        self, channels_in: int, channels_out: int, *, latent: int, levels: int, latent_levels: int, base_filters: int
    ) -> None:
        super().__init__()
        self.channels_out = channels_out
        sizes = {"levels": levels, "latent_levels": latent_levels, "base_filters": base_filters}
        self.prior = Ladder(channels_in, latent, **sizes)
        self.posterior = Ladder(channels_in + channels_out, latent, **sizes)
        self.likelihood = Likelihood(channels_out, latent, **sizes)

    def forward(self, images: torch.Tensor) -> Segmentations:
        """The distribution of a batch; errors as of :class:`penumbra.networks._lidc.Encoder`."""
        return Segmentations(self, images, self.prior.features(images))


class Segmentations(LatentDistribution):
    """The segmentations of a batch of images, and what the prior sees of them."""

    def __init__(self, network: PHiSeg, images: torch.Tensor, features: list[torch.Tensor]) -> None:
        super().__init__(images)
        self.network, self.features = network, features

    def _decoded(self, choose: Choose) -> torch.Tensor:
        _, latent = self.network.prior.walk(self.features, choose)
        levels: list[torch.Tensor] = self.network.likelihood(latent)
        return torch.stack(levels).sum(dim=0)

    def _draw(self) -> torch.Tensor:
        return self._decoded(lambda level, normal: normal.sample())

    def _central(self) -> torch.Tensor:
        return self._decoded(lambda level, normal: normal.mean)

    def _evidence(self, target: torch.Tensor) -> Evidence:
        network = self.network
        shown = shown_labels(target, network.channels_out)
        seen = network.posterior.features(torch.cat([self.images, shown], dim=1))
        posteriors, latent = network.posterior.walk(seen, lambda level, normal: normal.sample())
        priors, _ = network.prior.walk(self.features, lambda level, normal: latent[level])
        logits: list[torch.Tensor] = network.likelihood(latent)
        return Evidence(
            logits=list(accumulate(logits[::-1]))[::-1],
            divergences=[after.divergence(before) for after, before in zip(posteriors, priors, strict=True)],
        )


def build(
    channels_in: int,
    channels_out: int,
    *,
    latent: Annotated[int, Field(ge=1)] = 2,
    levels: Annotated[int, Field(ge=2, le=7)] = 7,
    latent_levels: Annotated[int, Field(ge=1, le=7)] = 5,
    base_filters: Annotated[int, Field(ge=1)] = 32,
    batch_norm_momentum: Annotated[float, Field(gt=0, le=1)] = 0.01,
) -> PHiSeg:
    """Make the network.

    Parameters
    ----------
    latent : channels of a level's latent variables. levels : resolutions of the encoders. latent_levels : how many of
        the coarsest of them have latent variables. base_filters : channels of the first level.
    batch_norm_momentum : weight of the newest batch in the running statistics; the published 0.01 suits long trainings.

    Raises
    ------
    PenumbraError : more latent levels than resolutions.
    """
    if latent_levels > levels:
        raise PenumbraError(
            f"the network phiseg2d has {latent_levels} latent levels on {levels} resolutions",
            cure="lower latent_levels or raise levels",
        )
    network = PHiSeg(
        channels_in, channels_out, latent=latent, levels=levels, latent_levels=latent_levels, base_filters=base_filters
    )
    move_statistics(network, batch_norm_momentum)
    return network
