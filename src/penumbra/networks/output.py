"""What a network and its activation give to a loss."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch

from penumbra.networks.distribution import LogitDistribution
from penumbra.networks.latent import LatentDistribution


class ModelOutput:
    """Both sides of the final activation.

    ``logits`` (B, channels, H, W): the network's output. ``probabilities`` (B, K, H, W): foreground classes only,
    in [0, 1]. Of volumes, all have one axis more, (..., H, W, D).

    ``log_outcomes``: the activation's own function of that name, from logits to logarithms of probabilities
    (B, G, M, H, W), where it has one; None where probabilities are all there is. An activation that can take the
    logarithm without rounding to log 0 offers it, since it alone knows how its logits are meant. The classes are in G
    groups of M - 1, and exactly one of a group's M outcomes is true: none of its classes first, then each of them.
    Exclusive classes: one group of K + 1 outcomes, background first. Independent classes: K groups of two.

    ``distribution``: of the logits of whole images, where the candidate's head or network gives one; ``logits`` is what
    its centre gives then.
    """

    def __init__(
        self,
        logits: torch.Tensor,
        probabilities: torch.Tensor,
        log_outcomes: Callable[[torch.Tensor], torch.Tensor] | None = None,
        distribution: LogitDistribution | None = None,
    ) -> None:
        self._logits, self._probabilities = logits, probabilities
        self.log_outcomes, self.distribution = log_outcomes, distribution

    @property
    def logits(self) -> torch.Tensor:
        return self._logits

    @property
    def probabilities(self) -> torch.Tensor:
        return self._probabilities


class LatentOutput(ModelOutput):
    """The output of a network with latent variables: decoded when first asked for, which no training does."""

    def __init__(self, distribution: LatentDistribution, activation: torch.nn.Module) -> None:
        self.log_outcomes = getattr(activation, "log_outcomes", None)
        self.distribution: LatentDistribution = distribution
        self._activation = activation

    @cached_property
    def logits(self) -> torch.Tensor:
        return self.distribution.central()

    @cached_property
    def probabilities(self) -> torch.Tensor:
        with torch.autocast(self.logits.device.type, enabled=False):
            found: torch.Tensor = self._activation(self.logits)
        return found
