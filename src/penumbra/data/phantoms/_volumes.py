"""Volumes of a phantom: their grid, and writing a case in the plain layout that the adapter ``folder`` reads, with what
only a phantom knows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from penumbra.data.case import write_class_map, write_nifti
from penumbra.errors import PenumbraError


def write_phantom_case(
    folder: Path,
    images: Mapping[str, np.ndarray],
    raters: np.ndarray,
    fraction: np.ndarray,
    rater_probability: np.ndarray,
    affine: np.ndarray,
) -> None:
    """Write one case; equal input gives equal bytes.

    Parameters
    ----------
    images : by contrast, ``(X, Y, Z)``, stored in the type given.
    raters : ``(R, X, Y, Z)`` uint8 label maps.
    fraction, rater_probability : ``(K, X, Y, Z)`` in [0, 1]: the share of the voxel that each class truly takes, and
        the probability that a rater picked at random gives the voxel that class; stored as float32.
    affine : ``(4, 4)``, voxel indices to mm.
    """
    for contrast, image in images.items():
        write_nifti(folder / f"image_{contrast}.nii.gz", image, affine)
    for number, mask in enumerate(raters, start=1):
        write_nifti(folder / f"rater-{number}.nii.gz", mask, affine)
    write_class_map(folder / "true-fraction.nii.gz", fraction.astype(np.float32), affine)
    write_class_map(folder / "true-rater-probability.nii.gz", rater_probability.astype(np.float32), affine)


def voxels_across(extent: float, voxel: float) -> int:
    """How many voxels of a side fill an extent, both in mm, so that the field of view is the same at every voxel size.

    Raises
    ------
    PenumbraError : no whole number of voxels fills it.
    """
    count = round(extent / voxel)
    if count < 1 or abs(extent / voxel - count) > 1e-6:
        raise PenumbraError(
            f"voxels of {voxel:g} mm do not fill a field of view of {extent:g} mm",
            cure=f"give a voxel size of which {extent:g} is a multiple",
        )
    return count


def centred_grid(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Voxel centres of a volume whose middle is the origin.

    Returns
    -------
    Positions ``(3, X, Y, Z)`` in mm, and the ``(4, 4)`` affine.
    """
    axes = [(np.arange(n) - (n - 1) / 2.0) * s for n, s in zip(shape, spacing, strict=True)]
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = [axis[0] for axis in axes]
    return np.stack(np.meshgrid(*axes, indexing="ij")), affine


def subvoxel_points(spacing: tuple[float, float, float], points: int) -> np.ndarray:
    """Where to sample a voxel: ``points`` along each side, evenly; ``(points**3, 3)`` in mm from its centre."""
    steps = [((np.arange(points) + 0.5) / points - 0.5) * s for s in spacing]
    return np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3)


def box_of(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box that holds all that is True in an array; empty where nothing is."""
    box = []
    for axis in range(mask.ndim):
        (at,) = np.nonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        box.append(slice(int(at[0]), int(at[-1]) + 1) if len(at) else slice(0, 0))
    return tuple(box)
