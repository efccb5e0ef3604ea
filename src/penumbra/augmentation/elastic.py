"""Random smooth displacement of training items, batched on the device: free-form deformation by cubic B-splines.

Control points lie ``spacing`` voxels apart over the item and beyond its borders; each is displaced along every axis
by an amount that is uniform in ±``amplitude`` voxels, and all voxels between them follow the tensor product of
cubic B-splines (Rueckert et al. 1999, IEEE TMI 18, Eq. 1). The spline averages over four control points an axis, so
that a voxel moves less than ``amplitude``. The displacement is added to where a point of the output takes its value.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from penumbra.config.models import Elastic


def basis(side: int, spacing: float) -> np.ndarray:
    """The share (side, control points) that each control point has in each position of an axis; every row sums to 1."""
    place = np.arange(side) / spacing
    first = np.floor(place).astype(int)
    t = (place - first)[:, None]
    blends = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    found = np.zeros((side, math.floor((side - 1) / spacing) + 4))
    np.put_along_axis(found, first[:, None] + np.arange(4), np.concatenate(blends, axis=1) / 6, axis=1)
    return found


class Displacement:
    """Displacements of items of one size.

    Parameters
    ----------
    options : chance, amplitude and spacing. size : of an item, in voxels.
    """

    def __init__(self, options: Elastic, size: tuple[int, ...], device: torch.device) -> None:
        self._options, self._size = options, size
        self._bases = [torch.from_numpy(basis(side, options.spacing)).to(device, torch.float32) for side in size]

    def draw(self, rng: np.random.Generator, n: int) -> torch.Tensor:
        """The displacement (n, *size, d) of n items, in the normalised coordinates of a sampling grid, last axis first;
        0 with the chance that ``chance`` leaves."""
        axes, options = len(self._size), self._options
        moved = rng.random(n) < options.chance
        points = rng.uniform(-1, 1, (n, axes, *(b.shape[1] for b in self._bases))).astype(np.float32)
        reach = 2 * options.amplitude / np.asarray(self._size, np.float32)
        points *= (moved[:, None] * reach).reshape(n, axes, *[1] * axes)
        found = torch.from_numpy(points[:, ::-1].copy()).to(self._bases[0].device)
        for axis, shares in enumerate(self._bases, start=2):
            found = torch.movedim(torch.tensordot(found, shares, dims=([axis], [1])), -1, axis)
        return torch.movedim(found, 1, -1)
