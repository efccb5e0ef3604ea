"""Raters' segmentations beside predictions and samples (stochastic segmentation networks, figures 3, 4 and A1 to A5).

Rows: test cases of the split, those whose raters disagree most on some slice, and of each that slice (sum over voxels
and classes of ``f (1 - f)``, f the share of raters); where no slice shows disagreement, as with one rater, the one with
the most foreground. A row for each candidate that is shown. Columns: the image, each rater, the probability map, with
``entropy`` the marginal entropy over all samples (each voxel's entropy of the samples' labels, over that of equal
shares), and the first samples that inference kept, which takes ``evaluation.readers`` and a predictor that samples.
Classes have their colours; of a sample and a rater each voxel has one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from penumbra import paths
from penumbra.errors import PenumbraError
from penumbra.figures._inputs import Drawn, FigureInputs, FigurePart, Marks, RunFiles
from penumbra.reporting.context import StudyContext
from penumbra.reporting.estimators import Estimate
from penumbra.reporting.pictures import cut, disagreement, entropy_of, sum_of
from penumbra.reporting.sources import told_source

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEEDS = ("predictions",)


def build(
    *,
    candidates: list[str] = [],  # noqa: B006 - never changed
    split: int = 0,
    rows: Annotated[int, Field(ge=1)] = 3,
    samples: Annotated[int, Field(ge=1)] = 4,
    entropy: bool = False,
    contrast: str = "",
    margin: float = 10.0,
) -> FigurePart:
    """Figure 3, and with ``entropy`` and several candidates figures 4 and A1 to A5.

    ``candidates``: whose predictions and samples, a row each; the study's reference unless named. ``split``: whose test
    cases. ``rows``: how many of them. ``samples``: how many of each. ``entropy``: whether to show the marginal entropy.
    ``contrast``: which one is the image; the first unless named. ``margin``: mm kept around what any rater marked.
    """
    columns = Columns(samples, entropy, contrast, margin)

    def whose(context: StudyContext) -> list[str]:
        return context.named(candidates or [context.reference])

    def draw(inputs: FigureInputs, context: StudyContext) -> tuple[Figure, pd.DataFrame]:
        return _draw(inputs.images, inputs.results, context, whose(context), rows, columns)

    def caption(context: StudyContext) -> str:
        dataset = next(iter(context.datasets.values()))
        labels = [context.candidates[name].label for name in whose(context)]
        parts = "prediction, marginal entropy and samples" if entropy else "prediction and samples"
        order = f", a row each: {', '.join(labels)}," if len(labels) > 1 else f" of {labels[0]}"
        return (
            f"Image, raters, {parts}{order} on one slice of each of the {rows} test cases of split {split} of "
            f"{dataset.short} whose raters disagree most."
        )

    return Drawn(draw, caption)


@dataclass(frozen=True)
class Columns:
    """What a row shows, see :func:`build`."""

    samples: int
    entropy: bool
    contrast: str
    margin: float


def _views(files: RunFiles, classes: int, rows: int) -> list[tuple[float, str, int]]:
    """Disagreement, case and slice of the test cases that are shown, the highest first; of equal ones those with the
    most foreground."""
    import numpy as np

    from penumbra.data.case import read_case
    from penumbra.splits._make import read_split

    found = []
    for case in sorted(read_split(files.split, "test")["test"]):
        raters = read_case(files.cases / case).raters
        scores, foreground = disagreement(raters, classes), np.count_nonzero(raters, axis=(0, 1, 2))
        at = int(np.lexsort((-foreground, -scores))[0])
        found.append((float(scores[at]), case, at, int(foreground[at])))
    if not found:
        raise PenumbraError("the split has no test case", file=files.split)
    return [view[:3] for view in sorted(found, key=lambda view: (-view[0], -view[3], view[1]))[:rows]]


def _draw(
    files: RunFiles, results: Path | None, context: StudyContext, names: list[str], rows: int, columns: Columns
) -> tuple[Figure, pd.DataFrame]:
    import numpy as np
    from matplotlib.colors import to_rgb

    from penumbra.data.case import natural, read_case, read_class_map
    from penumbra.figures import _images, _style

    dataset = next(iter(context.datasets.values()))
    classes = len(dataset.classes)
    channel = _images.chosen(dataset.contrasts, columns.contrast, "contrast")
    colours = np.array([(0.0, 0.0, 0.0), *(to_rgb(c) for c in _style.class_colours(classes))])
    views = _views(files, classes, rows)
    most = max(len(read_case(files.cases / case).raters) for _, case, _ in views)
    titles = [
        "Image",
        *(f"Rater {k + 1}" for k in range(most)),
        "Prediction",
        *(["Entropy"] if columns.entropy else []),
        *(f"Sample {k + 1}" for k in range(columns.samples)),
    ]
    several = len(names) > 1
    # Room for a candidate's name below its row.
    panel, room = _style.DOUBLE_COLUMN / len(titles), 0.2 if several else 0.0
    figure = _style.new_figure(_style.DOUBLE_COLUMN, len(views) * len(names) * (panel + room) + 0.25)
    _style.constrain(figure, w_pad=0.01, h_pad=0.01 + room / 2, wspace=0.01, hspace=0.01)
    grid = figure.subplots(len(views) * len(names), len(titles), squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=_style.FONT)
    marks = Marks()
    for number, row in enumerate(grid):
        score, case, z = views[number // len(names)]
        name, first = names[number % len(names)], number % len(names) == 0
        content = read_case(files.cases / case)
        x, y = _images.square(np.asarray((content.raters[..., z] > 0).any(axis=0)), content.spacing, columns.margin)
        place = [x.start, x.stop, y.start, y.stop, z]
        base: dict[str, Any] = {"dataset": dataset.name, "name": f"{case}, slice {z}"}

        def told(panel: str, path: Path, values: np.ndarray, argument: dict[str, Any], **more: Any) -> None:
            value, n = sum_of(values)
            marks.add_files("image", "sum_of_pixels", [path], results, argument=argument | {"place": place},  # noqa: B023
                            estimate=Estimate(value, None, n), panel=panel, **base, **more)  # noqa: B023  # fmt: skip

        def show(axes: Axes, labels: np.ndarray) -> None:
            _images.show(axes, colours[labels.astype(np.intp)], content.spacing)  # noqa: B023

        if several:
            below = row[0].text(0, -0.04, context.candidates[name].label, transform=row[0].transAxes, va="top",
                                fontsize=_style.FONT - 1)  # fmt: skip
            below.set_in_layout(False)
        raters = sorted((files.cases / case).glob("rater-*.nii.gz"), key=lambda path: natural(path.name))
        image = cut(content.image[channel], place)
        _images.show(row[0], _images.grey(image), content.spacing)
        for k in range(len(raters)):
            show(row[1 + k], cut(content.raters[k], place))
        if first:
            marks.add_files(
                "choice", "disagreement_of_slice", raters, results,
                argument={"classes": classes, "slice": z}, estimate=Estimate(score, None, len(raters)),
                panel=titles[0], **base,
            )  # fmt: skip
            told(titles[0], files.cases / case / "image.nii.gz", image, {"array": "image", "channel": channel})
            for k, path in enumerate(raters):
                told(titles[1 + k], path, cut(content.raters[k], place), {"array": "image", "channel": 0})
        folder, size = files.predictions[name], content.raters.shape[1:]
        drawn = folder / paths.SAMPLES / f"{case}.nii.gz"
        for at, path in ((1 + most, folder / f"{case}.nii.gz"), (2 + most, drawn)):
            maps = read_class_map(path) if path.exists() else None
            if maps is None or maps.shape[1:] != size or not np.isfinite(maps).all():
                why = "missing" if maps is None else "not finite" if maps.shape[1:] == size else "of another shape"
                row[at].text(0.5, 0.5, why, transform=row[at].transAxes, ha="center", color=_style.NEUTRAL)
                marks.lack("image", why, panel=titles[at], candidate=name, source=told_source(path, results), **base)
                continue
            if at == 1 + most:
                shown = cut(maps, place)
                mixed = np.clip(np.tensordot(np.moveaxis(np.clip(shown, 0, 1), 0, -1), colours[1:], axes=1), 0, 1)
                _images.show(row[at], mixed, content.spacing)
                told(titles[at], path, shown, {"array": "classes"}, candidate=name)
                continue
            if columns.entropy:
                shown = entropy_of(maps, classes, place)
                _images.show(row[at], shown, content.spacing)
                told(titles[at], path, shown, {"array": "entropy", "labels": classes}, candidate=name)
                at += 1
            for k in range(min(columns.samples, len(maps))):
                shown = cut(maps[k], place)
                show(row[at + k], shown)
                told(titles[at + k], path, shown.astype(np.float64), {"array": "class", "k": k}, candidate=name)
    return figure, marks.frame()
