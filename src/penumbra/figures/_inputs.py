"""What a figure is drawn from, and the marks it leaves behind."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from penumbra.reporting.context import StudyContext, StudyData
from penumbra.reporting.estimators import Argument, Estimate, estimate_of, told_argument
from penumbra.reporting.numbers import row_filter, spelled
from penumbra.reporting.rows import Source
from penumbra.reporting.sources import files_digest, told_source

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

MARK_COLUMNS = (
    "id",
    "dataset",
    "panel",
    "candidate",
    "mark",
    "name",
    "x",
    "y",
    "displayed",
    "value",
    "std",
    "unit",
    "scale",
    "decimals",
    "estimator",
    "argument",
    "n",
    "source",
    "filter",
    "n_rows",
    "rows_sha256",
    "status",
)
_MARK_COLUMNS = frozenset(MARK_COLUMNS)


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
    ``claims`` : the study's ``claims.csv``; ``results`` : the folder that marks name files relative to.
    """

    data: StudyData | None = None
    files: Sequence[RunFiles] = ()
    progression: Mapping[str, Path] | None = None
    claims: Path | None = None
    results: Path | None = None

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


@dataclass(frozen=True)
class Mark:
    """What a recorded mark stands for, and the text that shows it, empty where the figure shows none."""

    value: float
    std: float
    n: int
    shown: str


@dataclass
class Marks:
    """The value behind each mark of a figure, with the rows that gave it."""

    records: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self,
        mark: str,
        estimator: str,
        source: Source | None,
        where: str = "",
        *,
        argument: Argument | None = None,
        text: bool = False,
        scale: float = 1.0,
        decimals: int | Callable[[float], int] = 1,
        **values: Any,
    ) -> Mark:
        """Compute the number behind one mark from its rows, and record both.

        Parameters
        ----------
        mark : its kind (dot, bar, title, ...).
        estimator, source, where, argument : as for :meth:`penumbra.reporting.numbers.CellIndex.number`.
        text : whether the figure shows the number as text, too, with ``scale`` and ``decimals`` (a number, or a
            function of the value).
        values : any other of :data:`MARK_COLUMNS`; a function stands for what depends on the value.
        """
        found = estimate_of(source, estimator, where, argument)
        count, digest = (0, None) if source is None else source.digest(where)
        digits = decimals(found.value) if callable(decimals) else decimals
        told = {key: value(found) if callable(value) else value for key, value in values.items()}
        shown = ""
        if text:
            shown = spelled(source, estimator, where, argument, found, scale=scale, decimals=digits).plain
        self._record(
            {
                "mark": mark,
                "displayed": shown if text else None,
                "value": found.value,
                "std": found.std,
                "scale": scale if text else None,
                "decimals": digits if text else None,
                "estimator": estimator,
                "argument": told_argument(argument),
                "n": found.n,
                "source": None if source is None else source.name,
                "filter": None if source is None else where,
                "n_rows": count,
                "rows_sha256": digest if count else None,
                "status": "ok" if math.isfinite(found.value) else "undefined",
            }
            | told
        )
        return Mark(found.value, math.nan if found.std is None else found.std, found.n, shown)

    def add_files(
        self,
        mark: str,
        estimator: str,
        files: Sequence[Path],
        results: Path | None,
        *,
        argument: Argument,
        estimate: Estimate,
        text: bool = False,
        **values: Any,
    ) -> str:
        """Record a mark that is drawn from image files, and return the text that shows it.

        ``estimate`` : what the estimator gives of ``files``, as the figure has computed it from what it has read.
        """
        count, digest = files_digest(files)
        shown = spelled(None, estimator, "", argument, estimate, scale=1.0, decimals=1).plain
        self._record(
            {
                "mark": mark,
                "displayed": shown if text else None,
                "value": estimate.value,
                "std": estimate.std,
                "scale": 1.0 if text else None,
                "decimals": 1 if text else None,
                "estimator": estimator,
                "argument": told_argument(argument),
                "n": estimate.n,
                "source": told_source(files, results),
                "n_rows": count,
                "rows_sha256": digest,
                "status": "ok",
            }
            | values
        )
        return shown

    def lack(self, mark: str, status: str, **values: Any) -> None:
        """Record that a mark could not be drawn, and why."""
        self._record({"mark": mark, "status": status} | values)

    def _record(self, values: dict[str, Any]) -> None:
        unknown = values.keys() - _MARK_COLUMNS
        if unknown:
            raise TypeError(f"marks have no column {sorted(unknown)}")
        self.records.append({"id": f"m{len(self.records) + 1:04d}"} | values)

    def frame(self) -> pd.DataFrame:
        """All marks as a table."""
        import pandas as pd

        table = pd.DataFrame(self.records, columns=list(MARK_COLUMNS))
        return table.astype({"decimals": "Int64", "n": "Int64", "n_rows": "Int64"})


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


__all__ = [
    "MARK_COLUMNS",
    "Drawn",
    "FigureInputs",
    "FigurePart",
    "Mark",
    "Marks",
    "RunFiles",
    "pick",
    "row_filter",
]
