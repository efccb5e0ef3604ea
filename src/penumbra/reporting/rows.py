"""The rows behind a number: which table they stand in, which filter picks them, and the digest that names them.

Whoever shows a number and whoever checks it later pick its rows through :class:`Source`, with the filter that stands in
the index. Filters that only compare columns with values are looked up in an index, so that a hundred thousand of them
take seconds.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

KEYS = (
    ("row",),
    ("view", "dataset", "target", "metric", "candidate"),
    ("claim", "dataset", "target"),
    ("table", "dataset", "method", "target", "metric"),
)
"""What names a row: of the long metrics, of ``tests.csv``, of ``claims.csv``, of published numbers."""


def row_filter(**equal: Any) -> str:
    """A pandas ``query`` that picks the rows behind a number; a list or tuple stands for any of its values."""
    told = []
    for key, value in equal.items():
        if value is None:
            continue
        if isinstance(value, list | tuple):
            told.append(f"{key} in {[_plain(v) for v in value]!r}")
        else:
            told.append(f"{key} == {_plain(value)!r}")
    return " and ".join(told)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def rows_digest(rows: Iterable[Any]) -> tuple[int, str]:
    """How many row ids there are, and the SHA-256 of the sorted ids, one a line."""
    ids = sorted(map(str, rows))
    return len(ids), hashlib.sha256("\n".join(ids).encode()).hexdigest()


@lru_cache(maxsize=200_000)
def parsed_filter(text: str) -> tuple[tuple[str, tuple[Any, ...]], ...] | None:
    """A filter as columns with the values that they may have, sorted by column; None where it says more than that."""
    if not text:
        return ()
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError:
        return None
    parts = tree.values if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And) else [tree]
    wanted: dict[str, tuple[Any, ...]] = {}
    for part in parts:
        if not (isinstance(part, ast.Compare) and isinstance(part.left, ast.Name) and len(part.ops) == 1):
            return None
        try:
            value = ast.literal_eval(part.comparators[0])
        except ValueError:
            return None
        several = isinstance(part.ops[0], ast.In) and isinstance(value, list | tuple)
        if part.left.id in wanted or not (several or isinstance(part.ops[0], ast.Eq)):
            return None
        wanted[part.left.id] = tuple(dict.fromkeys(value)) if several else (value,)
    return tuple(sorted(wanted.items()))


class Rows:
    """Some rows of a table, a column at a time; as light as an index into arrays."""

    __slots__ = ("_source", "positions")

    def __init__(self, source: Source, positions: np.ndarray) -> None:
        self._source, self.positions = source, positions

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, column: str) -> np.ndarray:
        return self._source.column(column)[self.positions]

    def plain(self, column: str) -> list[Any]:
        """A column as a list of plain values."""
        found: list[Any] = self[column].tolist()
        return found

    def numbers(self, column: str = "value") -> list[float]:
        """A column as a list of floats, NaN where there is no value."""
        found: list[float] = self._source.numbers(column)[self.positions].tolist()
        return found

    def first(self, column: str) -> Any:
        """The value of a column in the first row."""
        value = self[column][0]
        return value.item() if hasattr(value, "item") else value

    def frame(self) -> pd.DataFrame:
        """The rows as a data frame."""
        return self._source.frame.iloc[self.positions]


class Source:
    """One table that numbers are made from, by the name that the index knows it under.

    Parameters
    ----------
    frame : the table. name : what stands in the column ``source`` of the index.
    """

    def __init__(self, frame: pd.DataFrame, name: str = "") -> None:
        self.frame, self.name = frame, name
        self._columns: dict[str, np.ndarray] = {}
        self._numbers: dict[str, np.ndarray] = {}
        self._groups: dict[tuple[str, ...], Mapping[Any, np.ndarray]] = {}
        self._picked: dict[str, Rows] = {}
        self._digests: dict[str, tuple[int, str]] = {}
        self._prepared: dict[tuple[Any, str], Any] = {}

    def column(self, name: str) -> np.ndarray:
        """One column of the whole table; KeyError where there is none."""
        if name not in self._columns:
            self._columns[name] = self.frame[name].to_numpy()
        return self._columns[name]

    def numbers(self, name: str) -> np.ndarray:
        """One column of the whole table as float64."""
        if name not in self._numbers:
            import numpy as np

            self._numbers[name] = self.frame[name].to_numpy(dtype=np.float64, na_value=np.nan)
        return self._numbers[name]

    def rows(self, text: str) -> Rows:
        """The rows that a filter picks, in the order of the table; all of them for an empty one.

        Raises
        ------
        KeyError, ValueError : the table lacks a column of the filter, or the filter cannot be understood.
        """
        if text not in self._picked:
            self._picked[text] = Rows(self, self._positions(text))
        return self._picked[text]

    def _positions(self, text: str) -> np.ndarray:
        import numpy as np

        wanted = parsed_filter(text)
        if wanted is None:
            try:
                kept = self.frame.reset_index(drop=True).query(text)
            except Exception as error:  # pandas raises whatever its parser and engine do
                raise ValueError(f"the filter {text!r} cannot be applied: {error}") from error
            return kept.index.to_numpy()
        if not wanted:
            return np.arange(len(self.frame))
        columns = tuple(column for column, _ in wanted)
        if columns not in self._groups:
            missing = [c for c in columns if c not in self.frame]
            if missing:
                raise KeyError(f"no column {', '.join(missing)}")
            keys = list(columns) if len(columns) > 1 else columns[0]
            self._groups[columns] = dict(
                self.frame.groupby(keys, sort=False, observed=True).indices  # type: ignore[arg-type]
            )
        groups = self._groups[columns]
        if len(columns) == 1:
            found = [groups[value] for value in wanted[0][1] if value in groups]
        else:
            found = [groups[key] for key in product(*(values for _, values in wanted)) if key in groups]
        if len(found) == 1:
            return found[0]
        return np.sort(np.concatenate(found)) if found else np.arange(0)

    def digest(self, text: str) -> tuple[int, str]:
        """How many rows a filter picks, and the digest of their names; see :func:`rows_digest`."""
        if text not in self._digests:
            self._digests[text] = rows_digest(self._names(self.rows(text)))
        return self._digests[text]

    def _names(self, rows: Rows) -> list[Any]:
        for key in KEYS:
            if all(column in self.frame for column in key):
                if len(key) == 1:
                    return rows.plain(key[0])
                return ["/".join(map(str, parts)) for parts in zip(*(rows.plain(c) for c in key), strict=True)]
        every = [rows.plain(column) for column in self.frame.columns]
        return ["/".join(map(str, parts)) for parts in zip(*every, strict=True)]

    def prepared(self, prepare: Callable[[Rows], Any], text: str) -> Any:
        """What ``prepare`` makes of the rows that a filter picks, made once."""
        if (prepare, text) not in self._prepared:
            self._prepared[prepare, text] = prepare(self.rows(text))
        return self._prepared[prepare, text]
