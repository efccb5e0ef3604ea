"""Raw files of a data set: generated, unpacked, linked or fetched, with a manifest of what came.

Whatever the source, the raw folder ends up with plain files and ``manifest.tsv`` (path, bytes, sha256), sorted by path.
Left out are hidden files (``.git``, ``.DS_Store``, ...) and ``__MACOSX``.

A *folder* is not copied: the raw folder holds symbolic links to its files, which works across disks and from read-only
ones, and cannot change the originals. The manifest holds the hashes of their content, so that a later change of an
original can be told. An *archive* is unpacked file by file; links, devices, absolute paths and ``..`` are refused, and
nothing is unpacked beyond what the disk holds.
"""

from __future__ import annotations

import logging
import os
import shutil
import stat
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from penumbra import files, parts
from penumbra.errors import PenumbraError

if TYPE_CHECKING:
    from penumbra.config.models import Source

MANIFEST = "manifest.tsv"
MOST_FILES = 5_000_000
MOST_EXPANSION = 1000
EXPANSION_FROM = 2**30
PROGRESS_SECONDS = 10.0
_CHUNK = 2**20
_log = logging.getLogger(__name__)

_CORRUPT = (
    tarfile.TarError,
    zipfile.BadZipFile,
    EOFError,
    zlib.error,
    LZMAError,
    OSError,
    RuntimeError,
    NotImplementedError,
)


def download(source: Source, name: str, folder: str | Path, seed: int, data_path: str | Path | None = None) -> Path:
    """Bring a data set's raw files into ``folder``, which appears whole or not at all.

    Parameters
    ----------
    source : where the data set comes from.
    name : the data set's name; it names the generator's draws and appears in messages.
    folder : the raw folder to make; an older one of that name is replaced.
    seed : the study's seed, for generated data.
    data_path : the user's own path, in place of ``source.path``. A path takes the place of a download, and may lead to
        an archive or a folder, whatever the kind of source. A relative one starts from the working directory.

    Returns
    -------
    The raw folder, with its ``manifest.tsv``.

    Raises
    ------
    PenumbraError : the source is missing, truncated, corrupt, unsafe or not what its checksum says, or the disk is
        full.
    """
    folder = Path(folder)
    given = data_path if data_path is not None else source.path
    if source.kind == "generated":
        if given is not None:
            raise PenumbraError(
                f"the data set {name!r} is generated, it has no files of its own",
                file=given,
                cure=f"take the key {name!r} out of `data` in config/config.yaml",
            )
        assert source.generator is not None
        generate = parts.build("phantom", source.generator, source.options)
        with files.atomic_folder(folder) as temporary:
            generate(temporary, seed, name)
            write_manifest(temporary)
    elif source.kind == "url" and given is None:
        assert source.url is not None and source.sha256 is not None
        cache = folder.with_name(f".fetched-{folder.name}")
        archive = fetch(source.url, source.sha256, cache)
        with files.atomic_folder(folder) as temporary:
            unpack(archive, temporary)
            write_manifest(temporary)
        shutil.rmtree(cache, ignore_errors=True)
    else:
        path = _locate(source, name, str(given))
        with files.atomic_folder(folder) as temporary:
            if path.is_dir():
                link(path, temporary, folder)
            else:
                check(path, source.sha256, name)
                unpack(path, temporary)
            write_manifest(temporary)
    return folder


def _locate(source: Source, name: str, given: str) -> Path:
    path = Path(os.path.expandvars(os.path.expanduser(given)))
    what = "folder" if source.kind == "folder" else "archive"
    origin = (
        f"get it from {source.url}, then " if source.url else "get it from where the data set's YAML file says, then "
    )
    cure = f"{origin}set `data: {{{name}: /path/to/it}}` in config/config.yaml"
    if not path.exists():
        raise PenumbraError(f"the {what} of the data set {name!r} is not there", file=path, cure=cure)
    return path


def check(archive: Path, expected: str | None, name: str) -> None:
    """Compare an archive's SHA-256 with the expected one, where there is one."""
    if expected is None:
        return
    _log.info("checking the sha256 of %s", archive)
    with _reading(archive):
        found = files.sha256(archive)
    if found != expected:
        raise PenumbraError(
            f"the archive of the data set {name!r} is not the expected one: its sha256 is {found},"
            f" expected is {expected}",
            file=archive,
            cure="it is truncated, corrupt or of another version: fetch it again; if you do mean this one,"
            " set its sha256 under `source` of the data set",
        )


def fetch(url: str, expected: str, cache: Path) -> Path:
    """Fetch ``url`` into the folder ``cache`` and check its SHA-256; a file fetched before is used again.

    Raises
    ------
    PenumbraError : the address cannot be reached, or what came has another hash.
    """
    import pooch
    from requests import RequestException

    name = PurePosixPath(url.split("?")[0].rstrip("/")).name or "archive"
    _log.info("fetching %s", url)
    try:
        return Path(pooch.retrieve(url, known_hash=f"sha256:{expected}", fname=name, path=cache, progressbar=False))
    except (RequestException, OSError, ValueError) as error:
        raise PenumbraError(
            f"cannot fetch the data set: {error}",
            file=url,
            cure="look at the network and the address; or fetch it by hand and set its path under `data` in"
            " config/config.yaml",
        ) from error


def link(source: Path, target: Path, final: Path) -> None:
    """Mirror the folder ``source`` into the empty folder ``target`` as symbolic links to its files; nothing is copied.

    Parameters
    ----------
    final : where ``target`` will end up; it may not lie inside ``source``.

    Raises
    ------
    PenumbraError : a file is a broken link, a folder is linked in a circle or cannot be read, or ``source`` holds no
        files.
    """
    source = source.resolve()
    if final.resolve().is_relative_to(source):
        raise PenumbraError(
            "the results lie inside the data folder", file=source, cure="point `data` at the data set's own folder"
        )
    count = 0

    def refuse(error: OSError) -> None:
        raise PenumbraError(
            f"cannot read: {error.strerror}", file=error.filename, cure="give yourself permission to read it"
        ) from error

    for parent, folders, names in os.walk(source, followlinks=True, onerror=refuse):
        here = Path(parent)
        above = [p.resolve() for p in here.parents if p.is_relative_to(source)]
        if here.resolve() in above or (here != source and source.is_relative_to(here.resolve())):
            raise PenumbraError(
                "a linked folder leads back up", file=here, cure="take the link out of the data set's folder"
            )
        folders[:] = sorted(n for n in folders if not _hidden(n))
        for file in (here / n for n in sorted(names) if not _hidden(n)):
            if not file.is_file():
                raise PenumbraError(
                    "a broken link, or no plain file",
                    file=file,
                    cure="fetch its content (datalad get, git annex get), or remove it",
                )
            goal = target / file.relative_to(source)
            goal.parent.mkdir(parents=True, exist_ok=True)
            goal.symlink_to(file.resolve())
            count += 1
    _some(count, source)


def unpack(archive: Path, target: Path) -> None:
    """Unpack a tar (plain, gzip, bzip2, xz) or zip archive into the empty folder ``target``.

    Raises
    ------
    PenumbraError : it is neither, is truncated or corrupt, is encrypted, does not fit on the disk, is a decompression
        bomb, or has a member with an unsafe name, a link, a device, or a name that comes twice.
    """
    free = shutil.disk_usage(target).free
    packed = max(archive.stat().st_size, 1)
    with _reading(archive):
        is_zip, is_tar = zipfile.is_zipfile(archive), tarfile.is_tarfile(archive)
    if not (is_zip or is_tar):
        raise PenumbraError(
            "this is neither a tar nor a zip archive, or its beginning or end is missing",
            file=archive,
            cure="fetch it again; compare its size with the one at its source",
        )
    members = _tar_members(archive) if is_tar else _zip_members(archive)
    written, count, last = 0, 0, time.monotonic()
    for name, size, stream in members:
        goal = target / _safe(name, archive)
        written, count = written + size, count + 1
        if written > free:
            raise PenumbraError(
                f"the disk has {free / 1e9:.1f} GB free, the archive needs more",
                file=archive,
                cure="free some space on the disk of `results`",
            )
        if count > MOST_FILES or (written > EXPANSION_FROM and written > MOST_EXPANSION * packed):
            raise PenumbraError(
                f"the archive ({packed} bytes) grows to more than {written} bytes in {count} files:"
                " this looks like a decompression bomb",
                file=archive,
                cure="unpack it by hand if you trust it, and set the folder's path under `data` in config/config.yaml",
            )
        if goal.exists():
            raise PenumbraError(
                f"the archive holds {name!r} twice", file=archive, cure="pack it again without the second one"
            )
        goal.parent.mkdir(parents=True, exist_ok=True)
        with open(goal, "wb") as out:
            got = 0
            while True:
                with _reading(archive, name):
                    block = stream.read(_CHUNK)
                if not block:
                    break
                got += len(block)
                out.write(block)
        if got != size:
            raise _corrupt(archive, f"{name!r} has {got} of {size} bytes")
        if time.monotonic() - last > PROGRESS_SECONDS:
            last = time.monotonic()
            _log.info("unpacked %d files, %.2f GB of %s", count, written / 1e9, archive.name)
    _some(count, archive)
    _log.info("unpacked %d files, %.2f GB of %s", count, written / 1e9, archive.name)


def write_manifest(folder: Path) -> None:
    """Write ``manifest.tsv`` into ``folder``: path, bytes and SHA-256 of every file below it, sorted by path."""
    if (folder / MANIFEST).exists():
        raise PenumbraError(
            f"the data set has a file {MANIFEST} at its top, a name that Penumbra needs",
            file=folder / MANIFEST,
            cure="rename it",
        )
    lines = ["path\tbytes\tsha256"]
    for path in sorted(folder.rglob("*"), key=lambda p: p.relative_to(folder).as_posix()):
        if path.is_file():
            with _reading(path):
                lines.append(f"{path.relative_to(folder).as_posix()}\t{path.stat().st_size}\t{files.sha256(path)}")
    files.write_text(folder / MANIFEST, "\n".join(lines) + "\n")


def _hidden(part: str) -> bool:
    return part.startswith(".") or part == "__MACOSX"


def _left_out(name: str) -> bool:
    pieces = PurePosixPath(name).parts
    return ".." not in pieces and any(_hidden(p) for p in pieces)


def _safe(name: str, archive: Path) -> PurePosixPath:
    path = PurePosixPath(name)
    unsafe = path.is_absolute() or ".." in path.parts or not path.parts or any(ord(c) < 32 or c == "\\" for c in name)
    if unsafe or ":" in path.parts[0]:
        raise PenumbraError(
            f"the archive has a member with the unsafe name {name!r}",
            file=archive,
            cure="do not use this archive; fetch it from its own source, or pack it again with relative paths",
        )
    return path


def _refuse(kind: str, name: str, archive: Path) -> PenumbraError:
    cure = "pack it again with plain files only (tar --dereference)"
    return PenumbraError(f"the archive's member {name!r} is {kind}, not a plain file", file=archive, cure=cure)


def _tar_members(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with _reading(archive):
        tar = tarfile.open(archive, "r:*")  # noqa: SIM115 - closed below
    end = 0
    with tar:
        while True:
            with _reading(archive):
                member = tar.next()
            if member is None:
                break
            end = tar.offset
            tar.members.clear()  # type: ignore[attr-defined]
            if member.isdir() or (member.isreg() and _left_out(member.name)):
                _safe(member.name if member.name.strip("./") else "top", archive)
                continue
            if not member.isreg():
                raise _refuse("a link" if member.issym() or member.islnk() else "a device", member.name, archive)
            with _reading(archive, member.name):
                stream = tar.extractfile(member)
            assert stream is not None
            yield member.name, member.size, stream
        with _reading(archive):
            assert tar.fileobj is not None
            tar.fileobj.seek(end)
            closing = tar.fileobj.read(512)
            while tar.fileobj.read(_CHUNK):
                pass
        if closing != bytes(512):
            raise _corrupt(archive, "its end is missing")


def _zip_members(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with _reading(archive):
        packed = zipfile.ZipFile(archive)
    with packed:
        for member in packed.infolist():
            if member.is_dir() or _left_out(member.filename):
                _safe(member.filename, archive)
                continue
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                raise _refuse("a link" if kind == stat.S_IFLNK else "a device", member.filename, archive)
            with _reading(archive, member.filename):
                stream = packed.open(member)
            with stream:
                yield member.filename, member.file_size, stream


@contextmanager
def _reading(archive: Path, member: str = "") -> Iterator[None]:
    """Tell a fault of the archive from one of the disk that is written to."""
    try:
        yield
    except _CORRUPT as error:
        raise _corrupt(archive, f"{member + ': ' if member else ''}{error or type(error).__name__}") from error


def _corrupt(archive: Path, what: str) -> PenumbraError:
    return PenumbraError(
        f"cannot be read, it is truncated or corrupt: {what}",
        file=archive,
        cure="fetch it again; compare its size and checksum with those at its source",
    )


def _some(count: int, where: Path) -> None:
    if not count:
        raise PenumbraError(
            "there are no files in it", file=where, cure="look whether this is the right archive or folder"
        )


Generate = Callable[[Path, int, str], None]
"""What a phantom's ``build`` returns: ``generate(folder, seed, name)`` writes a data set into an empty folder."""
