"""A study's judged claims as ``claims.csv`` holds them: its columns, how it is read, and one verdict a claim."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from penumbra.errors import PenumbraError

if TYPE_CHECKING:
    import pandas as pd

EVERYWHERE = "all"
COLUMNS = (
    "claim", "section", "statement", "kind", "dataset", "target", "metric", "candidates", "against", "direction",
    "compared", "verdict", "reason", "published", "published_outcome", "mean_candidates", "mean_against",
    "effect", "effect_kind", "unit", "low", "high",
    "standardised", "standardised_low", "standardised_high", "p", "n", "unit_of_n", "n_undefined", "level",
    "source", "filter", "n_rows", "rows_sha256",
)  # fmt: skip
TEXTS = ("against", "compared", "reason", "source", "filter", "rows_sha256")


def read_verdicts(path: str | Path) -> pd.DataFrame:
    """A study's ``claims.csv``, with the columns of :data:`COLUMNS`.

    Raises
    ------
    PenumbraError : the file cannot be read or lacks a column.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype={"section": str, **dict.fromkeys(TEXTS, str)}, float_precision="round_trip")
        table = table[list(COLUMNS)]
    except (OSError, ValueError, KeyError) as error:
        raise PenumbraError(
            f"cannot read the claims: {error}", file=path, cure="remove the file, so that it is made again"
        ) from error
    return table.assign(**{name: table[name].fillna("") for name in TEXTS})


def singles(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of single data sets and classes."""
    return frame[frame["dataset"] != EVERYWHERE]


def overall(frame: pd.DataFrame) -> pd.Series[str]:
    """One verdict a claim: over all data sets and classes, or the only one that was tested."""
    every = frame[frame["dataset"] == EVERYWHERE].set_index("claim")["verdict"]
    alone = singles(frame)
    alone = alone[~alone["claim"].isin(every.index)].sort_values("n", ascending=False, kind="stable")
    verdicts = {**every.to_dict(), **alone.drop_duplicates("claim").set_index("claim")["verdict"].to_dict()}
    return frame["claim"].drop_duplicates().map(verdicts)
