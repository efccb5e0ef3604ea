"""Image, references and predictions of all candidates on one slice (thesis figures 5.2 and 5.3).

The slice shown is that of a test case of the split where the raters disagree most (sum over voxels and classes of
``f (1 - f)``, f the share of raters), unless ``case`` and ``slice`` name another. Probabilities run from black to the
colour of their class; colours of several classes add up. Thin lines on the image are the raters' outlines.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penumbra.errors import PenumbraError
from penumbra.figures._inputs import Drawn, FigureInputs, FigurePart, Marks, RunFiles
from penumbra.reporting.context import StudyContext, target_title
from penumbra.reporting.estimators import Estimate
from penumbra.reporting.pictures import cut, disagreement, sum_of
from penumbra.reporting.sources import told_source

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure

NEEDS = ("predictions",)

NAMES = {"staple": "STAPLE"}


def build(*, split: int = 0, case: str = "", slice: int = -1, contrast: str = "", margin: float = 3.0) -> FigurePart:
    """Figures 5.2 and 5.3.

    ``split``: whose test cases and predictions. ``contrast``: which one is the image; the first unless named.
    ``margin``: mm kept around what any rater marked.
    """

    def draw(inputs: FigureInputs, context: StudyContext) -> tuple[Figure, pd.DataFrame]:
        return _draw(inputs.images, inputs.results, context, case, slice, contrast, margin)

    def caption(context: StudyContext) -> str:
        dataset = next(iter(context.datasets.values()))
        which = "named in the configuration" if case else "on which the raters disagree most, among the test cases"
        return (
            "Image with the outlines of the raters, the two references, and the predictions of all candidates on the "
            f"slice {which} of split {split} of {dataset.short}. Brightness is the probability of the class, from 0 "
            "(black) to 1."
        )

    return Drawn(draw, caption)


@dataclass(frozen=True)
class _View:
    """The slice that is shown: which case, which z, and which rows and columns of it."""

    case: str
    z: int
    x: slice
    y: slice
    disagreement: float

    def cut(self, volume: np.ndarray) -> np.ndarray:
        """The shown part ``(..., x, y)`` of ``(..., X, Y, Z)``."""
        return cut(volume, self.place)

    @property
    def place(self) -> list[int]:
        """The shown part; see :data:`penumbra.reporting.pictures.Place`."""
        return [self.x.start, self.x.stop, self.y.start, self.y.stop, self.z]


def _view(files: RunFiles, classes: int, case: str, z: int, margin: float) -> tuple[_View, Any]:
    import numpy as np

    from penumbra.data.case import read_case
    from penumbra.figures._images import square
    from penumbra.splits._make import read_split

    test = sorted(read_split(files.split, "test")["test"])
    if case and case not in test:
        raise PenumbraError(
            f"{case!r} is not a test case of this split", file=files.split, cure=f"choose among {', '.join(test)}"
        )
    best: tuple[float, str, int, Any] | None = None
    for name in [case] if case else test:
        content = read_case(files.cases / name)
        scores = disagreement(content.raters, classes)
        if z >= len(scores):
            raise PenumbraError(f"there is no slice {z}, the case has {len(scores)}", case=name, cure="count from 0")
        at = z if z >= 0 else int(np.argmax(scores))
        if best is None or scores[at] > best[0]:
            best = (float(scores[at]), name, at, content)
    if best is None:
        raise PenumbraError("the split has no test case", file=files.split)
    score, name, at, content = best
    marked = (content.raters[..., at] > 0).any(axis=0)
    return _View(name, at, *square(marked, content.spacing, margin), score), content


def _coloured(maps: np.ndarray, colours: list[np.ndarray]) -> np.ndarray:
    """``(K, x, y)`` probabilities as ``(x, y, 3)``: each class from black to its colour, added and clipped."""
    import numpy as np

    return np.clip(np.tensordot(np.moveaxis(np.clip(maps, 0, 1), 0, -1), np.stack(colours), axes=1), 0, 1)


def _draw(
    files: RunFiles, results: Path | None, context: StudyContext, case: str, z: int, contrast: str, margin: float
) -> tuple[Figure, pd.DataFrame]:
    import numpy as np
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    from penumbra.data.case import natural, read_class_map
    from penumbra.figures import _style
    from penumbra.figures._images import chosen

    dataset = next(iter(context.datasets.values()))
    classes = dataset.classes
    channel = chosen(dataset.contrasts, contrast, "contrast")
    view, content = _view(files, len(classes), case, z, margin)
    colours = [np.array(to_rgb(c)) for c in _style.class_colours(len(classes))]
    marks = Marks()
    rows = _style.grid_rows(context)
    columns = max(3, *(len(row) for row in rows))
    sizes = [(s.stop - s.start) * content.spacing[i] for i, s in enumerate((view.x, view.y))]
    width = min(_style.DOUBLE_COLUMN, 1.75 * columns)
    panel = width / columns
    figure = _style.new_figure(width, (1 + len(rows)) * (panel * min(sizes[1] / sizes[0], 1.3) + 0.2) + 0.5)
    _style.constrain(figure, w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    grid = figure.subplots(1 + len(rows), columns, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    shape = {"origin": "lower", "interpolation": "nearest", "aspect": content.spacing[1] / content.spacing[0]}
    base: dict[str, Any] = {"dataset": dataset.name, "name": f"{view.case}, slice {view.z}"}

    def told(panel: str, path: Path, values: np.ndarray, argument: dict[str, Any], **more: Any) -> None:
        value, n = sum_of(values)
        marks.add_files("image", "sum_of_pixels", [path], results, argument=argument | {"place": view.place},
                        estimate=Estimate(value, None, n), panel=panel, **base, **more)  # fmt: skip

    image = view.cut(content.image[channel])
    low, high = np.percentile(image, [0.5, 99.5])
    axes = grid[0, 0]
    axes.imshow(image.T, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), **shape)
    for k, colour in reversed(list(enumerate(colours, start=1))):
        for rater in view.cut(content.raters):
            if (rater == k).any() and not (rater == k).all():
                axes.contour((rater == k).T.astype(float), levels=[0.5], colors=[colour], linewidths=0.6, alpha=0.9)
    axes.set_title("Image and raters")
    told("image", files.cases / view.case / "image.nii.gz", image, {"array": "image", "channel": channel})
    raters = sorted((files.cases / view.case).glob("rater-*.nii.gz"), key=lambda path: natural(path.name))
    marks.add_files(
        "choice", "disagreement_of_slice", raters, results, argument={"classes": len(classes), "slice": view.z},
        estimate=Estimate(view.disagreement, None, len(raters)), panel="image", **base,
    )  # fmt: skip

    def show(axes: Any, folder: Any, title: str, candidate: str | None = None) -> None:
        path = folder / f"{view.case}.nii.gz"
        maps = read_class_map(path) if path.exists() else None
        axes.set_title(title)
        if maps is None or maps.shape[1:] != content.raters.shape[1:] or not np.isfinite(maps).all():
            why = "missing" if maps is None else "not finite" if not np.isfinite(maps).all() else "of another shape"
            axes.text(0.5, 0.5, f"prediction {why}", transform=axes.transAxes, ha="center", color=_style.NEUTRAL)
            marks.lack("image", why, panel=title, candidate=candidate, source=told_source(path, results), **base)
            return
        shown = view.cut(maps)
        axes.imshow(_coloured(shown, colours).transpose(1, 0, 2), **shape)
        told(title, path, shown, {"array": "classes"}, candidate=candidate)

    references = {files.hard_labels: dataset.hard_reference, files.soft_labels: dataset.soft_reference}
    for axes, (folder, fusion) in zip(grid[0, 1:], references.items(), strict=False):
        show(axes, folder, f"Raters, {NAMES.get(fusion, fusion)}")
    for i, names in enumerate(rows, start=1):
        for axes, name in zip(grid[i], names, strict=False):
            show(axes, files.predictions[name], context.candidates[name].label, name)
    for k, (target, colour) in enumerate(zip(classes, colours, strict=True)):
        ramp = LinearSegmentedColormap.from_list(target, [(0, 0, 0), tuple(colour)])
        share = 1 / len(classes)
        bar = figure.add_axes(
            (0.06 + k * share, 0.085 / figure.get_figheight() * 2.4, share * 0.62, 0.07 / figure.get_figheight())
        )
        bar.imshow(np.linspace(0, 1, 256)[np.newaxis], cmap=ramp, aspect="auto", extent=(0, 1, 0, 1))
        bar.set_yticks([])
        bar.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        bar.set_title(f"probability of {target_title(target)}", fontsize=_style.FONT, pad=2)
    _style.constrain(figure, rect=(0, 0.42 / figure.get_figheight(), 1, 1 - 0.42 / figure.get_figheight()))
    return figure, marks.frame()
