"""What a figure is drawn from, and the marks it leaves behind."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from penumbra.reporting.context import StudyContext, StudyData
from penumbra.reporting.numbers import row_filter, rows_digest

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

MARK_COLUMNS = (
    "dataset",
    "panel",
    "candidate",
    "mark",
    "name",
    "x",
    "y",
    "value",
    "displayed",
    "estimator",
    "n",
    "source",
    "filter",
    "row",
    "n_rows",
    "rows_sha256",
    "status",
)


@dataclass(frozen=True)
class RunFiles:
    """What a figure of images is drawn from: one split of one data set.

    ``predictions`` : each candidate's folder of ``<case>.nii.gz``; ``cases`` the ingested cases; ``hard_labels`` and
    ``soft_labels`` the folders of the two reference fusions; ``split`` the split's json; ``thresholds`` each
    candidate's ``threshold.csv``; ``cases_table`` the cases with their centres.
    """

    predictions: Mapping[str, Path]
    cases: Path
    hard_labels: Path
    soft_labels: Path
    split: Path
    thresholds: Mapping[str, Path] = field(default_factory=dict)
    cases_table: Path | None = None


@dataclass(frozen=True)
class FigureInputs:
    """What a figure is drawn from; a part states in ``NEEDS`` which of them it must have.

    ``files`` : one for each split that the figure shows; ``progression`` : each candidate's ``progression.npz``;
    ``claims`` : the study's ``claims.csv``.
    """

    data: StudyData | None = None
    files: Sequence[RunFiles] = ()
    progression: Mapping[str, Path] | None = None
    claims: Path | None = None

    @property
    def numbers(self) -> StudyData:
        """The study's numbers, for a part that needs ``metrics``."""
        if self.data is None:
            raise TypeError("this figure needs metrics: its part must name them in NEEDS")
        return self.data

    @property
    def images(self) -> RunFiles:
        """The image files of the only split shown, for a part that needs ``predictions``."""
        (files,) = self.image_splits
        return files

    @property
    def image_splits(self) -> Sequence[RunFiles]:
        """The image files of every split shown, for a part that needs ``predictions``."""
        if not self.files:
            raise TypeError("this figure needs predictions: its part must name them in NEEDS")
        return self.files

    @property
    def progressions(self) -> Mapping[str, Path]:
        """The predictions of one slice over epochs, for a part that needs ``progression``."""
        if self.progression is None:
            raise TypeError("this figure needs progressions: its part must name them in NEEDS")
        return self.progression

    @property
    def judged_claims(self) -> Path:
        """The study's ``claims.csv``, for a part that needs ``claims``."""
        if self.claims is None:
            raise TypeError("this figure needs claims: its part must name them in NEEDS, and the study a claims file")
        return self.claims


class FigurePart(Protocol):
    """What a figure part builds."""

    def draw(self, inputs: FigureInputs, context: StudyContext) -> tuple[Figure, pd.DataFrame]:
        """The figure, and one row for each mark in it (columns :data:`MARK_COLUMNS`)."""
        ...

    def caption(self, context: StudyContext) -> str:
        """What the figure shows, each statistic explained."""
        ...


@dataclass
class Marks:
    """The value behind each mark of a figure, with the rows of the long metrics that gave it."""

    records: list[dict[str, Any]] = field(default_factory=list)

    def add(self, mark: str, *, rows: Any = (), **values: Any) -> None:
        """Record one mark: ``mark`` is its kind (dot, bar, ...), ``rows`` the ids of the long metrics behind it."""
        unknown = set(values) - set(MARK_COLUMNS)
        if unknown:
            raise TypeError(f"marks have no column {sorted(unknown)}")
        ids = list(rows)
        count, digest = rows_digest(ids)
        record = dict.fromkeys(MARK_COLUMNS) | {"mark": mark, "status": "ok"} | values
        if count:
            record |= {"n_rows": count, "rows_sha256": digest, "row": ids[0] if count == 1 else None}
        self.records.append(record)

    def frame(self) -> pd.DataFrame:
        """All marks as a table."""
        import pandas as pd

        return pd.DataFrame(self.records, columns=list(MARK_COLUMNS))


@dataclass(frozen=True)
class Drawn:
    """A part made of two functions, ``draw`` and ``caption``; see :class:`FigurePart`."""

    draw: Callable[[FigureInputs, StudyContext], tuple[Figure, pd.DataFrame]]
    caption: Callable[[StudyContext], str]


def pick(frame: pd.DataFrame, **equal: Any) -> pd.DataFrame:
    """The rows of ``frame`` whose columns have the given values."""
    for key, value in equal.items():
        frame = frame[frame[key] == value]
    return frame


def mean_std(values: pd.Series) -> tuple[float, float, int]:
    """Mean, standard deviation (ddof=1; NaN for a single value) and number of the defined values."""
    defined = values.dropna()
    n = len(defined)
    return (float(defined.mean()) if n else math.nan, float(defined.std(ddof=1)) if n > 1 else math.nan, n)


__all__ = [
    "MARK_COLUMNS",
    "Drawn",
    "FigureInputs",
    "FigurePart",
    "Marks",
    "RunFiles",
    "mean_std",
    "pick",
    "row_filter",
]
