"""Negative log-likelihood of a label map under a distribution over logits, by Monte-Carlo integration.

``-log (1/M) sum_m prod_i p(y_i | eta_m)`` with M draws eta_m of the logits of a whole image (Monteiro et al. 2020,
Eq. 7): the sum over places stands inside the exponential, so places are not independent. Computed as ``logsumexp`` over
draws of the sum over places of the logarithms of probabilities; the mean over the batch. As the logarithm of a mean
it is biased upwards, by less the more draws there are.

The released code of BraTS mirrors half of its 20 draws about the mean (``antithetic``); that of LIDC and of the toy
problem does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field

from penumbra.errors import PenumbraError
from penumbra.losses._outcomes import label_outcomes
from penumbra.networks.distribution import LowRankNormal
from penumbra.networks.output import ModelOutput

NEEDS_DISTRIBUTION = True
TAKES_MASK = True
"""It needs a distribution from the candidate's head; other losses work from logits and probabilities alone. If images
have a region of interest, it is told."""


def monte_carlo_likelihood(
    output: ModelOutput,
    target: torch.Tensor,
    *,
    samples: int = 20,
    antithetic: bool = False,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """The loss of a batch, a scalar.

    Parameters
    ----------
    output : with a distribution, of an activation that knows logarithms (softmax, sigmoid).
    target : (B, K, ...) in [0, 1]. samples : M. antithetic : whether half of the draws mirror the others.
    mask : (B, ...) or None, a region of interest: where it is False the covariance is left out, whose best value would
        be infinite where nothing varies (section 5.1); the mean is still held against the label there.

    Raises
    ------
    PenumbraError : the candidate has no head that gives a distribution, or its activation no logarithms.
    """
    if output.distribution is None or output.log_outcomes is None:
        raise PenumbraError(
            "the loss monte_carlo_likelihood needs a distribution over logits"
            if output.distribution is None
            else "the loss monte_carlo_likelihood needs an activation that knows logarithms of probabilities",
            cure="give the candidate `head: {name: low_rank_normal, rank: 10}` and the activation softmax or sigmoid",
        )
    distribution = output.distribution
    if mask is not None and isinstance(distribution, LowRankNormal):
        distribution = distribution.within(mask)
    logits = distribution.sample(samples, antithetic=antithetic)
    logarithms = output.log_outcomes(logits.flatten(0, 1))  # (M B, G, outcomes, ...)
    label = label_outcomes(target, logarithms.shape[1]).to(logarithms.dtype)
    logarithms = logarithms.reshape(samples, len(target), *logarithms.shape[1:])
    places = (logarithms * label).sum(dim=(2, 3))
    likelihood = torch.logsumexp(places.flatten(2).sum(dim=2), dim=0) - math.log(samples)
    return -likelihood.mean()


def build(*, samples: Annotated[int, Field(ge=1)] = 20, antithetic: bool = False) -> Callable[..., torch.Tensor]:
    """Make ``loss(output, target (B, K, ...), mask (B, ...)) -> scalar``, with or without mask; options as in
    :func:`monte_carlo_likelihood`.

    Raises
    ------
    PenumbraError : an odd number of antithetic draws.
    """
    if antithetic and samples % 2:
        raise PenumbraError(
            f"{samples} draws cannot mirror each other", cure="give monte_carlo_likelihood an even number of samples"
        )

    def loss(output: ModelOutput, target: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        return monte_carlo_likelihood(output, target, samples=samples, antithetic=antithetic, mask=mask)

    return loss
