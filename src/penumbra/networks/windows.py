"""A large image through a network part by part, each part shown with what lies around it.

A part's outputs are the middle of what the network gives for the part and ``context`` voxels beyond it on each side.
With a context as wide as half the network's receptive field they are those that the whole image would give (of a
network that takes every n-th voxel, where windows begin at multiples of n). So parts put side by side make one output:
also one *distribution* over the whole image, whose parts vary together, since every part's factor is multiplied by the
same few normal numbers (Monteiro et al. 2020, section 5.3).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from types import EllipsisType

import torch
from torch import nn
from torch.nn import functional

Size = tuple[int, ...]


def centre(images: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """The middle (B, C, *size) of (B, C, ...)."""
    for axis, part in enumerate(size, start=2):
        whole = images.shape[axis]
        images = images.narrow(axis, whole // 2 - part // 2, part)
    return images


def within(network: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, context: int) -> torch.Tensor:
    """A network's outputs for the middle of images, all but ``context`` voxels on each side.

    A network that has a method ``middle`` computes only what needs nothing from beyond the border, where what it is
    shown is enough; of any other one the middle is taken.
    """
    if not context:
        return network(images)
    size = [side - 2 * context for side in images.shape[2:]]
    middle = getattr(network, "middle", None)
    found: torch.Tensor | None = None if middle is None else middle(images, size)
    return centre(network(images), size) if found is None else found


def stitched(
    network: nn.Module, images: torch.Tensor, window: Sequence[int], *, context: int = 0, at_once: int = 4
) -> torch.Tensor:
    """A network's outputs (B, channels, ...) for every voxel, from windows side by side.

    Beyond its border an image is 0; the last window of an axis reaches as far beyond it as it must.

    Parameters
    ----------
    images : (B, C, ...). window : its sides in voxels.
    context : how many voxels a window is shown beyond each of its sides. at_once : windows a batch.
    """
    size = images.shape[2:]
    counts = [-(-whole // part) for whole, part in zip(size, window, strict=True)]
    padding: list[int] = []
    for whole, part, count in zip(size, window, counts, strict=True):
        padding = [context, context + count * part - whole, *padding]
    padded = functional.pad(images, padding)
    corners = [
        [at * part for at, part in zip(place, window, strict=True)]
        for place in itertools.product(*(range(count) for count in counts))
    ]
    found: torch.Tensor | None = None

    def box(corner: list[int], beyond: int) -> tuple[EllipsisType | slice, ...]:
        return (..., *(slice(at, at + part + beyond) for at, part in zip(corner, window, strict=True)))

    for first in range(0, len(corners), at_once):
        chosen = corners[first : first + at_once]
        outputs = within(network, torch.cat([padded[box(corner, 2 * context)] for corner in chosen]), context)
        if found is None:
            found = outputs.new_empty(len(images), outputs.shape[1], *size)
        for corner, output in zip(chosen, outputs.split(len(images)), strict=True):
            place = found[box(corner, 0)]
            place.copy_(output[(..., *(slice(side) for side in place.shape[2:]))])
    assert found is not None
    return found
