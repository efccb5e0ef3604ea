"""A case on disk: one image, the masks of its raters, one affine, and where it is known the truth.

Every file is NIfTI with reproducible bytes (gzip without time or name). The image is ``(X, Y, Z)``, or ``(X, Y, Z, C)``
with several contrasts; a rater's label map ``(X, Y, Z)`` uint8; class maps ``(X, Y, Z, K)``, always four-dimensional.
In memory the contrast, rater or class comes first. Shown upright by ``imshow(slice.T, origin="lower")``.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from penumbra import files
from penumbra.errors import PenumbraError

IMAGE = "image.nii.gz"
CASES_COLUMNS = ("case", "centre", "x", "y", "z", "spacing_x", "spacing_y", "spacing_z")
LARGEST_VOLUME = 2**34
_HEADER = 2048
"""Bytes in which a header lies, of NIfTI-1 (348) or NIfTI-2 (540)."""
_SLACK = 2**20
"""Bytes that may follow the voxels of a compressed file."""
_AGAIN = "if it lies in the results, run the rule that wrote it again (snakemake --forcerun)"
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    OverflowError,
    zlib.error,
    nib.filebasedimages.ImageFileError,
    nib.spatialimages.HeaderDataError,
    nib.spatialimages.HeaderTypeError,
    nib.wrapstruct.WrapStructError,
)


@dataclass(frozen=True)
class Case:
    """One case, checked.

    Attributes
    ----------
    name, centre : the case's name and its acquisition site (``"unknown"`` when nobody said).
    image : ``(C, X, Y, Z)`` float32, finite.
    raters : ``(R, X, Y, Z)`` uint8 label maps, 0 = background, k = k-th class.
    affine : ``(4, 4)`` float64, voxel indices to mm.
    truth : class maps ``(K, X, Y, Z)`` float32 in [0, 1] that only a phantom can know, by name: ``"fraction"`` (of the
        voxel's area) and ``"rater-probability"`` (that a random rater gives the voxel this class).
    """

    name: str
    centre: str
    image: np.ndarray
    raters: np.ndarray
    affine: np.ndarray
    truth: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm along X, Y and Z."""
        return spacing_of(self.affine)


@dataclass(frozen=True)
class CaseRow:
    """One line of ``cases.tsv``: native shape in voxels, spacing in mm."""

    case: str
    centre: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]


def natural(text: str) -> list[tuple[int, int, str]]:
    """A sorting key by which ``slice-2`` comes before ``slice-10``."""
    pieces = re.findall(r"[0-9]+|[^0-9]+", text)
    return [(0, int(p), p) if p.isascii() and p.isdigit() else (1, 0, p) for p in pieces]


def spacing_of(affine: np.ndarray) -> tuple[float, float, float]:
    """Voxel size in mm along the three array axes: the column norms of an affine, to the nanometre."""
    x, y, z = (round(float(s), 6) for s in np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=0))
    return x, y, z


def read_nifti(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a NIfTI file whole, checksum of its gzip stream included.

    Returns
    -------
    The array as stored (scaled where the header says so) and the ``(4, 4)`` affine.

    Raises
    ------
    PenumbraError : the file is missing, truncated, corrupt or no NIfTI.
    """
    path = Path(path)
    if not path.is_file():
        raise PenumbraError(
            "the file does not exist", file=path, cure=f"look whether the name is as expected; {_AGAIN}"
        )
    try:
        content = path.read_bytes()
        packed = content[:2] == b"\x1f\x8b"
        first = _gunzip(content, _HEADER)[0] if packed else content[:_HEADER]
        kind: Any = nib.Nifti2Image if first[:4] in (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c") else nib.Nifti1Image
        size = _size(kind, first)
        if packed:
            content, more = _gunzip(content, size + _SLACK)
            if more:
                raise ValueError(f"it unpacks to more than the {size} bytes that its header tells of")
        image = kind.from_bytes(content)
        return np.asanyarray(image.dataobj), np.asarray(image.affine, dtype=np.float64)
    except _UNREADABLE as error:
        raise PenumbraError(
            f"cannot read it as NIfTI: {type(error).__name__}: {error}",
            file=path,
            cure=f"the file is truncated, corrupt or of another format: fetch or export it again; {_AGAIN}",
        ) from error


def _gunzip(content: bytes, most: int) -> tuple[bytes, bool]:
    """Unpack at most so many bytes of a gzip stream, and whether there are more; checksums of what is read whole."""
    pieces: list[bytes] = []
    while content and most > 0:
        stream = zlib.decompressobj(wbits=31)
        pieces.append(stream.decompress(content, most))
        most -= len(pieces[-1])
        if not stream.eof:
            if most > 0:
                raise EOFError("the gzip stream ends before its end")
            return b"".join(pieces), True
        content = stream.unused_data.lstrip(b"\x00")
    return b"".join(pieces), bool(content)


def _size(kind: Any, first: bytes) -> int:
    """Bytes of an unpacked NIfTI file whose header these bytes begin with."""
    header = kind.header_class.from_fileobj(io.BytesIO(first))
    size = (
        int(header["vox_offset"])
        + math.prod(int(n) for n in header.get_data_shape()) * header.get_data_dtype().itemsize
    )
    if not 0 < size <= LARGEST_VOLUME:
        raise ValueError(f"its header tells of {size:,} bytes; a volume has at most {LARGEST_VOLUME:,}")
    return size


def write_nifti(path: str | Path, array: np.ndarray, affine: np.ndarray) -> None:
    """Write an array as ``.nii.gz``, atomically; equal input gives equal bytes."""
    image = nib.Nifti1Image(np.ascontiguousarray(array), np.asarray(affine, dtype=np.float64))
    image.header.set_xyzt_units("mm")
    image.set_sform(image.affine, code=1)
    image.set_qform(image.affine, code=1)
    with (
        files.atomic_path(path) as temporary,
        open(temporary, "wb") as stream,
        gzip.GzipFile(filename="", mode="wb", compresslevel=4, fileobj=stream, mtime=0) as packed,
    ):
        packed.write(image.to_bytes())


def read_affine(path: str | Path) -> np.ndarray:
    """The ``(4, 4)`` affine of a NIfTI file, without reading its voxels."""
    try:
        return np.asarray(nib.load(path).affine, dtype=np.float64)  # type: ignore[attr-defined]
    except _UNREADABLE as error:
        raise PenumbraError(
            f"cannot read it as NIfTI: {error}", file=path, cure=f"it is truncated or corrupt; {_AGAIN}"
        ) from error


def read_class_map(path: str | Path) -> np.ndarray:
    """Read class maps as ``(K, X, Y, Z)`` float32; a three-dimensional file is taken as one class."""
    array, _ = read_nifti(path)
    if array.ndim == 3:
        array = array[..., np.newaxis]
    if array.ndim != 4:
        raise PenumbraError(f"class maps have the shape (X, Y, Z, K), this file has {array.shape}", file=path)
    return np.ascontiguousarray(np.moveaxis(array, 3, 0), dtype=np.float32)


def write_class_map(path: str | Path, array: np.ndarray, affine: np.ndarray) -> None:
    """Write class maps ``(K, X, Y, Z)`` as ``(X, Y, Z, K)``, atomically and with reproducible bytes.

    bool and uint8 are stored as uint8, every other type as float32.
    """
    if array.ndim != 4:
        raise ValueError(f"class maps have the shape (K, X, Y, Z), got {array.shape}")
    dtype = np.uint8 if array.dtype in (np.bool_, np.uint8) else np.float32
    write_nifti(path, np.moveaxis(array, 0, 3).astype(dtype), affine)


def read_case(folder: str | Path, centre: str = "") -> Case:
    """Read an ingested case; its name is the folder's.

    Raises
    ------
    PenumbraError : a file is missing or unreadable, or a mask's shape is not the image's.
    """
    folder = Path(folder)
    image, affine = read_nifti(folder / IMAGE)
    image = image[np.newaxis] if image.ndim == 3 else np.moveaxis(image, 3, 0)
    masks = sorted(folder.glob("rater-*.nii.gz"), key=lambda p: natural(p.name))
    if not masks:
        raise PenumbraError("the case has no rater-<n>.nii.gz", file=folder, case=folder.name, cure="run ingest again")
    raters = [read_nifti(path)[0] for path in masks]
    for path, mask in zip(masks, raters, strict=True):
        if mask.shape != image.shape[1:]:
            raise PenumbraError(
                f"the mask's shape {mask.shape} is not the image's {image.shape[1:]}",
                file=path,
                case=folder.name,
                cure="run ingest again",
            )
    return Case(
        name=folder.name,
        centre=centre,
        image=np.ascontiguousarray(image, dtype=np.float32),
        raters=np.stack(raters).astype(np.uint8),
        affine=affine,
        truth={
            p.name.removeprefix("true-").removesuffix(".nii.gz"): read_class_map(p)
            for p in sorted(folder.glob("true-*.nii.gz"))
        },
    )


def write_case(folder: str | Path, case: Case) -> None:
    """Write a case into ``folder``: ``image.nii.gz``, ``rater-1.nii.gz`` and so on, ``true-<name>.nii.gz``."""
    folder = Path(folder)
    image = case.image[0] if len(case.image) == 1 else np.moveaxis(case.image, 0, 3)
    write_nifti(folder / IMAGE, image.astype(np.float32), case.affine)
    for number, mask in enumerate(case.raters, start=1):
        write_nifti(folder / f"rater-{number}.nii.gz", mask.astype(np.uint8), case.affine)
    for name, maps in case.truth.items():
        write_class_map(folder / f"true-{name}.nii.gz", maps.astype(np.float32), case.affine)


def read_cases_table(path: str | Path) -> list[CaseRow]:
    """Read ``cases.tsv`` in its order; names stay text, so that a case ``007`` or ``NA`` keeps its name."""
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            return [
                CaseRow(
                    case=row["case"],
                    centre=row["centre"],
                    shape=(int(row["x"]), int(row["y"]), int(row["z"])),
                    spacing=(float(row["spacing_x"]), float(row["spacing_y"]), float(row["spacing_z"])),
                )
                for row in csv.DictReader(stream, delimiter="\t")
            ]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise PenumbraError(f"cannot read the table of cases: {error!r}", file=path, cure="run ingest again") from error


def write_cases_table(path: str | Path, rows: Iterable[CaseRow]) -> None:
    """Write ``cases.tsv``, atomically."""
    lines = ["\t".join(CASES_COLUMNS)]
    lines += ["\t".join(map(str, (r.case, r.centre, *r.shape, *r.spacing))) for r in rows]
    files.write_text(path, "\n".join(lines) + "\n")
