"""Overlapping windows over an image that is larger than what the network is to see at once (MONAI's inferer).

Windows are blended where they overlap, as logits, before the activation sees them; the probability map is the mean
over members, as for :mod:`single_pass`. An image smaller than the window is padded with zeros, and the padding is
taken off again.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field

from penumbra.errors import PenumbraError
from penumbra.inference.prediction import Prediction, Predictor
from penumbra.networks.folding import folded
from penumbra.training.model import Model


def build(
    *,
    window: list[int] = [192, 192, 16],  # noqa: B006 - never changed
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.8,
    blending: Literal["constant", "gaussian"] = "constant",
    windows_at_once: Annotated[int, Field(ge=1)] = 4,
    fold_normalisation: bool = True,
) -> Predictor:
    """Make the predictor; samples are the members' maps when there are several.

    Parameters
    ----------
    window : sides of a window, in voxels of prepared space. overlap : of neighbouring windows, a fraction of a side.
    blending : weights of a window's voxels: all alike, or less towards its border. windows_at_once : a batch.
    fold_normalisation : run with batch normalisations folded into convolutions, the same up to rounding; under
        autocast to bfloat16 the whole network runs in it then, and windows are blended in float32.
    """

    def network(model: Model, bfloat16: bool) -> Callable[[torch.Tensor], torch.Tensor]:
        if not fold_normalisation:
            return model.network
        # Made for each call, so that it is never that of other weights; little beside a case's windows.
        layers = folded(model.network)
        if not bfloat16:
            return layers
        # Rounded once here, and not, as autocast does, again for each window.
        layers = copy.deepcopy(layers).bfloat16()

        def rounded(images: torch.Tensor) -> torch.Tensor:
            with torch.autocast(images.device.type, enabled=False):
                return layers(images.bfloat16()).float()

        return rounded

    def predict(models: Sequence[Model], images: torch.Tensor, *, sampled: bool = True) -> Prediction:
        from monai.inferers import sliding_window_inference

        if len(window) != images.ndim - 2:
            raise PenumbraError(
                f"the predictor's window {window} has {len(window)} sides, the images have {images.ndim - 2}",
                cure="give predictor.sliding_window.window as many numbers as geometry.crop",
            )
        maps = []
        for model in models:
            device = images.device.type
            bfloat16 = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16
            layers = network(model, bfloat16)
            logits = sliding_window_inference(images, window, windows_at_once, layers, overlap=overlap, mode=blending)
            assert isinstance(logits, torch.Tensor)
            maps.append(model.output(logits).probabilities)
        probabilities = torch.stack(maps)
        return Prediction(probabilities=probabilities.mean(dim=0), samples=probabilities if len(maps) > 1 else None)

    return predict
