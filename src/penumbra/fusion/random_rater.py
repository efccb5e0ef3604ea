"""No fusion: every rater's own annotation is kept as one variant of the label.

Training draws one variant per slice each time the slice is shown, the same for all classes ("random sampling",
thesis 5.3.1). A rater who annotated nothing is an empty variant and is drawn like any other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from penumbra.fusion._votes import check, class_maps

SEVERAL_LABELS = True
"""A case has several labels, so predictions cannot be held against this fusion."""


def build() -> Callable[[np.ndarray, int], np.ndarray]:
    """Make ``fuse(raters (R, X, Y, Z), classes K) -> (R, K, X, Y, Z)`` float32 of 0 and 1, in the raters' order."""

    def fuse(raters: np.ndarray, classes: int) -> np.ndarray:
        check(raters, classes)
        return np.moveaxis(class_maps(raters, classes), 1, 0).copy()

    return fuse
