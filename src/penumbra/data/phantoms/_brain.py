"""A brain-like body for phantoms of the brain: shares of its tissues in a voxel, and images in several contrasts.

The brain is an ellipsoid, its skull stripped. A rim of cerebrospinal fluid surrounds a cortex of gray matter whose
borders are folded, white matter fills it, and two ventricles of fluid lie in the middle. Shares of these tissues near
their borders are linear in the distance from them: a background to draw on, no truth that anything is measured
against.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from penumbra.data.phantoms._raters import gaussian_field

TISSUES = ("white", "gray", "fluid", "air")
RIM = 2.5
CORTEX = 5.5


@dataclass(frozen=True)
class Brain:
    """One brain, its middle at the origin; lengths in mm, angles in radians.

    ``semi_axes`` of the whole along x, y, z; ``ventricles``: semi-axes of each of the two, their distance from the
    mid-plane and the angle by which they open to the back; ``fold``: depth of the folds, how many of them run around
    the brain, and the phases of their waves.
    """

    semi_axes: tuple[float, float, float]
    ventricle: tuple[float, float, float]
    ventricle_at: float
    ventricle_angle: float
    fold: tuple[float, float]
    phases: tuple[float, float, float]


def draw_brain(rng: np.random.Generator) -> Brain:
    """A random brain."""
    x, y, z = np.array([60.0, 75.0, 58.0]) * rng.normal(1.0, 0.03) * rng.normal(1.0, 0.02, size=3)
    a, b, c = np.array([6.0, 24.0, 10.0]) * rng.uniform(0.8, 1.3) * rng.normal(1.0, 0.08, size=3)
    return Brain(
        (float(x), float(y), float(z)),
        (float(a), float(b), float(c)),
        float(a * 1.15 + rng.uniform(1.5, 3.0)),
        float(np.deg2rad(rng.normal(14.0, 3.0))),
        (float(rng.uniform(2.0, 3.0)), float(rng.integers(13, 18))),
        tuple(float(p) for p in rng.uniform(0.0, 2.0 * np.pi, size=3)),  # type: ignore[arg-type]
    )


def ellipsoid(offset: np.ndarray, semi_axes: np.ndarray | tuple[float, ...]) -> np.ndarray:
    """Level set (mm, positive inside) of an ellipsoid along the axes; the distance to first order near it.

    Parameters
    ----------
    offset : ``(3, ...)`` mm from its centre.
    """
    axes = np.asarray(semi_axes, dtype=np.float64).reshape(3, *(1,) * (offset.ndim - 1))
    scaled = np.sqrt(np.sum((offset / axes) ** 2, axis=0))
    slope = np.sqrt(np.sum((offset / axes**2) ** 2, axis=0))
    safe = np.where(slope > 0, slope, 1.0)
    return np.where(slope > 0, scaled * (1.0 - scaled) / safe, axes.min())


def depth(brain: Brain, at: np.ndarray) -> np.ndarray:
    """How deep ``(3, ...)`` positions in mm lie in the brain, in mm, negative outside."""
    return ellipsoid(at, brain.semi_axes)


def deepest_cortex(brain: Brain) -> float:
    """Depth in mm below which the brain holds white matter and ventricles only."""
    return RIM + CORTEX + 1.6 * brain.fold[0]


def ventricles(brain: Brain, at: np.ndarray) -> np.ndarray:
    """Level set of both ventricles at ``(3, ...)`` positions in mm, positive inside."""
    levels = []
    for side in (-1.0, 1.0):
        cosine, sine = np.cos(brain.ventricle_angle * side), np.sin(brain.ventricle_angle * side)
        x, y = at[0] - side * brain.ventricle_at, at[1]
        levels.append(ellipsoid(np.stack([cosine * x + sine * y, cosine * y - sine * x, at[2]]), brain.ventricle))
    return np.maximum(*levels)


def shares(brain: Brain, at: np.ndarray, width: float) -> np.ndarray:
    """Shares of :data:`TISSUES` at positions ``(3, ...)`` in mm.

    Parameters
    ----------
    width : over how many mm a share goes from 0 to 1, about a voxel's side.

    Returns
    -------
    ``(4, ...)`` in [0, 1] that sum to 1.
    """
    deep, (amplitude, count) = depth(brain, at), brain.fold
    around = np.arctan2(at[1] / brain.semi_axes[1], at[0] / brain.semi_axes[0])
    one, two, three = brain.phases
    wave = np.sin(count * around + one + at[2] / 9.0) * np.cos(at[2] / 7.0 + two) + 0.6 * np.sin(
        np.ceil(0.6 * count) * around + three - at[2] / 13.0
    )

    def inside(level: np.ndarray) -> np.ndarray:
        return np.clip(level / width + 0.5, 0.0, 1.0)

    brain_share = inside(deep)
    cortex_share = np.minimum(inside(deep - RIM - 0.6 * amplitude * np.maximum(-wave, 0.0)), brain_share)
    white_share = np.minimum(inside(deep - RIM - CORTEX + amplitude * wave), cortex_share)
    ventricle_share = np.minimum(inside(ventricles(brain, at)), white_share)
    return np.stack(
        [
            white_share - ventricle_share,
            cortex_share - white_share,
            brain_share - cortex_share + ventricle_share,
            1.0 - brain_share,
        ]
    )


def draw_images(
    rng: np.random.Generator,
    tissues: np.ndarray,
    means: Mapping[str, tuple[float, ...]],
    at: np.ndarray,
    spacing: tuple[float, float, float],
    noise: float,
    bias: float,
) -> dict[str, np.ndarray]:
    """Images of one case in several contrasts, ``(X, Y, Z)`` int16.

    Each is the mean of the tissues' intensities, weighted by their shares, times a texture of the tissue and a smooth
    bias field, with Rician noise.

    Parameters
    ----------
    tissues : ``(T, X, Y, Z)`` shares that sum to 1.
    means : by contrast, the intensity of each tissue; each varies by 3 % from case to case.
    at : ``(3, X, Y, Z)`` voxel centres in mm.
    spacing : voxel size in mm; the texture's correlation length is 4 mm in plane.
    noise, bias : standard deviation of the noise, in units of intensity, and strength of the bias field.
    """
    reach = np.maximum(np.abs(at).max(axis=(1, 2, 3)), 1.0).reshape(3, 1, 1, 1)
    x, y, z = at / reach
    shape = tissues.shape[1:]
    texture = np.moveaxis(gaussian_field(rng, shape[2], shape[:2], 4.0, spacing[0]), 0, -1)
    images = {}
    for contrast, mean in means.items():
        intensity = np.array(mean) * rng.normal(1.0, 0.03, size=len(mean))
        slope = np.tensordot(rng.normal(0.0, 1.0, size=5), np.stack([x, y, z, x * y, x**2 - y**2]), axes=1)
        clean = np.tensordot(intensity, tissues, axes=1) * (1.0 + 0.03 * texture) * np.exp(bias * slope)
        real, imaginary = rng.normal(0.0, noise, size=(2, *shape))
        gain = 1000.0 * rng.uniform(0.8, 1.2)
        images[contrast] = np.clip(np.rint(gain * np.hypot(clean + real, imaginary)), 0, 32767).astype(np.int16)
    return images
