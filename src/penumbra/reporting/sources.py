"""How the cell index names the files that numbers are made from, and how they are found and read again.

A file below the results folder is named relative to it, so that a tree that was moved or copied still explains itself;
a file of ``config/published`` as ``checkout:config/published/<file>``; any other by its whole path. Several files are
joined by ``"; "``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from penumbra import paths
from penumbra.errors import PenumbraError
from penumbra.files import sha256
from penumbra.reporting.rows import Source

if TYPE_CHECKING:
    import pandas as pd

CHECKOUT = "checkout:"
PUBLISHED = ("config", "published")
BETWEEN = "; "


def results_folder(out: str | Path) -> Path | None:
    """The results folder that a file of a study lies in, ``<results>/studies/<study>/...``; None for any other file."""
    parts = Path(os.path.abspath(out)).parts
    studies = PurePosixPath(paths.STUDY).parts[0]
    at = [i for i, part in enumerate(parts[:-2]) if part == studies]
    return Path(*parts[: at[-1]]) if at else None


def told_source(path: str | Path | Iterable[str | Path], results: Path | None) -> str:
    """A file, or several, as the cell index names them."""
    if not isinstance(path, str | Path):
        return BETWEEN.join(told_source(p, results) for p in path)
    whole = Path(os.path.abspath(path))
    if whole.parts[-3:-1] == PUBLISHED:
        return CHECKOUT + PurePosixPath(*whole.parts[-3:]).as_posix()
    if results is not None and whole.is_relative_to(results):
        return whole.relative_to(results).as_posix()
    return whole.as_posix()


def named_files(source: str) -> list[str]:
    """The single names in a column ``source``."""
    return [name for name in source.split(BETWEEN) if name]


def files_digest(files: Sequence[Path]) -> tuple[int, str]:
    """How many files there are, and the SHA-256 of the only one, or of the lines of all of their SHA-256."""
    found = [sha256(file) for file in files]
    return len(found), found[0] if len(found) == 1 else hashlib.sha256("\n".join(found).encode()).hexdigest()


def read_source(path: Path) -> pd.DataFrame:
    """A file that numbers are made from as a table, every number as it was written.

    Raises
    ------
    PenumbraError : it is missing, cannot be read, or is of no kind that numbers are made from.
    """
    import pandas as pd

    cure = "restore the file, or let it be made again"
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        if path.suffix == ".csv" and path.parts[-3:-1] == PUBLISHED:
            return pd.read_csv(path, dtype=str)
        if path.name == PurePosixPath(paths.CLAIMS).name:
            from penumbra.reporting.verdicts import read_verdicts

            return read_verdicts(path)
        if path.suffix == ".csv":
            return pd.read_csv(path, float_precision="round_trip")
        if path.suffix == ".tsv":
            return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
        if path.suffix == ".json":
            return pd.json_normalize(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise PenumbraError(f"cannot read what numbers are made from: {error}", file=path, cure=cure) from error
    raise PenumbraError("numbers are made from tables only, not from such a file", file=path, cure=cure)


class Reader:
    """Finds and reads the files that an index names; every table once.

    Parameters
    ----------
    results : the results folder. checkout : the folder that holds ``config/``; the current one where None.
    """

    def __init__(self, results: str | Path, checkout: str | Path | None = None) -> None:
        self.results, self.checkout = Path(results), Path(checkout or ".")
        self._frames: dict[str, pd.DataFrame] = {}
        self._sources: dict[str, Source] = {}

    def path(self, name: str) -> Path:
        """Where a named file lies."""
        if name.startswith(CHECKOUT):
            return self.checkout / name.removeprefix(CHECKOUT)
        return self.results / name

    def __call__(self, name: str) -> pd.DataFrame:
        """The table in a named file; see :func:`read_source`."""
        if name not in self._frames:
            self._frames[name] = read_source(self.path(name))
        return self._frames[name]

    def source(self, name: str) -> Source:
        """The rows of one or several named files, ready to be picked from."""
        if name not in self._sources:
            self._sources[name] = joined([self(n) for n in named_files(name)], name)
        return self._sources[name]


def joined(frames: Sequence[pd.DataFrame], name: str) -> Source:
    """Several tables as one to pick rows from."""
    import pandas as pd

    return Source(frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True), name)
