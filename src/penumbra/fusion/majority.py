"""Each voxel gets the label, background included, that most raters gave.

One class: foreground where *strictly more* than half of the raters say so; a tie (possible with an even number of
raters) is background unless ``tie: foreground``. Several classes: the label with the most votes (plurality);
classes that tie go to the lower class, and a tie with background is settled by ``tie``. A rater who annotated
nothing votes background everywhere. Source: thesis 2.4.1 and 4.3.2; neither states how ties were broken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from penumbra.fusion._votes import class_maps, votes


def build(*, tie: Literal["background", "foreground"] = "background") -> Callable[[np.ndarray, int], np.ndarray]:
    """Make ``fuse(raters (R, X, Y, Z), classes K) -> (1, K, X, Y, Z)`` float32 of 0 and 1, classes exclusive.

    Parameters
    ----------
    tie : the label of a voxel where background has as many votes as the best class.
    """

    def fuse(raters: np.ndarray, classes: int) -> np.ndarray:
        counts = votes(raters, classes)
        background = raters.shape[0] - counts.sum(axis=0)
        most = counts.max(axis=0)
        wins = most >= background if tie == "foreground" else most > background
        return class_maps(np.where(wins & (most > 0), counts.argmax(axis=0) + 1, 0), classes)[None]

    return fuse
