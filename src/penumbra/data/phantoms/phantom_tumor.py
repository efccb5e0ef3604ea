"""Phantom ``phantom_tumor``: brains with one tumour of ill-defined borders, four raters, and a truth that is known.

Written as a data set of one's own would come, in the layout of the adapter ``folder``; mutually exclusive classes
``necrosis`` (1), ``enhancing`` (2) and ``oedema`` (3), contrasts ``FLAIR``, ``T1``, ``T1Gd`` and ``T2``. Voxels of
2 x 2 x 3 mm.

**Shapes.** Three nested surfaces in a brain-like ellipsoid (see ``_brain``), the outermost first: the whole tumour, its
core, and the necrosis in the core. Each is a lobed ball: its radius depends smoothly on the direction.

**True fraction.** Borders are graded: at a level phi (mm, positive inside) of surface s the tissue inside it takes the
share Phi(phi / border_s) of a point, with the normal distribution function Phi. Of a point, oedema takes w_1 (1 - w_2),
enhancing tumour w_1 w_2 (1 - w_3) and necrosis w_1 w_2 w_3; a voxel's fraction is the mean over ``supersampling`` cubed
points in it. **Images**: means of tissue intensities weighted by these fractions; bias field and Rician noise.

**Raters** (see ``_raters``) draw each surface where the share of a point is over some level of their own, which wavers
along the boundary: their bias and noise are in units of the surface's ``border``, so that they disagree most where the
tumour is least defined. **True rater probability**: the exact probability that one of them, picked at random, gives the
voxel the class.

Options
-------
cases, slices : size of the data set; slices of 3 mm about the middle of the brain.
radius : smallest and largest mean radius of a whole tumour in mm.
border : width of the graded border in mm of the whole tumour, the core and the necrosis.
voxel : in-plane side of the voxels in mm, instead of 2.
objects : name to draw under, instead of the data set's: data sets of one such name, seed and number of slices hold the
    same shapes, whatever their voxels.
supersampling : points a voxel side for the true fractions.
rater_bias : one bias a rater in units of the border's width, positive outward.
rater_noise : standard deviation of a rater's boundary noise in the same units.
rater_correlation : its correlation length in mm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy import special

from penumbra.data.phantoms import _brain
from penumbra.data.phantoms._raters import draw, probability
from penumbra.data.phantoms._volumes import box_of, centred_grid, subvoxel_points, voxels_across, write_phantom_case
from penumbra.errors import PenumbraError
from penumbra.seeds import generator

CLASSES = ("necrosis", "enhancing", "oedema")
SPACING = (2.0, 2.0, 3.0)
IN_PLANE = (68, 84)
MEANS = {  # white matter, gray matter, fluid, air, necrosis, enhancing tumour, oedema
    "FLAIR": (0.55, 0.66, 0.18, 0.02, 0.42, 0.82, 1.00),
    "T1": (1.00, 0.72, 0.28, 0.02, 0.42, 0.70, 0.64),
    "T1Gd": (0.92, 0.70, 0.28, 0.02, 0.40, 1.35, 0.62),
    "T2": (0.48, 0.62, 1.20, 0.02, 1.05, 0.78, 0.96),
}
NOISE = 0.035
BIAS = 0.06
LOBES = np.array([0.30, 0.30, 0.30, 0.15, 0.15, 0.13, 0.13])
PEAKS = np.array([0.5, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0])
PURE = 6.0
"""Widths of its border from a surface beyond which a point is pure; Phi(-6) is below 1e-9."""
REACH = 8.0
"""Standard deviations of the raters' noise beyond which none draws; Phi(-8) is below 1e-15."""


@dataclass(frozen=True)
class Surface:
    """A lobed ball: centre and mean radius in mm, and ``lobes`` (7,), the weights of :func:`lobes`."""

    centre: np.ndarray
    radius: float
    lobes: np.ndarray


def lobes(weights: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Sum of seven solid harmonics of degree 2 and 3 over unit vectors ``(3, ...)``; its mean over the sphere is 0."""
    u, v, w = direction
    uu, vv, ww = u * u, v * v, w * w
    a, b, c, d, e, f, g = weights
    second = a * u * v + b * v * w + c * u * w + d * (uu - vv) + e * (1.5 * ww - 0.5)
    return second + f * u * (uu - 3.0 * vv) + g * w * (2.5 * ww - 1.5)


def level(surface: Surface, at: np.ndarray) -> np.ndarray:
    """Level set of a surface at positions ``(3, ...)`` in mm: the distance to it along the radius, positive inside."""
    offset = at - surface.centre.reshape(3, *(1,) * (at.ndim - 1))
    distance = np.sqrt(np.sum(offset**2, axis=0))
    direction = offset / np.where(distance > 0, distance, 1.0)
    return surface.radius * (1.0 + lobes(surface.lobes, direction)) - distance


def draw_tumor(
    rng: np.random.Generator, brain: _brain.Brain, radius: tuple[float, float], height: float
) -> list[Surface]:
    """Surfaces of the whole tumour, its core and its necrosis, at a random place within the brain.

    Parameters
    ----------
    radius : smallest and largest mean radius of the whole in mm.
    height : extent of the volume along z in mm; the tumour lies within it where that is possible.
    """
    whole = rng.uniform(*radius)
    core = whole * rng.uniform(0.55, 0.75)
    necrosis = core * rng.uniform(0.55, 0.8)
    reach = 1.25 * whole
    half = np.array([*brain.semi_axes[:2], max(height / 2.0 - reach, 0.0)])
    at = rng.uniform(-1.0, 1.0, size=(2000, 3)) * half
    deep = _brain.depth(brain, at.T)
    sided = np.where(np.abs(at[:, 0]) > 0.5 * whole, deep, deep - brain.semi_axes[0])
    chosen = at[np.argmax(sided > reach)] if (sided > reach).any() else at[np.argmax(deep)]
    surfaces = []
    for size, room in ((whole, 0.0), (core, whole - core), (necrosis, core - necrosis)):
        weights = rng.normal(size=7) * LOBES
        weights *= min(1.0, 0.6 / float(np.abs(weights) @ PEAKS))  # the radius stays within 40 and 160 %
        direction = rng.normal(size=3)
        shift = direction / np.linalg.norm(direction) * room * rng.uniform(0.0, 0.35)
        chosen = chosen + shift
        surfaces.append(Surface(chosen, float(size), weights))
    return surfaces


def fractions(
    surfaces: list[Surface],
    at: np.ndarray,
    spacing: tuple[float, float, float],
    border: list[float],
    supersampling: int,
) -> np.ndarray:
    """Share of each voxel that necrosis, enhancing tumour and oedema take: ``(3, X, Y, Z)`` float64, sum at most 1.

    Parameters
    ----------
    surfaces, border : whole tumour, core, necrosis; widths of their graded borders in mm.
    at : ``(3, X, Y, Z)`` voxel centres in mm.
    """
    at_centre = np.stack([level(s, at) for s in surfaces])
    width = np.array(border).reshape(3, 1, 1, 1)
    result = _classes(at_centre / width)
    mixed = np.any(np.abs(at_centre) < PURE * width + np.linalg.norm(spacing), axis=0)
    total = np.zeros((3, int(mixed.sum())))
    points = subvoxel_points(spacing, supersampling)
    for point in points:
        fine = at[:, mixed] + point[:, None]
        total += _classes(np.stack([level(s, fine) for s in surfaces]) / width.reshape(3, 1))
    result[:, mixed] = total / len(points)
    return result


def _classes(scaled: np.ndarray) -> np.ndarray:
    """Necrosis, enhancing tumour and oedema from levels in units of the borders' widths, outermost first."""
    whole, core, necrosis = np.cumprod(special.ndtr(scaled), axis=0)
    return np.stack([necrosis, core - necrosis, whole - core])


def build(
    *,
    cases: Annotated[int, Field(ge=1, le=999)] = 12,
    slices: Annotated[int, Field(ge=1, le=36)] = 24,
    radius: Annotated[list[float], Field(min_length=2, max_length=2)] = [13.0, 22.0],  # noqa: B006 - never changed
    border: Annotated[list[float], Field(min_length=3, max_length=3)] = [3.0, 1.0, 1.5],  # noqa: B006
    voxel: Annotated[float, Field(gt=0)] | None = None,
    objects: str = "",
    supersampling: Annotated[int, Field(ge=1)] = 3,
    rater_bias: Annotated[list[float], Field(min_length=1)] = [-0.75, -0.25, 0.25, 0.75],  # noqa: B006
    rater_noise: Annotated[float, Field(gt=0)] = 0.6,
    rater_correlation: Annotated[float, Field(ge=0)] = 6.0,
) -> Callable[[Path, int, str], None]:
    """Make ``generate(folder, seed, name)``, which writes the data set; equal seeds give equal bytes.

    Raises
    ------
    PenumbraError : ``radius`` is no range, a ``border`` is not positive, or no whole number of voxels of side ``voxel``
        fills the field of view.
    """
    if not 0 < radius[0] <= radius[1] or min(border) <= 0:
        raise PenumbraError(
            f"radius: {radius}, border: {border}",
            cure="give the smallest and the largest radius, and three positive widths, all in mm",
        )

    spacing, in_plane = SPACING, IN_PLANE
    if voxel is not None:
        spacing = (voxel, voxel, SPACING[2])
        in_plane = (voxels_across(IN_PLANE[0] * SPACING[0], voxel), voxels_across(IN_PLANE[1] * SPACING[1], voxel))

    def generate(folder: Path, seed: int, name: str) -> None:
        for number in range(1, cases + 1):
            case = f"brain-{number:03d}"
            _write(Path(folder) / case, partial(generator, seed, "phantom", objects or name, case))

    def _write(folder: Path, rng: Callable[[str], np.random.Generator]) -> None:
        at, affine = centred_grid((*in_plane, slices), spacing)
        shape = rng("shape")
        brain = _brain.draw_brain(shape)
        surfaces = draw_tumor(shape, brain, (radius[0], radius[1]), slices * SPACING[2])
        share = fractions(surfaces, at, spacing, border, supersampling)

        scaled = np.stack([level(s, at) / width for s, width in zip(surfaces, border, strict=True)])
        box = box_of(scaled[0] > -REACH * rater_noise - max(map(abs, rater_bias)))
        drawn = np.zeros((len(rater_bias), *at.shape[1:]), dtype=np.uint8)
        drawn[:, *box] = draw(scaled[:, *box], rater_bias, rater_noise, rater_correlation, spacing[0], rng("raters"))
        expected = probability(scaled, rater_bias, rater_noise)[::-1]
        label_of = np.array([0, 3, 2, 1], dtype=np.uint8)  # surfaces count from outside, classes from inside

        background = _brain.shares(brain, at, width=2.3 * spacing[0] / SPACING[0]) * (1.0 - share.sum(axis=0))
        tissues = np.concatenate([background, share])
        images = _brain.draw_images(rng("image"), tissues, MEANS, at, spacing, NOISE, BIAS)
        write_phantom_case(folder, images, label_of[drawn], share, expected, affine)

    return generate
