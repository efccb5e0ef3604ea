"""Raters' segmentations beside a candidate's prediction and samples (stochastic segmentation networks, figure 3).

A row a test case of the split, those whose raters disagree most on some slice, and of each that slice (sum over voxels
and classes of ``f (1 - f)``, f the share of raters). Columns: the image, each rater, the probability map, and the first
samples that inference kept, which takes ``evaluation.readers`` and a predictor that samples. Classes have their
colours; of a sample and a rater each voxel has one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from penumbra import paths
from penumbra.errors import PenumbraError
from penumbra.figures._inputs import Drawn, FigureInputs, FigurePart, Marks, RunFiles
from penumbra.reporting.context import StudyContext
from penumbra.reporting.estimators import Estimate
from penumbra.reporting.pictures import cut, disagreement, sum_of
from penumbra.reporting.sources import told_source

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEEDS = ("predictions",)


def build(
    *,
    candidate: str = "",
    split: int = 0,
    rows: Annotated[int, Field(ge=1)] = 3,
    samples: Annotated[int, Field(ge=1)] = 4,
    contrast: str = "",
    margin: float = 10.0,
) -> FigurePart:
    """Figure 3.

    ``candidate``: whose prediction and samples; the study's reference unless named. ``split``: whose test cases.
    ``rows``: how many of them. ``samples``: how many of each. ``contrast``: which one is the image; the first unless
    named. ``margin``: mm kept around what any rater marked.
    """

    def whose(context: StudyContext) -> str:
        name = candidate or context.reference
        if name not in context.candidates:
            raise PenumbraError(
                f"the study has no candidate {name!r}", cure=f"choose among {', '.join(context.candidates)}"
            )
        return name

    def draw(inputs: FigureInputs, context: StudyContext) -> tuple[Figure, pd.DataFrame]:
        return _draw(inputs.images, inputs.results, context, whose(context), rows, samples, contrast, margin)

    def caption(context: StudyContext) -> str:
        dataset = next(iter(context.datasets.values()))
        return (
            f"Image, raters, prediction and samples of {context.candidates[whose(context)].label} on one slice of each "
            f"of the {rows} test cases of split {split} of {dataset.short} whose raters disagree most."
        )

    return Drawn(draw, caption)


def _views(files: RunFiles, classes: int, rows: int) -> list[tuple[float, str, int]]:
    """Disagreement, case and slice of the test cases that are shown, the highest first."""
    import numpy as np

    from penumbra.data.case import read_case
    from penumbra.splits._make import read_split

    found = []
    for case in sorted(read_split(files.split, "test")["test"]):
        scores = disagreement(read_case(files.cases / case).raters, classes)
        at = int(np.argmax(scores))
        found.append((float(scores[at]), case, at))
    if not found:
        raise PenumbraError("the split has no test case", file=files.split)
    return sorted(found, key=lambda view: (-view[0], view[1]))[:rows]


def _draw(
    files: RunFiles,
    results: Path | None,
    context: StudyContext,
    name: str,
    rows: int,
    samples: int,
    contrast: str,
    margin: float,
) -> tuple[Figure, pd.DataFrame]:
    import numpy as np
    from matplotlib.colors import to_rgb

    from penumbra.data.case import natural, read_case, read_class_map
    from penumbra.figures import _images, _style

    dataset = next(iter(context.datasets.values()))
    channel = _images.chosen(dataset.contrasts, contrast, "contrast")
    colours = np.array([(0.0, 0.0, 0.0), *(to_rgb(c) for c in _style.class_colours(len(dataset.classes)))])
    views = _views(files, len(dataset.classes), rows)
    most = max(len(read_case(files.cases / case).raters) for _, case, _ in views)
    columns = 2 + most + samples
    panel = _style.DOUBLE_COLUMN / columns
    figure = _style.new_figure(_style.DOUBLE_COLUMN, len(views) * panel + 0.25)
    _style.constrain(figure, w_pad=0.01, h_pad=0.01, wspace=0.01, hspace=0.01)
    grid = figure.subplots(len(views), columns, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    titles = [
        "Image",
        *(f"Rater {k + 1}" for k in range(most)),
        "Prediction",
        *(f"Sample {k + 1}" for k in range(samples)),
    ]
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=_style.FONT)
    marks = Marks()
    for (score, case, z), row in zip(views, grid, strict=True):
        content = read_case(files.cases / case)
        x, y = _images.square(np.asarray((content.raters[..., z] > 0).any(axis=0)), content.spacing, margin)
        place = [x.start, x.stop, y.start, y.stop, z]
        base: dict[str, Any] = {"dataset": dataset.name, "name": f"{case}, slice {z}"}

        def told(panel: str, path: Path, values: np.ndarray, argument: dict[str, Any], **more: Any) -> None:
            value, n = sum_of(values)
            marks.add_files("image", "sum_of_pixels", [path], results, argument=argument | {"place": place},  # noqa: B023
                            estimate=Estimate(value, None, n), panel=panel, **base, **more)  # noqa: B023  # fmt: skip

        def show(axes: Axes, labels: np.ndarray) -> None:
            _images.show(axes, colours[labels.astype(np.intp)], content.spacing)  # noqa: B023

        raters = sorted((files.cases / case).glob("rater-*.nii.gz"), key=lambda path: natural(path.name))
        marks.add_files(
            "choice", "disagreement_of_slice", raters, results,
            argument={"classes": len(dataset.classes), "slice": z}, estimate=Estimate(score, None, len(raters)),
            panel=titles[0], **base,
        )  # fmt: skip
        image = cut(content.image[channel], place)
        _images.show(row[0], _images.grey(image), content.spacing)
        told(titles[0], files.cases / case / "image.nii.gz", image, {"array": "image", "channel": channel})
        for k, path in enumerate(raters):
            shown = cut(content.raters[k], place)
            show(row[1 + k], shown)
            told(titles[1 + k], path, shown, {"array": "image", "channel": 0})
        folder, size = files.predictions[name], content.raters.shape[1:]
        for first, path in (
            (1 + most, folder / f"{case}.nii.gz"),
            (2 + most, folder / paths.SAMPLES / f"{case}.nii.gz"),
        ):
            maps = read_class_map(path) if path.exists() else None
            if maps is None or maps.shape[1:] != size or not np.isfinite(maps).all():
                why = "missing" if maps is None else "not finite" if maps.shape[1:] == size else "of another shape"
                row[first].text(0.5, 0.5, why, transform=row[first].transAxes, ha="center", color=_style.NEUTRAL)
                marks.lack("image", why, panel=titles[first], candidate=name, source=told_source(path, results), **base)
            elif first == 1 + most:
                shown = cut(maps, place)
                mixed = np.clip(np.tensordot(np.moveaxis(np.clip(shown, 0, 1), 0, -1), colours[1:], axes=1), 0, 1)
                _images.show(row[first], mixed, content.spacing)
                told(titles[first], path, shown, {"array": "classes"}, candidate=name)
            else:
                for k in range(min(samples, len(maps))):
                    shown = cut(maps[k], place)
                    show(row[first + k], shown)
                    told(titles[first + k], path, shown.astype(np.float64), {"array": "class", "k": k}, candidate=name)
    return figure, marks.frame()
