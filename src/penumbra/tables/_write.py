"""Making a table part and writing its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from penumbra import parts
from penumbra.files import write_table, write_text
from penumbra.reporting.context import StudyContext
from penumbra.reporting.data import read_data
from penumbra.reporting.sources import results_folder
from penumbra.tables._layout import Table
from penumbra.tables._render import latex, markdown

SUFFIXES = (".csv", ".md", ".tex", ".cells.csv")
"""What a table is written as, after ``studies/<study>/tables/<id>``."""


def write_table_files(table: Table, prefix: str | Path) -> list[Path]:
    """Write ``.csv`` (tidy, full precision), ``.md``, ``.tex`` and ``.cells.csv`` (what each number is made of)."""
    paths = [Path(f"{prefix}{suffix}") for suffix in SUFFIXES]
    write_table(paths[0], table.tidy)
    write_text(paths[1], markdown(table))
    write_text(paths[2], latex(table))
    write_table(paths[3], table.index.frame())
    return paths


def write(
    *,
    told: Mapping[str, Any],
    exhibit: str,
    metrics: Sequence[str | Path],
    tests: str | Path | None,
    prefix: str | Path,
    published: str | Path | None = None,
) -> list[Path]:
    """Make one table of a study and write its four files.

    Parameters
    ----------
    told : the study as plain data: what :meth:`StudyContext.from_told` takes, ``exhibit`` (``part``, ``title``,
        ``options``).
    exhibit : the table's name in the study.
    metrics : the long metrics of the table's data sets.
    tests : the study's ``tests.csv``, or None.
    published : a file of ``config/published``, or None.
    prefix : ``studies/<study>/tables/<id>``, to which the suffixes :data:`SUFFIXES` are added.

    Raises
    ------
    PenumbraError : a file cannot be read or written.
    """
    context = StudyContext.from_told(told)
    data = read_data(context, metrics, tests, published, results_folder(prefix))
    content = told["exhibit"]
    table = parts.build("table", content["part"], content["options"])(data, context, exhibit, content["title"])
    return write_table_files(table, prefix)
