"""Draws from the distribution over logits of one forward pass (stochastic segmentation networks).

Each draw is a whole segmentation: its logits go through the activation together. The probability map is that of the
mean logits, as the released code of LIDC takes it, or the mean over the draws' probabilities. Several members are
treated as a mixture: each gives its share of the draws.

An image that is larger than what the network can see at once is predicted in windows side by side, whose means,
diagonals and factors are put together to one distribution over the whole image (Monteiro et al. 2020, section 5.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field

from penumbra.errors import PenumbraError
from penumbra.inference.prediction import Prediction, Predictor
from penumbra.inference.whole_image import whole_image
from penumbra.training.model import Model


def build(
    *,
    samples: Annotated[int, Field(ge=1)] = 100,
    probabilities: Literal["mean_logits", "mean_draws"] = "mean_logits",
    window: list[Annotated[int, Field(ge=1)]] | None = None,
    context: Annotated[int, Field(ge=0)] = 0,
    windows_at_once: Annotated[int, Field(ge=1)] = 4,
) -> Predictor:
    """Make the predictor.

    Parameters
    ----------
    samples : draws of each member. probabilities : what the probability map is.
    window : sides of a window in voxels of prepared space; none: the whole image at once. context : how many voxels a
        window is shown beyond each of its sides. windows_at_once : a batch.
    """

    output_of = whole_image("distribution", window, context, windows_at_once)

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
            logits = output.distribution.sample(samples)
            drawn = model.activation(logits.flatten(0, 1)).reshape(samples, *output.probabilities.shape)
            draws.append(drawn)
            maps.append(output.probabilities if probabilities == "mean_logits" else drawn.mean(dim=0))
        return Prediction(torch.stack(maps).mean(dim=0), torch.cat(draws) if draws else None)

    return predict
