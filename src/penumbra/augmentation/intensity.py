"""Random linear change of the intensities of training items: ``scale * image + shift``, each contrast by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from penumbra.config.models import Intensity


def intensity_parameters(rng: np.random.Generator, n: int, contrasts: int, options: Intensity) -> np.ndarray:
    """Scale and shift (n, contrasts, 2) of n items: the scale normal about 1, the shift uniform in its range, both of
    all contrasts with the chance ``chance``, else 1 and 0."""
    scale = rng.normal(1, options.scale_deviation, (n, contrasts))
    shift = rng.uniform(*options.shift, (n, contrasts))
    kept = rng.random(n) >= options.chance
    scale[kept], shift[kept] = 1, 0
    return np.stack([scale, shift], axis=2)


def change(images: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
    """Images (B, C, ...) with parameters (B, C, 2) of :func:`intensity_parameters`."""
    scale, shift = parameters.to(images).reshape(*parameters.shape[:2], *[1] * (images.ndim - 2), 2).unbind(-1)
    return images * scale + shift
