"""Random affine transformation of training items, batched on the device (thesis table 4.1; released ivadomed 2.2.1).

By default every slice or volume is transformed at every access. A point ``o`` of the output takes its value from the
input at

    ``(R S)^T (o - c) + c + t``

with ``R`` the rotation by the drawn angle, ``S = diag(1 / scale)``, ``c = 0.5 * shape`` and ``t`` in pixels.
A volume is turned in one of its three coordinate planes, drawn anew each time, and scaled and shifted along all axes;
all this in voxels, whatever their size in mm. Image and label are interpolated linearly, and what lies outside is zero
(the mean intensity of a normalised image). A value next to the border is interpolated between the border pixel and that
zero, as ``mode="grid-constant"`` of ``scipy.ndimage`` does.

Turns by right angles, about the middle of the first two axes, and flips come after it, in the same interpolation: they
move whole voxels, so that alone they change no value but for rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from penumbra.config.models import Augmentation

PLANES = np.array([[0, 1], [0, 2], [1, 2]])
"""The coordinate planes of a volume, by their axes; a slice has the first alone."""


@dataclass(frozen=True)
class AffineParameters:
    """What was drawn for ``n`` items of d axes, 2 or 3.

    Attributes
    ----------
    angle : (n,) degrees.
    scale : (n, d) factors along the axes; above 1 enlarges what is seen.
    translation : (n, d) pixels along the axes; whole ones unless a part is shown.
    plane : (n,) in which of the :data:`PLANES` volumes are turned; None: all in the first.
    right_angles : (n,) how many right angles an item is then turned by, from the first axis to the second; None: none.
    flipped : (n, d) which axes are turned round at last; None: none.
    """

    angle: np.ndarray
    scale: np.ndarray
    translation: np.ndarray
    plane: np.ndarray | None = None
    right_angles: np.ndarray | None = None
    flipped: np.ndarray | None = None

    def matrices(self) -> np.ndarray:
        """The matrices ``(R S)^T``, (n, d, d): from output offsets to input offsets, in pixels."""
        radians = np.deg2rad(self.angle)
        cosine, sine = np.cos(radians), np.sin(radians)
        item = np.arange(len(radians))
        first, second = PLANES[np.zeros_like(item) if self.plane is None else self.plane].T
        rotation = np.tile(np.eye(self.scale.shape[1]), (len(item), 1, 1))
        rotation[item, first, first] = rotation[item, second, second] = cosine
        rotation[item, first, second], rotation[item, second, first] = -sine, sine
        return np.swapaxes(rotation / self.scale[:, None, :], 1, 2)

    def _exact(self) -> np.ndarray:
        """Right angles and flips as maps of normalised coordinates, (n, d, d), from output to input."""
        count, axes = self.scale.shape
        found = np.tile(np.eye(axes), (count, 1, 1))
        if self.right_angles is not None:
            quarter = np.eye(axes)
            quarter[:2, :2] = [[0, 1], [-1, 0]]
            powers = np.stack([np.linalg.matrix_power(quarter, k) for k in range(4)])
            found = powers[self.right_angles % 4]
        return found if self.flipped is None else found * np.where(self.flipped, -1.0, 1.0)[:, None, :]

    def normalised(self, size: tuple[int, ...]) -> np.ndarray:
        """The same maps for :func:`torch.nn.functional.affine_grid` with ``align_corners=False``, (n, d, d + 1).

        There, position ``i`` of ``side`` has the coordinate ``(2 i + 1) / side - 1``, and the last axis comes first.
        """
        m, sides = self.matrices(), np.asarray(size)
        linear = np.where(np.eye(len(sides), dtype=bool), m, m * sides / sides[:, None])
        rest = (1 - m.sum(axis=2) + 2 * self.translation) / sides
        if self.right_angles is not None or self.flipped is not None:
            linear = linear @ self._exact()
        return np.concatenate([linear[:, ::-1, ::-1], rest[:, ::-1, None]], axis=2)


def affine_parameters(
    rng: np.random.Generator, n: int, augmentation: Augmentation, size: tuple[int, ...]
) -> AffineParameters:
    """Draw transformations for ``n`` items of ``size`` pixels: (height, width) or (height, width, depth).

    The angle is uniform in ±``rotation_degrees``, each scale uniform in 1 ± ``scale``, each translation uniform in
    ±``translation`` of the size and then rounded to whole pixels; each plane of a volume is as likely as the others.
    Below 1, ``crop`` shows a part of an item, enlarged to its size: the same share of each side, uniform in ``crop`` to
    1, at a uniform place. An item stays as it is with the chance that ``chance`` leaves. With the chance
    ``right_angles`` it is turned by one, two or three of them, each as likely; ``flips`` turn round each of some axes,
    or all of them together.
    """
    axes = len(size)
    angle = rng.uniform(-augmentation.rotation_degrees, augmentation.rotation_degrees, n)
    scale = rng.uniform(1 - augmentation.scale, 1 + augmentation.scale, (n, axes))
    reach = augmentation.translation * np.asarray(size, float)
    translation = np.round(rng.uniform(-1, 1, (n, axes)) * reach)
    plane = rng.integers(len(PLANES), size=n) if axes == 3 else None
    if augmentation.crop < 1:
        share = rng.uniform(augmentation.crop, 1, (n, 1))
        middle, room = 0.5 * np.asarray(size), 1 - share
        scale = scale / share
        translation = translation + rng.uniform(-room * middle, room * (np.asarray(size) - 1 - middle))
    if augmentation.chance < 1:
        kept = rng.random(n) >= augmentation.chance
        angle[kept], scale[kept], translation[kept] = 0.0, 1.0, 0.0
    right_angles = flipped = None
    if augmentation.right_angles:
        right_angles = rng.integers(1, 4, size=n) * (rng.random(n) < augmentation.right_angles)
    if (flips := augmentation.flips) is not None:
        flipped = np.zeros((n, axes), bool)
        drawn = rng.random((n, 1 if flips.together else len(flips.axes))) < flips.chance
        flipped[:, list(flips.axes)] = drawn
    return AffineParameters(angle, scale, translation, plane, right_angles, flipped)


def sampling_grid(theta: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """Where each point of the output takes its value, (B, ..., d), from maps ``theta`` (B, d, d + 1) of d sides.

    It is torch's ``affine_grid(align_corners=False)``, on a CPU in a sixth of its time, which goes into a product of
    matrices three numbers wide; equal to it but for the order of that product's sum, which the machine chooses.
    """
    if theta.device.type != "cpu":
        return torch.nn.functional.affine_grid(theta, [len(theta), 1, *size], align_corners=False)
    axes = len(size)
    lines = []
    for axis, side in enumerate(reversed(size)):
        line = torch.linspace(-1, 1, side, dtype=theta.dtype) * (side - 1) / side
        lines.append(line.view([side if place == axes - axis else 1 for place in range(axes + 1)]))
    grid = torch.empty(len(theta), *size, axes, dtype=theta.dtype)
    for row in range(axes):
        *factors, rest = (column.view(-1, *[1] * axes) for column in theta[:, row].unbind(1))
        place = lines[0] * factors[0]
        for line, factor in zip(lines[1:], factors[1:], strict=True):
            place = place + line * factor
        torch.add(place, rest, out=grid[..., row])
    return grid


def sampled(images: torch.Tensor, labels: torch.Tensor, grid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (B, C, ...) and labels (B, K, ...) at the points of a grid (B, ..., d), as :func:`transform` has them."""
    channels = images.shape[1]
    both = torch.cat([images, labels.to(images.dtype)], dim=1)
    both = torch.nn.functional.grid_sample(both, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return both[:, :channels], both[:, channels:].clamp(0, 1)


def transform(images: torch.Tensor, labels: torch.Tensor, theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Transform images (B, C, H, W) and labels (B, K, H, W) by maps ``theta`` (B, 2, 3) of
    :meth:`AffineParameters.normalised`; or volumes (B, C, H, W, D) and (B, K, H, W, D) by (B, 3, 4).

    Returns floating tensors of the images' type; labels stay within [0, 1] and are *not* binarised here.
    """
    return sampled(images, labels, sampling_grid(theta.to(images), tuple(images.shape[2:])))


def augment(
    images: torch.Tensor, labels: torch.Tensor, parameters: AffineParameters
) -> tuple[torch.Tensor, torch.Tensor]:
    """:func:`transform` with parameters as they were drawn, one for each item of the batch."""
    theta = torch.from_numpy(parameters.normalised(tuple(images.shape[2:])))
    return transform(images, labels, theta)
