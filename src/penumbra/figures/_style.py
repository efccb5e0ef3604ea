"""The house style of all figures: sizes, fonts, colours that colour-blind readers tell apart, reproducible bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penumbra.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

    from penumbra.reporting.context import StudyContext

SINGLE_COLUMN = 3.5
DOUBLE_COLUMN = 7.2
"""Widths of a figure in inches."""

FONT = 7.0
TITLE = 8.0
LINE = 0.8
DPI = 300

RAMPS = (
    ("#08306b", "#2f7ebc", "#74b3d8"),
    ("#8c1d04", "#e0561b", "#f4a070"),
    ("#00441b", "#2f974e", "#98d594"),
    ("#3f007d", "#7963b0", "#bdbbdb"),
    ("#252525", "#737373", "#bdbdbd"),
)
"""One hue a group of candidates (training framework), dark to light within it; the first two are blue and red."""
MARKERS = ("o", "s", "^", "D", "v", "P")

IDENTITY = "#c1121f"
OVERCONFIDENT = "#e69f00"
UNDERCONFIDENT = "#7b4ea3"
NEUTRAL = "#4d4d4d"
CLASS_COLOURS = ("#ff7f0e", "#4cc3ff", "#f781bf", "#e8e337", "#9ae29b")
"""Colours of classes shown over black: orange and blue first; :func:`class_colours` has more where they are needed."""

_RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": FONT,
    "mathtext.fontset": "dejavusans",
    "axes.titlesize": TITLE,
    "axes.titlepad": 4.0,
    "axes.labelsize": FONT,
    "axes.labelpad": 2.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.labelsize": FONT - 0.5,
    "ytick.labelsize": FONT - 0.5,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.pad": 2.0,
    "ytick.major.pad": 2.0,
    "legend.fontsize": FONT,
    "legend.frameon": False,
    "lines.linewidth": LINE,
    "patch.linewidth": 0.5,
    "figure.dpi": 100,
    "savefig.dpi": DPI,
    "figure.facecolor": "white",
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "pdf.compression": 6,
    "svg.hashsalt": "penumbra",
    "path.simplify": False,
    "text.usetex": False,
}


def class_colours(number: int) -> list[str]:
    """A colour for each class: :data:`CLASS_COLOURS`, then hues evenly around the circle."""
    from colorsys import hsv_to_rgb

    from matplotlib.colors import to_hex

    more = number - len(CLASS_COLOURS)
    return [*CLASS_COLOURS[:number], *(to_hex(hsv_to_rgb(k / more, 0.6, 1.0)) for k in range(more))]


@contextmanager
def house_style() -> Iterator[None]:
    """Draw within matplotlib's own defaults and the house style, whatever the user's ``matplotlibrc`` says."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.use("agg")
        settings: Any = matplotlib.rcParams
        settings.update(_RC)
        yield


@dataclass(frozen=True)
class Look:
    """How a candidate looks wherever it is drawn."""

    colour: str
    marker: str


def looks(context: StudyContext) -> dict[str, Look]:
    """Colour and marker of every candidate: one hue a group, one shade and marker a member."""
    found = {}
    for i, members in enumerate(context.groups.values()):
        ramp = RAMPS[i % len(RAMPS)]
        for j, candidate in enumerate(members):
            found[candidate.name] = Look(ramp[j % len(ramp)], MARKERS[j % len(MARKERS)])
    return found


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches, laid out without overlaps, tied to no screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def grid_rows(context: StudyContext) -> list[list[str]]:
    """Candidates by rows of panels: one row a group; groups of one share rows of three."""
    groups = [[c.name for c in members] for members in context.groups.values()]
    if all(len(g) <= 4 for g in groups) and any(len(g) > 1 for g in groups):
        return groups
    every = [name for g in groups for name in g]
    return [every[i : i + 3] for i in range(0, len(every), 3)]


def blocks_of(figure: Figure, count: int) -> list[SubFigure]:
    """``count`` parts of a figure below each other, each with a title and axis labels of its own."""
    return list(figure.subfigures(count, 1, squeeze=False).ravel())


def block_title(block: SubFigure, text: str) -> None:
    """The title of a part of a figure, wrapped to its width; bold letters are 0.68 of their size wide."""
    import textwrap

    size = TITLE + 1
    letters = int(72 * block.get_figure(root=True).get_figwidth() / (0.68 * size))
    block.suptitle(textwrap.fill(text, letters), fontsize=size, weight="bold")


def broken(label: str) -> str:
    """A label in short lines: broken after the hyphen, and before the capital within a long word."""
    import re

    return "\n".join(
        re.sub(r"(?<=[a-z])(?=[A-Z])", "-\n", piece) if len(piece) > 10 else piece
        for piece in label.replace("-", "-\n").split("\n")
    )


def constrain(figure: Figure, **options: Any) -> None:
    """Set options of the constrained layout: pads and spaces in inches or fractions, ``rect``."""
    engine: Any = figure.get_layout_engine()
    engine.set(**options)


def settle(figure: Figure) -> None:
    """Lay a figure out for good, and round where its axes and texts stand to nine decimals.

    The last bits of what the solver of the constrained layout finds depend on memory addresses, and would flip a pixel
    now and then.
    """
    import numpy as np
    from matplotlib.transforms import Bbox

    figure.set_dpi(DPI)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    pieces: list[Figure | SubFigure] = [figure]
    for piece in pieces:
        for inner in piece.subfigs:
            box: Any = inner.bbox_relative
            box.set_points(np.round(box.get_points(), 9))
            pieces.append(inner)
        for text in piece.texts:
            x, y = text.get_position()
            text.set_position((round(float(x), 9), round(float(y), 9)))
    for axes in figure.axes:
        axes.set_position(Bbox(np.round(axes.get_position(original=True).get_points(), 9)))


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure as pdf or png, atomically; equal figures give equal bytes."""
    path = Path(path)
    metadata: dict[str, str | None] = (
        {"Creator": "Penumbra", "Producer": None, "CreationDate": None} if path.suffix == ".pdf" else {"Software": None}
    )
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], metadata=metadata)
