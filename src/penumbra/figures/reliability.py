"""Reliability diagrams with the expected calibration error (thesis figure 5.4).

One panel a candidate. Bars: accuracy of the voxels of a bin of confidence; the gap to their mean confidence is orange
where the candidate is overconfident and purple where it is underconfident. Voxels are pooled over the test cases of a
training, then accuracy, confidence and ECE are averaged over trainings. ``convention: closed`` counts voxels of
confidence exactly 1, which the published convention leaves out; ``headline`` takes what each data set's configuration
(``evaluation.last_bin``) chooses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from penumbra.figures._inputs import Drawn, FigureInputs, FigurePart, Marks, pick, row_filter
from penumbra.reporting.context import DatasetInfo, StudyContext

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

NEEDS = ("metrics",)
BINS = 10


def build(*, convention: Literal["headline", "published", "closed"] = "headline") -> FigurePart:
    """Figure 5.4, in each data set's own convention, in the published one, or with the last bin closed."""

    def suffix(dataset: DatasetInfo) -> str:
        closed = convention == "closed" or (convention == "headline" and dataset.headline("ece") != "ece")
        return "_closed" if closed else ""

    def draw(inputs: FigureInputs, context: StudyContext) -> tuple[Figure, pd.DataFrame]:
        return _draw(inputs, context, suffix)

    def caption(context: StudyContext) -> str:
        told = {
            "": "published convention: bins are open on the right, so that voxels of confidence exactly 1 are in none",
            "_closed": "the last bin is closed: it holds the voxels of confidence exactly 1",
        }
        shown: dict[str, list[str]] = {}
        for dataset in context.datasets.values():
            shown.setdefault(told[suffix(dataset)], []).append(dataset.short)
        last = " ".join(f"{', '.join(names)}: {how}." for how, names in shown.items())
        return (
            "Reliability diagrams. Confidence is the highest class probability of a voxel, background included. Bars: "
            "accuracy against the hard reference of the voxels in each of ten bins of confidence; the gap to their "
            "mean confidence is orange where it exceeds the accuracy (overconfidence) and purple where it falls short "
            "of it (underconfidence). Voxels are pooled over the test cases of a training; accuracy, confidence and "
            "expected calibration error (ECE) are then averaged over trainings, a bin over those in which it is not "
            "empty, ECE as mean ± standard deviation (ddof = 1; n/a for a single training). Red: perfect calibration. "
            + last
        )

    return Drawn(draw, caption)


def _draw(
    inputs: FigureInputs, context: StudyContext, suffix_of: Callable[[DatasetInfo], str]
) -> tuple[Figure, pd.DataFrame]:
    import numpy as np
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    from penumbra.figures import _style

    metrics = inputs.numbers.metrics
    rows, marks = _style.grid_rows(context), Marks()
    columns = max(len(row) for row in rows)
    datasets = list(context.datasets.values())
    width = min(_style.DOUBLE_COLUMN, 0.6 + (2.1 if len(datasets) == 1 else 1.8) * columns)
    panel = (width - 0.7) / columns
    figure = _style.new_figure(width, len(datasets) * (len(rows) * (panel * 0.85 + 0.42) + 0.55) + 0.3)
    blocks = _style.blocks_of(figure, len(datasets))
    for dataset, block in zip(datasets, blocks, strict=True):
        suffix = suffix_of(dataset)
        names = {f"reliability_{what}{suffix}" for what in ("accuracy", "confidence")}
        _style.block_title(block, dataset.short)
        grid = block.subplots(len(rows), columns, squeeze=False, sharex=True, sharey=True)
        table = metrics[(metrics["dataset"] == dataset.name) & metrics["metric"].isin(names)]
        filled = table.loc[table["value"].notna(), "bin"]
        first = int(filled.min()) if len(filled) else 0
        source = inputs.numbers.rows_of(dataset.name)
        for i, members in enumerate(rows):
            for j in range(columns):
                axes = grid[i, j]
                if j >= len(members):
                    axes.set_visible(False)
                    continue
                name = members[j]
                info = context.candidates[name]
                base: dict[str, Any] = {"dataset": dataset.name, "panel": info.label, "candidate": name}
                for k in range(BINS):
                    told = {"name": f"bin {k}", "x": (k + 0.5) / BINS, **base}
                    bars = {}
                    for what in ("accuracy", "confidence"):
                        where = row_filter(
                            dataset=dataset.name, candidate=name, metric=f"reliability_{what}{suffix}", bin=k
                        )
                        bars[what] = marks.add(what, "mean_over_splits", source, where, y=lambda found: found.value,
                                               status=lambda found: "ok" if found.n else "empty bin",
                                               **told)  # fmt: skip
                    accuracy, confidence = bars["accuracy"].value, bars["confidence"].value
                    if bars["accuracy"].n == 0:
                        continue
                    over = confidence > accuracy
                    axes.bar(
                        (k + 0.5) / BINS, accuracy, 1 / BINS, color="#b8c4ce", edgecolor="white", gid=f"bar {name} {k}"
                    )
                    axes.bar(
                        (k + 0.5) / BINS,
                        confidence - accuracy,
                        1 / BINS,
                        bottom=accuracy,
                        color=_style.OVERCONFIDENT if over else _style.UNDERCONFIDENT,
                        edgecolor="white",
                        alpha=0.85,
                        gid=f"gap {name} {k}",
                    )
                axes.plot([0, 1], [0, 1], color=_style.IDENTITY, lw=0.9, zorder=3)
                error = marks.add(
                    "title", "mean_over_splits", source,
                    row_filter(dataset=dataset.name, candidate=name, metric=f"ece{suffix}"),
                    text=True, scale=100.0, decimals=1, unit="%", name="ECE", **base,
                )  # fmt: skip
                percent = " %" if error.n else ""
                axes.set_title(
                    f"{info.label}\nECE {error.shown}{percent}", linespacing=1.25, fontsize=_style.FONT + 0.5
                )
                if not pick(table, candidate=name)["value"].notna().any():
                    axes.text(0.5, 0.6, "no defined bin", transform=axes.transAxes, ha="center", color=_style.NEUTRAL)
                axes.set(xlim=(first / BINS, 1), ylim=(0, 1))
                axes.set_xticks(np.arange(first, BINS + 1, 1 if BINS - first <= 5 else 2) / BINS)
                axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
        block.supxlabel("Confidence", fontsize=_style.FONT + 0.5)
        block.supylabel("Accuracy", fontsize=_style.FONT + 0.5)
    handles = [
        Patch(color="#b8c4ce", label="accuracy"),
        Patch(color=_style.OVERCONFIDENT, label="overconfidence"),
        Patch(color=_style.UNDERCONFIDENT, label="underconfidence"),
        Line2D([], [], color=_style.IDENTITY, label="perfect calibration"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, handlelength=1.2, columnspacing=1.4)
    return figure, marks.frame()
