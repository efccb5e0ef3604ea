"""Phantom ``phantom_nodules``: slices through lung nodules, each in the middle of its image; some raters see nothing.

Written as a data set of one's own would come, in the layout of the adapter ``folder``; class ``nodule`` (1), contrast
``CT`` in Hounsfield units. It has what the LIDC-IDRI slices have: a rater marks a nodule or does not, and draws all of
its outline further out or further in. Both are properties of a whole segmentation, which no map of probabilities holds.

**Shapes** are analytic: a ball whose outline waves, the same way in all slices of a case. **True fraction** of a voxel:
the share of ``supersampling`` x ``supersampling`` points in the plane of the slice that lie in the true shape.
**Image**: lung with a texture, vessels, and the nodule, which stands out by its *conspicuity*, from ground glass to
solid; with Gaussian noise, as int16.

**Raters.** Rater r sees a nodule of conspicuity c with probability 1 / (1 + (h_r / c)^steepness), in all slices of a
case or in none, and then draws it as the voxels whose centre v satisfies ``phi(v) + bias_r + s + noise g(v) > 0``:
``s`` is normal with standard deviation ``rater_size``, one number a rater and case; ``g`` is a Gaussian random field
(see ``_raters``), each slice's its own. **True rater probability**: the exact probability that one of these raters,
picked at random, marks the voxel: the mean over r of P(r sees it) Phi((phi + bias_r) / sqrt(noise^2 + rater_size^2)).

Options
-------
cases, slices : size of the data set; a case is one nodule, with slices 2.5 mm apart around its middle.
field, voxel : side of the square field of view, and of the voxels in the plane, in mm.
radius : smallest and largest radius of the nodules in mm.
irregularity : standard deviation of the outline's waves, as a share of the radius.
conspicuity : smallest and largest, above 0 and at most 1.
objects : name to draw under, instead of the data set's.
supersampling : points a voxel side for the true fractions.
rater_half_seen : one conspicuity a rater, h_r, of which every second nodule is seen; 0 sees all.
see_steepness : how sharply seeing depends on conspicuity.
rater_bias : one bias a rater in mm, positive outward.
rater_size : standard deviation of a rater's shift of a whole outline in mm.
rater_noise, rater_correlation : standard deviation and correlation length of the boundary noise in mm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from penumbra.data.phantoms._raters import draw, gaussian_field, probability
from penumbra.data.phantoms._volumes import centred_grid, voxels_across, write_phantom_case
from penumbra.errors import PenumbraError
from penumbra.seeds import generator

CONTRAST = "CT"
THICKNESS = 2.5
LUNG, SOLID, VESSEL = -850.0, 50.0, 0.0
"""Mean of tissues in Hounsfield units; a nodule lies between lung and solid, as far as it is conspicuous."""
TEXTURE, NOISE = 45.0, 30.0
WAVES = np.arange(2, 6)
"""How often the waves of an outline go round."""


@dataclass(frozen=True)
class Nodule:
    """A nodule around the origin but for ``centre`` (mm in the plane): its radius in mm, cosine and sine amplitudes of
    its outline's waves as shares of the radius, (4,) each, and its conspicuity in (0, 1]."""

    centre: np.ndarray
    radius: float
    cosines: np.ndarray
    sines: np.ndarray
    conspicuity: float


def level(nodule: Nodule, x: np.ndarray, y: np.ndarray, z: float) -> np.ndarray:
    """Level set (mm, positive inside) in the plane at height z (mm from the middle) at positions x, y in mm.

    The outline at angle a is ``r(a) = sqrt(radius^2 - z^2) (1 + sum_k (c_k cos ka + s_k sin ka))``. The level set is
    ``(r - rho) / sqrt(1 + (r' / r)^2)`` with rho the distance from the centre: the distance to first order near it.
    """
    u, v = x - nodule.centre[0], y - nodule.centre[1]
    angle = np.arctan2(v, u)[..., None] * WAVES
    cosine, sine = np.cos(angle), np.sin(angle)
    size = np.sqrt(nodule.radius**2 - z**2)
    outline = size * (1.0 + cosine @ nodule.cosines + sine @ nodule.sines)
    slope = size * (cosine @ (nodule.sines * WAVES) - sine @ (nodule.cosines * WAVES))
    return (outline - np.hypot(u, v)) / np.sqrt(1.0 + (slope / outline) ** 2)


def draw_nodule(rng: np.random.Generator, radius: list[float], conspicuity: list[float], irregularity: float) -> Nodule:
    """A random nodule; its outline's waves are held below 0.8 of the radius together."""
    centre = rng.normal(0.0, 1.0, size=2)
    waves = rng.normal(0.0, irregularity, size=(2, len(WAVES))) / WAVES
    waves *= min(1.0, 0.8 / max(np.abs(waves).sum(), 1e-9))
    size = float(rng.uniform(radius[0], radius[1]))
    return Nodule(centre, size, waves[0], waves[1], float(rng.uniform(conspicuity[0], conspicuity[1])))


def fractions(nodule: Nodule, x: np.ndarray, y: np.ndarray, z: float, voxel: float, supersampling: int) -> np.ndarray:
    """Share of each voxel's area that the nodule takes at height z, (X, Y) float64 in [0, 1]; x, y (X, Y) in mm."""
    step = ((np.arange(supersampling) + 0.5) / supersampling - 0.5) * voxel
    fine_x, fine_y = x[..., None, None] + step[:, None], y[..., None, None] + step
    return (level(nodule, fine_x, fine_y, z) > 0).mean(axis=(2, 3))


def see_probability(conspicuity: float, half_seen: np.ndarray, steepness: float) -> np.ndarray:
    """Probability that each rater sees a nodule, (R,) in [0, 1]; 1 for a ``half_seen`` of 0."""
    return np.asarray(1.0 / (1.0 + (np.asarray(half_seen) / conspicuity) ** steepness))


def draw_image(rng: np.random.Generator, nodule: Nodule, share: np.ndarray, at: np.ndarray, voxel: float) -> np.ndarray:
    """A case's image (X, Y, Z) int16 in Hounsfield units, from the nodule's fractions (X, Y, Z) and positions
    (3, X, Y, Z) in mm."""
    shape = share.shape
    image = LUNG + TEXTURE * np.moveaxis(gaussian_field(rng, shape[2], shape[:2], 1.5, voxel), 0, -1)
    for _ in range(rng.integers(5, 10)):
        # A vessel is a straight tube; where it passes the middle it may touch the nodule.
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        reach = float(np.abs(at[:2]).max())
        offset = at - rng.uniform(-reach, reach, size=3).reshape(3, 1, 1, 1) * np.array([1, 1, 0.2]).reshape(3, 1, 1, 1)
        across = offset - np.tensordot(direction, offset, axes=1) * direction.reshape(3, 1, 1, 1)
        width = rng.uniform(0.5, 1.4)
        inside = np.clip(0.5 + (width - np.linalg.norm(across, axis=0)) / voxel, 0.0, 1.0)
        image += inside * (VESSEL - image)
    tissue = LUNG + nodule.conspicuity * (SOLID - LUNG)
    # What lies behind a nodule of ground glass still shows.
    image += share * np.maximum(tissue - image, 0.0)
    return np.rint(image + rng.normal(0.0, NOISE, size=shape)).astype(np.int16)


def _check_range(name: str, ends: list[float], low: float, high: float) -> None:
    if not low <= ends[0] <= ends[1] <= high:
        raise PenumbraError(
            f"{name}: {ends} is no range within {low:g} and {high:g}", cure="give the smallest, then the largest"
        )


def build(
    *,
    cases: Annotated[int, Field(ge=1, le=999)] = 60,
    slices: Annotated[int, Field(ge=1, le=3)] = 3,
    field: Annotated[float, Field(gt=0)] = 38.4,
    voxel: Annotated[float, Field(gt=0)] = 0.8,
    radius: Annotated[list[float], Field(min_length=2, max_length=2)] = [4.0, 9.0],  # noqa: B006 - never changed
    irregularity: Annotated[float, Field(ge=0)] = 0.25,
    conspicuity: Annotated[list[float], Field(min_length=2, max_length=2)] = [0.15, 1.0],  # noqa: B006
    objects: str = "",
    supersampling: Annotated[int, Field(ge=1)] = 6,
    rater_half_seen: list[Annotated[float, Field(ge=0)]] = [0.15, 0.25, 0.35, 0.45],  # noqa: B006
    see_steepness: Annotated[float, Field(gt=0)] = 4.0,
    rater_bias: Annotated[list[float], Field(min_length=1)] = [-0.4, -0.1, 0.1, 0.4],  # noqa: B006
    rater_size: Annotated[float, Field(ge=0)] = 0.8,
    rater_noise: Annotated[float, Field(gt=0)] = 0.4,
    rater_correlation: Annotated[float, Field(ge=0)] = 3.0,
) -> Callable[[Path, int, str], None]:
    """Make ``generate(folder, seed, name)``, which writes the data set; equal seeds give equal bytes.

    Raises
    ------
    PenumbraError : ``rater_bias`` and ``rater_half_seen`` differ in length, ``radius`` or ``conspicuity`` is no range,
        or no whole number of voxels of side ``voxel`` fills ``field``.
    """
    if len(rater_bias) != len(rater_half_seen):
        raise PenumbraError(
            f"rater_bias has {len(rater_bias)} raters, rater_half_seen {len(rater_half_seen)}",
            cure="give both options one number a rater",
        )
    _check_range("radius", radius, THICKNESS * slices / 2, field / 2)
    _check_range("conspicuity", conspicuity, 0.01, 1.0)
    count = voxels_across(field, voxel)

    def generate(folder: Path, seed: int, name: str) -> None:
        for number in range(1, cases + 1):
            case = f"nodule-{number:03d}"
            _write(Path(folder) / case, partial(generator, seed, "phantom", objects or name, case))

    def _write(folder: Path, rng: Callable[..., np.random.Generator]) -> None:
        at, affine = centred_grid((count, count, slices), (voxel, voxel, THICKNESS))
        nodule = draw_nodule(rng("shape"), radius, conspicuity, irregularity)
        x, y, heights = at[0, :, :, 0], at[1, :, :, 0], at[2, 0, 0]
        levels = np.stack([level(nodule, x, y, float(z)) for z in heights], axis=-1)
        share = np.stack([fractions(nodule, x, y, float(z), voxel, supersampling) for z in heights], axis=-1)
        sees = see_probability(nodule.conspicuity, np.array(rater_half_seen), see_steepness)
        masks, expected = [], np.zeros_like(levels)
        for r, bias in enumerate(rater_bias):
            own = rng("rater", r + 1)
            seen, shift = own.uniform() < sees[r], bias + own.normal(0.0, rater_size)
            drawn = draw(levels[None], [shift], rater_noise, rater_correlation, voxel, own)[0]
            masks.append(drawn * np.uint8(seen))
            expected += sees[r] * probability(levels[None], [bias], float(np.hypot(rater_noise, rater_size)))[0]
        images = {CONTRAST: draw_image(rng("image"), nodule, share, at, voxel)}
        write_phantom_case(folder, images, np.stack(masks), share[None], expected[None] / len(rater_bias), affine)

    return generate
