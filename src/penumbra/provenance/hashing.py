"""Content hashes of files and folders.

A folder's hash is the SHA-256 of one line ``<sha256 of the file>  <relative path>`` a file, sorted by path: what
``sha256sum`` prints. Hidden files, such as the time stamps that Snakemake leaves, are no content. Links count as what
they lead to.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from penumbra.files import sha256


@dataclass(frozen=True)
class FileState:
    """One file: ``path`` relative to its folder (empty for a file by itself), content hash, bytes, time in ns."""

    path: str
    sha256: str
    bytes: int
    mtime_ns: int


@dataclass(frozen=True)
class State:
    """An artefact as it is on the disk: a file, or a folder with its ``files`` sorted by path.

    ``hashed`` is false where nothing was read because sizes and times are those that a record noted.
    """

    kind: str
    sha256: str
    bytes: int
    mtime_ns: int
    files: tuple[FileState, ...] = ()
    hashed: bool = True


def folder_files(folder: str | Path) -> dict[str, os.stat_result]:
    """Every file below a folder that is content, by relative path with forward slashes, sorted; links are followed.

    Raises
    ------
    OSError : it cannot be read, or a link in it leads back to a folder that it lies in.
    """
    found: dict[str, os.stat_result] = {}
    waiting: list[tuple[str, str, frozenset[tuple[int, int]]]] = [("", str(folder), frozenset())]
    while waiting:
        prefix, place, above = waiting.pop()
        status = os.stat(place)
        own = (status.st_dev, status.st_ino)
        if own in above:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), place)
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                name = prefix + entry.name
                if entry.is_dir():
                    waiting.append((f"{name}/", entry.path, above | {own}))
                else:
                    found[name] = entry.stat()
    return dict(sorted(found.items()))


def folder_sha256(hashes: Mapping[str, str]) -> str:
    """The hash of a folder whose files have these hashes, by relative path."""
    digest = hashlib.sha256()
    for path in sorted(hashes):
        digest.update(f"{hashes[path]}  {path}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def state(path: str | Path, noted: Mapping[str, FileState] | None = None) -> State:
    """The state of a file or folder.

    Parameters
    ----------
    path : an existing file or folder.
    noted : what a record says of the files, by relative path (``""`` for a file by itself). A file whose size and time
        are still those takes its hash from there; all others are read.

    Raises
    ------
    OSError : it is not there or cannot be read.
    """
    path, noted = Path(path), noted or {}
    folder = path.is_dir()
    stats = folder_files(path) if folder else {"": path.stat()}
    files, hashed = [], False
    for name, status in stats.items():
        known = noted.get(name)
        if known is not None and (known.bytes, known.mtime_ns) == (status.st_size, status.st_mtime_ns):
            files.append(known)
        elif not S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no file, but a pipe, a socket or a device", str(path / name))
        else:
            hashed = True
            files.append(FileState(name, sha256(path / name), status.st_size, status.st_mtime_ns))
    total = sum(f.bytes for f in files)
    if not folder:
        return State("file", files[0].sha256, total, files[0].mtime_ns, hashed=hashed)
    digest = folder_sha256({f.path: f.sha256 for f in files})
    return State("folder", digest, total, max((f.mtime_ns for f in files), default=0), tuple(files), hashed)
