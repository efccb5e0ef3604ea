"""How predictions are distributed: Gaussian kernel densities of histograms (thesis figure 4.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

BINS = 100


def grid() -> np.ndarray:
    """Where a density is drawn, ``(361,)``: from -0.1 to 1.1, since the kernel lets it reach beyond 0 and 1."""
    import numpy as np

    return np.linspace(-0.1, 1.1, 361)


def scott(counts: np.ndarray) -> float:
    """Scott's bandwidth of values at the middles of :data:`BINS` bins of [0, 1]: std (ddof = 1) x n^(-1/5).

    ``counts`` : ``(BINS,)`` whole numbers of values. At least the width of a bin.
    """
    import numpy as np

    middles, n = (np.arange(BINS) + 0.5) / BINS, float(counts.sum())
    if n < 2:
        return 1 / BINS
    variance = float((counts * (middles - (counts @ middles) / n) ** 2).sum()) / (n - 1)
    return float(max(np.sqrt(variance) * n**-0.2, 1 / BINS))


def density(counts: np.ndarray, at: np.ndarray, bandwidth: float) -> np.ndarray:
    """The Gaussian kernel density, of area 1, of values at the middles of bins, at the points ``at`` ``(T,)``."""
    import numpy as np

    middles = (np.arange(BINS) + 0.5) / BINS
    kernels = np.exp(-0.5 * ((at[:, np.newaxis] - middles) / bandwidth) ** 2) / (bandwidth * np.sqrt(2 * np.pi))
    result: np.ndarray = kernels @ (counts / counts.sum())
    return result
