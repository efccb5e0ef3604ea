"""Draws that give every voxel its label independently of all others, from each member's probability map.

What sampling from a network without a joint distribution comes to (Monteiro et al. 2020, figure A1): grainy maps, whose
marginals are the probabilities. The probability map is the mean over members, as for :mod:`single_pass`; each member
gives its share of the draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field

from penumbra.inference.prediction import Prediction, Predictor, pooled
from penumbra.inference.whole_image import whole_image
from penumbra.training.model import Model


def draw(probabilities: torch.Tensor, count: int) -> torch.Tensor:
    """Label maps (S, B, K, ...) of 0 and 1, classes exclusive, drawn voxel by voxel from torch's global generator.

    Parameters
    ----------
    probabilities : (B, K, ...) in [0, 1] of the foreground classes; the background is what they leave of 1, and where
        they sum to more than 1 they are divided by their sum.
    count : S, at least 1.
    """
    upper = probabilities.cumsum(dim=1)
    upper = upper / upper[:, -1:].clamp(min=1)
    lower = torch.cat([torch.zeros_like(upper[:, :1]), upper[:, :-1]], dim=1)
    shape = (count, len(upper), 1, *upper.shape[2:])
    level = torch.rand(shape, dtype=upper.dtype, device=upper.device)
    return ((level >= lower) & (level < upper)).to(upper.dtype)


def build(
    *,
    samples: Annotated[int, Field(ge=1)] = 100,
    window: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=3)] | None = None,
    context: Annotated[int, Field(ge=0)] = 0,
    windows_at_once: Annotated[int, Field(ge=1)] = 4,
) -> Predictor:
    """Make the predictor.

    Parameters
    ----------
    samples : draws of each member.
    window, context, windows_at_once : as for :mod:`penumbra.inference.predictors.distribution`.
    """
    output_of = whole_image("independent_draws", window, context, windows_at_once)

    def predict(models: Sequence[Model], images: torch.Tensor, *, sampled: bool = True) -> Prediction:
        maps = [output_of(model, images).probabilities for model in models]
        drawn = pooled([draw(each, samples) for each in maps]) if sampled else None
        return Prediction(torch.stack(maps).mean(dim=0), drawn)

    return predict
