"""Making a figure part and writing its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penumbra import parts
from penumbra.files import write_table
from penumbra.reporting.context import StudyContext

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SUFFIXES = (".pdf", ".png", ".csv")
"""What a figure is written as, after ``studies/<study>/figures/<id>``."""


def write_figure_files(figure: Figure, marks: pd.DataFrame, prefix: str | Path) -> list[Path]:
    """Write ``.pdf``, ``.png`` and ``.csv`` (the value behind each mark); equal figures give equal bytes."""
    from penumbra.figures._style import save

    paths = [Path(f"{prefix}{suffix}") for suffix in SUFFIXES]
    save(figure, paths[0])
    save(figure, paths[1])
    write_table(paths[2], marks)
    return paths


def write(
    *,
    told: Mapping[str, Any],
    exhibit: str,
    prefix: str | Path,
    metrics: Sequence[str | Path] | None = None,
    tests: str | Path | None = None,
    predictions: Sequence[str | Path] | None = None,
    cases: str | Path | None = None,
    split: str | Path | None = None,
    hard_labels: str | Path | None = None,
    soft_labels: str | Path | None = None,
) -> list[Path]:
    """Draw one figure of a study and write its three files.

    Parameters
    ----------
    told : the study as plain data, as for :func:`penumbra.tables._write.write`.
    exhibit : the figure's name in the study; written into the column ``exhibit`` of the marks.
    prefix : ``studies/<study>/figures/<id>``, to which the suffixes :data:`SUFFIXES` are added.
    metrics, tests : for parts that state ``metrics`` or ``tests`` in ``NEEDS``.
    predictions : for parts that state ``predictions``: one folder a candidate, in the order of the study; then
        ``cases`` (ingested), ``split`` (json) and both folders of reference labels are needed too.

    Raises
    ------
    PenumbraError : a file cannot be read or written.
    """
    from penumbra.figures._inputs import FigureInputs, RunFiles
    from penumbra.figures._style import house_style
    from penumbra.reporting.data import read_data

    context = StudyContext.from_plain(told["name"], told["study"], told["datasets"], told["candidates"])
    content = told["exhibit"]
    data = None if metrics is None else read_data(context, metrics, tests)
    files = None
    if predictions is not None:
        if cases is None or split is None or hard_labels is None or soft_labels is None:
            raise TypeError("predictions need cases, split, hard_labels and soft_labels beside them")
        folders = dict(zip(context.candidates, (Path(p) for p in predictions), strict=True))
        files = RunFiles(folders, Path(cases), Path(hard_labels), Path(soft_labels), Path(split))
    part = parts.build("figure", content["part"], content["options"])
    with house_style():
        figure, marks = part.draw(FigureInputs(data, files), context)
        marks.insert(0, "exhibit", exhibit)
        return write_figure_files(figure, marks, prefix)
