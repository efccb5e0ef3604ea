"""Draws from the distribution over logits of one forward pass (stochastic segmentation networks).

Each draw is a whole segmentation: its logits go through the activation together. The probability map is that of the
mean logits, as the released code of LIDC takes it, or the mean over the draws' probabilities. Several members are
treated as a mixture: each gives its share of the draws.

An image that is larger than what the network can see at once is predicted in windows side by side, whose means,
diagonals and factors are put together to one distribution over the whole image (Monteiro et al. 2020, section 5.3).

The distribution can be manipulated after training; its draws come from the same random numbers. ``temperature``
multiplies the whole covariance, ``scale`` the part of one class in each draw's distance from the mean, so that -1 turns
it round (the paper's figure 6).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field

from penumbra.errors import PenumbraError
from penumbra.inference.prediction import Prediction, Predictor, pooled
from penumbra.inference.whole_image import whole_image
from penumbra.networks.distribution import LogitDistribution, LowRankNormal
from penumbra.networks.output import ModelOutput
from penumbra.training.model import Model

NEEDS_DISTRIBUTION = True
OF_A_NORMAL = {"temperature": 1.0, "scale": 1.0}
"""Options of normal distributions alone, and their values that change nothing."""

AT_ONCE = 2**26
"""How many values of images are drawn for at once; beyond it, draws are made one after another."""


def build(
    *,
    samples: Annotated[int, Field(ge=1)] = 100,
    probabilities: Literal["mean_logits", "mean_draws"] = "mean_logits",
    temperature: Annotated[float, Field(ge=0)] = 1.0,
    scaled_class: Annotated[int, Field(ge=1)] = 1,
    scale: float = 1.0,
    window: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=3)] | None = None,
    context: Annotated[int, Field(ge=0)] = 0,
    windows_at_once: Annotated[int, Field(ge=1)] = 4,
) -> Predictor:
    """Make the predictor.

    Parameters
    ----------
    samples : draws of each member. probabilities : what the probability map is.
    temperature : of the covariance; 0 leaves the mean alone. scaled_class, scale : the number of a class, from 1 in the
        data set's order, and what its part is multiplied by.
    window : sides of a window in voxels of prepared space; none: the whole image at once. context : how many voxels a
        window is shown beyond each of its sides. windows_at_once : a batch.
    """

    output_of = whole_image("distribution", window, context, windows_at_once)

    def manipulated(output: ModelOutput) -> LogitDistribution:
        distribution = output.distribution
        assert distribution is not None
        if temperature == 1 and scale == 1:
            return distribution
        if not isinstance(distribution, LowRankNormal):
            raise PenumbraError(
                "temperature and scale of the predictor distribution are those of a normal distribution over logits",
                cure="leave them out, or give the candidate `head: {name: low_rank_normal, rank: 10}`",
            )
        classes = output.probabilities.shape[1]
        if scaled_class > classes:
            raise PenumbraError(
                f"predictor.distribution.scaled_class is {scaled_class}, and the data set has {classes}",
                cure="name a class by its number, from 1 in the order of the data set's `classes`",
            )
        # Where background has a logit of its own, it comes first.
        channel = scaled_class - 1 + distribution.mean.shape[1] - classes
        return distribution.tempered(temperature).scaled(channel, scale)

    def drawn_from(distribution: LogitDistribution, activation: torch.nn.Module, size: int) -> torch.Tensor:
        """Draws of the segmentation (S, B, K, ...), a few at a time where images are large."""
        at_once = max(1, AT_ONCE // size)

        def drawn(count: int) -> torch.Tensor:
            logits = distribution.sample(count)
            return activation(logits.flatten(0, 1)).unflatten(0, logits.shape[:2])

        if at_once >= samples:
            return drawn(samples)
        first = drawn(at_once)
        found = first.new_empty(samples, *first.shape[1:])
        found[:at_once] = first
        for k in range(at_once, samples, at_once):
            found[k : k + at_once] = drawn(min(at_once, samples - k))
        return found

    def predict(models: Sequence[Model], images: torch.Tensor, *, sampled: bool = True) -> Prediction:
        maps, draws = [], []
        for model in models:
            output = output_of(model, images)
            if output.distribution is None:
                raise PenumbraError(
                    "the predictor distribution needs a distribution over logits",
                    cure="give the candidate `head: {name: low_rank_normal, rank: 10}`, or the predictor single_pass",
                )
            if not sampled and probabilities == "mean_logits":
                maps.append(output.probabilities)
                continue
            drawn = drawn_from(manipulated(output), model.activation, images.numel())
            draws.append(drawn)
            maps.append(output.probabilities if probabilities == "mean_logits" else drawn.mean(dim=0))
        return Prediction(torch.stack(maps).mean(dim=0), pooled(draws) if draws else None)

    return predict
