"""Raters' annotations to training and reference labels, by a fusion part.

For each case the fused class maps are written on the native grid (what predictions are evaluated against), and for
all cases together on the grid of the network, row for row beside the prepared images (what training reads).
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penumbra import parts, paths
from penumbra.config.models import ORDERS
from penumbra.data.case import read_case, read_cases_table, read_class_map, write_class_map
from penumbra.data.geometry import CaseGeometry, read_geometries
from penumbra.data.preprocess import prepare_labels
from penumbra.errors import PenumbraError
from penumbra.files import atomic_folder

if TYPE_CHECKING:
    from penumbra.config.models import Dataset

_VALUES_AT_ONCE = 2**26
_log = logging.getLogger(__name__)


def fuse_case(fuse: Any, raters: np.ndarray, classes: int, *, identified: bool) -> np.ndarray:
    """Fuse one case.

    Parameters
    ----------
    fuse : what a fusion part builds: ``fuse(raters (R, X, Y, Z), classes) -> (V, K, X, Y, Z)``.
    raters : label maps ``(R, X, Y, Z)``, values 0..K.
    classes : number of foreground classes K.
    identified : rater r is one person throughout the case. If not, a fusion that estimates how good rater r is may not
        pool slices, so every slice along Z is fused by itself.

    Returns
    -------
    Class maps ``(V, K, X, Y, Z)`` float32 in [0, 1].
    """
    if identified or raters.shape[-1] == 1:
        return np.asarray(fuse(raters, classes))
    slices = [fuse(raters[..., z : z + 1], classes) for z in range(raters.shape[-1])]
    return np.concatenate(slices, axis=-1)


def fuse_dataset(
    cases_folder: str | Path,
    cases_table: str | Path,
    prepared_folder: str | Path,
    out_folder: str | Path,
    dataset: Dataset,
    fusion: str,
) -> None:
    """Fuse every case of a data set and write the labels.

    Parameters
    ----------
    cases_folder : folder of ingested cases.
    cases_table : ``cases.tsv``.
    prepared_folder : prepared images; ``slices.csv`` gives the order of rows, ``geometry.json`` the grids.
    out_folder : receives ``<case>.nii.gz`` ``(X, Y, Z, K)``, or ``<case>_variant-<v>.nii.gz``, v from 1, for a
        fusion with V > 1 variants; and ``prepared.npy`` ``(N, V, K, H, W)``, of volumes ``(N, V, K, H, W, D)``, row n
        being row n of ``slices.csv``. Each is uint8 where all its values are exactly 0 or 1, else float32.
    dataset : the data set's configuration.
    fusion : name of the fusion part.

    Raises
    ------
    PenumbraError : there is no such fusion, an annotation holds a label without a class, cases have different
        numbers of raters, or the prepared images do not belong to these cases.
    """
    if fusion not in parts.names("fusion"):
        raise PenumbraError(
            f"there is no fusion named {fusion!r}", cure=f"choose one of: {', '.join(parts.names('fusion'))}"
        )
    fuse = parts.build("fusion", fusion)
    cases_folder, prepared_folder = Path(cases_folder), Path(prepared_folder)
    geometries = read_geometries(prepared_folder / paths.PREPARED_GEOMETRY)
    slices = _read_slices(prepared_folder / paths.PREPARED_SLICES)
    _same_cases({row.case for row in read_cases_table(cases_table)}, set(slices), set(geometries), prepared_folder)

    if not slices:
        raise PenumbraError("the data set has no cases", file=cases_table, cure="look in faults.tsv for the reason")
    classes = len(dataset.classes)
    seen = np.zeros(classes, dtype=bool)
    with atomic_folder(out_folder) as folder:

        def fused(name: str) -> np.ndarray:
            case = read_case(cases_folder / name)
            _check_labels(case.raters, classes, name, cases_folder / name)
            maps = fuse_case(fuse, case.raters, classes, identified=dataset.raters.identified)
            np.logical_or(seen, maps.any(axis=(0, 2, 3, 4)), out=seen)
            _write_native(folder, name, maps, case.affine)
            return maps

        _write_prepared(folder, fused, slices, geometries, dataset.geometry.label_order, cases_folder)
    for index in np.flatnonzero(~seen):
        _log.warning("no case has any voxel of class %r after fusion %r", dataset.classes[index], fusion)


def resample_labels(
    labels_folder: str | Path, prepared_folder: str | Path, out_folder: str | Path, interpolation: str
) -> None:
    """Prepare fused labels once more, by an interpolation other than the data set's (thesis 6.3.2).

    Parameters
    ----------
    labels_folder : what :func:`fuse_dataset` wrote.
    prepared_folder : prepared images, as for :func:`fuse_dataset`.
    out_folder : receives ``prepared.npy`` alone, in the same form.
    interpolation : a key of :data:`penumbra.config.models.ORDERS`.

    Raises
    ------
    PenumbraError : the label folder lacks a case.
    """
    labels_folder, prepared_folder = Path(labels_folder), Path(prepared_folder)
    geometries = read_geometries(prepared_folder / paths.PREPARED_GEOMETRY)
    slices = _read_slices(prepared_folder / paths.PREPARED_SLICES)

    def native(name: str) -> np.ndarray:
        files, number = [labels_folder / f"{name}.nii.gz"], 1
        if not files[0].exists():
            files = []
            while (file := labels_folder / f"{name}_variant-{number}.nii.gz").exists():
                files.append(file)
                number += 1
        if not files:
            cure = "remove the label folder, so that its labels are fused again"
            raise PenumbraError("there is no label of a prepared case", file=labels_folder, case=name, cure=cure)
        return np.stack([read_class_map(file) for file in files])

    with atomic_folder(out_folder) as folder:
        _write_prepared(folder, native, slices, geometries, ORDERS[interpolation], labels_folder)


def _write_prepared(
    folder: Path,
    maps_of: Callable[[str], np.ndarray],
    slices: dict[str, list[int]],
    geometries: dict[str, CaseGeometry],
    order: int,
    source: Path,
) -> None:
    """Write ``prepared.npy`` from each case's class maps ``(V, K, X, Y, Z)``; one case at a time is in memory."""
    binary = True
    shape: tuple[int, ...] | None = None
    scratch = folder / "scratch"
    with open(scratch, "wb") as stream:
        for name, chosen in slices.items():
            rows = prepare_labels(maps_of(name), geometries[name], order)
            shape = shape or rows.shape[1:]
            if rows.shape[1:] != shape or max(chosen) >= len(rows):
                raise PenumbraError(
                    f"the labels have shape {rows.shape} (slices or volume, variants, classes, then the grid), "
                    f"those of earlier cases (..., {', '.join(map(str, shape))})",
                    file=source / name,
                    case=name,
                    cure="give every case the same number of raters; if they agree, prepare the images again",
                )
            rows = rows[chosen].astype(np.float32)
            binary = binary and _is_binary(rows)
            stream.write(rows.tobytes())
    assert shape is not None
    number = sum(map(len, slices.values()))
    _store(folder / paths.PREPARED_LABELS, scratch, (number, *shape), np.dtype(np.uint8 if binary else np.float32))
    scratch.unlink()


def _read_slices(path: Path) -> dict[str, list[int]]:
    """The z of each prepared row, by case, in the order of the rows."""
    slices: dict[str, list[int]] = {}
    last = None
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                if row["case"] != last and row["case"] in slices:
                    raise ValueError(f"the rows of case {row['case']!r} are not together")
                last = row["case"]
                slices.setdefault(last, []).append(int(row["z"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        cure = "remove the prepared folder, so that the images are prepared again"
        raise PenumbraError(f"cannot read the prepared slices: {error!r}", file=path, cure=cure) from error
    return slices


def _is_binary(values: np.ndarray) -> bool:
    return bool(((values == 0) | (values == 1)).all())


def _smallest(values: np.ndarray) -> np.ndarray:
    return values.astype(np.uint8) if _is_binary(values) else values.astype(np.float32)


def _write_native(folder: Path, name: str, maps: np.ndarray, affine: np.ndarray) -> None:
    for variant, class_map in enumerate(maps, start=1):
        file = f"{name}.nii.gz" if len(maps) == 1 else f"{name}_variant-{variant}.nii.gz"
        write_class_map(folder / file, _smallest(class_map), affine)


def _store(path: Path, scratch: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Copy raw float32 rows into a ``.npy`` file; plain writes, so that a full disk is an error and not a crash."""
    row = int(np.prod(shape[1:]))
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with open(scratch, "rb") as source, open(path, "wb") as target:
        np.lib.format.write_array_header_1_0(target, header)
        for start in range(0, shape[0] * row, _VALUES_AT_ONCE):
            count = min(_VALUES_AT_ONCE, shape[0] * row - start)
            target.write(np.fromfile(source, dtype=np.float32, count=count).astype(dtype).tobytes())


def _check_labels(raters: np.ndarray, classes: int, name: str, folder: Path) -> None:
    if raters.max(initial=0) > classes:
        raise PenumbraError(
            f"an annotation holds the label {int(raters.max())}, but the data set has {classes} class(es)",
            file=folder,
            case=name,
            cure="list every class, in the order of its label, under `classes` of the data set",
        )


def _same_cases(names: set[str], prepared: set[str], with_geometry: set[str], folder: Path) -> None:
    astray = sorted((names ^ prepared) | (names ^ with_geometry))
    if astray:
        raise PenumbraError(
            f"prepared images and table of cases differ in {len(astray)} case(s)",
            file=folder,
            case=astray[0],
            cure="delete the prepared folder and let the workflow prepare the images again",
        )
