"""The negative evidence lower bound of a network with latent variables (probabilistic U-Net, PHiSeg).

``sum over levels of -log p(y | logits_l) + weight^l KL(posterior_l || prior_l)``, l = 0 for the finest level; the
logarithm of the likelihood summed over places, the divergence over latent variables, both averaged over the batch.
``logits_l`` are those of level l and all coarser ones together, so that each level is trained to correct what is
coarser. The probabilistic U-Net has one level: cross-entropy plus divergence (Kohl et al. 2018, Eq. 4 with beta = 1).
PHiSeg's weight is 4 (its released code's ``exponential_weighting``, which the one of stochastic segmentation networks
took over).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field

from penumbra.errors import PenumbraError
from penumbra.losses._outcomes import label_outcomes
from penumbra.networks.latent import LatentDistribution
from penumbra.networks.output import ModelOutput

NEEDS_DISTRIBUTION = True
NEEDS_LATENT = True
"""It is for networks that state ``LATENT``, and for no others."""


def elbo(output: ModelOutput, target: torch.Tensor, *, level_weight: float = 4.0) -> torch.Tensor:
    """The loss of a batch, a scalar, from one draw of the posterior.

    Parameters
    ----------
    output : of a network with latent variables and an activation that knows logarithms (softmax, sigmoid).
    target : (B, K, H, W) in [0, 1]. level_weight : of a level's divergence over that of the next finer one.

    Raises
    ------
    PenumbraError : a network without latent variables, or an activation without logarithms.
    """
    latent = output.distribution
    if not isinstance(latent, LatentDistribution) or output.log_outcomes is None:
        raise PenumbraError(
            "the loss elbo needs an activation that knows logarithms of probabilities"
            if output.log_outcomes is None
            else "the loss elbo needs a network with latent variables",
            cure="give the candidate the network probabilistic_unet2d or phiseg2d, the activation softmax or sigmoid",
        )
    evidence = latent.evidence(target)
    total = target.new_zeros(())
    for level, (logits, divergence) in enumerate(zip(evidence.logits, evidence.divergences, strict=True)):
        logarithms = output.log_outcomes(logits)
        label = label_outcomes(target, logarithms.shape[1]).to(logarithms.dtype)
        places = -(logarithms * label).flatten(1).sum(dim=1)
        total = total + (places + level_weight**level * divergence).mean()
    return total


def build(*, level_weight: Annotated[float, Field(gt=0)] = 4.0) -> Callable[[ModelOutput, torch.Tensor], torch.Tensor]:
    """Make ``loss(output, target (B, K, H, W)) -> scalar``; options as in :func:`elbo`."""

    def loss(output: ModelOutput, target: torch.Tensor) -> torch.Tensor:
        return elbo(output, target, level_weight=level_weight)

    return loss
