"""A class only where every rater gave that class; one empty rater makes an empty label.

Raters who agree on "foreground" but not on the class leave background. Source: thesis 2.4.1, whose sentence swaps
the words "union" and "intersection".
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from penumbra.fusion._votes import votes


def build() -> Callable[[np.ndarray, int], np.ndarray]:
    """Make ``fuse(raters (R, X, Y, Z), classes K) -> (1, K, X, Y, Z)`` float32 of 0 and 1, classes exclusive."""

    def fuse(raters: np.ndarray, classes: int) -> np.ndarray:
        return (votes(raters, classes) == raters.shape[0]).astype(np.float32)[None]

    return fuse
