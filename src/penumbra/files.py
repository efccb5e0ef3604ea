"""Writing files so that a final name never holds a truncated file, and hashing them.

Everything that Penumbra writes goes through :func:`atomic_path` or :func:`atomic_folder`: the bytes are written
under a temporary name in the same folder, synced to the disk, then renamed. A full disk, a killed job or a crash
therefore leaves either the old file or none, never half of a new one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penumbra.errors import PenumbraError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

_WRITING = ".writing-"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _final(path: Path) -> Path:
    """The path that a file below a folder of :func:`atomic_folder` will have in the end."""
    return Path(*(p[len(_WRITING) :].rpartition("-")[0] if p.startswith(_WRITING) else p for p in path.parts))


def _clear(path: Path, leftover: str) -> None:
    """Remove what a killed writer of ``path`` left behind; Snakemake runs one writer of a path at a time."""
    if path.parent.is_dir() and not any(p.startswith(_WRITING) for p in path.parts):
        for name in os.listdir(path.parent):
            if re.fullmatch(leftover, name):
                shutil.rmtree(path.parent / name, ignore_errors=True)
                with suppress(OSError):
                    (path.parent / name).unlink(missing_ok=True)


def _explain(error: OSError, path: Path) -> PenumbraError:
    cure = {
        27: "a limit (ulimit -f) or the file system allows no file of this size; nothing was left half-written",
        28: "free some space on that disk, or point `results` at another one; nothing was left half-written",
        122: "the quota is used up: free some space; nothing was left half-written",
        13: "give yourself write permission on that folder, or point `results` at another one",
        30: "the file system is read-only: point `results` at one that can be written",
    }.get(error.errno or 0, "look at the folder and the disk it is on; nothing was left half-written")
    return PenumbraError(f"cannot write: {error.strerror or error}", file=_final(path), cure=cure)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success sync it and rename it to ``path``.

    The temporary name keeps the suffixes of ``path`` (``.nii.gz``), since writers choose the format by it.

    Raises
    ------
    PenumbraError : the folder cannot be written or the disk is full; the temporary file is removed.
    """
    path = Path(path)
    temporary = path.with_name(f"{_WRITING}{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear(path, rf"{_WRITING}[0-9]+-{re.escape(path.name)}")
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        raise _explain(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``path``; on success it replaces ``path`` whole."""
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear(path, rf"{_WRITING}{re.escape(path.name)}-[a-z0-9_]+")
        temporary = Path(tempfile.mkdtemp(prefix=f"{_WRITING}{path.name}-", dir=path.parent))
        os.chmod(temporary, 0o755)
        yield temporary
        for file in sorted(temporary.rglob("*")):
            if file.is_file():
                _sync(file)
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        raise _explain(error, path) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def as_json(content: Any) -> str:
    """``content`` as sorted, indented JSON with an end of line. NaN is refused: JSON has none."""
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: str | Path, content: Any) -> None:
    """Write ``content`` as sorted, indented JSON, atomically. NaN is refused: JSON has none."""
    write_text(path, as_json(content))


def write_table(path: str | Path, table: pd.DataFrame) -> None:
    """Write a data frame as csv, tsv or parquet, chosen by suffix, atomically and without its index."""
    with atomic_path(path) as temporary:
        match Path(path).suffix:
            case ".parquet":
                table.to_parquet(temporary, index=False, compression="zstd")
            case ".tsv":
                table.to_csv(temporary, index=False, sep="\t", lineterminator="\n")
            case ".csv":
                table.to_csv(temporary, index=False, lineterminator="\n")
            case suffix:
                raise ValueError(f"no table format for suffix {suffix!r}")


def write_array(path: str | Path, array: np.ndarray) -> None:
    """Write an array as ``.npy``, atomically; read it back mapped with ``np.load(path, mmap_mode="r")``."""
    import numpy as np

    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        np.save(stream, array, allow_pickle=False)


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
