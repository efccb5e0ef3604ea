"""All changes of one epoch's items: what of each is drawn when, and in which order they are made."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

from penumbra.augmentation.affine import affine_parameters, sampled, sampling_grid
from penumbra.augmentation.elastic import Displacement
from penumbra.augmentation.intensity import change, intensity_parameters
from penumbra.networks.region import inside

if TYPE_CHECKING:
    from penumbra.config.models import Augmentation


class Epoch:
    """What happens to the items of one epoch.

    Affine transformations, right angles, flips and intensities are drawn for all of them at once, displacements, which
    are large, for each batch. Space first, all of it in one interpolation, then intensities.

    Parameters
    ----------
    options : what is to be done. count : items of the epoch. contrasts : of an image. size : of an item, in voxels.
    generator : a named generator of the epoch, given what more there is to name.
    region : whether images are 0 outside a region of interest, and stay so.
    """

    def __init__(
        self,
        options: Augmentation,
        count: int,
        contrasts: int,
        size: tuple[int, ...],
        generator: Callable[..., np.random.Generator],
        device: torch.device,
        *,
        region: bool = False,
    ) -> None:
        self._generator, self._region = generator, region
        drawn = affine_parameters(generator(), count, options, size)
        self._theta = torch.from_numpy(drawn.normalised(size)).to(device, torch.float32)
        self._elastic = None if options.elastic is None else Displacement(options.elastic, size, device)
        self._intensity: torch.Tensor | None = None
        if options.intensity is not None:
            linear = intensity_parameters(generator("intensity"), count, contrasts, options.intensity)
            self._intensity = torch.from_numpy(linear).to(device, torch.float32)

    def __call__(self, images: torch.Tensor, labels: torch.Tensor, chosen: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (B, C, ...) and labels (B, K, ...) of the chosen items, changed; labels in [0, 1], not binarised."""
        grid = sampling_grid(self._theta[chosen], tuple(images.shape[2:]))
        if self._elastic is not None:
            grid = grid + self._elastic.draw(self._generator("elastic", chosen.start), len(grid))
        if self._region:
            labels = torch.cat([labels.to(images.dtype), inside(images).to(images.dtype)], dim=1)
        images, labels = sampled(images, labels, grid)
        if self._intensity is not None:
            images = change(images, self._intensity[chosen])
        if self._region:
            # The region moves as a label does; what interpolation and intensities put outside it is taken away.
            labels, seen = labels[:, :-1], labels[:, -1:] >= 0.5
            images = images * seen
        return images, labels
