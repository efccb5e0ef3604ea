"""Normalised ReLU (thesis eq. 4.1): ``relu(x) / max(relu(x))``, and 0 where that maximum is 0.

``scope: batch`` takes the maximum over the whole mini-batch, as the released code does in training and testing
alike: a prediction then depends on the slices that share its batch. ``scope: image`` takes it over each slice alone.

Several classes: K + 1 channels, background first. The ReLU is divided by its maximum over all channels (and the
scope), then, voxel by voxel, by its sum over background and classes; a voxel whose channels are all <= 0 stays 0 in
every class. Background is left out of what is returned. The maximum cancels in the second division, so the scope
matters with one class only.

The gradient flows through the maximum too. A normaliser below the smallest normal float counts as 0, which keeps
every gradient finite.
"""

from __future__ import annotations

from typing import Literal

import torch

from penumbra.activations._normalised import Normalised


def build(classes: int, *, scope: Literal["batch", "image"] = "batch") -> Normalised:
    """Make the activation for K foreground classes.

    Parameters
    ----------
    scope : what the maximum is taken over; ``batch`` is what produced the published numbers.
    """
    return Normalised(classes, scope, torch.relu)
