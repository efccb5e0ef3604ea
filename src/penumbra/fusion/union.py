"""Foreground wherever at least one rater annotated.

With several classes a voxel gets the class that most raters gave it (background votes do not count; ties go to the
lower class), so that classes stay exclusive and the foreground is exactly the union of the raters'. Source: thesis
2.1.2, whose sentence swaps the words "union" and "intersection".
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from penumbra.fusion._votes import class_maps, votes


def build() -> Callable[[np.ndarray, int], np.ndarray]:
    """Make ``fuse(raters (R, X, Y, Z), classes K) -> (1, K, X, Y, Z)`` float32 of 0 and 1, classes exclusive."""

    def fuse(raters: np.ndarray, classes: int) -> np.ndarray:
        counts = votes(raters, classes)
        return class_maps(np.where(counts.any(axis=0), counts.argmax(axis=0) + 1, 0), classes)[None]

    return fuse
