"""Phantom ``phantom_lesions``: brains with many lesions, seven raters who overlook small ones, and a known truth.

Written as a data set of one's own would come, in the layout of the adapter ``folder``; class ``lesion`` (1), contrasts
``FLAIR``, ``T1`` and ``T2``. Voxels of 1.5 x 1.5 x 3 mm.

**Shapes.** A brain-like ellipsoid (see ``_brain``) holds ellipsoidal lesions in its white matter, more of them near the
ventricles. How many a case has varies log-uniformly, their diameters are log-normal. No two lesions meet.

**True fraction** of a voxel: the share of ``supersampling`` cubed points in it that lie in a lesion. **Images**: means
of tissue intensities weighted by their fractions, where a lesion stands out more or less from the white matter; bias
field and Rician noise.

**Raters** overlook small lesions: rater r overlooks a lesion of diameter d (of the ball of its volume) with probability

    miss_r(d) = 1 / (1 + (d / h_r)^steepness)

where h_r is the diameter of which that rater overlooks half. Lesions are overlooked independently of each other. What
the rater sees is drawn as in ``_raters``, with a bias and with noise that is correlated along the boundary.

**True rater probability**: the exact probability that one of these raters, picked at random, marks the voxel.

Options
-------
cases, slices : size of the data set; slices of 3 mm about the middle of the brain.
lesions : fewest and most lesions of a case; fewer are drawn where no room is left.
diameter, diameter_spread : median diameter of a lesion in mm, and standard deviation of its logarithm; diameters are
    kept between 2.5 and 22 mm.
voxel : in-plane side of the voxels in mm, instead of 1.5.
objects : name to draw under, instead of the data set's: data sets of one such name, seed and number of slices hold the
    same shapes, whatever their voxels.
supersampling : points a voxel side for the true fractions.
rater_bias : one bias a rater in mm, positive outward.
rater_noise, rater_correlation : standard deviation and correlation length of a rater's boundary noise in mm.
rater_half_missed : for each rater the diameter in mm of which half are overlooked; 0 for one who sees all.
miss_steepness : how sharply the probability falls with the diameter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from penumbra.data.phantoms import _brain
from penumbra.data.phantoms._raters import draw, probability
from penumbra.data.phantoms._volumes import box_of, centred_grid, subvoxel_points, voxels_across, write_phantom_case
from penumbra.errors import PenumbraError
from penumbra.seeds import generator

CLASSES = ("lesion",)
SPACING = (1.5, 1.5, 3.0)
IN_PLANE = (92, 112)
DIAMETERS = (2.5, 22.0)
GAP = 1.5
MEANS = {  # white matter, gray matter, fluid, air, lesion
    "FLAIR": (0.55, 0.66, 0.18, 0.02, 1.05),
    "T1": (1.00, 0.72, 0.28, 0.02, 0.66),
    "T2": (0.48, 0.62, 1.20, 0.02, 0.92),
}
NOISE = 0.035
BIAS = 0.06
REACH = 8.0
"""How many standard deviations of the raters' noise from a lesion its level set is kept; Phi(-8) is below 1e-15."""


@dataclass(frozen=True)
class Lesion:
    """An ellipsoid: centre and semi-axes in mm, ``axes`` (3, 3) its directions as rows, and how much it stands out of
    the white matter, from 0 to 1."""

    centre: np.ndarray
    semi_axes: np.ndarray
    axes: np.ndarray
    conspicuity: float

    @property
    def diameter(self) -> float:
        """Diameter in mm of the ball of its volume."""
        return float(2.0 * np.cbrt(self.semi_axes.prod()))


def level(lesion: Lesion, at: np.ndarray) -> np.ndarray:
    """Level set of a lesion at positions ``(3, ...)`` in mm, positive inside; the distance to first order near it."""
    offset = at - lesion.centre.reshape(3, *(1,) * (at.ndim - 1))
    return _brain.ellipsoid(np.tensordot(lesion.axes, offset, axes=1), lesion.semi_axes)


def draw_lesions(
    rng: np.random.Generator, brain: _brain.Brain, count: int, diameter: float, spread: float, height: float
) -> list[Lesion]:
    """Random lesions in the white matter, the largest first, none meeting another.

    Parameters
    ----------
    count : how many; those for which there is no room are left out.
    diameter, spread : median in mm, and standard deviation of the logarithm, of the diameters.
    height : extent of the volume along z in mm; lesions lie within it.
    """
    diameters = np.sort(np.clip(diameter * np.exp(rng.normal(0.0, spread, size=count)), *DIAMETERS))[::-1]
    lesions: list[Lesion] = []
    for size in diameters:
        ratios = np.exp(rng.uniform(-0.3, 0.3, size=3))
        semi_axes = size / 2.0 * ratios / np.cbrt(ratios.prod())
        directions, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        conspicuity = rng.uniform(0.55, 1.0)
        reach = semi_axes.max()
        half = np.array([*brain.semi_axes[:2], max(height / 2.0 - reach - SPACING[2] / 2.0, 0.0)])
        at = rng.uniform(-1.0, 1.0, size=(2000, 3)) * half
        room = 1.15 * reach + 0.5  # level sets are distances to first order only
        near = -_brain.ventricles(brain, at.T) - room
        free = (near > 0) & (_brain.depth(brain, at.T) > _brain.deepest_cortex(brain) + room)
        for other in lesions:
            free &= np.linalg.norm(at - other.centre, axis=1) > reach + other.semi_axes.max() + GAP
        free &= rng.uniform(size=len(at)) < 0.06 + 0.94 * np.exp(-near / 5.0)
        if free.any():
            lesions.append(Lesion(at[free.argmax()], semi_axes, directions, conspicuity))
    return lesions


def fractions(
    lesions: list[Lesion], at: np.ndarray, spacing: tuple[float, float, float], supersampling: int
) -> np.ndarray:
    """Share of each voxel's volume that each lesion takes, ``(J, X, Y, Z)`` float64 in [0, 1].

    Voxels whose centre is further from a lesion's boundary than their diagonal are pure and are not sampled.
    """
    points = subvoxel_points(spacing, supersampling).T
    diagonal = float(np.linalg.norm(spacing))
    result = np.zeros((len(lesions), *at.shape[1:]))
    for share, lesion in zip(result, lesions, strict=True):
        box = _box(lesion, at, diagonal)
        centres = at[:, *box]
        at_centre = level(lesion, centres)
        inside = (at_centre > 0).astype(np.float64)
        mixed = np.abs(at_centre) < diagonal
        fine = centres[:, mixed][:, :, None] + points[:, None, :]
        inside[mixed] = (level(lesion, fine) > 0).mean(axis=1)
        share[box] = inside
    return result


def levels_of(lesions: list[Lesion], at: np.ndarray, reach: float) -> np.ndarray:
    """Level sets ``(J, X, Y, Z)`` of the lesions at voxel centres; minus infinity further than ``reach`` mm away."""
    result = np.full((len(lesions), *at.shape[1:]), -np.inf)
    for values, lesion in zip(result, lesions, strict=True):
        box = _box(lesion, at, reach)
        values[box] = level(lesion, at[:, *box])
    return result


def _box(lesion: Lesion, at: np.ndarray, margin: float) -> tuple[slice, slice, slice]:
    """The voxels within ``margin`` mm of the box around a lesion; ratios of semi-axes stretch the margin, since the
    level set is a distance near the surface only."""
    half = np.sqrt(((lesion.semi_axes[:, None] * lesion.axes) ** 2).sum(axis=0))
    half = half + margin * lesion.semi_axes.max() / lesion.semi_axes.min()
    box = []
    for axis, (centre, extent) in enumerate(zip(lesion.centre, half, strict=True)):
        line = np.moveaxis(at[axis], axis, 0)[:, 0, 0]
        first, last = np.searchsorted(line, centre - extent), np.searchsorted(line, centre + extent, side="right")
        box.append(slice(int(first), int(last)))
    return box[0], box[1], box[2]


def miss_probability(diameters: np.ndarray, half_missed: float, steepness: float) -> np.ndarray:
    """Probability that a rater overlooks lesions of these diameters (mm), in [0, 1]; 0 for ``half_missed`` of 0."""
    return 1.0 / (1.0 + (np.asarray(diameters) / half_missed) ** steepness) if half_missed else np.zeros(len(diameters))


def draw_rater(
    levels: np.ndarray,
    missed: np.ndarray,
    bias: float,
    noise: float,
    length: float,
    spacing: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """One rater's drawing.

    Parameters
    ----------
    levels : ``(J, X, Y, Z)`` level sets in mm of the lesions, minus infinity far away.
    missed : ``(J,)`` probability of overlooking each.
    bias, noise, length, spacing : as for :func:`penumbra.data.phantoms._raters.draw`.

    Returns
    -------
    ``(X, Y, Z)`` uint8, 0 or 1.
    """
    seen = rng.uniform(size=len(levels)) >= missed
    result = np.zeros(levels.shape[1:], dtype=np.uint8)
    box = box_of(np.isfinite(levels).any(axis=0))
    if levels[:, *box].size:
        union = levels[:, *box][seen].max(axis=0, initial=-np.inf)
        result[box] = draw(union[None], [bias], noise, length, spacing, rng)[0]
    return result


def rater_probability(levels: np.ndarray, missed: np.ndarray, biases: list[float], noise: float) -> np.ndarray:
    """Probability that a rater picked at random marks each voxel.

    A rater draws the union of the lesions seen, so that in a voxel the largest level among them counts: with the levels
    sorted downwards it is the k-th one with probability (1 - miss_k) miss_1 ... miss_(k-1).

    Parameters
    ----------
    levels : as for :func:`draw_rater`.
    missed : ``(R, J)``.
    biases, noise : as for :func:`penumbra.data.phantoms._raters.probability`.

    Returns
    -------
    ``(X, Y, Z)`` float64 in [0, 1].
    """
    near = np.isfinite(levels).sum(axis=0)
    result = np.zeros(levels.shape[1:])
    if not near.any():
        return result
    at = near > 0
    candidates = levels[:, at]
    order = np.argsort(-candidates, axis=0, kind="stable")[: near.max()]
    ranked = np.take_along_axis(candidates, order, axis=0)
    total = np.zeros(ranked.shape[1])
    for r, bias in enumerate(biases):
        none_before = np.ones(ranked.shape[1])
        for k in range(len(order)):
            miss = missed[r][order[k]]
            total += none_before * (1.0 - miss) * probability(ranked[k][None], [bias], noise)[0]
            none_before *= miss
    result[at] = total / len(biases)
    return result


def build(
    *,
    cases: Annotated[int, Field(ge=1, le=999)] = 12,
    slices: Annotated[int, Field(ge=1, le=60)] = 16,
    lesions: Annotated[list[int], Field(min_length=2, max_length=2)] = [5, 50],  # noqa: B006 - never changed
    diameter: Annotated[float, Field(gt=0)] = 5.5,
    diameter_spread: Annotated[float, Field(ge=0)] = 0.55,
    voxel: Annotated[float, Field(gt=0)] | None = None,
    objects: str = "",
    supersampling: Annotated[int, Field(ge=1)] = 5,
    rater_bias: Annotated[list[float], Field(min_length=1)] = [-0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6],  # noqa: B006
    rater_noise: Annotated[float, Field(gt=0)] = 0.6,
    rater_correlation: Annotated[float, Field(ge=0)] = 3.0,
    rater_half_missed: list[Annotated[float, Field(ge=0)]] = [6.0, 3.5, 5.5, 3.0, 5.0, 4.5, 2.5],  # noqa: B006
    miss_steepness: Annotated[float, Field(gt=0)] = 4.0,
) -> Callable[[Path, int, str], None]:
    """Make ``generate(folder, seed, name)``, which writes the data set; equal seeds give equal bytes.

    Raises
    ------
    PenumbraError : ``rater_bias`` and ``rater_half_missed`` differ in length, ``lesions`` is no range, or no whole
        number of voxels of side ``voxel`` fills the field of view.
    """
    if len(rater_bias) != len(rater_half_missed):
        raise PenumbraError(
            f"rater_bias has {len(rater_bias)} raters, rater_half_missed {len(rater_half_missed)}",
            cure="give both options one number a rater",
        )
    if not 1 <= lesions[0] <= lesions[1]:
        raise PenumbraError(
            f"lesions: {lesions} is no range", cure="give the fewest, at least 1, and the most lesions of a case"
        )

    spacing, in_plane = SPACING, IN_PLANE
    if voxel is not None:
        spacing = (voxel, voxel, SPACING[2])
        in_plane = (voxels_across(IN_PLANE[0] * SPACING[0], voxel), voxels_across(IN_PLANE[1] * SPACING[1], voxel))

    def generate(folder: Path, seed: int, name: str) -> None:
        for number in range(1, cases + 1):
            case = f"brain-{number:03d}"
            _write(Path(folder) / case, partial(generator, seed, "phantom", objects or name, case))

    def _write(folder: Path, rng: Callable[..., np.random.Generator]) -> None:
        at, affine = centred_grid((*in_plane, slices), spacing)
        shape = rng("shape")
        brain = _brain.draw_brain(shape)
        count = int(np.floor(np.exp(shape.uniform(np.log(lesions[0]), np.log(lesions[1] + 1)))))
        drawn = draw_lesions(shape, brain, count, diameter, diameter_spread, slices * SPACING[2])
        share = fractions(drawn, at, spacing, supersampling)
        true = share.sum(axis=0)

        levels = levels_of(drawn, at, REACH * rater_noise + max(map(abs, rater_bias)))
        diameters = np.array([lesion.diameter for lesion in drawn])
        missed = np.stack([miss_probability(diameters, half, miss_steepness) for half in rater_half_missed])
        masks = [
            draw_rater(levels, missed[r], bias, rater_noise, rater_correlation, spacing[0], rng("rater", r + 1))
            for r, bias in enumerate(rater_bias)
        ]
        expected = rater_probability(levels, missed, rater_bias, rater_noise)

        visible = np.tensordot(np.array([lesion.conspicuity for lesion in drawn]), share, axes=1)
        tissues = _brain.shares(brain, at, width=2.0 * spacing[0] / SPACING[0])
        tissues = np.concatenate([tissues * (1.0 - visible), visible[None]])
        images = _brain.draw_images(rng("image"), tissues, MEANS, at, spacing, NOISE, BIAS)
        write_phantom_case(folder, images, np.stack(masks), true[None], expected[None], affine)

    return generate
