"""How the prediction of one validation slice changes from epoch to epoch (thesis figure 4.2).

The slice is the one with the most foreground, summed over classes, in the training label before it is binarised; of
several the first. So candidates that train on the same fusion are watched on the same slice. Of a volume it is that
slice along z. It is predicted as a batch of its own (a volume: whole), without dropout or augmentation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from penumbra.files import atomic_path


def busiest(labels: np.ndarray, rows: np.ndarray) -> tuple[int, int | None]:
    """Which of the items ``rows`` has the slice with the most foreground, counted in ``rows``, and its z in a volume.

    Parameters
    ----------
    labels : (N, V, K, H, W) or (N, V, K, H, W, D), mapped; the first variant counts.
    """
    best = -1.0
    found: tuple[int, int | None] = (0, None)
    for item, row in enumerate(rows):
        label = np.asarray(labels[row, 0], np.float64)
        sums = np.atleast_1d(label.sum(axis=(0, 1, 2)))
        at = int(sums.argmax())
        if sums[at] > best:
            best, found = float(sums[at]), (item, at if label.ndim == 4 else None)
    return found


@dataclass
class Progression:
    """The predictions kept so far.

    Attributes
    ----------
    epochs : at which epochs the prediction is kept, besides the last.
    item, z : the watched validation item, counted among the validation items, and its slice in a volume.
    kept_epochs, kept : the epochs kept, and their predictions (K, H, W) on the CPU.
    """

    epochs: frozenset[int]
    item: int
    z: int | None
    kept_epochs: list[int] = field(default_factory=list)
    kept: list[torch.Tensor] = field(default_factory=list)

    def keep(self, epoch: int, probabilities: torch.Tensor) -> None:
        """Keep the prediction (1, K, H, W) or (1, K, H, W, D) of an epoch."""
        prediction = probabilities[0] if self.z is None else probabilities[0, ..., self.z]
        self.kept_epochs.append(epoch)
        self.kept.append(prediction.detach().float().cpu().clone())

    def write(self, path: Path, *, image: np.ndarray, label: np.ndarray, case: str, z: int) -> None:
        """Write ``progression.npz``.

        It holds ``epochs`` (E,), ``predictions`` (E, K, H, W) float32, and of the watched slice ``image`` (C, H, W),
        ``label`` (K, H, W) before it is binarised, ``case`` and ``z``.

        Parameters
        ----------
        image, label : the watched item, with a last axis D where it is a volume. z : position along z of a slice.
        """
        if self.z is not None:
            image, label, z = image[..., self.z], label[..., self.z], self.z
        with atomic_path(path) as temporary, open(temporary, "wb") as stream:
            np.savez(
                stream,
                epochs=np.asarray(self.kept_epochs, np.int64),
                predictions=np.stack([prediction.numpy() for prediction in self.kept]),
                image=np.asarray(image, np.float32),
                label=np.asarray(label, np.float32),
                case=np.asarray(case),
                z=np.asarray(z, np.int64),
            )
