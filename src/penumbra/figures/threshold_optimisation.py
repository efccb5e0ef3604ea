"""The search for the binarisation threshold (thesis figure 4.3).

One panel a candidate: Dice score at each threshold tried, over the training and validation cases, for each training
(thin lines), their mean (thick line), their range (shaded), and the threshold with the best Dice of each training
(dots; of several best the largest). Above each panel stands how far the Dice score moves with the threshold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penumbra.figures._inputs import Drawn, FigureInputs, FigurePart, Marks, pick, row_filter
from penumbra.reporting.context import StudyContext, target_title

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

NEEDS = ("metrics",)


def build(*, lines: bool = True) -> FigurePart:
    """Figure 4.3; ``lines`` draws the curve of each training, too."""

    def draw(inputs: FigureInputs, context: StudyContext) -> tuple[Figure, pd.DataFrame]:
        return _draw(inputs, context, lines)

    def caption(context: StudyContext) -> str:
        unused = [d.short for d in context.datasets.values() if d.evaluation.get("binarisation") == "argmax"]
        return (
            "Dice score of the binarised prediction at each threshold, in the network's grid: computed for each "
            "training and validation case, then averaged over the cases of a training. Thick line: mean over "
            "trainings; shaded: from the lowest to the highest; "
            + ("thin lines: each training; " if lines else "")
            + "dots: the threshold with the best Dice score of each training, of several best the largest. Range: "
            "highest minus lowest Dice score of a training over all thresholds, mean ± standard deviation (ddof = 1; "
            "n/a for a single training) over trainings. The vertical scale is the same for all candidates."
            + (f" {', '.join(unused)}: predictions become binary by the most probable class instead." if unused else "")
        )

    return Drawn(draw, caption)


def _draw(inputs: FigureInputs, context: StudyContext, lines: bool) -> tuple[Figure, pd.DataFrame]:
    import numpy as np

    from penumbra.figures import _style
    from penumbra.inference.threshold import thresholds

    metrics = inputs.numbers.metrics
    looks, rows, marks = _style.looks(context), _style.grid_rows(context), Marks()
    columns = max(len(row) for row in rows)
    blocks = [(dataset, target) for dataset in context.datasets.values() for target in dataset.classes]
    width = min(_style.DOUBLE_COLUMN, 0.6 + 2.2 * columns)
    figure = _style.new_figure(width, len(blocks) * (len(rows) * 1.75 + 0.45))
    for (dataset, target), block in zip(blocks, _style.blocks_of(figure, len(blocks)), strict=True):
        _style.block_title(block, f"{dataset.short}: {target_title(target)}")
        grid = block.subplots(len(rows), columns, squeeze=False, sharex=True, sharey=True)
        step = float(dataset.evaluation.get("threshold_step", 0.05))
        levels, source = thresholds(step), inputs.numbers.rows_of(dataset.name)
        every = pick(metrics, dataset=dataset.name, metric="threshold_dice", target=target)
        for i, names in enumerate(rows):
            for j in range(columns):
                axes = grid[i, j]
                if j >= len(names):
                    axes.set_visible(False)
                    continue
                name = names[j]
                info, colour = context.candidates[name], looks[name].colour
                base: dict[str, Any] = {"dataset": dataset.name, "panel": target, "candidate": name}
                own = pick(every, candidate=name)
                curves = own.pivot(index="split", columns="bin", values="value").reindex(columns=range(len(levels)))
                told = {"dataset": dataset.name, "candidate": name, "target": target}
                of = told | {"metric": "threshold_dice"}
                for split, curve in curves.iterrows():
                    if lines:
                        axes.plot(levels, 100 * curve, color=colour, lw=0.5, alpha=0.5, gid=f"curve {name} {split}")
                    for k, (x, y) in enumerate(zip(levels, curve, strict=True)):
                        marks.add("curve", "value_as_measured", source, row_filter(**of, split=split, bin=k),
                                  name=f"split {split}", x=x, y=100 * y, **base)  # fmt: skip
                    if curve.notna().any():
                        best = int(np.flatnonzero(curve == curve.max())[-1])
                        x, y = levels[best], curve.iloc[best]
                        axes.scatter([x], [100 * y], s=14, color=colour, edgecolors="white", linewidths=0.5, zorder=4,
                                     gid=f"optimum {name} {split}")  # fmt: skip
                        marks.add("optimum", "best_threshold", source, row_filter(**of, split=split),
                                  argument={"step": step}, name=f"split {split}", x=x, y=100 * y, **base)  # fmt: skip
                centre, low, high = (100 * getattr(curves, how)() for how in ("mean", "min", "max"))
                if curves.notna().any().any():
                    axes.fill_between(levels, low, high, color=colour, alpha=0.18, lw=0)
                    axes.plot(levels, centre, color=colour, lw=1.8, gid=f"mean {name}")
                else:
                    axes.text(0.5, 0.5, "no defined score", transform=axes.transAxes, ha="center", color=_style.NEUTRAL)
                for how, line, estimator in (
                    ("mean", centre, "mean_over_splits"),
                    ("minimum", low, "minimum_over_runs"),
                    ("maximum", high, "maximum_over_runs"),
                ):
                    for k, (x, y) in enumerate(zip(levels, line, strict=True)):
                        marks.add(how, estimator, source, row_filter(**of, bin=k), name=f"{how} over trainings",
                                  x=x, y=y, **base)  # fmt: skip
                span = marks.add(
                    "title", "mean_over_splits", source, row_filter(**told, metric="threshold_dice_range"),
                    text=True, scale=100.0, decimals=1, unit="%", name="range", **base,
                )  # fmt: skip
                axes.set_title(f"{info.label}\nrange {span.shown}{' %' if span.n else ''}", linespacing=1.25,
                               fontsize=_style.FONT + 0.5)  # fmt: skip
                axes.set_xlim(0, 1)
                axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
                axes.grid(lw=0.4, color="#e2e2e2")
        block.supxlabel("Threshold", fontsize=_style.FONT + 0.5)
        block.supylabel("Dice score [%]", fontsize=_style.FONT + 0.5)
    return figure, marks.frame()
