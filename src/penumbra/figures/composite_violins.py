"""Violins of the composite score of segmentation accuracy (thesis figure 5.5).

Composite: z(Dice) + z(precision) + z(recall) - z(AVD), each z-score pooled over the study's candidates, splits and
cases of a data set and class. One violin a candidate over all test cases of all splits, sorted from best to worst mean
(black dot); ``**`` marks p < level of the Wilcoxon test of the run means against the reference, paired by split, not
corrected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penumbra.figures._inputs import Drawn, FigureInputs, FigurePart, Marks, row_filter
from penumbra.reporting.context import StudyContext, target_title

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from penumbra.reporting.estimators import Estimate

NEEDS = ("metrics", "tests")


def build(*, points: bool = True) -> FigurePart:
    """Figure 5.5; ``points`` adds the single cases as small dots beside each violin."""

    def draw(inputs: FigureInputs, context: StudyContext) -> tuple[Figure, pd.DataFrame]:
        return _draw(inputs, context, points)

    def caption(context: StudyContext) -> str:
        reference = context.candidates[context.reference].label
        return (
            "Composite score: z-scores of Dice, precision and recall minus that of AVD, each standardised over all "
            "candidates, splits and test cases of a data set and class (ddof = 0). Each violin is the distribution "
            "over test cases and splits, widths scaled to the same maximum, with quartiles (bar) and mean (black dot); "
            "candidates are sorted from the best to the worst mean. ** p < "
            f"{context.level:g}, two-sided Wilcoxon signed-rank test of the means over cases against {reference} "
            "(ref), paired by split, not corrected; † still below after Holm's correction. "
            "Case values are pooled over splits, so a case tested in several splits appears several times."
        )

    return Drawn(draw, caption)


def _draw(inputs: FigureInputs, context: StudyContext, points: bool) -> tuple[Figure, pd.DataFrame]:
    import textwrap

    import numpy as np

    from penumbra.figures import _style
    from penumbra.metrics.composite import WEIGHTS
    from penumbra.reporting.estimators import ESTIMATORS, composite_scores, significance_marks

    tests = inputs.numbers.tested
    prepare = ESTIMATORS["composite_mean"].prepare
    assert prepare is not None
    looks, marks = _style.looks(context), Marks()
    panels = [(dataset, target) for dataset in context.datasets.values() for target in dataset.classes]
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    width = _style.DOUBLE_COLUMN if columns == 2 else 0.62 * _style.DOUBLE_COLUMN
    figure = _style.new_figure(width, 0.15 + 2.45 * lines)
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    for axes, (dataset, target) in zip(grid, panels, strict=False):
        source = inputs.numbers.rows_of(dataset.name)
        told = row_filter(dataset=dataset.name, target=target, metric=list(WEIGHTS))
        scores = source.prepared(prepare, told)
        groups = {c: np.array(composite_scores(scores, c), dtype=float) for c in context.candidates}
        means = {c: float(g.mean()) if g.size else -np.inf for c, g in groups.items()}
        order = sorted(context.candidates, key=lambda c: -means[c])
        everything = np.concatenate(list(groups.values()))
        bottom, top = (everything.min(), everything.max()) if everything.size else (-1.0, 1.0)
        span = max(top - bottom, 1e-6)
        labels = []
        for x, name in enumerate(order):
            values, info = groups[name], context.candidates[name]
            base: dict[str, Any] = {"dataset": dataset.name, "panel": target, "candidate": name, "x": x}
            labels.append(_style.broken(info.label) + ("\n(ref)" if name == context.reference else ""))
            of = {"candidate": name}
            if values.size == 0:
                axes.text(x, bottom + span / 2, "undefined", ha="center", rotation=90, color=_style.NEUTRAL)
                marks.add("mean", "composite_mean", source, told, argument=of, name="mean", status="undefined (n=0)",
                          **base)  # fmt: skip
                continue
            _violin(axes, x, values, looks[name].colour)
            if points:
                offset = 0.42 + 0.06 * ((np.arange(values.size) % 3) - 1)
                axes.scatter(
                    x + offset, values, s=2.0, color=looks[name].colour, alpha=0.55, linewidths=0, gid=f"cases {name}"
                )
            quartiles = np.quantile(values, [0.25, 0.5, 0.75])
            axes.vlines(x, quartiles[0], quartiles[2], color="black", lw=2.2, alpha=0.45)
            mean = marks.add("mean", "composite_mean", source, told, argument=of, name="mean", y=_value, **base)
            axes.scatter([x], [mean.value], s=15, color="black", zorder=4, gid=f"mean {name}")
            for label, quantile in (("first quartile", 0.25), ("median", 0.5), ("third quartile", 0.75)):
                marks.add("quartile", "composite_quantile", source, told, argument=of | {"quantile": quantile},
                          name=label, y=_value, **base)  # fmt: skip
            for split, case, value in scores[name]:
                if value == value:
                    marks.add("case", "composite_of_case", source, told,
                              argument=of | {"split": split, "case": case}, name=f"{case}, split {split}",
                              y=_value, **base)  # fmt: skip
            tested = row_filter(view="split", dataset=dataset.name, target=target, metric="composite", candidate=name)
            row = None if tests is None else tests.rows(tested)
            if row is not None and len(row):
                sign = significance_marks(float(row.first("p")), float(row.first("p_holm")), context.level)
                if sign:
                    axes.text(x, top + 0.03 * span, sign, ha="center", va="bottom", fontsize=_style.TITLE)
                    marks.add("asterisks", "significance", tests, tested, argument={"level": context.level}, text=True,
                              name="p", y=float(top + 0.03 * span), **base)  # fmt: skip
        axes.set_xticks(range(len(order)), labels, linespacing=1.1)
        if len(panels) > 1:
            axes.tick_params(axis="x", labelsize=_style.FONT - 1.6)
        axes.set_xlim(-0.6, len(order) - 0.3)
        axes.set_ylim(bottom - 0.06 * span, top + 0.16 * span)
        axes.grid(axis="y", lw=0.4, color="#dddddd")
        axes.set_ylabel("Composite score")
        axes.set_title(textwrap.fill(f"{dataset.short}: {target_title(target)}", 44))
    return figure, marks.frame()


def _value(found: Estimate) -> float:
    return found.value


def _violin(axes: Axes, x: float, values: np.ndarray, colour: str) -> None:
    import numpy as np

    if values.size < 3 or np.ptp(values) < 1e-9:
        axes.hlines(values, x - 0.25, x + 0.25, color=colour, lw=1.0)
        return
    drawn: Any = axes.violinplot([values], positions=[x], widths=0.62, showextrema=False, points=200)
    drawn["bodies"][0].set(facecolor=colour, edgecolor=colour, alpha=0.55, linewidth=0.6)
