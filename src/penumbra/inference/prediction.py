"""What every predictor gives, whatever its method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from penumbra.training.model import Model


@dataclass(frozen=True)
class Prediction:
    """The prediction of a batch of slices or volumes, on the device of the images.

    Attributes
    ----------
    probabilities : (B, K, H, W) or (B, K, H, W, D) float32 in [0, 1], foreground classes only.
    samples : (S, B, K, ...), draws of the segmentation as probabilities, or None where the method has none.
    """

    probabilities: torch.Tensor
    samples: torch.Tensor | None = None


class Predictor(Protocol):
    """What a predictor part builds."""

    def __call__(self, models: Sequence[Model], images: torch.Tensor, *, sampled: bool = True) -> Prediction:
        """The prediction of images (B, C, ...) by all members; samples may be left out where they are not asked for."""
        ...


def pooled(draws: Sequence[torch.Tensor]) -> torch.Tensor:
    """The draws (S, B, K, ...) of all members together; those of one alone are not copied, in a volume gigabytes."""
    return draws[0] if len(draws) == 1 else torch.cat(list(draws))
