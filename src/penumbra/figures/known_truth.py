"""Predictions against a truth that only phantoms have, over data sets that image the same objects in other voxels
(docs/known-truth.md).

For one class. Upper row: mean prediction against the true fraction of a voxel, in bins of the fraction. Middle row: the
true probability that a rater picked at random marks the voxel, against the prediction, in bins of the prediction. Both
have one panel a data set and one line a candidate; truth is the diagonal. Lower row: error of the volume that soft and
binary maps measure, error against the true fraction of mixed voxels and misplaced volume, by data set.

``target`` is the class; the first one of the first data set where it is empty. Data sets without it are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penumbra.errors import PenumbraError
from penumbra.figures._inputs import Drawn, FigureInputs, FigurePart, Marks, pick, row_filter
from penumbra.reporting.context import DatasetInfo, StudyContext, target_title
from penumbra.reporting.estimators import estimate_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from penumbra.figures._style import Look
    from penumbra.reporting.rows import Source

NEEDS = ("metrics",)

CURVES = (
    ("truth_curve", "fraction", "prediction", "True fraction of the voxel", "Mean prediction"),
    ("rater_curve", "prediction", "probability", "Mean prediction", "True rater probability"),
)
"""Metric, what of it is along x and y, and what the axes are called."""
ERRORS = (
    ("volume_error_soft", "Volume error of soft maps [%]"),
    ("volume_error_binary", "Volume error of binary maps [%]"),
    ("truth_error", "Error in mixed voxels [%]"),
    ("volume_misplaced", "Misplaced volume [%]"),
)


def build(*, target: str = "") -> FigurePart:
    """Curves and errors against known truth of one class."""

    def draw(inputs: FigureInputs, context: StudyContext) -> tuple[Figure, pd.DataFrame]:
        return _draw(inputs, context, target)

    def caption(context: StudyContext) -> str:
        chosen, datasets = _chosen(context, target)
        return (
            f"Predictions of {target_title(chosen)} against known truth ({', '.join(d.short for d in datasets)}). "
            "Upper row: mean prediction against mean true fraction of the voxel, in bins of the fraction (0, ten of "
            "equal width, 1), over all voxels. Middle row: mean true probability that a rater picked at random marks "
            "the voxel against mean prediction, in ten bins of the prediction, over all voxels. "
            "Voxels are pooled over the test cases of a training, then a bin is averaged over the trainings in which "
            "it is not empty; dashed: identity. Lower row: (volume of the soft or binary map - true volume) / true "
            "volume, mean absolute error against the true fraction over voxels that the class takes in part, and the "
            "sum of that error over all voxels, over the true volume; mean over the cases of a training, then mean and "
            "standard deviation (ddof = 1, none for a single training) over trainings."
        )

    return Drawn(draw, caption)


def _chosen(context: StudyContext, target: str) -> tuple[str, list[DatasetInfo]]:
    every = list(context.datasets.values())
    target = target or every[0].classes[0]
    datasets = [d for d in every if target in d.classes]
    if not datasets:
        known = ", ".join(dict.fromkeys(c for d in every for c in d.classes))
        raise PenumbraError(f"no data set of the figure has a class {target!r}", cure=f"choose one of: {known}")
    return target, datasets


def _draw(inputs: FigureInputs, context: StudyContext, target: str) -> tuple[Figure, pd.DataFrame]:
    from matplotlib.lines import Line2D

    from penumbra.figures import _style

    target, datasets = _chosen(context, target)
    metrics = pick(inputs.numbers.metrics, target=target)
    looks, marks = _style.looks(context), Marks()
    panel = min(2.1, (_style.DOUBLE_COLUMN - 0.5) / len(datasets))
    figure = _style.new_figure(_style.DOUBLE_COLUMN, 2 * (panel + 0.3) + 2.6)
    curves, errors = figure.subfigures(2, 1, squeeze=False, height_ratios=[2 * (panel + 0.3), 1.9]).ravel()
    grid = curves.subplots(2, len(datasets), squeeze=False, sharex=True, sharey=True)
    for column, dataset in enumerate(datasets):
        for (curve, along, up, x_label, y_label), axes in zip(CURVES, grid[:, column], strict=True):
            rows = metrics[(metrics["dataset"] == dataset.name) & metrics["metric"].str.startswith(curve)]
            axes.plot([0, 1], [0, 1], ls="--", color=_style.NEUTRAL, lw=0.7, zorder=1, gid="identity")
            source = inputs.numbers.rows_of(dataset.name)
            for name, look in looks.items():
                base: dict[str, Any] = {"dataset": dataset.name, "candidate": name}
                bins = sorted(pick(rows, candidate=name)["bin"].dropna().unique().tolist())
                told = base | {"target": target}
                _curve(axes, marks, source, told, bins, f"{curve}_{along}", f"{curve}_{up}", look, base)
            if not rows["value"].notna().any():
                axes.text(0.5, 0.5, "no defined bin", transform=axes.transAxes, ha="center", color=_style.NEUTRAL)
            axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel=x_label)
            axes.set_aspect("equal", adjustable="box")
            axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
            axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
            axes.tick_params(labelbottom=True)
            if column == 0:
                axes.set_ylabel(y_label)
        grid[0, column].set_title(dataset.short)
    for (metric, title), axes in zip(ERRORS, errors.subplots(1, len(ERRORS)), strict=True):
        _errors(axes, inputs, marks, target, metric, datasets, looks)
        axes.set_title(title, fontsize=_style.FONT)
    handles = [
        Line2D([], [], color=look.colour, marker=look.marker, ms=3.5, lw=_style.LINE, label=context.candidates[c].label)
        for c, look in looks.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(5, len(handles)), columnspacing=1.4)
    return figure, marks.frame()


def _curve(
    axes: Axes,
    marks: Marks,
    source: Source,
    told: dict[str, Any],
    bins: list[int],
    x_metric: str,
    y_metric: str,
    look: Look,
    base: dict[str, Any],
) -> None:
    """One candidate's line: each bin's mean along (mark ``<metric>, across``) and up (mark ``<metric>``)."""
    points = []
    for k in bins:
        at, up = (
            estimate_of(source, "mean_over_splits", row_filter(**told, metric=metric, bin=k))
            for metric in (x_metric, y_metric)
        )
        points += [(at.value, up.value)] if up.n else []
        for metric, mark in ((y_metric, y_metric), (x_metric, f"{y_metric}, across")):
            marks.add(mark, "mean_over_splits", source, row_filter(**told, metric=metric, bin=k),
                      panel=y_metric.rpartition("_")[0], name=f"bin {k}", x=at.value, y=up.value,
                      status="ok" if up.n else "empty bin", **base)  # fmt: skip
    if points:
        axes.plot(
            *zip(*points, strict=True),
            color=look.colour,
            marker=look.marker,
            ms=2.2,
            lw=0.7,
            gid=f"{y_metric} {base['candidate']}",
        )


def _errors(
    axes: Axes,
    inputs: FigureInputs,
    marks: Marks,
    target: str,
    metric: str,
    datasets: list[DatasetInfo],
    looks: dict[str, Look],
) -> None:
    from penumbra.figures import _style

    drawn = False
    for i, (name, look) in enumerate(looks.items()):
        shift = 0.5 * ((i + 0.5) / len(looks) - 0.5)
        points: list[tuple[float, float, float]] = []
        for position, dataset in enumerate(datasets):
            found = marks.add(
                "dot",
                "mean_over_splits",
                inputs.numbers.rows_of(dataset.name),
                row_filter(dataset=dataset.name, candidate=name, metric=metric, target=target),
                dataset=dataset.name,
                candidate=name,
                panel=metric,
                name=dataset.short,
                x=position,
                y=lambda found: 100 * found.value,
            )
            if found.n:
                bar = 100 * found.std if found.n > 1 else 0.0
                points.append((position + shift, 100 * found.value, bar))
        if points:
            x, y, bars = zip(*points, strict=True)
            drawn = True
            axes.errorbar(x, y, bars, color=look.colour, marker=look.marker, ms=2.5, lw=0.6, elinewidth=0.5)
    if metric.startswith("volume_error"):
        axes.axhline(0, color=_style.NEUTRAL, ls="--", lw=0.7, zorder=1)
    elif drawn:
        axes.set_ylim(bottom=0)
    axes.set_xlim(-0.5, len(datasets) - 0.5)
    axes.set_xticks(range(len(datasets)), [d.short.replace(", ", ",\n") for d in datasets])
