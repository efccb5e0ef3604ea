"""From a case's native grid to the network's and back, slice by slice.

**Grid convention.** Slices are resampled in plane only, as by ``scipy.ndimage.zoom`` in the released code: ``n`` voxels
of side ``s`` become ``round(n * s / spacing)``, and the centres of the first and last voxel stay where they are; image,
labels and predictions share that mapping, so it cancels. (The spacing is met but for a factor
``(n - 1) / n * m / (m - 1)``, 0.4 % for 128 to 256.) The result is cropped or zero-padded about its centre: the window
begins at ``round((m - size) / 2)``, halves rounded to even; a negative start pads. The way back fills with zeros what
was cropped, drops what was padded, and resamples with order 1 to exactly the native shape.

**Normalisation** follows, on the cropped slice, padding included. Thesis section 4.3.3, table 4.1.
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


@dataclass(frozen=True)
class CaseGeometry:
    """How one case came onto the network's grid.

    Attributes
    ----------
    shape : native ``(X, Y, Z)`` in voxels.
    spacing : native voxel size in mm.
    resampled : ``(X', Y')`` in-plane shape after resampling, before the crop.
    crop : ``(H, W)`` of the network's grid.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    resampled: tuple[int, int]
    crop: tuple[int, int]

    @property
    def start(self) -> tuple[int, int]:
        """Where the crop begins on the resampled grid; negative where it pads."""
        return crop_start(self.resampled[0], self.crop[0]), crop_start(self.resampled[1], self.crop[1])


def case_geometry(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    target: tuple[float, float] | None,
    crop: tuple[int, int],
) -> CaseGeometry:
    """A case's geometry from native shape (voxels) and spacing (mm); a ``target`` of None keeps the spacing."""
    resampled = (shape[0], shape[1])
    if target is not None:
        x, y = (max(1, round(n * s / t)) for n, s, t in zip(shape[:2], spacing[:2], target, strict=True))
        resampled = (x, y)
    return CaseGeometry(shape, spacing, resampled, crop)


def crop_start(size: int, crop: int) -> int:
    """First index of a centred window of ``crop`` in ``size`` voxels; negative where the window is the larger."""
    return round((size - crop) / 2)


def resample(array: np.ndarray, shape: tuple[int, int], order: int) -> np.ndarray:
    """Resample ``(..., X, Y, Z)`` in plane to ``(..., *shape, Z)`` by splines of ``order``, every slice by itself.

    Centres of the first and last voxel coincide before and after. Floating-point input keeps its type, others become
    float32.
    """
    from scipy import ndimage

    array = array if array.dtype.kind == "f" else array.astype(np.float32)
    *lead, nx, ny, nz = array.shape
    if (nx, ny) == tuple(shape):
        return array.copy()
    result = np.empty((*lead, *shape, nz), dtype=array.dtype)
    factors = (shape[0] / nx, shape[1] / ny)
    for index in np.ndindex(*lead):
        for z in range(nz):
            result[(*index, slice(None), slice(None), z)] = ndimage.zoom(
                array[(*index, slice(None), slice(None), z)], factors, order=order
            )
    return result


def crop_or_pad(array: np.ndarray, size: tuple[int, int], start: tuple[int, int]) -> np.ndarray:
    """The window ``start .. start + size`` of ``(..., X, Y, Z)``, zeros where it reaches outside."""
    *lead, nx, ny, nz = array.shape
    result = np.zeros((*lead, *size, nz), dtype=array.dtype)
    (from_x, to_x), (from_y, to_y) = (
        (min(max(s, 0), n), max(min(s + c, n), 0)) for s, c, n in zip(start, size, (nx, ny), strict=True)
    )
    if from_x < to_x and from_y < to_y:
        result[..., from_x - start[0] : to_x - start[0], from_y - start[1] : to_y - start[1], :] = array[
            ..., from_x:to_x, from_y:to_y, :
        ]
    return result


def normalise(image: np.ndarray, mode: Literal["joint", "per_contrast"]) -> np.ndarray:
    """Z-score of one slice ``(C, H, W)``, computed in float64.

    ``joint``: one mean and standard deviation over all contrasts, n - 1 in the denominator (what gave the published
    numbers). ``per_contrast``: each contrast by itself, n in the denominator. A constant array becomes zeros.
    """
    values = image.astype(np.float64)
    axes, ddof = ((0, 1, 2), 1) if mode == "joint" else ((1, 2), 0)
    centred = values - values.mean(axis=axes, keepdims=True)
    constant = np.ptp(values, axis=axes, keepdims=True) == 0
    deviation = np.where(constant, 1.0, values.std(axis=axes, ddof=ddof, keepdims=True))
    return np.where(constant, 0.0, centred / deviation).astype(np.float32)


def to_prepared(array: np.ndarray, geometry: CaseGeometry, order: int) -> np.ndarray:
    """Bring ``(..., X, Y, Z)`` onto the network's grid: ``(..., H, W, Z)``."""
    _fits(array, geometry.shape)
    return crop_or_pad(resample(array, geometry.resampled, order), geometry.crop, geometry.start)


def to_native(maps: np.ndarray, geometry: CaseGeometry) -> np.ndarray:
    """Bring maps ``(K, H, W, Z)`` (any leading axes) back onto the native grid, ``(K, X, Y, Z)`` float32.

    Zero outside the crop; linear interpolation, so values stay within those given.
    """
    _fits(maps, (*geometry.crop, geometry.shape[2]))
    start = (-geometry.start[0], -geometry.start[1])
    whole = crop_or_pad(np.asarray(maps, dtype=np.float32), geometry.resampled, start)
    return resample(whole, (geometry.shape[0], geometry.shape[1]), UNDO_ORDER)


def _fits(array: np.ndarray, shape: tuple[int, int, int]) -> None:
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
                resampled=integers(g["resampled"]),  # type: ignore[arg-type]
                crop=integers(g["crop"]),  # type: ignore[arg-type]
            )
            for case, g in content.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PenumbraError(f"cannot read the geometries: {error!r}", file=path, cure="run preprocess again") from error
