"""How the predictions above 0 are distributed (thesis figure 4.4).

One panel for each data set and class, one curve a candidate: a Gaussian kernel density of the values of all voxels
above 0, of the test cases of all trainings. Its area is the candidate's share of such voxels among all candidates, so
that the areas of a panel sum to 1 and a larger area means more voxels above 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from penumbra.figures._inputs import Drawn, FigureInputs, FigurePart, Marks, row_filter
from penumbra.reporting.context import StudyContext, target_title
from penumbra.reporting.densities import BINS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

NEEDS = ("metrics",)
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


def _draw(inputs: FigureInputs, context: StudyContext, bandwidth: float, scale: str) -> tuple[Figure, pd.DataFrame]:
    import textwrap

    import numpy as np

    from penumbra.figures import _style
    from penumbra.reporting.densities import grid as points
    from penumbra.reporting.estimators import ESTIMATORS, bandwidth_of

    prepare = ESTIMATORS["density"].prepare
    assert prepare is not None
    looks, marks = _style.looks(context), Marks()
    blocks = [(dataset, target) for dataset in context.datasets.values() for target in dataset.classes]
    columns = min(2, len(blocks))
    lines = -(-len(blocks) // columns)
    width = _style.DOUBLE_COLUMN if columns == 2 else 0.62 * _style.DOUBLE_COLUMN
    figure = _style.new_figure(width, 0.1 + 2.7 * lines)
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in grid[len(blocks) :]:
        axes.set_visible(False)
    at = points().tolist()
    for axes, (dataset, target) in zip(grid, blocks, strict=False):
        source = inputs.numbers.rows_of(dataset.name)
        where = row_filter(dataset=dataset.name, metric="nonzero_count", target=target)
        made = source.prepared(prepare, where)
        everything = made["everything"]
        for position, name in enumerate(context.candidates):
            total, runs = made["totals"].get(name, (np.zeros(BINS), 0))
            base: dict[str, Any] = {"dataset": dataset.name, "panel": target, "candidate": name}
            status = "ok" if total.sum() > 0 else "no voxel above 0" if runs else "undefined"
            number = marks.add("number", "voxels_above_zero", source, where, argument={"candidate": name}, text=True,
                               name="voxels above 0", status=status, **base)  # fmt: skip
            style = ("-", (0, (4, 1.2)), (0, (1.2, 1.0)))[position % 3]
            label = f"{context.candidates[name].label} ({number.shown})"
            if status != "ok":
                axes.plot([], [], color=looks[name].colour, ls=style, lw=1.3, label=label)
                continue
            h = bandwidth_of(made, name, bandwidth)
            curve = [
                marks.add("density", "density", source, where,
                          argument={"candidate": name, "at": x, "bandwidth": bandwidth}, name=f"bandwidth {h:.4g}",
                          x=x, y=lambda found: found.value, **base).value
                for x in at
            ]  # fmt: skip
            axes.plot(at, curve, color=looks[name].colour, ls=style, lw=1.3, label=label, gid=f"density {name}")
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
