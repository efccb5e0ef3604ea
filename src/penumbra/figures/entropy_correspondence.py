"""Entropy of the prediction against the entropy of the raters' average (thesis figure 5.1).

One panel a candidate, one dot a test case (the mean over the splits that test it), the identity line, and in the title
the mean absolute error as thesis table 5.2 has it: mean over the cases of a training, then mean over trainings.
``dots: prediction`` draws every case of every split.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from penumbra.figures._inputs import Drawn, FigureInputs, FigurePart, Marks, pick, row_filter
from penumbra.reporting.context import DatasetInfo, StudyContext

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure

NEEDS = ("metrics",)
AXES = ("entropy", "entropy_reference")
"""What is up and what is along."""


def build(*, dots: Literal["case", "prediction"] = "case", scale: Literal["linear", "log"] = "linear") -> FigurePart:
    """Figure 5.1; ``scale: log`` for data sets whose entropies span orders of magnitude."""

    def draw(inputs: FigureInputs, context: StudyContext) -> tuple[Figure, pd.DataFrame]:
        return _draw(inputs, context, dots, scale)

    def caption(context: StudyContext) -> str:
        what = "a test case, averaged over the splits that test it" if dots == "case" else "a test case of a split"
        return (
            "Entropy of the prediction against the entropy of the average of the raters, both summed over the image "
            f"(Eq. 5.1, natural logarithm, nats), for each candidate. Each dot is {what}; the dashed line is the "
            "identity, where an ideal model's dots lie. MAE: mean absolute error between the two, mean over the cases "
            "of a training, then mean ± standard deviation (ddof = 1) over trainings; n/a for a single training."
        )

    return Drawn(draw, caption)


def _points(metrics: pd.DataFrame, dataset: DatasetInfo, candidate: str, dots: str) -> pd.DataFrame:
    rows = pick(metrics, dataset=dataset.name, candidate=candidate, target="image", scope="case")
    rows = rows[rows["metric"].isin(["entropy", "entropy_reference"])]
    wide = rows.pivot(index=["split", "case"], columns="metric", values="value")
    wide = wide.reindex(columns=["entropy", "entropy_reference"]).dropna().reset_index()
    keys = ["case"] if dots == "case" else ["case", "split"]
    return wide.groupby(keys, as_index=False, sort=True)[["entropy", "entropy_reference"]].mean()


def _draw(inputs: FigureInputs, context: StudyContext, dots: str, scale: str) -> tuple[Figure, pd.DataFrame]:
    import numpy as np

    from penumbra.figures import _style

    metrics = inputs.numbers.metrics
    looks, rows, marks = _style.looks(context), _style.grid_rows(context), Marks()
    columns = max(len(row) for row in rows)
    datasets = list(context.datasets.values())
    width = min(_style.DOUBLE_COLUMN, 0.6 + (2.1 if len(datasets) == 1 else 1.7) * columns)
    panel = (width - 0.7) / columns
    height = len(datasets) * (len(rows) * (panel + 0.42) + 0.55)
    figure = _style.new_figure(width, height)
    blocks = _style.blocks_of(figure, len(datasets))
    for dataset, block in zip(datasets, blocks, strict=True):
        _style.block_title(block, dataset.short)
        grid = block.subplots(len(rows), columns, squeeze=False, sharex=True, sharey=True)
        source = inputs.numbers.rows_of(dataset.name)
        points = {c: _points(metrics, dataset, c, dots) for c in context.candidates}
        values = np.concatenate([p[["entropy", "entropy_reference"]].to_numpy().ravel() for p in points.values()])
        low, high = _limits(values, scale)
        for i, names in enumerate(rows):
            for j in range(columns):
                axes = grid[i, j]
                if j >= len(names):
                    axes.set_visible(False)
                    continue
                name = names[j]
                cloud, info = points[name], context.candidates[name]
                axes.plot([low, high], [low, high], ls="--", color=_style.NEUTRAL, lw=0.7, zorder=1, gid="identity")
                axes.scatter(
                    cloud["entropy_reference"],
                    cloud["entropy"],
                    s=13,
                    color=looks[name].colour,
                    marker=looks[name].marker,
                    alpha=0.75,
                    linewidths=0.3,
                    edgecolors="#222222",
                    zorder=2,
                    gid=f"dots {dataset.name} {name}",
                )
                base: dict[str, Any] = {"dataset": dataset.name, "panel": info.label, "candidate": name}
                for dot in cloud.to_dict("records"):
                    split = {"split": dot["split"]} if dots == "prediction" else {}
                    where = row_filter(dataset=dataset.name, candidate=name, target="image", case=dot["case"],
                                       metric=list(AXES), **split)  # fmt: skip
                    place: dict[str, Any] = {"name": str(dot["case"]) + (f", split {dot['split']}" if split else "")}
                    place |= {"x": dot["entropy_reference"], "y": dot["entropy"]}
                    for mark, metric, beside in (("dot", *AXES), ("dot, across", *reversed(AXES))):
                        marks.add(mark, "mean_where_both_defined", source, where,
                                  argument={"metric": metric, "beside": beside}, **place, **base)  # fmt: skip
                error = marks.add(
                    "title", "mean_over_splits", source,
                    row_filter(dataset=dataset.name, candidate=name, target="image", metric="entropy_error"),
                    text=True, decimals=_decimals, name="MAE", unit="nats", **base,
                )  # fmt: skip
                axes.set_title(f"{info.label}\nMAE {error.shown}", linespacing=1.25, fontsize=_style.FONT + 0.5)
                if cloud.empty:
                    axes.text(0.5, 0.5, "no defined case", transform=axes.transAxes, ha="center", color=_style.NEUTRAL)
                axes.set_xscale(scale)
                axes.set_yscale(scale)
                axes.set(xlim=(low, high), ylim=(low, high))
                axes.set_aspect("equal", adjustable="box")
                if scale == "linear":
                    axes.locator_params(nbins=4)
        block.supxlabel("Entropy of the average of the raters [nats]", fontsize=_style.FONT + 0.5)
        block.supylabel("Entropy of the prediction [nats]", fontsize=_style.FONT + 0.5)
    return figure, marks.frame()


def _decimals(value: float) -> int:
    import math

    if not math.isfinite(value) or value == 0:
        return 1
    return min(max(2 - math.floor(math.log10(abs(value))), 0), 6)


def _limits(values: np.ndarray, scale: str) -> tuple[float, float]:
    import numpy as np

    finite = values[np.isfinite(values)]
    if scale == "log":
        positive = finite[finite > 0]
        return (0.7 * positive.min(), 1.4 * positive.max()) if positive.size else (0.1, 1.0)
    return (0.0, 1.06 * finite.max()) if finite.size and finite.max() > 0 else (0.0, 1.0)
