"""How the predictions above 0 are distributed (thesis figure 4.4).

One panel for each data set and class, one curve a candidate: a Gaussian kernel density of the values of all voxels
above 0, of the test cases of all trainings. Its area is the candidate's share of such voxels among all candidates, so
that the areas of a panel sum to 1 and a larger area means more voxels above 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from penumbra.figures._inputs import Drawn, FigureInputs, FigurePart, Marks, pick, row_filter
from penumbra.reporting.context import StudyContext, target_title

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure

NEEDS = ("metrics",)
BINS = 100
LEAST = 1e-4
"""Where a logarithmic axis begins."""


def build(*, bandwidth: float = 0.0, scale: Literal["linear", "log"] = "linear") -> FigurePart:
    """Figure 4.4.

    ``bandwidth``: standard deviation of the kernel, 0 for Scott's rule, at least a bin's width. ``scale``: of the
    density; ``log`` shows every candidate where one has far more voxels above 0 than the others.
    """

    def draw(inputs: FigureInputs, context: StudyContext) -> tuple[Figure, pd.DataFrame]:
        return _draw(inputs, context, bandwidth, scale)

    def caption(context: StudyContext) -> str:
        rule = f"a standard deviation of {bandwidth:g}" if bandwidth else "Scott's rule, at least the width of a bin"
        return (
            "Distribution of the predictions above 0 over the voxels of the test cases of all trainings, by candidate: "
            f"Gaussian kernel density ({rule}) of a histogram of {BINS} bins. Areas are in proportion to the mean "
            "number of voxels above 0 of a training, given in the legend, and sum to 1 over the candidates of a panel. "
            "The kernel lets curves reach a little beyond 0 and 1."
            + (" The density's axis is logarithmic." if scale == "log" else "")
        )

    return Drawn(draw, caption)


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


def _draw(inputs: FigureInputs, context: StudyContext, bandwidth: float, scale: str) -> tuple[Figure, pd.DataFrame]:
    import textwrap

    import numpy as np

    from penumbra.figures import _style

    metrics = inputs.numbers.metrics
    looks, marks = _style.looks(context), Marks()
    blocks = [(dataset, target) for dataset in context.datasets.values() for target in dataset.classes]
    columns = min(2, len(blocks))
    lines = -(-len(blocks) // columns)
    width = _style.DOUBLE_COLUMN if columns == 2 else 0.62 * _style.DOUBLE_COLUMN
    figure = _style.new_figure(width, 0.1 + 2.7 * lines)
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in grid[len(blocks) :]:
        axes.set_visible(False)
    at = np.linspace(-0.1, 1.1, 361)
    for axes, (dataset, target) in zip(grid, blocks, strict=False):
        here = pick(metrics, dataset=dataset.name, metric="nonzero_count", target=target)
        counts = {}
        for name in context.candidates:
            histograms = pick(here, candidate=name).pivot(index="split", columns="bin", values="value")
            histograms = histograms.reindex(columns=range(BINS)).dropna()
            counts[name] = (histograms.to_numpy(dtype=float).sum(axis=0), len(histograms))
        share = {name: total.sum() / runs if runs else 0.0 for name, (total, runs) in counts.items()}
        everything = sum(share.values())
        for position, (name, (total, runs)) in enumerate(counts.items()):
            info, told = context.candidates[name], row_filter(candidate=name, metric="nonzero_count", target=target)
            base = {
                "dataset": dataset.name,
                "panel": target,
                "candidate": name,
                "filter": told,
                "source": inputs.numbers.source(dataset.name),
                "n": runs,
            }
            status = "ok" if total.sum() > 0 else "no voxel above 0" if runs else "undefined"
            number: str = f"{share[name]:,.0f}" if runs else status
            marks.add(
                "number", name="voxels above 0", value=share[name] if runs else np.nan, displayed=number, status=status,
                estimator="sum over bins, mean over trainings", rows=pick(here, candidate=name)["row"], **base,
            )  # fmt: skip
            style = ("-", (0, (4, 1.2)), (0, (1.2, 1.0)))[position % 3]
            label = f"{info.label} ({number})"
            if status != "ok":
                axes.plot([], [], color=looks[name].colour, ls=style, lw=1.3, label=label)
                continue
            h = bandwidth or scott(total)
            curve = density(total, at, h) * share[name] / everything
            axes.plot(at, curve, color=looks[name].colour, ls=style, lw=1.3, label=label, gid=f"density {name}")
            for x, y in zip(at, curve, strict=True):
                marks.add("density", name=f"bandwidth {h:.4g}", x=x, y=y, value=y,
                          estimator="Gaussian kernel density x share of the voxels above 0", **base)  # fmt: skip
        if not everything:
            axes.text(0.5, 0.5, "no defined value", transform=axes.transAxes, ha="center", color=_style.NEUTRAL)
        axes.set_xlim(-0.1, 1.1)
        axes.set_yscale(scale)
        axes.set_ylim(bottom=LEAST if scale == "log" else 0)
        axes.set_xlabel("Prediction")
        axes.set_ylabel("Density")
        axes.set_title(textwrap.fill(f"{dataset.short}: {target_title(target)}", 44))
        axes.legend(loc="best", fontsize=_style.FONT - 0.8, handlelength=2.2, labelspacing=0.3,
                    title="(mean voxels above 0 of a training)", title_fontsize=_style.FONT - 0.8,
                    alignment="left")  # fmt: skip
    return figure, marks.frame()
