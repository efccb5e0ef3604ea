"""The toy problem of stochastic segmentation networks (Monteiro et al. 2020, section 5.1): 21 pixels, two label maps.

One image has two equally likely label maps: the first third is always on, the last third always off, the middle third
all on or all off. A normal over the 21 logits is fitted by gradient descent on the Monte-Carlo likelihood, with a
diagonal covariance or with one of rank 2. No distribution of independent pixels can give the two maps a log-likelihood
above 7 log(1/2) = -4.85; one whose pixels vary together comes close to log(1/2) = -0.69.

As in the released code: float64, Adam with a learning rate of 1e-3, 200 draws, 5,000 iterations of the mean alone and
5,000 of everything; the factor's columns start in random directions with length exp(-1), and the logarithm of the
diagonal at -1. Unlike there, the logarithm of the sigmoid is computed stably, so that nothing overflows and training
need not stop early: the published -0.93 is that of the last model before an overflow, read from 1,000 draws, whose
standard deviation is 0.03. Here the log-likelihood is that after the last iteration, read from 100,000 draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from penumbra.networks.distribution import LowRankNormal
from penumbra.seeds import torch_seed

PIXELS = 21
THIRD = PIXELS // 3
LEARNING_RATE = 1e-3
DRAWS = 200
ITERATIONS = 5_000
"""Of the mean alone, and then of everything."""
EVALUATION_DRAWS = 100_000
_BLOCK = 10_000


def label_maps() -> torch.Tensor:
    """The two maps (2, 21), 0 or 1, float64."""
    maps = torch.zeros(2, PIXELS, dtype=torch.float64)
    maps[:, :THIRD] = 1
    maps[1, THIRD : 2 * THIRD] = 1
    return maps


def _log_likelihoods(distribution: LowRankNormal, draws: int) -> torch.Tensor:
    """Logarithm of each map's likelihood under each draw (draws, 2)."""
    logits = distribution.sample(draws)[:, 0, 0]
    signs = 2 * label_maps() - 1
    return functional.logsigmoid(logits[:, None] * signs).sum(dim=2)


def log_likelihood(distribution: LowRankNormal, draws: int = EVALUATION_DRAWS) -> float:
    """Mean over both maps of the logarithm of their likelihood, by Monte-Carlo; biased downwards, less so with more."""
    parts = [_log_likelihoods(distribution, min(_BLOCK, draws - k)) for k in range(0, draws, _BLOCK)]
    return float((torch.logsumexp(torch.cat(parts), dim=0) - math.log(draws)).mean())


@dataclass(frozen=True)
class Shares:
    """Of draws: those whose middle third is all on, and those in which it is all off; in [0, 1]."""

    on: float
    off: float


def middle_third(distribution: LowRankNormal, draws: int = EVALUATION_DRAWS) -> Shares:
    """How the middle third of drawn label maps (logit above 0) comes out."""
    on = off = 0
    for k in range(0, draws, _BLOCK):
        middle = distribution.sample(min(_BLOCK, draws - k))[:, 0, 0, THIRD : 2 * THIRD] > 0
        on += int(middle.all(dim=1).sum())
        off += int((~middle).all(dim=1).sum())
    return Shares(on / draws, off / draws)


def fit(rank: int, seed: int, index: int = 0, *, iterations: int = ITERATIONS) -> LowRankNormal:
    """Fit a normal over the 21 logits.

    Parameters
    ----------
    rank : of the covariance's factor; 0 is the diagonal model.
    seed, index : the study's seed, and which of several fits this is.
    iterations : of the mean alone, and again of everything.

    Returns
    -------
    A distribution of one image of one channel: mean (1, 1, 21), float64, without gradients.
    """
    torch.manual_seed(torch_seed(seed, "toy-problem", rank, index))
    mean = torch.zeros(PIXELS, dtype=torch.float64, requires_grad=True)
    log_diagonal = torch.full((PIXELS,), -1.0, dtype=torch.float64, requires_grad=True)
    direction = torch.rand(rank, PIXELS, dtype=torch.float64) - 0.5
    size = torch.full((rank, PIXELS), -1.0, dtype=torch.float64)
    for parameter in (direction, size):
        parameter.requires_grad_()

    def distribution() -> LowRankNormal:
        factor = size.exp() * direction / direction.norm(dim=1, keepdim=True)
        return LowRankNormal(mean[None, None], factor[None, :, None], log_diagonal.exp()[None, None])

    for parameters in ([mean], [mean, log_diagonal, *([direction, size] if rank else [])]):
        optimiser = torch.optim.Adam(parameters, lr=LEARNING_RATE)
        for _ in range(iterations):
            optimiser.zero_grad()
            each = torch.logsumexp(_log_likelihoods(distribution(), DRAWS), dim=0)
            loss = math.log(DRAWS) - each.mean()
            loss.backward()
            optimiser.step()
    with torch.no_grad():
        found = distribution()
    return LowRankNormal(found.mean.detach(), found.factor.detach(), found.diagonal.detach())
