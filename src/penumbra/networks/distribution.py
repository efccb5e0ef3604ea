"""A distribution over the logits of a whole image: what a network may give beside its most plausible logits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch

OUTSIDE = 1e-5
"""The variance of a logit outside a region of interest."""


class LogitDistribution(Protocol):
    """A distribution over logits from which whole images are drawn."""

    def sample(self, count: int, *, antithetic: bool = False) -> torch.Tensor:
        """Draws (S, B, channels, ...), with gradients, from torch's global generator."""
        ...


@dataclass(frozen=True)
class LowRankNormal:
    """A multivariate normal over logits, ``N(mean, factor factor^T + diag(diagonal))`` (Monteiro et al. 2020, Eq. 4).

    All channels and places of one image are jointly distributed; the images of a batch are independent.

    Attributes
    ----------
    mean : (B, channels, ...). diagonal : the same shape, positive. factor : (B, R, channels, ...); R = 0 makes places
        independent of each other.
    """

    mean: torch.Tensor
    factor: torch.Tensor
    diagonal: torch.Tensor

    @property
    def rank(self) -> int:
        """R, how many directions vary together."""
        return self.factor.shape[1]

    def sample(self, count: int, *, antithetic: bool = False) -> torch.Tensor:
        """Draws (S, B, channels, ...): ``mean + factor z + sqrt(diagonal) e`` with standard normal z (R) and e.

        Nothing is factorised, so there is no matrix that could fail to be positive definite.

        Parameters
        ----------
        antithetic : the second half of the draws mirrors the first about the mean; an even number then.

        Raises
        ------
        ValueError : fewer than one draw, or an odd number of antithetic ones.
        """
        if count < 1 or (antithetic and count % 2):
            raise ValueError(f"draw at least one sample, an even number if antithetic; got {count}")
        half = count // 2 if antithetic else count
        mean = self.mean
        away = self.diagonal.sqrt() * torch.randn(half, *mean.shape, dtype=mean.dtype, device=mean.device)
        if self.rank:
            z = torch.randn(half, len(mean), self.rank, dtype=mean.dtype, device=mean.device)
            away = away + torch.einsum("sbr,br...->sb...", z, self.factor)
        return mean + (torch.cat([away, -away]) if antithetic else away)

    def variance(self) -> torch.Tensor:
        """Marginal variance of every logit (B, channels, ...)."""
        return self.factor.square().sum(dim=1) + self.diagonal

    def tempered(self, temperature: float) -> LowRankNormal:
        """The covariance multiplied by a temperature >= 0: 0 leaves the mean alone, 1 changes nothing."""
        if temperature < 0:
            raise ValueError(f"a temperature is not negative, got {temperature}")
        return replace(self, factor=self.factor * temperature**0.5, diagonal=self.diagonal * temperature)

    def within(self, mask: torch.Tensor) -> LowRankNormal:
        """The covariance within a region of interest (B, ...) alone; elsewhere draws are the mean, but for a variance
        of :data:`OUTSIDE`, as in the released code."""
        seen = mask.to(self.mean.dtype)
        return replace(self, factor=self.factor * seen[:, None, None], diagonal=self.diagonal * seen[:, None] + OUTSIDE)

    def scaled(self, channel: int, by: float) -> LowRankNormal:
        """The part of one channel in the factor multiplied by a number, -3 to 3 in figure 6; its sign matters, as it
        turns that channel against the others. Its diagonal is multiplied by the square."""
        weights = torch.ones(self.mean.shape[1], dtype=self.mean.dtype, device=self.mean.device)
        weights[channel] = by
        weights = weights.reshape(-1, *[1] * (self.mean.ndim - 2))
        return replace(self, factor=self.factor * weights, diagonal=self.diagonal * weights.square())
