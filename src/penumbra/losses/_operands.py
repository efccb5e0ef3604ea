"""Bringing prediction and target to one shape and precision."""

from __future__ import annotations

import torch

from penumbra.activations._precision import at_least_float32


def operands(prediction: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Prediction and target in the prediction's precision (float32 at least).

    Raises
    ------
    ValueError : their shapes differ; broadcasting would hide a wrong channel count.
    """
    if prediction.shape != target.shape:
        raise ValueError(f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ in shape")
    prediction = at_least_float32(prediction)
    return prediction, target.to(prediction.dtype)
