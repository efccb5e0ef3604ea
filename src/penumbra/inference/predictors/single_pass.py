"""One forward pass of each member without dropout; the probability map is the mean over members."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from penumbra.inference.prediction import Prediction, Predictor
from penumbra.training.model import Model


def build() -> Predictor:
    """Make the predictor; samples are the members' maps when there are several."""

    def predict(models: Sequence[Model], images: torch.Tensor, *, sampled: bool = True) -> Prediction:
        maps = torch.stack([model(images).probabilities for model in models])
        return Prediction(probabilities=maps.mean(dim=0), samples=maps if len(models) > 1 else None)

    return predict
