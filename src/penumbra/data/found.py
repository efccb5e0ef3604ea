"""What an adapter finds: cases as a data set came, not yet checked.

An adapter is made by ``build(contrasts, classes, raters, seed, dataset, *, option=default, ...)`` and has one method,
``find(raw) -> list[FoundCase]``. It knows the layout of files and nothing else: :mod:`penumbra.data.ingest` judges what
it found. A file that is missing or unreadable becomes a :class:`Fault` of its case, so that one pass tells everything
that is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from penumbra.data.case import read_nifti
from penumbra.errors import PenumbraError


@dataclass(frozen=True)
class Fault:
    """One fault of one case: what is wrong in which file, and what to do about it."""

    case: str
    file: str
    fault: str
    cure: str


@dataclass(frozen=True)
class Volume:
    """One array as it came, with the file it came from (relative to the raw folder) and its affine in mm."""

    file: str
    array: np.ndarray
    affine: np.ndarray


@dataclass
class RawCase:
    """The content of one case: whatever could be read, by name, and the faults met on the way.

    ``images``: by contrast, ``(X, Y, Z)``. ``raters``: label maps by rater's name, ``(X, Y, Z)``. ``truth``: class maps
    by name, ``(X, Y, Z, K)``. ``lost``: raters whose files are there but cannot be used; a fault says why.
    """

    images: dict[str, Volume] = field(default_factory=dict)
    raters: dict[str, Volume] = field(default_factory=dict)
    truth: dict[str, Volume] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


@dataclass(frozen=True)
class FoundCase:
    """A case that was found: its name, its centre (empty when unknown) and how to read it."""

    name: str
    centre: str
    read: Callable[[], RawCase]


class Adapter(Protocol):
    """Finds the cases of a data set in its raw folder."""

    def find(self, raw: Path) -> list[FoundCase]:
        """All cases below ``raw``. Raises PenumbraError where the layout itself cannot be understood."""
        ...


def read_volume(raw: Path, path: Path, case: str, faults: list[Fault]) -> Volume | None:
    """Read one NIfTI file of a case; where that fails, add a fault and return None."""
    file = path.relative_to(raw).as_posix()
    try:
        array, affine = read_nifti(path)
    except PenumbraError as error:
        faults.append(Fault(case, file, error.problem, error.cure or ""))
        return None
    return Volume(file, spatial(array), affine)


def spatial(array: np.ndarray) -> np.ndarray:
    """Drop axes of length one after the third; give a single slice its third axis."""
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    return array[..., np.newaxis] if array.ndim == 2 else array
