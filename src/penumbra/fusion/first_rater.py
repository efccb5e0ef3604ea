"""The first rater's annotation alone, as if there were no other ("one set" in Monteiro et al. 2020, table 1).

Where raters are not identified the first mask of two slices need not be the same person's.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from penumbra.fusion._votes import check, class_maps


def build() -> Callable[[np.ndarray, int], np.ndarray]:
    """Make ``fuse(raters (R, X, Y, Z), classes K) -> (1, K, X, Y, Z)`` float32 of 0 and 1, classes exclusive."""

    def fuse(raters: np.ndarray, classes: int) -> np.ndarray:
        check(raters, classes)
        return class_maps(raters[0], classes)[None]

    return fuse
