"""What figures of images share: panels in a grid, the part of a slice that is shown, maps laid over the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from penumbra.errors import PenumbraError

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

OUTLINE = "#00b4d8"
"""Colour of the reference's outline over a prediction."""
_COLOURS = ("#ffe98a", "#feb24c", "#fc6a2a", "#d7191c", "#8f0026")
_GAP, _LEFT, _TOP, _BOTTOM, _WIDEST, _PAGE = 0.04, 0.42, 0.22, 0.74, 1.6, 8.8
"""Inches."""
_OPACITY, _RISE = 0.97, 4.0


def chosen(names: tuple[str, ...], wanted: str, what: str) -> int:
    """The position of a class or contrast in ``names``; the first unless one is wanted.

    Raises
    ------
    PenumbraError : there is none of that name.
    """
    if wanted and wanted not in names:
        raise PenumbraError(f"there is no {what} {wanted!r}", cure=f"choose among {', '.join(names)}")
    return names.index(wanted) if wanted else 0


def square(marked: np.ndarray, spacing: Sequence[float], margin: float, side: float = 0.0) -> tuple[slice, slice]:
    """The rows and columns of a square around what is marked, cut off at the border of the slice.

    Parameters
    ----------
    marked : ``(X, Y)`` boolean; where nothing is, the whole slice is shown.
    spacing : mm a pixel.
    margin : mm kept on each side.
    side : mm that the square measures at least.
    """
    import numpy as np

    spans = []
    for axis in range(2):
        where = np.flatnonzero(marked.any(axis=1 - axis))
        pad = round(margin / spacing[axis])
        size = marked.shape[axis]
        low, high = (int(where[0]) - pad, int(where[-1]) + 1 + pad) if where.size else (0, size)
        spans.append((low, high, size))
    wanted = max(side, *((high - low) * spacing[i] for i, (low, high, _) in enumerate(spans)))
    cut = []
    for i, (low, high, size) in enumerate(spans):
        extra = round(wanted / spacing[i]) - (high - low)
        low, high = low - extra // 2, high + extra - extra // 2
        cut.append(slice(max(low, 0), min(high, size)))
    return cut[0], cut[1]


def densest_square(marked: np.ndarray, spacing: Sequence[float], side: float) -> tuple[slice, slice]:
    """The square of ``side`` mm with the most marked pixels, those near its middle counting most; within the slice.

    ``marked`` is ``(X, Y)``; its middle maximises a Gaussian average of a standard deviation of a quarter of the side.
    """
    import numpy as np
    from scipy.ndimage import gaussian_filter

    weight = gaussian_filter(marked.astype(np.float64), [side / 4 / s for s in spacing[:2]], mode="constant")
    middle = np.unravel_index(int(weight.argmax()), weight.shape)
    cut = []
    for at, step, size in zip(middle, spacing, marked.shape, strict=False):
        pixels = min(max(round(side / step), 1), size)
        low = min(max(int(at) - pixels // 2, 0), size - pixels)
        cut.append(slice(low, low + pixels))
    return cut[0], cut[1]


def colour_map() -> Colormap:
    """From pale yellow to dark red; its lightness falls all the way, so that it is read without hue too."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("prediction", _COLOURS)


def grey(image: np.ndarray) -> np.ndarray:
    """A slice ``(x, y)`` as grey values in [0, 1], from its 0.5th to its 99.5th percentile."""
    import numpy as np

    low, high = np.percentile(image, [0.5, 99.5])
    return np.clip((image - low) / max(high - low, 1e-6), 0, 1)


def overlay(background: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values in [0, 1] over grey values, both ``(x, y)``, as colours ``(x, y, 3)``; 0 is transparent, 1 dark red."""
    import numpy as np

    values = np.clip(values, 0, 1)
    alpha = (_OPACITY * (1 - np.exp(-_RISE * values)))[..., np.newaxis]
    return (1 - alpha) * background[..., np.newaxis] + alpha * colour_map()(values)[..., :3]


def show(axes: Axes, pixels: np.ndarray, spacing: Sequence[float] = (1.0, 1.0)) -> None:
    """Draw grey values ``(x, y)`` or colours ``(x, y, 3)`` in [0, 1] upright, pixels as they are."""
    upright = pixels.swapaxes(0, 1)
    shape: dict[str, Any] = {"origin": "lower", "interpolation": "nearest", "aspect": spacing[1] / spacing[0]}
    axes.imshow(upright, cmap="gray", vmin=0, vmax=1, **shape)
    axes.set_anchor("N")


def outline(axes: Axes, marked: np.ndarray, colour: str = OUTLINE) -> None:
    """Draw the border of a boolean ``(x, y)`` along the edges of its pixels."""
    import numpy as np
    from matplotlib.collections import LineCollection

    edges = [[(x + 0.5, y - 0.5), (x + 0.5, y + 0.5)] for x, y in np.argwhere(marked[1:] != marked[:-1])]
    edges += [[(x - 0.5, y + 0.5), (x + 0.5, y + 0.5)] for x, y in np.argwhere(marked[:, 1:] != marked[:, :-1])]
    axes.add_collection(LineCollection(edges, colors=[colour], linewidths=0.7, capstyle="round"), autolim=False)


def frame(axes: Axes, x: slice, y: slice) -> None:
    """Mark a part of a slice by a thin rectangle."""
    from matplotlib.patches import Rectangle

    corner, width, height = (x.start - 0.5, y.start - 0.5), x.stop - x.start, y.stop - y.start
    axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor="white", linewidth=0.7))


def panels(
    labels: Sequence[str], size: tuple[float, float], columns: int, *, above: Sequence[float] = ()
) -> tuple[Figure, list[list[Axes]]]:
    """A figure of equal panels in rows, each row with its label on the left, and room for a colour bar below.

    Parameters
    ----------
    labels : of the rows.
    size : of a panel, in inches.
    above : inches left free above each row.
    """
    from penumbra.figures import _style

    gap, left, top, bottom = _GAP, _LEFT, _TOP, _BOTTOM
    width, height = size
    above = above or [0.0] * len(labels)
    total = (left + columns * (width + gap), top + len(labels) * (height + gap) + sum(above) + bottom)
    figure = _style.new_figure(*total)
    figure.set_layout_engine("none")
    grid: list[list[Axes]] = []
    y = total[1] - top
    for label, free in zip(labels, above, strict=True):
        y -= free + height
        figure.text(
            (left - 0.06) / total[0],
            (y + height / 2) / total[1],
            _style.broken(label),
            rotation=90,
            ha="right",
            va="center",
            multialignment="center",
            fontsize=_style.FONT,
            linespacing=1.05,
        )
        grid.append(
            [
                figure.add_axes(
                    ((left + j * (width + gap)) / total[0], y / total[1], width / total[0], height / total[1])
                )
                for j in range(columns)
            ]
        )
        y -= gap
    for axes in (a for row in grid for a in row):
        axes.set_axis_off()
    return figure, grid


def panel_size(rows: int, columns: int, aspect: float) -> tuple[float, float]:
    """Width and height in inches of panels of ``aspect`` (height by width) that fit on a page."""
    from penumbra.figures import _style

    width = min(
        _WIDEST,
        (_style.DOUBLE_COLUMN - _LEFT) / columns - _GAP,
        ((_PAGE - _TOP - _BOTTOM) / rows - _GAP) / aspect,
    )
    return width, width * aspect


def colour_bar(figure: Figure, label: str, note: str = "") -> None:
    """The scale of :func:`overlay` over medium grey below all panels, and a note below it."""
    import numpy as np

    from penumbra.figures import _style

    width, height = figure.get_size_inches()
    bar = figure.add_axes((_LEFT / width, 0.38 / height, min(1.5, 0.5 * width) / width, 0.09 / height))
    scale = np.linspace(0, 1, 256)[:, np.newaxis]
    bar.imshow(
        overlay(np.full_like(scale, 0.5), scale).swapaxes(0, 1), aspect="auto", extent=(0, 1, 0, 1), origin="lower"
    )
    bar.set_yticks([])
    bar.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    for spine in bar.spines.values():
        spine.set_visible(False)
    bar.set_title(label, fontsize=_style.FONT, pad=2, loc="left")
    if note:
        figure.text(_LEFT / width, 0.04 / height, note, va="bottom", fontsize=_style.FONT)
