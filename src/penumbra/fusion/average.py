"""The fraction of raters that gave each class: a soft label that keeps their disagreement.

With R raters, ``label_k(v) = #{r : rater r gave class k to voxel v} / R``; background is what remains. A rater who
annotated nothing counts as one who said "background" everywhere. Source: thesis 5.3.1 ("average").
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from penumbra.fusion._votes import votes


def build() -> Callable[[np.ndarray, int], np.ndarray]:
    """Make ``fuse(raters (R, X, Y, Z), classes K) -> (1, K, X, Y, Z)`` float32, multiples of 1/R in [0, 1]."""

    def fuse(raters: np.ndarray, classes: int) -> np.ndarray:
        return (votes(raters, classes) / raters.shape[0]).astype(np.float32)[None]

    return fuse
