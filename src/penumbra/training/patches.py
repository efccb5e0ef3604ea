"""Random parts of volumes for training, where whole ones are too large (Monteiro et al. 2020, appendix B).

A patch is a labelled part of a volume and the image around it: ``context`` voxels beyond each side, as a network
without padding needs them. Its middle is a voxel of foreground with the chance ``foreground``, else one of background;
of either, all are equally likely, and where an item has none the other is taken. Of images with a region of interest,
only what lies within it is meant. Beyond a volume's border images and labels are 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from penumbra.training.slices import Slices

if TYPE_CHECKING:
    from penumbra.config.models import Patches

BACKGROUND_TRIES = 100
"""How often a voxel is drawn anew that turned out to be none of the background, before the last one is taken, or one
from a list of all where there is a region of interest."""


class Sampler:
    """Draws patches of chosen items.

    Parameters
    ----------
    items : the volumes or slices. options : size and kind of the patches.
    region : whether images are 0 outside a region of interest.
    """

    def __init__(self, items: Slices, options: Patches, *, region: bool = False) -> None:
        self._items, self._options, self._region = items, options, region
        self._foreground: dict[int, np.ndarray] = {}

    def _voxels(self, item: int) -> np.ndarray:
        if item not in self._foreground:
            voxels = self._items.foreground(item)
            self._foreground[item] = voxels[self._items.seen(item, voxels)] if self._region else voxels
        return self._foreground[item]

    def middles(self, rng: np.random.Generator, items: np.ndarray) -> np.ndarray:
        """The middle voxel of a patch of each item (n,): (n, d) whole numbers."""
        return np.array([self._middle(rng, int(item)) for item in items]).reshape(len(items), -1)

    def _middle(self, rng: np.random.Generator, item: int) -> np.ndarray:
        size, voxels = self._items.size, self._voxels(item)
        if rng.random() < self._options.foreground and len(voxels):
            return np.array(np.unravel_index(voxels[rng.integers(len(voxels))], size))
        for _ in range(BACKGROUND_TRIES):
            drawn = int(rng.integers(int(np.prod(size))))
            # Of the same type, or numpy would convert all of them.
            at = np.searchsorted(voxels, voxels.dtype.type(drawn))
            free = at == len(voxels) or voxels[at] != drawn
            if free and (not self._region or self._items.seen(item, np.array([drawn]))[0]):
                return np.array(np.unravel_index(drawn, size))
        if self._region:
            every = np.flatnonzero(self._items.seen(item, slice(None)))
            others = np.setdiff1d(every, voxels, assume_unique=True)
            others = others if len(others) else every
            drawn = int(others[rng.integers(len(others))]) if len(others) else drawn
        return np.array(np.unravel_index(drawn, size))

    def gather(self, items: np.ndarray, variants: np.ndarray, middles: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (B, C, *shown) and labels (B, K, *shown) float32 of patches, the labels too with their context.

        Parameters
        ----------
        items, variants : (B,), as for :meth:`penumbra.training.slices.Slices.gather`. middles : (B, d).
        """
        both = [
            self._patch(*chosen) for chosen in zip(items.tolist(), variants.tolist(), middles.tolist(), strict=True)
        ]
        return torch.stack([image for image, _ in both]), torch.stack([label for _, label in both])

    def _patch(self, item: int, variant: int, middle: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        box: list[slice] = []
        padding: list[int] = []
        for at, side, whole in zip(middle, self._options.shown, self._items.size, strict=True):
            low = at - side // 2
            box.append(slice(max(low, 0), min(low + side, whole)))
            padding = [max(-low, 0), max(low + side - whole, 0), *padding]
        image, label = self._items.part(item, variant, tuple(box))
        return torch.nn.functional.pad(image, padding), torch.nn.functional.pad(label, padding)
