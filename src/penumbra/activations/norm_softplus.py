"""Normalised softplus: the normalised ReLU with ``softplus(x) = ln(1 + exp(beta x)) / beta`` in place of the ReLU.

The smooth variant that the thesis names as open (4.5.1). Gradients do not vanish at negative logits, and with growing
``beta`` it becomes the normalised ReLU. ``scope`` and the form for several classes, K + 1 channels with background
first, are those of the normalised ReLU.

Softplus is positive everywhere, so what the ReLU sets to 0 stays a small probability here. With one class the highest
voxel of the scope is always 1, also where no voxel holds the class: with ``scope: image`` a slice without foreground
cannot be predicted empty, and with ``scope: batch`` (default) a batch without foreground cannot. Several classes are
free of this, as background is one of the channels, and the classes of a voxel always sum to less than 1.

A normaliser (the maximum, or a voxel's sum after division by it) below 2^-63 counts as 0, and so do the probabilities
that it would divide: with ``beta`` 1, where all logits are below -43. That keeps every gradient finite.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from pydantic import Field
from torch.nn.functional import softplus

from penumbra.activations._normalised import Normalised

SMALLEST = 2.0**-63


def build(
    classes: int, *, scope: Literal["batch", "image"] = "batch", beta: Annotated[float, Field(gt=0)] = 1.0
) -> Normalised:
    """Make the activation for K foreground classes.

    Parameters
    ----------
    scope : what the maximum is taken over.
    beta : how sharp the bend at 0 is; above ``beta x = 20`` softplus is taken as x.
    """
    return Normalised(classes, scope, partial(softplus, beta=beta), SMALLEST)
