"""The items that a training reads: prepared arrays, gathered once onto the device where they fit.

An item is a slice, or of a data set that keeps whole volumes a case; the names speak of slices for both.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from penumbra import paths
from penumbra.device import free_memory
from penumbra.errors import PenumbraError
from penumbra.splits import _make as splits
from penumbra.training.progression import busiest

AGAIN = "remove the folder that it lies in, so that it is made again"


@dataclass(frozen=True)
class Index:
    """Which case and position each prepared item comes from (``slices.csv``).

    Attributes
    ----------
    case : (N,) names of cases.
    z : (N,) positions along z; 0 of a volume.
    constant : (N,) true where a contrast of the item has one value everywhere.
    """

    case: np.ndarray
    z: np.ndarray
    constant: np.ndarray

    def rows(self, cases: list[str], *, constant: bool = True) -> np.ndarray:
        """Row numbers of the slices of some cases, in order of the cases; without constant slices unless asked for."""
        found = [np.flatnonzero(self.case == case) for case in cases]
        rows = np.concatenate([np.zeros(0, np.int64), *found])
        return rows if constant else rows[~self.constant[rows]]


def read_index(prepared: Path) -> Index:
    """Read ``slices.csv`` of a prepared folder.

    Raises
    ------
    PenumbraError : the file is missing, or not as ``preprocess`` wrote it.
    """
    path = prepared / paths.PREPARED_SLICES
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        return Index(
            case=np.array([row["case"] for row in rows], dtype=object),
            z=np.array([int(row["z"]) for row in rows], dtype=np.int64),
            constant=np.array([row["constant"].strip().lower() in ("1", "true") for row in rows], dtype=bool),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PenumbraError(f"cannot read the prepared slices: {error!r}", file=path, cure=AGAIN) from error


def read_split(split: Path, index: Index, prepared: Path) -> dict[str, list[str]]:
    """Read ``{"train": [...], "validation": [...], "test": [...]}`` and check that every case was prepared.

    Raises
    ------
    PenumbraError : the file cannot be read or lacks a part, or names a case that was not prepared.
    """
    result = splits.read_split(split)
    known = set(index.case)
    for case in itertools.chain.from_iterable(result.values()):
        if case not in known:
            raise PenumbraError(
                f"the split names a case that is not among the prepared slices of {prepared}",
                file=split,
                case=case,
                cure="make the prepared arrays and the split from the same cases",
            )
    return result


def open_array(path: Path) -> np.ndarray:
    """Map a prepared array into memory; only what is read is loaded.

    Raises
    ------
    PenumbraError : the file is missing, truncated or no array.
    """
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise PenumbraError(f"cannot read the prepared array: {error}", file=path, cure=AGAIN) from error


def smoothed(labels: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Labels mixed with the uniform one: ``(1 - smoothing) t + smoothing / (K + 1)``, background counting as a class.

    Parameters
    ----------
    labels : (B, K, ...) in [0, 1]. smoothing : in [0, 1).
    """
    return (1 - smoothing) * labels + smoothing / (labels.shape[1] + 1)


class Slices:
    """Images and training labels of chosen items: slices or volumes.

    They are copied to the device once when they fit into half of its free memory, and batches are gathered there by
    index; otherwise each batch is read from the mapped files.

    Parameters
    ----------
    images : (N, C, H, W) or (N, C, H, W, D), mapped. labels : (N, V, K, ...) on the same grid, mapped, in [0, 1].
    rows : (n,) the items chosen, out of N.
    hard : binarise labels at >= 0.5, each class by itself.
    """

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, rows: np.ndarray, *, hard: bool, device: torch.device
    ) -> None:
        self._images, self._labels, self._rows = images, labels, rows
        self._hard, self._device = hard, device
        self.count, self.variants = len(rows), labels.shape[1]
        size_image = 4 * int(np.prod(images.shape[1:]))
        size_label = (1 if hard else labels.dtype.itemsize) * int(np.prod(labels.shape[1:]))
        self.resident = self.count * (size_image + size_label) <= 0.5 * free_memory(device)
        if self.resident:
            self._image_tensor = torch.from_numpy(np.ascontiguousarray(images[rows], np.float32)).to(device)
            self._label_tensor = torch.from_numpy(self._read_labels(rows)).flatten(0, 1).to(device)

    def _read_labels(self, rows: np.ndarray) -> np.ndarray:
        labels = np.ascontiguousarray(self._labels[rows])
        return (labels >= 0.5).astype(np.uint8) if self._hard else labels

    def gather(self, items: torch.Tensor, variants: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (B, C, ...) float32 and labels (B, K, ...) float32 of ``items`` (B,), numbers below ``count``.

        ``variants`` (B,) says which rater's label is taken. Both index tensors belong on :attr:`item_device`; the
        result lies on the training's device.
        """
        if self.resident:
            images = self._image_tensor.index_select(0, items)
            return images, self._label_tensor.index_select(0, items * self.variants + variants).float()
        rows = self._rows[items.numpy()]
        batch = torch.from_numpy(np.ascontiguousarray(self._images[rows], np.float32)).to(self._device)
        labels = self._read_labels(rows)[np.arange(len(rows)), variants.numpy()]
        return batch, torch.from_numpy(np.ascontiguousarray(labels, np.float32)).to(self._device)

    def part(self, item: int, variant: int, box: tuple[slice, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """Image (C, ...) and label (K, ...) float32 of one item within a box, on the training's device."""
        if self.resident:
            label = self._label_tensor[item * self.variants + variant]
            return self._image_tensor[item][(slice(None), *box)], label[(slice(None), *box)].float()
        row = self._rows[item]
        image = np.ascontiguousarray(self._images[row][(slice(None), *box)], np.float32)
        label_part = np.ascontiguousarray(self._labels[row, variant][(slice(None), *box)])
        label_part = (label_part >= 0.5) if self._hard else label_part
        found = torch.from_numpy(np.ascontiguousarray(label_part, np.float32))
        return torch.from_numpy(image).to(self._device), found.to(self._device)

    def foreground(self, item: int) -> np.ndarray:
        """Where some rater's label of an item has some class at >= 0.5: numbers of voxels in row-major order, int32."""
        label = np.asarray(self._labels[self._rows[item]])
        return np.flatnonzero((label >= 0.5).any(axis=(0, 1))).astype(np.int32)

    def seen(self, item: int, voxels: np.ndarray | slice) -> np.ndarray:
        """Whether some contrast of an item is not 0 at voxels given by their numbers in row-major order, booleans.

        Read from the mapped file, since asking a GPU would wait for it.
        """
        image = self._images[self._rows[item]]
        found: np.ndarray = (image.reshape(len(image), -1)[:, voxels] != 0).any(axis=0)
        return found

    @property
    def size(self) -> tuple[int, ...]:
        """Height and width of a slice in pixels; height, width and depth of a volume."""
        return self._images.shape[2:]

    @property
    def contrasts(self) -> int:
        """Channels of an image."""
        return self._images.shape[1]

    def watched(self) -> tuple[int, int | None]:
        """The item with the slice that has the most foreground, and that slice's z in a volume."""
        return busiest(self._labels, self._rows)

    def raw(self, item: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Image and first label of an item as prepared, not binarised, and its row among all prepared items."""
        row = int(self._rows[item])
        return self._images[row], self._labels[row, 0], row

    @property
    def item_device(self) -> torch.device:
        """Where the index tensors given to :meth:`gather` belong."""
        return self._device if self.resident else torch.device("cpu")

    def classes_present(self) -> np.ndarray:
        """(K,) true for classes that some label of some item holds."""
        if self.resident:
            return (self._label_tensor.amax(dim=[0, *range(2, self._label_tensor.ndim)]) > 0).cpu().numpy()
        present = np.zeros(self._labels.shape[2], bool)
        for row in self._rows:
            present |= (self._read_labels(row[None])[0] > 0).any(axis=(0, *range(2, self._labels.ndim - 1)))
        return present

    def digest(self) -> str:
        """SHA-256 of the chosen images and labels; when not resident, of the sizes and dates of their files."""
        digest = hashlib.sha256(self._rows.tobytes())
        if self.resident:
            for tensor in (self._image_tensor, self._label_tensor):
                digest.update(tensor.cpu().numpy().data)
        else:
            for array in (self._images, self._labels):
                file = getattr(array, "filename", None)
                status = Path(file).stat() if file else None
                digest.update(repr((array.shape, status and (status.st_size, status.st_mtime_ns))).encode())
        return digest.hexdigest()
