"""How the samples of each test case score beside the prediction (stochastic segmentation networks, figure 5).

A column a test case, in order of the prediction's Dice score, which a cross marks. The line goes from the 5 % to the
95 % quantile of the samples' scores, its thick part from the first to the third quartile, with the median as a dot. The
bar is the share of samples that score higher than the prediction, the dashed line the mean of these shares. A score is
the mean over classes that are not empty on both sides, and over raters. It takes ``evaluation.readers`` and a predictor
that samples.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penumbra import paths
from penumbra.figures._inputs import Drawn, FigureInputs, FigurePart, Marks, RunFiles
from penumbra.reporting.context import StudyContext
from penumbra.reporting.estimators import Estimate
from penumbra.reporting.pictures import read_scores, score_summary
from penumbra.reporting.sources import told_source

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure

NEEDS = ("predictions",)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def build(*, candidate: str = "", split: int = 0) -> FigurePart:
    """Figure 5.

    ``candidate``: whose samples; the study's reference unless named. ``split``: whose test cases.
    """

    def whose(context: StudyContext) -> str:
        return context.named([candidate or context.reference])[0]

    def draw(inputs: FigureInputs, context: StudyContext) -> tuple[Figure, pd.DataFrame]:
        return _draw(inputs.images, inputs.results, context, whose(context))

    def caption(context: StudyContext) -> str:
        dataset = next(iter(context.datasets.values()))
        return (
            f"Dice scores of the samples of {context.candidates[whose(context)].label} with the raters, by test case "
            f"of split {split} of {dataset.short}: 5 % to 95 % quantile, quartiles and median; the cross is the "
            "prediction. Bars: the share of samples that score higher than the prediction; dashed: their mean."
        )

    return Drawn(draw, caption)


def _scores(files: RunFiles, name: str, case: str, classes: int) -> tuple[list[Path], np.ndarray | None]:
    """The files of a case, and the scores of its prediction and samples; None where it has no samples."""
    from penumbra.data.case import natural

    folder = files.predictions[name]
    raters = sorted((files.cases / case).glob("rater-*.nii.gz"), key=lambda path: natural(path.name))
    paths_of = [folder / f"{case}.nii.gz", folder / paths.SAMPLES / f"{case}.nii.gz", *raters]
    return paths_of, read_scores(paths_of, classes) if paths_of[1].exists() else None


def _draw(files: RunFiles, results: Path | None, context: StudyContext, name: str) -> tuple[Figure, pd.DataFrame]:
    import numpy as np

    from penumbra.figures import _style
    from penumbra.splits._make import read_split

    dataset = next(iter(context.datasets.values()))
    classes = len(dataset.classes)
    marks = Marks()
    figure = _style.new_figure(_style.DOUBLE_COLUMN, 2.6)
    axes = figure.subplots()
    _style.constrain(figure)
    shown: list[tuple[str, list[Path], np.ndarray]] = []
    for case in sorted(read_split(files.split, "test")["test"]):
        sources, scores = _scores(files, name, case, classes)
        base: dict[str, Any] = {"dataset": dataset.name, "name": case, "candidate": name}
        if scores is None:
            marks.lack("cross", "missing", source=told_source(sources[1], results), **base)
        elif math.isnan(scores[0]) or np.isnan(scores[1:]).all():
            marks.lack("cross", "undefined", source=told_source(sources, results), **base)
        else:
            shown.append((case, sources, scores))
    shown.sort(key=lambda entry: (entry[2][0], entry[0]))
    shares = []
    for at, (case, sources, scores) in enumerate(shown):
        base = {"dataset": dataset.name, "name": case, "candidate": name, "x": at}

        def told(mark: str, of: str | float) -> float:
            value = score_summary(scores, of)  # noqa: B023
            marks.add_files(mark, "score_of_case", sources, results, argument={"classes": classes, "of": of},  # noqa: B023
                            estimate=Estimate(value, None, len(scores) - 1), **base)  # noqa: B023  # fmt: skip
            return value

        shares.append(told("bar", "better"))
        axes.bar(at, shares[-1], width=0.8, color="#f4d35e", zorder=1)
        low, first, median, third, high = (told("quantile", q) for q in QUANTILES)
        axes.plot([at, at], [low, high], color=_style.NEUTRAL, linewidth=0.8, zorder=2)
        axes.plot([at, at], [first, third], color=_style.NEUTRAL, linewidth=2.4, zorder=2)
        axes.plot(at, median, "o", color="white", markeredgecolor=_style.NEUTRAL, markersize=2.6, zorder=3)
        axes.plot(at, told("cross", "prediction"), "x", color="black", markersize=4, zorder=4)
    if shown:
        mean = math.fsum(shares) / len(shares)
        sizes = [len(sources) for _, sources, _ in shown]
        marks.add_files(
            "line", "mean_score_of_cases", [path for _, sources, _ in shown for path in sources], results,
            argument={"classes": classes, "of": "better", "sizes": sizes}, estimate=Estimate(mean, None, len(shown)),
            dataset=dataset.name, candidate=name, name="mean share",
        )  # fmt: skip
        axes.axhline(mean, color="#b08900", linestyle="--", linewidth=0.9, zorder=0)
    else:
        axes.text(0.5, 0.5, "no samples", transform=axes.transAxes, ha="center", color=_style.NEUTRAL)
    axes.set_xlim(-0.7, max(len(shown), 1) - 0.3)
    axes.set_ylim(0, 1)
    axes.set_xticks([])
    axes.set_xlabel(f"{len(shown)} test cases, in order of the prediction's score")
    axes.set_ylabel("Dice score; share of samples")
    return figure, marks.frame()
