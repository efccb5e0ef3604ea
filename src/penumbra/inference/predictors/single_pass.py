"""One forward pass of each member without dropout; the probability map is the mean over members.

An image that is larger than what the network can see at once is predicted in windows side by side, without blending.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field

from penumbra.inference.prediction import Prediction, Predictor
from penumbra.inference.whole_image import whole_image
from penumbra.training.model import Model


def build(
    *,
    window: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=3)] | None = None,
    context: Annotated[int, Field(ge=0)] = 0,
    windows_at_once: Annotated[int, Field(ge=1)] = 4,
) -> Predictor:
    """Make the predictor; samples are the members' maps when there are several.

    Parameters
    ----------
    window, context, windows_at_once : as for :mod:`penumbra.inference.predictors.distribution`.
    """
    output_of = whole_image("single_pass", window, context, windows_at_once)

    def predict(models: Sequence[Model], images: torch.Tensor, *, sampled: bool = True) -> Prediction:
        maps = torch.stack([output_of(model, images).probabilities for model in models])
        return Prediction(probabilities=maps.mean(dim=0), samples=maps if len(models) > 1 else None)

    return predict
