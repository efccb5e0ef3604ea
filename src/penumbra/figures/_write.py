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
    from penumbra.figures._style import save, settle

    paths = [Path(f"{prefix}{suffix}") for suffix in SUFFIXES]
    settle(figure)
    save(figure, paths[0])
    save(figure, paths[1])
    write_table(paths[2], marks)
    return paths


def _by_candidate(context: StudyContext, paths: Sequence[str | Path]) -> dict[str, Path]:
    return dict(zip(context.candidates, map(Path, paths), strict=True))


def write(
    *,
    told: Mapping[str, Any],
    exhibit: str,
    prefix: str | Path,
    metrics: Sequence[str | Path] | None = None,
    tests: str | Path | None = None,
    predictions: Sequence[str | Path] | None = None,
    threshold: Sequence[str | Path] | None = None,
    split: Sequence[str | Path] | None = None,
    cases: str | Path | None = None,
    cases_table: str | Path | None = None,
    hard_labels: str | Path | None = None,
    soft_labels: str | Path | None = None,
    progression: Sequence[str | Path] | None = None,
    claims: str | Path | None = None,
) -> list[Path]:
    """Draw one figure of a study and write its three files.

    Parameters
    ----------
    told : the study as plain data, as for :func:`penumbra.tables._write.write`.
    exhibit : the figure's name in the study; written into the column ``exhibit`` of the marks.
    prefix : ``studies/<study>/figures/<id>``, to which the suffixes :data:`SUFFIXES` are added.
    metrics, tests : for parts that state ``metrics`` or ``tests`` in ``NEEDS``.
    predictions : for parts that state ``predictions``: for each candidate, in the order of the study, a folder for each
        split shown, in the order of ``split``; then ``split`` (one json a split), ``cases`` (ingested) and both folders
        of reference labels are needed too.
    threshold, cases_table : beside them, each run's ``threshold.csv`` in the order of ``predictions``, and
        ``cases.tsv``.
    progression : for parts that state it: each candidate's ``progression.npz``, in the order of the study.
    claims : for parts that state it: the study's ``claims.csv``.

    Raises
    ------
    PenumbraError : a file cannot be read or written.
    """
    from penumbra.figures._inputs import FigureInputs, RunFiles
    from penumbra.figures._style import house_style
    from penumbra.reporting.data import read_data
    from penumbra.reporting.sources import results_folder

    results = results_folder(prefix)
    context = StudyContext.from_told(told)
    content = told["exhibit"]
    data = None if metrics is None else read_data(context, metrics, tests, results=results)
    files = []
    if predictions is not None:
        if cases is None or split is None or hard_labels is None or soft_labels is None:
            raise TypeError("predictions need cases, split, hard_labels and soft_labels beside them")
        files = [
            RunFiles(
                predictions=_by_candidate(context, predictions[at :: len(split)]),
                cases=Path(cases),
                hard_labels=Path(hard_labels),
                soft_labels=Path(soft_labels),
                split=Path(path),
                thresholds=_by_candidate(context, threshold[at :: len(split)]) if threshold else {},
                cases_table=None if cases_table is None else Path(cases_table),
            )
            for at, path in enumerate(split)
        ]
    part = parts.build("figure", content["part"], content["options"])
    with house_style():
        figure, marks = part.draw(
            FigureInputs(
                data,
                files,
                None if progression is None else _by_candidate(context, progression),
                None if claims is None else Path(claims),
                results,
            ),
            context,
        )
        marks.insert(0, "exhibit", exhibit)
        return write_figure_files(figure, marks, prefix)
