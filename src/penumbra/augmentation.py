"""Random affine transformation of training slices, batched on the device (thesis table 4.1; released ivadomed 2.2.1).

Every slice is transformed at every access. A point ``o`` of the output takes its value from the input at

    ``(R S)^T (o - c) + c + t``

with ``R`` the rotation by the drawn angle, ``S = diag(1 / scale)``, ``c = 0.5 * shape`` and ``t`` in whole pixels.
Image and label are interpolated linearly, and what lies outside is zero (the mean intensity of a normalised image). A
value next to the border is interpolated between the border pixel and that zero, as ``mode="grid-constant"`` of
``scipy.ndimage`` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from penumbra.config.models import Augmentation


@dataclass(frozen=True)
class AffineParameters:
    """What was drawn for ``n`` slices.

    Attributes
    ----------
    angle : (n,) degrees.
    scale : (n, 2) factors along rows and columns; above 1 enlarges what is seen.
    translation : (n, 2) whole pixels along rows and columns.
    """

    angle: np.ndarray
    scale: np.ndarray
    translation: np.ndarray

    def matrices(self) -> np.ndarray:
        """The matrices ``(R S)^T``, (n, 2, 2): from output offsets to input offsets, in pixels."""
        radians = np.deg2rad(self.angle)
        cosine, sine = np.cos(radians), np.sin(radians)
        rotation = np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], -2)
        return np.swapaxes(rotation / self.scale[:, None, :], 1, 2)

    def normalised(self, size: tuple[int, int]) -> np.ndarray:
        """The same maps for :func:`torch.nn.functional.affine_grid` with ``align_corners=False``, (n, 2, 3).

        There, row ``i`` of ``height`` rows has the coordinate ``(2 i + 1) / height - 1``, and x comes before y.
        """
        height, width = size
        m = self.matrices()
        rest = 1 - m.sum(axis=2) + 2 * self.translation
        x = np.stack([m[:, 1, 1], m[:, 1, 0] * height / width, rest[:, 1] / width], -1)
        y = np.stack([m[:, 0, 1] * width / height, m[:, 0, 0], rest[:, 0] / height], -1)
        return np.stack([x, y], axis=1)


def affine_parameters(
    rng: np.random.Generator, n: int, augmentation: Augmentation, size: tuple[int, int]
) -> AffineParameters:
    """Draw transformations for ``n`` slices of ``size`` (height, width) pixels.

    The angle is uniform in ±``rotation_degrees``, each scale uniform in 1 ± ``scale``, each translation uniform in
    ±``translation`` of the size and then rounded to whole pixels.
    """
    angle = rng.uniform(-augmentation.rotation_degrees, augmentation.rotation_degrees, n)
    scale = rng.uniform(1 - augmentation.scale, 1 + augmentation.scale, (n, 2))
    reach = augmentation.translation * np.asarray(size, float)
    translation = np.round(rng.uniform(-1, 1, (n, 2)) * reach)
    return AffineParameters(angle, scale, translation)


def transform(images: torch.Tensor, labels: torch.Tensor, theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Transform images (B, C, H, W) and labels (B, K, H, W) by maps ``theta`` (B, 2, 3) of
    :meth:`AffineParameters.normalised`.

    Returns floating tensors of the images' type; labels stay within [0, 1] and are *not* binarised here.
    """
    channels = images.shape[1]
    both = torch.cat([images, labels.to(images.dtype)], dim=1)
    grid = torch.nn.functional.affine_grid(theta.to(both), list(both.shape), align_corners=False)
    both = torch.nn.functional.grid_sample(both, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return both[:, :channels], both[:, channels:].clamp(0, 1)


def augment(
    images: torch.Tensor, labels: torch.Tensor, parameters: AffineParameters
) -> tuple[torch.Tensor, torch.Tensor]:
    """:func:`transform` with parameters as they were drawn, one for each item of the batch."""
    height, width = images.shape[-2:]
    theta = torch.from_numpy(parameters.normalised((height, width)))
    return transform(images, labels, theta)
