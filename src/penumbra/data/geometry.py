"""From a case's native grid to the network's and back: slice by slice, or as a whole volume.

A crop of two numbers makes every slice along Z an *item* of its own; one of three makes the whole volume one.

**Grid convention.** Axes are resampled as by ``scipy.ndimage.zoom`` in the released code: ``n`` voxels of side ``s``
become ``round(n * s / spacing)``, and the centres of the first and last voxel stay where they are; image, labels and
predictions share that mapping, so it cancels. (The spacing is met but for a factor ``(n - 1) / n * m / (m - 1)``, 0.4 %
for 128 to 256.) A spacing of two numbers resamples in plane only, every slice by itself; one of three, which takes
volumes, resamples Z with the same splines too. The result is cropped or zero-padded about its centre, volumes along Z
too: the window begins at ``round((m - size) / 2)``, halves rounded to even; a negative start pads. The way back fills
with zeros what was cropped, drops what was padded, and resamples with order 1 to exactly the native shape.

**Normalisation** follows, on the cropped item, padding included, or on its region of interest alone. Thesis section
4.3.3, table 4.1.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from penumbra import files
from penumbra.errors import PenumbraError

UNDO_ORDER = 1
HARDLY_ANYTHING = np.float32(1e-6)
"""What a normalised voxel inside a region of interest is at least, so that 0 says what is outside."""


@dataclass(frozen=True)
class CaseGeometry:
    """How one case came onto the network's grid.

    Attributes
    ----------
    shape : native ``(X, Y, Z)`` in voxels.
    spacing : native voxel size in mm.
    resampled : ``(X', Y')`` in-plane shape after resampling, before the crop; of a volume ``(X', Y', Z')``.
    crop : ``(H, W)`` of the network's grid; of a volume ``(H, W, D)``.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    resampled: tuple[int, ...]
    crop: tuple[int, ...]

    @property
    def volumetric(self) -> bool:
        """Whether the case is one item; else each of its slices is."""
        return len(self.crop) == 3

    @property
    def items(self) -> int:
        """Into how many items the case is cut."""
        return 1 if self.volumetric else self.shape[2]

    @property
    def start(self) -> tuple[int, ...]:
        """Where the crop begins on the resampled grid; negative where it pads."""
        return tuple(crop_start(n, c) for n, c in zip(self.resampled, self.crop, strict=True))


def case_geometry(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    target: tuple[float, ...] | None,
    crop: tuple[int, ...],
) -> CaseGeometry:
    """A case's geometry from native shape (voxels) and spacing (mm).

    Parameters
    ----------
    target : spacing in mm of the network's grid along the first two axes or all three; the others, and with None all,
        keep theirs.
    crop : two numbers for slices, three for volumes; no fewer than ``target`` has.
    """
    wanted = target or ()
    size = tuple(max(1, round(n * s / t)) for n, s, t in zip(shape, spacing, wanted, strict=False))
    return CaseGeometry(shape, spacing, size + shape[len(size) : len(crop)], crop)


def crop_start(size: int, crop: int) -> int:
    """First index of a centred window of ``crop`` in ``size`` voxels; negative where the window is the larger."""
    return round((size - crop) / 2)


def resample(array: np.ndarray, shape: tuple[int, ...], order: int) -> np.ndarray:
    """Resample ``(..., X, Y, Z)`` by splines of ``order`` to ``shape``, of two numbers in plane, of three along Z too.

    Where Z stays as it is, every slice is resampled by itself. Centres of the first and last voxel coincide before and
    after: the last place is mirrored at the border where rounding puts it outside. Floating-point input keeps its type,
    others become float32.
    """
    from scipy import ndimage

    array = array if array.dtype.kind == "f" else array.astype(np.float32)
    *lead, nx, ny, nz = array.shape
    target = (*shape, nz)[:3]
    if (nx, ny, nz) == target:
        return array.copy()
    result = np.empty((*lead, *target), dtype=array.dtype)
    factors = tuple(m / n for m, n in zip(target, (nx, ny, nz), strict=True))
    for index in np.ndindex(*lead):
        if target[2] != nz:
            result[index] = ndimage.zoom(array[index], factors, order=order, mode="mirror")
            continue
        for z in range(nz):
            result[(*index, slice(None), slice(None), z)] = ndimage.zoom(
                array[(*index, slice(None), slice(None), z)], factors[:2], order=order, mode="mirror"
            )
    return result


def crop_or_pad(array: np.ndarray, size: tuple[int, ...], start: tuple[int, ...]) -> np.ndarray:
    """The window ``start .. start + size`` of ``(..., X, Y, Z)``, zeros where it reaches outside.

    Size and start of two numbers leave Z as it is.
    """
    *lead, nx, ny, nz = array.shape
    size, start = (*size, nz)[:3], (*start, 0)[:3]
    result = np.zeros((*lead, *size), dtype=array.dtype)
    inside = [(min(max(s, 0), n), max(min(s + c, n), 0)) for s, c, n in zip(start, size, (nx, ny, nz), strict=True)]
    if all(begin < end for begin, end in inside):
        x, y, z = (slice(begin, end) for begin, end in inside)
        to_x, to_y, to_z = (slice(begin - s, end - s) for (begin, end), s in zip(inside, start, strict=True))
        result[..., to_x, to_y, to_z] = array[..., x, y, z]
    return result


def normalise(
    image: np.ndarray, mode: Literal["joint", "per_contrast"], inside: np.ndarray | None = None
) -> np.ndarray:
    """Z-score of one slice ``(C, H, W)`` or volume ``(C, H, W, D)``, computed in float64.

    ``joint``: one mean and standard deviation over all contrasts, n - 1 in the denominator (what gave the published
    numbers). ``per_contrast``: each contrast by itself, n in the denominator. A constant array becomes zeros. Where
    there is a region ``inside`` (H, W) or (H, W, D), its voxels alone are looked at, all others become 0, and none of
    its own stays 0 in all contrasts.
    """
    if inside is not None:
        found = np.zeros(image.shape, np.float32)
        if inside.any():
            values = normalise(image[:, inside], mode)
            values[0, ~values.any(axis=0)] = HARDLY_ANYTHING
            found[:, inside] = values
        return found
    values = image.astype(np.float64)
    axes, ddof = (tuple(range(image.ndim)), 1) if mode == "joint" else (tuple(range(1, image.ndim)), 0)
    centred = values - values.mean(axis=axes, keepdims=True)
    constant = np.ptp(values, axis=axes, keepdims=True) == 0
    deviation = np.where(constant, 1.0, values.std(axis=axes, ddof=ddof, keepdims=True))
    return np.where(constant, 0.0, centred / deviation).astype(np.float32)


def to_prepared(array: np.ndarray, geometry: CaseGeometry, order: int) -> np.ndarray:
    """Bring ``(..., X, Y, Z)`` onto the network's grid: ``(..., H, W, Z)``, of a volume ``(..., H, W, D)``."""
    _fits(array, geometry.shape)
    return crop_or_pad(resample(array, geometry.resampled, order), geometry.crop, geometry.start)


def to_native(maps: np.ndarray, geometry: CaseGeometry) -> np.ndarray:
    """Bring maps ``(K, H, W, Z)`` or ``(K, H, W, D)`` (any leading axes) back onto the native grid.

    Returns
    -------
    ``(K, X, Y, Z)`` float32, zero outside the crop; interpolated linearly, so values stay within those given.
    """
    _fits(maps, (*geometry.crop, geometry.shape[2])[:3])
    start = tuple(-first for first in geometry.start)
    whole = crop_or_pad(np.asarray(maps, dtype=np.float32), geometry.resampled, start)
    return resample(whole, geometry.shape, UNDO_ORDER)


def to_items(array: np.ndarray, geometry: CaseGeometry) -> np.ndarray:
    """A view of ``(..., H, W, Z)`` as the case's items: slices ``(Z, ..., H, W)``, or one volume ``(1, ..., H, W, D)``.

    Also of an array on the native grid.
    """
    return array[np.newaxis] if geometry.volumetric else np.moveaxis(array, -1, 0)


def from_items(items: np.ndarray, geometry: CaseGeometry) -> np.ndarray:
    """What :func:`to_items` undoes: ``(Z, ..., H, W)`` or ``(1, ..., H, W, D)`` to ``(..., H, W, Z or D)``, a view."""
    return items[0] if geometry.volumetric else np.moveaxis(items, 0, -1)


def _fits(array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape[-3:] != tuple(shape):
        raise ValueError(f"expected an array (..., {', '.join(map(str, shape))}), got {array.shape}")


def write_geometries(path: str | Path, geometries: dict[str, CaseGeometry]) -> None:
    """Write ``geometry.json``: one object a case."""
    files.write_json(path, {case: asdict(g) for case, g in geometries.items()})


def read_geometries(path: str | Path) -> dict[str, CaseGeometry]:
    """Read ``geometry.json``, by case."""

    def integers(values: Iterable[Any]) -> tuple[int, ...]:
        return tuple(int(v) for v in values)

    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return {
            case: CaseGeometry(
                shape=integers(g["shape"]),  # type: ignore[arg-type]
                spacing=tuple(float(s) for s in g["spacing"]),  # type: ignore[arg-type]
                resampled=integers(g["resampled"]),
                crop=integers(g["crop"]),
            )
            for case, g in content.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PenumbraError(f"cannot read the geometries: {error!r}", file=path, cure="run preprocess again") from error
