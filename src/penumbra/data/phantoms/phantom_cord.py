"""Phantom ``phantom_cord``: axial slices of a spinal cord, four centres, four raters, and a truth that is known.

Written as a data set of one's own would come, in the layout of the adapter ``folder``; classes ``gray_matter`` (1) and
``white_matter`` (2), contrast ``T2star``.

**Shapes** are analytic. The cord is an ellipse; the gray matter inside it is a butterfly, the smooth union of rounded
cones: two thick anterior horns, two slender posterior horns that bend outward, and the commissure between them. Around
the cord lies an ellipse of cerebrospinal fluid, around that other tissue. Size, pose, asymmetry and the change along Z
vary from case to case.

**True fraction** of a class in a voxel: the share of ``supersampling`` x ``supersampling`` points in the plane of the
slice that lie in the true shape. **Image**: the mean of tissue intensities weighted by their fractions, times a smooth
bias field, with Rician noise, as int16. Centres differ in voxel size, slice thickness, contrast, noise and bias field.

**Raters** (see ``_raters``) shift the boundaries of cord and gray matter by their own bias and by spatially correlated
noise, each surface by itself. **True rater probability**: the exact probability that one of these raters, picked at
random, gives the voxel the class. All slices are independent drawings.

Options
-------
cases_per_centre, slices : size of the data set; there are four centres.
field : side of the square field of view in mm.
voxel : in-plane side of the voxels in mm at all centres, instead of each centre's own.
objects : name to draw under, instead of the data set's: data sets of one such name, seed and number of slices hold the
    same shapes, whatever their voxels.
supersampling : points a voxel side for the true fractions.
rater_bias : one bias a rater in mm, positive outward.
rater_noise, rater_correlation : standard deviation and correlation length of a rater's boundary noise in mm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from penumbra import files
from penumbra.data.phantoms._raters import draw, gaussian_field, probability
from penumbra.data.phantoms._volumes import voxels_across, write_phantom_case
from penumbra.seeds import generator

CONTRAST = "T2star"
CLASSES = ("gray_matter", "white_matter")


@dataclass(frozen=True)
class Centre:
    """A site: voxel size and slice thickness in mm, tissue intensities, noise in their unit, strength of its bias."""

    spacing: float
    thickness: float
    gray: float
    white: float
    fluid: float
    other: float
    noise: float
    bias: float


CENTRES = (
    Centre(spacing=0.30, thickness=4.0, gray=0.78, white=0.58, fluid=1.10, other=0.40, noise=0.055, bias=0.10),
    Centre(spacing=0.40, thickness=5.0, gray=0.70, white=0.52, fluid=0.95, other=0.42, noise=0.045, bias=0.12),
    Centre(spacing=0.50, thickness=5.0, gray=0.85, white=0.70, fluid=1.25, other=0.30, noise=0.035, bias=0.05),
    Centre(spacing=0.25, thickness=2.5, gray=0.72, white=0.50, fluid=0.95, other=0.45, noise=0.070, bias=0.15),
)


@dataclass(frozen=True)
class Anatomy:
    """The true shape in one slice: pose and semi-axes of the cord in mm, and the gray matter's cones in units of the
    cord.

    ``cones``: ``(n, 6)``, end points (u1, v1), (u2, v2) and radii r1, r2; u to the right, v to anterior, for a cord of
    semi-axes :data:`NOMINAL`, scaled with the cord.
    """

    centre: tuple[float, float]
    angle: float
    semi_axes: tuple[float, float]
    canal: tuple[float, float]
    cones: np.ndarray


NOMINAL = (6.3, 4.1)
SMOOTHING = 0.5
_HORNS = np.array(
    [  # one side: u1, v1, u2, v2, r1, r2 in mm
        [1.00, 0.35, 2.20, 1.60, 0.70, 0.95],
        [1.05, 0.25, 1.50, -1.10, 0.72, 0.56],
        [1.50, -1.10, 2.70, -2.70, 0.56, 0.38],
    ]
)
_COMMISSURE = (-1.0, 0.30, 1.0, 0.30, 0.46, 0.46)


def ellipse(u: np.ndarray, v: np.ndarray, a: float, b: float) -> np.ndarray:
    """Level set (mm, positive inside) of the ellipse with semi-axes a, b; the distance to first order near it."""
    scaled = np.hypot(u / a, v / b)
    slope = np.hypot(u / a**2, v / b**2)
    safe = np.where(slope > 0, slope, 1.0)
    return np.where(slope > 0, scaled * (1.0 - scaled) / safe, min(a, b))


def rounded_cone(u: np.ndarray, v: np.ndarray, cone: np.ndarray) -> np.ndarray:
    """Signed distance (mm, positive inside) to the hull of two discs; ``cone`` is u1, v1, u2, v2, r1, r2."""
    u1, v1, u2, v2, r1, r2 = (float(c) for c in cone)
    height = float(np.hypot(u2 - u1, v2 - v1))
    du, dv = (u2 - u1) / height, (v2 - v1) / height
    along = (u - u1) * du + (v - v1) * dv
    across = np.abs((u - u1) * dv - (v - v1) * du)
    sine = (r1 - r2) / height
    cosine = np.sqrt(1.0 - sine**2)
    reach = along * cosine - across * sine
    side = r1 - across * cosine - along * sine
    return np.where(
        reach < 0,
        r1 - np.hypot(across, along),
        np.where(reach > cosine * height, r2 - np.hypot(across, along - height), side),
    )


def levels(anatomy: Anatomy, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Level set functions of cord, gray matter and canal at positions x, y in mm: ``(3, *x.shape)``, positive inside.

    The gray matter's own function ignores the cord; what lies outside the cord is no gray matter (the surfaces are
    nested).
    """
    cosine, sine = np.cos(anatomy.angle), np.sin(anatomy.angle)
    dx, dy = x - anatomy.centre[0], y - anatomy.centre[1]
    u, v = cosine * dx + sine * dy, cosine * dy - sine * dx
    scale = np.array([anatomy.semi_axes[0] / NOMINAL[0], anatomy.semi_axes[1] / NOMINAL[1]])
    factors = np.array([*scale, *scale, np.sqrt(scale.prod()), np.sqrt(scale.prod())])
    gray: np.ndarray | None = None
    for cone in anatomy.cones * factors:
        distance = rounded_cone(u, v, cone)
        if gray is None:
            gray = distance
        else:
            blend = np.maximum(SMOOTHING - np.abs(gray - distance), 0.0) / SMOOTHING
            gray = np.maximum(gray, distance) + blend**2 * SMOOTHING / 4.0
    assert gray is not None
    return np.stack([ellipse(u, v, *anatomy.semi_axes), gray, ellipse(u, v, *anatomy.canal)])


def fractions(anatomy: Anatomy, x: np.ndarray, y: np.ndarray, spacing: float, supersampling: int) -> np.ndarray:
    """Share of each voxel's area that each tissue takes.

    Voxels further from every boundary than twice their diagonal are pure and are not sampled.

    Parameters
    ----------
    x, y : ``(X, Y)`` voxel centres in mm.

    Returns
    -------
    ``(4, X, Y)`` float64 that sum to 1: gray matter, white matter, fluid, other tissue.
    """
    at_centre = levels(anatomy, x, y)
    mixed = np.any(np.abs(at_centre) < 2.0 * np.sqrt(2.0) * spacing, axis=0)
    step = ((np.arange(supersampling) + 0.5) / supersampling - 0.5) * spacing
    shape = (int(mixed.sum()), supersampling, supersampling)
    fine_x = np.broadcast_to(x[mixed][:, None, None] + step[None, :, None], shape)
    fine_y = np.broadcast_to(y[mixed][:, None, None] + step[None, None, :], shape)
    result = _tissues(at_centre)
    result[:, mixed] = _tissues(levels(anatomy, fine_x, fine_y)).mean(axis=(2, 3))
    return result


def _tissues(level: np.ndarray) -> np.ndarray:
    cord, gray, canal = level > 0
    return np.stack([cord & gray, cord & ~gray, canal & ~cord, ~canal & ~cord]).astype(np.float64)


def draw_anatomy(rng: np.random.Generator, slices: int) -> list[Anatomy]:
    """A random cord: one :class:`Anatomy` a slice, changing smoothly along Z."""
    size = rng.normal(1.0, 0.06)
    flat = rng.normal(1.0, 0.03)
    horns = _HORNS * rng.normal(1.0, 0.05, size=_HORNS.shape)
    horns[2, [0, 1, 4]] = horns[1, [2, 3, 5]]
    sides = [horns * rng.normal(1.0, 0.04, size=6) * [side, 1, side, 1, 1, 1] for side in (1.0, -1.0)]
    commissure = np.array(_COMMISSURE) * rng.normal(1.0, 0.05, size=6)
    cones = np.concatenate([*sides, commissure[None]])
    position, drift = rng.uniform(-1.2, 1.2, size=2), rng.normal(0.0, 0.3, size=2)
    angle, turn = np.deg2rad(rng.normal(0.0, 7.0)), np.deg2rad(rng.normal(0.0, 2.0))
    growth, swelling = rng.normal(0.0, 0.05), rng.normal(0.0, 0.08)
    room = rng.uniform(1.28, 1.45, size=2)
    result = []
    for level in np.linspace(-1.0, 1.0, slices) if slices > 1 else (0.0,):
        a = NOMINAL[0] * size * flat * (1.0 + growth * level)
        b = NOMINAL[1] * size / flat * (1.0 + growth * level)
        stretched = cones.copy()
        stretched[:, 4:] *= 1.0 + swelling * level
        x, y = position + drift * level
        canal = (a * room[0], b * room[1] * 1.12)
        result.append(Anatomy((float(x), float(y)), float(angle + turn * level), (a, b), canal, stretched))
    return result


def draw_image(
    rng: np.random.Generator, tissues: np.ndarray, x: np.ndarray, y: np.ndarray, centre: Centre
) -> np.ndarray:
    """A case's image ``(X, Y, Z)`` int16, from tissue fractions ``(4, X, Y, Z)`` and voxel centres ``(X, Y)`` in mm."""
    means = np.array([centre.gray, centre.white, centre.fluid, centre.other]) * rng.normal(1.0, 0.02, size=4)
    gain = rng.uniform(0.8, 1.2)
    shape = tissues.shape[1:]
    texture = np.moveaxis(gaussian_field(rng, shape[2], shape[:2], 1.5, centre.spacing), 0, -1)
    clean = np.tensordot(means, tissues, axes=1) + 0.15 * centre.other * texture * tissues[3]
    reach = float(np.abs(x).max())
    slope = (
        rng.normal(0.0, 1.0, size=5)
        @ np.stack([x, y, x * y / reach, x**2 / reach, y**2 / reach]).reshape(5, -1)
        / reach
    )
    clean = np.maximum(clean, 0.02) * np.exp(centre.bias * slope.reshape(x.shape))[..., None]
    real, imaginary = rng.normal(0.0, centre.noise, size=(2, *shape))
    return np.clip(np.rint(1000.0 * gain * np.hypot(clean + real, imaginary)), 0, 32767).astype(np.int16)


def build(
    *,
    cases_per_centre: Annotated[int, Field(ge=1, le=99)] = 5,
    slices: Annotated[int, Field(ge=1)] = 3,
    field: Annotated[float, Field(ge=20)] = 32.0,
    voxel: Annotated[float, Field(gt=0)] | None = None,
    objects: str = "",
    supersampling: Annotated[int, Field(ge=1)] = 8,
    rater_bias: Annotated[list[float], Field(min_length=1)] = [-0.12, -0.04, 0.04, 0.12],  # noqa: B006 - never changed
    rater_noise: Annotated[float, Field(gt=0)] = 0.12,
    rater_correlation: Annotated[float, Field(ge=0)] = 1.0,
) -> Callable[[Path, int, str], None]:
    """Make ``generate(folder, seed, name)``, which writes the data set; equal seeds give equal bytes.

    Raises
    ------
    PenumbraError : no whole number of voxels of side ``voxel`` fills ``field``.
    """
    centres: tuple[Centre, ...] = CENTRES
    if voxel is not None:
        voxels_across(field, voxel)
        centres = tuple(replace(centre, spacing=voxel) for centre in CENTRES)

    def generate(folder: Path, seed: int, name: str) -> None:
        folder = Path(folder)
        lines = ["case\tcentre"]
        for number, centre in enumerate(centres, start=1):
            for index in range(1, cases_per_centre + 1):
                case = f"centre{number}-{index:02d}"
                lines.append(f"{case}\tcentre{number}")
                _write(folder / case, centre, partial(generator, seed, "phantom", objects or name, case))
        files.write_text(folder / "participants.tsv", "\n".join(lines) + "\n")

    def _write(folder: Path, centre: Centre, rng: Callable[[str], np.random.Generator]) -> None:
        count = round(field / centre.spacing)
        axis = (np.arange(count) - (count - 1) / 2.0) * centre.spacing
        x, y = np.meshgrid(axis, axis, indexing="ij")
        anatomies = draw_anatomy(rng("shape"), slices)
        tissues = np.stack([fractions(a, x, y, centre.spacing, supersampling) for a in anatomies], axis=-1)
        surfaces = np.stack([levels(a, x, y)[:2] for a in anatomies], axis=-1)
        drawn = draw(surfaces, rater_bias, rater_noise, rater_correlation, centre.spacing, rng("raters"))
        expected = probability(surfaces, rater_bias, rater_noise)[::-1]

        affine = np.diag([centre.spacing, centre.spacing, centre.thickness, 1.0])
        affine[:2, 3] = axis[0]
        label_of = np.array([0, 2, 1], dtype=np.uint8)  # cord without gray matter is white matter, the second class
        images = {CONTRAST: draw_image(rng("image"), tissues, x, y, centre)}
        write_phantom_case(folder, images, label_of[drawn], tissues[:2], expected, affine)

    return generate
