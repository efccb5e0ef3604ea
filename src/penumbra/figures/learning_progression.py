"""How predictions of one validation slice change over the epochs of the training (thesis figure 4.2).

One row a candidate: the slice with its label as interpolated (before a hard candidate binarises it), then the
prediction at each epoch of ``training.progression`` that was reached, and at the last epoch, which early stopping makes
differ from candidate to candidate. Predictions are laid over the image, from 0 (transparent) to 1 (dark red). The slice
is the validation slice with the most foreground, of the first member of each candidate.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penumbra.errors import PenumbraError
from penumbra.figures._inputs import Drawn, FigureInputs, FigurePart, Marks
from penumbra.reporting.context import StudyContext, target_title
from penumbra.reporting.estimators import Estimate
from penumbra.reporting.pictures import cut, sum_of
from penumbra.reporting.sources import told_source

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure

NEEDS = ("progression",)
CURE = "remove the run's trained member, so that it is trained again"


def build(*, split: int = 0, target: str = "", contrast: str = "", margin: int = 8) -> FigurePart:
    """Figure 4.2.

    ``split``: whose validation slice. ``target``: the class shown, ``contrast``: the image; the first unless named.
    ``margin``: pixels of the network's grid kept around the label.
    """

    def draw(inputs: FigureInputs, context: StudyContext) -> tuple[Figure, pd.DataFrame]:
        return _draw(inputs, context, target, contrast, margin)

    def caption(context: StudyContext) -> str:
        dataset = next(iter(context.datasets.values()))
        return (
            f"Predictions of {target_title(target or dataset.classes[0])} on the validation slice with the most "
            f"foreground of split {split} of {dataset.short}, in the network's grid, at chosen epochs and at the last "
            "epoch of each candidate, which early stopping chooses. Left: the label, as interpolated. Predictions are "
            "laid over the image, from 0 (transparent) to 1 (dark red)."
        )

    return Drawn(draw, caption)


@dataclass(frozen=True)
class _Watched:
    """What one candidate predicted of the watched slice; axes as in ``progression.npz``."""

    path: Path
    epochs: list[int]
    predictions: np.ndarray
    image: np.ndarray
    label: np.ndarray
    name: str


def read_progression(path: Path) -> _Watched:
    """Read ``progression.npz``.

    Raises
    ------
    PenumbraError : it is missing, unreadable, or lacks an array.
    """
    import zipfile

    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as content:
            return _Watched(
                path=path,
                epochs=[int(e) for e in content["epochs"]],
                predictions=np.asarray(content["predictions"], dtype=np.float64),
                image=np.asarray(content["image"], dtype=np.float64),
                label=np.asarray(content["label"], dtype=np.float64),
                name=f"{content['case']}, slice {int(content['z'])}",
            )
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise PenumbraError(f"the predictions by epoch cannot be read: {error!r}", file=path, cure=CURE) from error


def _draw(
    inputs: FigureInputs, context: StudyContext, target: str, contrast: str, margin: int
) -> tuple[Figure, pd.DataFrame]:
    import numpy as np

    from penumbra.figures import _images, _style

    dataset = next(iter(context.datasets.values()))
    k = _images.chosen(dataset.classes, target, "class")
    channel = _images.chosen(dataset.contrasts, contrast, "contrast")
    watched = {name: read_progression(path) for name, path in inputs.progressions.items()}
    early = sorted({epoch for w in watched.values() for epoch in w.epochs[:-1]})
    x, y = _images.square(np.any([w.label[k] > 0 for w in watched.values()], axis=0), (1.0, 1.0), margin)
    columns = 2 + len(early)
    size = _images.panel_size(len(watched), columns, (y.stop - y.start) / (x.stop - x.start))
    labels = [context.candidates[name].label for name in watched]
    figure, grid = _images.panels(labels, size, columns, above=[0.0, *[0.16] * (len(labels) - 1)])
    heads = ["label", *(f"epoch {epoch}" for epoch in early), "last epoch"]
    for axes, head in zip(grid[0], heads, strict=True):
        axes.set_title(head)
    marks = Marks()
    for row, (name, w) in zip(grid, watched.items(), strict=True):
        background = _images.grey(w.image[channel][x, y])
        base: dict[str, Any] = {"dataset": dataset.name, "candidate": name, "name": w.name}
        last = len(w.epochs) - 1
        shown: dict[str, tuple[dict[str, Any], np.ndarray]] = {"label": ({"array": "label", "k": k}, w.label[k])}
        shown |= {
            f"epoch {e}": ({"array": "prediction", "at": at, "k": k}, w.predictions[at, k])
            for at, e in enumerate(w.epochs)
            if e in early
        }
        shown["last epoch"] = ({"array": "prediction", "at": last, "k": k}, w.predictions[last, k])
        for axes, head in zip(row, heads, strict=True):
            argument, values = shown.get(head, ({}, None))
            why = "not reached" if values is None else "" if np.isfinite(values).all() else "not finite"
            if values is None or why:
                axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", color=_style.NEUTRAL)
                marks.lack("image", why, panel=head, source=told_source(w.path, inputs.results), **base)
                continue
            place = [x.start, x.stop, y.start, y.stop]
            part = cut(values, place)
            _images.show(axes, _images.overlay(background, part))
            value, n = sum_of(part)
            marks.add_files("image", "sum_of_pixels", [w.path], inputs.results, argument=argument | {"place": place},
                            estimate=Estimate(value, None, n), panel=head, **base)  # fmt: skip
        told = marks.add_files("last", "last_epoch", [w.path], inputs.results, argument={}, text=True,
                               estimate=Estimate(float(w.epochs[last]), None, 1), panel="last epoch",
                               **base)  # fmt: skip
        row[-1].text(0.5, -0.03, told, transform=row[-1].transAxes, ha="center", va="top", fontsize=_style.FONT - 0.5)
    _images.colour_bar(figure, f"prediction of {target_title(dataset.classes[k])}")
    return figure, marks.frame()
