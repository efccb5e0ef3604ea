"""Predictions of all candidates over the image, raw and binarised (thesis figures 4.5, 4.6 and 4.7).

``columns: centres`` shows the binarised predictions of one test case of each acquisition centre, of the splits named
in ``splits``; where centres are not known, of one test case of each split. ``columns: raw_and_binary`` shows one test
case, the raw prediction beside the binarised one, and with ``close_up`` both again for the part with the most
foreground. The case is the one whose reference volume is the median of the test cases, its slice the one with the most
foreground, unless ``case`` and ``slice`` name others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from penumbra.errors import PenumbraError
from penumbra.figures._inputs import Drawn, FigureInputs, FigurePart, Marks, RunFiles
from penumbra.reporting.context import StudyContext, target_title
from penumbra.reporting.estimators import Estimate
from penumbra.reporting.pictures import binarised, cut, reference_of, sum_of
from penumbra.reporting.rows import Source
from penumbra.reporting.sources import read_source, told_source

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from penumbra.data.case import Case

NEEDS = ("predictions",)
UNKNOWN = "unknown"


def build(
    *,
    columns: Literal["raw_and_binary", "centres"] = "raw_and_binary",
    splits: Annotated[tuple[int, ...], Field(min_length=1)] = (0,),
    case: str = "",
    slice: int = -1,
    target: str = "",
    contrast: str = "",
    margin: float = 10.0,
    close_up: float = 0.0,
) -> FigurePart:
    """Figures 4.5 to 4.7.

    ``target``: the class shown, ``contrast``: the image; the first unless named. ``margin``: mm kept around the
    reference, the whole slice where negative. ``close_up``: side in mm of the part shown again, none where 0.
    """
    options = _Options(columns, tuple(splits), case, slice, target, contrast, margin, close_up)

    def draw(inputs: FigureInputs, context: StudyContext) -> tuple[Figure, pd.DataFrame]:
        return _draw(inputs.image_splits, inputs.results, context, options)

    return Drawn(draw, lambda context: _caption(context, options))


@dataclass(frozen=True)
class _Options:
    columns: str
    splits: tuple[int, ...]
    case: str
    slice: int
    target: str
    contrast: str
    margin: float
    close_up: float


def _caption(context: StudyContext, options: _Options) -> str:
    dataset = next(iter(context.datasets.values()))
    target = target_title(options.target or dataset.classes[0])
    numbers = ", ".join(map(str, options.splits))
    which = "named in the configuration" if options.case else "of median reference volume"
    rule = (
        "binarised by the most probable class"
        if dataset.evaluation.get("binarisation") == "argmax"
        else "binarised at the threshold t with the best Dice score on training and validation cases"
    )
    if options.columns == "centres":
        what = (
            f"Segmentation of {target} of {dataset.short}: a test case {which} of each centre (of each split where "
            f"centres are not known; splits {numbers}), on the slice with the most foreground. Predictions are {rule}."
        )
    else:
        again = f" Right: the part within the white square, {options.close_up:g} mm wide." if options.close_up else ""
        what = (
            f"Predictions of {target} of {dataset.short} for a test case {which} of split {numbers}, on the slice with "
            f"the most foreground: raw, from 0 (transparent) to 1 (dark red), and {rule}.{again}"
        )
    return f"{what} Outline: the reference ({dataset.hard_reference})."


@dataclass(frozen=True)
class _View:
    """What is shown of one case: a slice, the part of it, and the run's files that it belongs to."""

    files: RunFiles
    split: int
    case: Case
    reference: np.ndarray
    head: str
    z: int
    x: slice
    y: slice

    def cut(self, volume: np.ndarray) -> np.ndarray:
        """The shown part ``(..., x, y)`` of ``(..., X, Y, Z)``."""
        return cut(volume, self.place)

    @property
    def place(self) -> list[int]:
        """The shown part; see :data:`penumbra.reporting.pictures.Place`."""
        return [self.x.start, self.x.stop, self.y.start, self.y.stop, self.z]


def _chosen_cases(files: Sequence[RunFiles], options: _Options) -> list[tuple[int, list[str], str]]:
    """The columns: number of the split among those shown, test cases to choose from, and a name for the column."""
    from penumbra.data.case import natural, read_cases_table
    from penumbra.splits._make import read_split

    tests = [sorted(read_split(f.split, "test")["test"]) for f in files]
    if options.columns == "raw_and_binary":
        if len(files) != 1:
            raise PenumbraError(
                f"columns `raw_and_binary` shows one split, not {len(files)}", cure="name one split in `splits`"
            )
        return [(0, tests[0], "")]
    table = files[0].cases_table
    centres = {row.case: row.centre for row in read_cases_table(table)} if table else {}
    found: dict[str, tuple[int, list[str], str]] = {}
    for at, cases in enumerate(tests):
        for centre in sorted({centres.get(c, UNKNOWN) for c in cases}, key=natural):
            head = f"split {options.splits[at]}" if centre == UNKNOWN else f"centre {centre}"
            found.setdefault(head, (at, [c for c in cases if centres.get(c, UNKNOWN) == centre], head))
    return sorted(found.values(), key=lambda column: natural(column[2]))


def _view(
    files: RunFiles, split: int, cases: list[str], head: str, k: int, smallest: tuple[int, int], options: _Options
) -> _View:
    """The case of median volume (of two the smaller) of the class, and its slice with the most of it."""
    import numpy as np

    from penumbra.data.case import read_case, read_class_map

    def of(case: str) -> np.ndarray:
        return reference_of(read_class_map(files.hard_labels / f"{case}.nii.gz"), k, smallest)

    if options.case and options.case not in cases:
        raise PenumbraError(
            f"{options.case!r} is not a test case of this split",
            file=files.split,
            cure=f"choose among {', '.join(cases)}",
        )
    if not cases:
        raise PenumbraError("the split has no test case", file=files.split)
    volumes = sorted((int(of(c).sum()), c) for c in ([options.case] if options.case else cases))
    name = volumes[(len(volumes) - 1) // 2][1]
    content, reference = read_case(files.cases / name), of(name)
    if options.slice >= reference.shape[-1]:
        raise PenumbraError(
            f"there is no slice {options.slice}, the case has {reference.shape[-1]}", case=name, cure="count from 0"
        )
    z = options.slice if options.slice >= 0 else int(np.argmax(reference.sum(axis=(0, 1))))
    whole = slice(0, reference.shape[0]), slice(0, reference.shape[1])
    return _View(files, split, content, reference, head, z, *whole)


def _windowed(views: list[_View], margin: float) -> list[_View]:
    """Each view cut to a square around its reference, all of one size in mm; the whole slice for a negative margin."""
    from dataclasses import replace

    from penumbra.figures._images import square

    if margin < 0:
        return views
    first = [square(v.reference[..., v.z], v.case.spacing, margin) for v in views]
    side = max(
        (span.stop - span.start) * spacing
        for v, cut in zip(views, first, strict=True)
        for span, spacing in zip(cut, v.case.spacing, strict=False)
    )
    cuts = [square(v.reference[..., v.z], v.case.spacing, margin, side) for v in views]
    return [replace(v, x=x, y=y) for v, (x, y) in zip(views, cuts, strict=True)]


class _Drawing:
    """Panels of one figure, and the marks they leave."""

    def __init__(
        self, context: StudyContext, k: int, channel: int, smallest: tuple[int, int], results: Path | None
    ) -> None:
        self.context, self.k, self.channel, self.smallest, self.results = context, k, channel, smallest, results
        self.dataset = next(iter(context.datasets.values()))
        self.marks = Marks()

    def background(self, view: _View) -> np.ndarray:
        """The shown part of the image, as grey values."""
        from penumbra.figures._images import grey

        return grey(view.cut(view.case.image[self.channel]))

    def mark(
        self,
        panel: str,
        view: _View,
        paths: Sequence[Path],
        values: np.ndarray,
        argument: dict[str, Any],
        **more: Any,
    ) -> None:
        """Record what one panel shows."""
        value, n = sum_of(values)
        self.marks.add_files(
            "image", "sum_of_pixels", paths, self.results, argument=argument | {"place": view.place},
            estimate=Estimate(value, None, n), dataset=self.dataset.name, panel=panel,
            name=f"{view.case.name}, slice {view.z}", **more,
        )  # fmt: skip

    def image(self, axes: Axes, view: _View, panel: str) -> None:
        """The image alone."""
        from penumbra.data.case import IMAGE
        from penumbra.figures import _images

        _images.show(axes, self.background(view), view.case.spacing)
        path, values = view.files.cases / view.case.name / IMAGE, view.cut(view.case.image[self.channel])
        self.mark(panel, view, [path], values, {"array": "image", "channel": self.channel})

    def reference(self, axes: Axes, view: _View, panel: str) -> None:
        """The hard reference."""
        from penumbra.figures import _images

        marked = view.cut(view.reference)
        _images.show(axes, _images.overlay(self.background(view), marked.astype(float)), view.case.spacing)
        path = view.files.hard_labels / f"{view.case.name}.nii.gz"
        self.mark(panel, view, [path], marked, {"array": "reference", "k": self.k, "smallest": self.smallest})

    def prediction(self, axes: Axes, view: _View, panel: str, candidate: str, *, binary: bool) -> None:
        """A candidate's prediction, raw or binarised as for the metrics, with the reference's outline."""
        import numpy as np
        from matplotlib.patheffects import withStroke

        from penumbra.data.case import read_class_map
        from penumbra.figures import _images, _style
        from penumbra.metrics.inputs import read_thresholds

        path = view.files.predictions[candidate] / f"{view.case.name}.nii.gz"
        maps = read_class_map(path) if path.exists() else None
        why = ""
        if maps is None:
            why = "missing"
        elif maps.shape[1:] != view.case.image.shape[1:]:
            why = "of another shape"
        elif not np.isfinite(maps).all():
            why = "not finite"
        if maps is None or why:
            axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", color=_style.NEUTRAL)
            self.marks.lack("image", why, dataset=self.dataset.name, panel=panel, candidate=candidate,
                            source=told_source(path, self.results),
                            name=f"{view.case.name}, slice {view.z}")  # fmt: skip
            return
        values, paths = maps[self.k].astype(np.float64), [path]
        how: dict[str, Any] = {"array": "class", "k": self.k}
        if binary:
            rule = str(self.dataset.evaluation.get("binarisation", "threshold"))
            table = view.files.thresholds.get(candidate)
            thresholds = (
                np.full(len(maps), np.nan) if table is None else read_thresholds(table, list(self.dataset.classes))
            )
            marked, usable = binarised(maps, self.k, rule, thresholds, self.smallest)
            values = marked.astype(np.float64)
            how = {"array": "binary", "k": self.k, "rule": rule, "smallest": self.smallest}
            if rule != "argmax":
                if usable and table is not None:
                    shown = self.threshold(view, panel, candidate, table)
                else:
                    shown = "no threshold"
                    self.marks.lack("threshold", shown, dataset=self.dataset.name, panel=panel, candidate=candidate,
                                    name=f"split {view.split}")  # fmt: skip
                axes.text(0.03, 0.97, shown, transform=axes.transAxes, va="top",
                          color="white", fontsize=_style.FONT - 1,
                          path_effects=[withStroke(linewidth=1.5, foreground="black")])  # fmt: skip
                if table is not None:
                    paths, how = [path, table], how | {"classes": list(self.dataset.classes)}
        part = view.cut(values)
        _images.show(axes, _images.overlay(self.background(view), part), view.case.spacing)
        if binary:
            _images.outline(axes, view.cut(view.reference))
        self.mark(panel, view, paths, part, how, candidate=candidate)

    def threshold(self, view: _View, panel: str, candidate: str, table: Path) -> str:
        """Record the threshold that a prediction was binarised at, and return it as text."""
        source = Source(read_source(table), told_source(table, self.results))
        told: dict[str, Any] = {
            "dataset": self.dataset.name,
            "panel": panel,
            "candidate": candidate,
            "name": f"split {view.split}",
        }
        argument = {"class": self.dataset.classes[self.k]}
        return self.marks.add("threshold", "threshold_of_class", source, argument=argument, text=True, **told).shown


def _draw(
    files: Sequence[RunFiles], results: Path | None, context: StudyContext, options: _Options
) -> tuple[Figure, pd.DataFrame]:
    from dataclasses import replace

    from penumbra.figures import _images

    dataset = next(iter(context.datasets.values()))
    k = _images.chosen(dataset.classes, options.target, "class")
    channel = _images.chosen(dataset.contrasts, options.contrast, "contrast")
    lesions = dataset.evaluation.get("lesions") or {}
    smallest = int(dataset.evaluation.get("remove_small", 0)), int(lesions.get("connectivity", 18))
    views = [
        _view(files[at], options.splits[at], cases, head, k, smallest, options)
        for at, cases, head in _chosen_cases(files, options)
    ]
    views = _windowed(views, options.margin)
    drawing = _Drawing(context, k, channel, smallest, results)
    labels = [c.label for c in context.candidates.values()]
    reference = f"reference ({dataset.hard_reference})"
    if options.columns == "centres":
        figure, grid = _images.panels(
            ["image", reference, *labels], _images.panel_size(2 + len(labels), len(views), _aspect(views)), len(views)
        )
        for j, view in enumerate(views):
            grid[0][j].set_title(view.head)
            drawing.image(grid[0][j], view, f"image, {view.head}")
            drawing.reference(grid[1][j], view, f"reference, {view.head}")
            for row, name in zip(grid[2:], context.candidates, strict=True):
                drawing.prediction(row[j], view, view.head, name, binary=True)
    else:
        (whole,) = views
        places = {"": whole}
        if options.close_up > 0:
            marked = whole.cut(whole.reference)
            x, y = _images.densest_square(marked, whole.case.spacing, options.close_up)
            shift = whole.x.start, whole.y.start
            close = [slice(s.start + d, s.stop + d) for s, d in zip((x, y), shift, strict=True)]
            places[", close-up"] = replace(whole, x=close[0], y=close[1])
        above = [0.0, 0.2, *[0.0] * (len(labels) - 1)]
        size = _images.panel_size(1 + len(labels), 2 * len(places), _aspect([whole]))
        figure, grid = _images.panels(["", *labels], size, 2 * len(places), above=above)
        for j, (where, view) in enumerate(places.items()):
            pair = [row[2 * j : 2 * j + 2] for row in grid]
            for axes, head in zip([*pair[0], *pair[1]], ("image", "reference", "raw", "binarised"), strict=True):
                axes.set_title(head + where)
            drawing.image(pair[0][0], view, f"image{where}")
            drawing.reference(pair[0][1], view, f"reference{where}")
            if where:
                for axes in (a for row in grid for a in row[:2]):
                    _images.frame(axes, x, y)
            for (raw, binary), name in zip(pair[1:], context.candidates, strict=True):
                drawing.prediction(raw, view, f"raw{where}", name, binary=False)
                drawing.prediction(binary, view, f"binarised{where}", name, binary=True)
    note = f"outline: {reference}"
    _images.colour_bar(figure, f"prediction of {target_title(dataset.classes[k])}", note)
    return figure, drawing.marks.frame()


def _aspect(views: Sequence[_View]) -> float:
    """Height by width in mm of the tallest view."""
    return max((v.y.stop - v.y.start) * v.case.spacing[1] / ((v.x.stop - v.x.start) * v.case.spacing[0]) for v in views)
