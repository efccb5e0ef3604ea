"""Latent variables: what a network gives that draws them first and then decodes logits from them.

Such a network maps images to a :class:`LatentDistribution`. Its prior is drawn from at inference; in training a
posterior, which also sees the label, takes the prior's place, and the loss asks for both (:meth:`evidence`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from penumbra.activations._precision import at_least_float32

SMALLEST = 1e-10


@dataclass(frozen=True)
class IndependentNormal:
    """Normal latent variables, independent of each other: ``mean`` and ``deviation`` > 0, both (B, ...)."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def sample(self) -> torch.Tensor:
        """One draw (B, ...) with gradients, from torch's global generator."""
        return self.mean + self.deviation * torch.randn_like(self.mean)

    def divergence(self, other: IndependentNormal) -> torch.Tensor:
        """Kullback-Leibler divergence of this from another, summed over latent variables (B).

        ``1/2 sum (s^2 + (m - m')^2) / s'^2 + log s'^2 - log s^2 - 1``; 1e-10 is added to variances in logarithm and
        denominator, as in the released code.
        """
        own, others = self.deviation.square(), other.deviation.square()
        each = (own + (self.mean - other.mean).square()) / (others + SMALLEST) - 1
        each = each + (others + SMALLEST).log() - (own + SMALLEST).log()
        return 0.5 * each.flatten(1).sum(dim=1)


@dataclass(frozen=True)
class Evidence:
    """What the evidence lower bound of a batch with labels is made of, finest latent level first.

    Attributes
    ----------
    logits : of each level, (B, channels, H, W): those of that level and all coarser ones together; the first is the
        segmentation decoded from a draw of the posterior.
    divergences : of posterior from prior, (B) for each level.
    """

    logits: Sequence[torch.Tensor]
    divergences: Sequence[torch.Tensor]


class LatentDistribution(ABC):
    """The distribution of logits that latent variables of a batch of images give.

    Decoding runs in the precision in which the images were encoded, wherever it is asked for; what comes out is float32
    at least.

    Parameters
    ----------
    images : (B, C, H, W), as the network saw them.
    """

    def __init__(self, images: torch.Tensor) -> None:
        self.images = images
        kind = images.device.type
        self._precision = (kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))

    def _as_encoded(self) -> torch.autocast:
        kind, dtype, enabled = self._precision
        return torch.autocast(kind, dtype=dtype, enabled=enabled)

    @abstractmethod
    def _draw(self) -> torch.Tensor: ...

    @abstractmethod
    def _central(self) -> torch.Tensor: ...

    @abstractmethod
    def _evidence(self, target: torch.Tensor) -> Evidence: ...

    def draw(self) -> torch.Tensor:
        """Logits (B, channels, H, W) of one draw from the prior, from torch's global generator."""
        with self._as_encoded():
            return at_least_float32(self._draw())

    def central(self) -> torch.Tensor:
        """Logits (B, channels, H, W) with every latent variable at the mean of its prior."""
        with self._as_encoded():
            return at_least_float32(self._central())

    def evidence(self, target: torch.Tensor) -> Evidence:
        """Posterior and prior of a batch whose labels (B, K, H, W), shares in [0, 1], are known, from one draw of the
        posterior."""
        with self._as_encoded():
            return self._evidence(target)

    def sample(self, count: int, *, antithetic: bool = False) -> torch.Tensor:
        """Draws (S, B, channels, H, W), decoded one after another.

        Raises
        ------
        ValueError : fewer than one draw, or antithetic ones: logits are not symmetric about anything.
        """
        if count < 1 or antithetic:
            raise ValueError(f"draw at least one sample, and no antithetic ones; got {count}")
        return torch.stack([self.draw() for _ in range(count)])


def shown_labels(target: torch.Tensor, channels: int) -> torch.Tensor:
    """What a posterior sees of labels (B, K, ...): a channel for each of ``channels`` logits, minus 0.5.

    The labels as they are, or, where the logits have a channel for it, background first.
    """
    if channels != target.shape[1]:
        target = torch.cat([(1 - target.sum(dim=1, keepdim=True)).clamp(min=0), target], dim=1)
    return target - 0.5
