"""Whether a network takes what a data set holds, slices or whole volumes, and its parts have as many sides, which can
be turned as they are to be.

A network's module says it by the constant ``DIMENSIONS``, 2 or 3; one that takes both has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from penumbra import parts
from penumbra.errors import PenumbraError

if TYPE_CHECKING:
    from penumbra.config.models import Augmentation


def check_dimensions(network: str, crop: Sequence[int]) -> None:
    """Refuse a network for slices on volumes, and the reverse.

    Parameters
    ----------
    network : the candidate's network, by its part's name. crop : ``geometry.crop`` of the data set.

    Raises
    ------
    PenumbraError : they do not fit; it names both and a network that would.
    """
    takes = parts.constant("network", network, "DIMENSIONS", None)
    if takes in (None, len(crop)):
        return
    fitting = [n for n in parts.names("network") if parts.constant("network", n, "DIMENSIONS", None) == len(crop)]
    fitting.sort(key=lambda name: -SequenceMatcher(None, network, name).ratio())  # the one most like it first
    what = {2: "slices", 3: "whole volumes"}
    raise PenumbraError(
        f"the network {network} takes {what[takes]}, the data set is cut into {what[len(crop)]} "
        f"(geometry.crop: {list(crop)})",
        cure=f"give the candidate another network ({', '.join(fitting)}), for all candidates by the data set's "
        f"`recipe: {{network: {{{network}: {{name: {fitting[0]}}}}}}}`, or set geometry.crop to {takes} numbers",
    )


def check_sides(key: str, sides: Sequence[int], crop: Sequence[int]) -> None:
    """Refuse patches or windows of slices on volumes, and the reverse.

    Parameters
    ----------
    key : what of the candidate's recipe names the ``sides``. crop : ``geometry.crop`` of the data set.

    Raises
    ------
    PenumbraError : they are not as many.
    """
    if len(sides) != len(crop):
        raise PenumbraError(
            f"{key}: {list(sides)} has {len(sides)} sides, the data set's geometry.crop {list(crop)} has {len(crop)}",
            cure=f"give {key} as many numbers as geometry.crop",
        )


def check_turns(augmentation: Augmentation | None, size: Sequence[int]) -> None:
    """Refuse right angles and flips that items of a ``size`` in voxels, as training sees them, cannot have.

    Raises
    ------
    PenumbraError : the first two sides differ and are to be turned into each other, or an axis is none.
    """
    if augmentation is None:
        return
    if augmentation.right_angles and size[0] != size[1]:
        raise PenumbraError(
            f"training.augmentation.right_angles: items of {list(size)} voxels do not fit onto themselves when turned",
            cure="give geometry.crop, or training.patches.size, two equal first sides, or leave right_angles out",
        )
    if augmentation.flips is not None and max(augmentation.flips.axes) >= len(size):
        raise PenumbraError(
            f"training.augmentation.flips.axes: {list(augmentation.flips.axes)} of items with {len(size)} axes",
            cure=f"name axes from 0 to {len(size) - 1}",
        )
