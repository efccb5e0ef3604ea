"""STAPLE's probability itself, not binarised: a soft label from raters weighted by how good they are estimated to be.

The probability that the E step of STAPLE ends with, one STAPLE a class against the rest, divided by its sum over
classes where that exceeds 1. Binarised at >= 0.5 with the largest class taken, it is the fusion ``staple``. It is
mostly close to 0 or 1 even where raters disagree, being the belief in one true segmentation, not the share of raters.

This is not the algorithm that Kats et al. 2019 call soft STAPLE (thesis 2.4.2 and 4.5.5), which extends EM to raters
who give values between 0 and 1, takes raters' masks softened by the voxels around them, and was never released.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from penumbra.fusion import staple


def build() -> Callable[[np.ndarray, int], np.ndarray]:
    """Make ``fuse(raters (R, X, Y, Z), classes K) -> (1, K, X, Y, Z)`` float32 in [0, 1], sum over K at most 1."""
    return staple.build(binarise=False)
