"""A model of raters who draw the boundaries of nested objects, with its exact label probabilities.

Surfaces ``s = 1 .. S`` are nested, the outermost first; each is a level set function ``phi_s`` in mm, positive inside,
whose slope is about one near its boundary. Rater ``r`` draws the object inside surface ``s`` as

    m_rs(v) = [ phi_s(v) + bias_r + noise * g_rs(v) > 0 ]

at the voxel centre ``v``. ``bias_r`` (mm) is the rater's habit: positive draws outward. ``g_rs`` is a Gaussian random
field, of mean 0 and variance 1 in every voxel, independent between raters, surfaces and slices, and correlated within a
slice as ``exp(-d^2 / (2 length^2))``. A voxel gets the label of the innermost surface for which it lies inside that
surface and all outer ones.

Hence, with ``q_rs = Phi((phi_s + bias_r) / noise)`` and ``Phi`` the normal distribution function, rater ``r`` gives
surface ``s`` with probability ``q_r1 ... q_rs (1 - q_r,s+1)``, and a rater picked at random with the mean of that over
``r``. That is exact in each voxel; correlation along the boundary changes joint probabilities of several voxels only.
"""

from __future__ import annotations

import numpy as np
from scipy import fft, special


def gaussian_field(
    rng: np.random.Generator, count: int, shape: tuple[int, int], length: float, spacing: float
) -> np.ndarray:
    """Stationary Gaussian random fields of mean 0 and variance 1 with correlation ``exp(-d^2 / (2 length^2))``.

    White noise is filtered by a Gaussian of standard deviation ``length / sqrt(2)`` on a torus, twice as wide as the
    field, so that opposite edges do not match.

    Parameters
    ----------
    count : how many independent fields.
    shape : ``(X, Y)`` in voxels.
    length, spacing : correlation length and voxel size, both in mm. A length of 0 gives white noise.

    Returns
    -------
    ``(count, X, Y)`` float64.
    """
    torus = (2 * shape[0], 2 * shape[1])
    white = rng.standard_normal((count, *torus))
    width = length / spacing / np.sqrt(2.0)
    frequency = fft.fftfreq(torus[0])[:, None] ** 2 + fft.rfftfreq(torus[1])[None, :] ** 2
    transfer = np.exp(-2.0 * (np.pi * width) ** 2 * frequency)
    kernel = fft.irfft2(transfer, s=torus)
    smooth = fft.irfft2(fft.rfft2(white, axes=(1, 2)) * transfer, s=torus, axes=(1, 2)) / np.sqrt(np.sum(kernel**2))
    return np.ascontiguousarray(smooth[:, : shape[0], : shape[1]])


def draw(
    levels: np.ndarray, biases: list[float], noise: float, length: float, spacing: float, rng: np.random.Generator
) -> np.ndarray:
    """One drawing by each rater.

    Parameters
    ----------
    levels : ``(S, X, Y, Z)`` level set functions in mm at the voxel centres, positive inside, outermost surface first.
    biases : one a rater, in mm, positive outward.
    noise, length : standard deviation and correlation length of the boundary noise, in mm.
    spacing : in-plane voxel size in mm.

    Returns
    -------
    ``(R, X, Y, Z)`` uint8: 0 outside, s inside surface s (counted from 1, outermost first) and not inside s + 1.
    """
    surfaces, nx, ny, nz = levels.shape
    labels = np.zeros((len(biases), nx, ny, nz), dtype=np.uint8)
    for r, bias in enumerate(biases):
        fields = gaussian_field(rng, surfaces * nz, (nx, ny), length, spacing).reshape(surfaces, nz, nx, ny)
        inside = levels + bias + noise * np.moveaxis(fields, 1, -1) > 0
        labels[r] = np.logical_and.accumulate(inside, axis=0).sum(axis=0)
    return labels


def probability(levels: np.ndarray, biases: list[float], noise: float) -> np.ndarray:
    """Probability that a rater picked at random gives each voxel to each surface.

    Parameters
    ----------
    levels, biases, noise : as for :func:`draw`.

    Returns
    -------
    ``(S, X, Y, Z)`` float64; over surfaces they sum to the probability of not being background.
    """
    total = np.zeros(levels.shape)
    for bias in biases:
        inside = np.cumprod(special.ndtr((levels + bias) / noise), axis=0)
        total += inside - np.concatenate([inside[1:], np.zeros_like(inside[:1])])
    return total / len(biases)
