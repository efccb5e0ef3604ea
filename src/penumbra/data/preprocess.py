"""Prepared items, slices or whole volumes: what training maps into memory.

``images.npy`` ``(N, C, H, W)`` float32 holds every slice of every case, in the order of ``cases.tsv``, then along Z, or
with a crop of three numbers ``(N, C, H, W, D)`` every case; ``slices.csv`` has a row for each (case, z, constant), z
being 0 for a volume, ``geometry.json`` the way back to the native grid. Each item is resampled, cropped or padded, and
normalised (:mod:`penumbra.data.geometry`). An item in which any contrast is constant, natively, after the crop or
within its region of interest, is marked ``constant`` (1, else 0) and holds zeros: the released code leaves such slices
out.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from penumbra import files, paths
from penumbra.data.case import read_case, read_cases_table
from penumbra.data.geometry import (
    CaseGeometry,
    case_geometry,
    normalise,
    to_items,
    to_prepared,
    write_geometries,
)
from penumbra.errors import PenumbraError

if TYPE_CHECKING:
    from penumbra.config.models import Geometry

_log = logging.getLogger(__name__)


def preprocess(
    cases_folder: str | Path, cases_table: str | Path, prepared_folder: str | Path, geometry: Geometry
) -> None:
    """Prepare the images of every case; one case at a time is in memory.

    Parameters
    ----------
    cases_folder, cases_table : ingested cases.
    prepared_folder : receives ``images.npy``, ``slices.csv`` and ``geometry.json``, whole or not at all.
    geometry : spacing, crop, order of the splines for images, normalisation and region of interest.

    Raises
    ------
    PenumbraError : a case is missing or is not as the table says, or the disk is full.
    """
    cases_folder, prepared_folder = Path(cases_folder), Path(prepared_folder)
    rows = read_cases_table(cases_table)
    if not rows:
        raise PenumbraError("there is no case", file=cases_table, cure="run ingest again")
    geometries = {r.case: case_geometry(r.shape, r.spacing, geometry.spacing, geometry.crop) for r in rows}
    total = sum(g.items for g in geometries.values())
    kind = "volume" if geometry.volumetric else "slice"
    lines = ["case,z,constant"]
    with files.atomic_folder(prepared_folder) as temporary:
        images: np.ndarray | None = None
        at = 0
        for row in rows:
            case = read_case(cases_folder / row.case)
            contrasts = len(case.image)
            if case.image.shape[1:] != row.shape or (images is not None and images.shape[1] != contrasts):
                raise PenumbraError(
                    f"the image's shape {case.image.shape} is not what the table of cases says",
                    file=cases_folder / row.case,
                    case=row.case,
                    cure="run ingest again",
                )
            if images is None:
                images = _create(temporary / paths.PREPARED_IMAGES, (total, contrasts, *geometry.crop))
            items, constant = prepare_image(case.image, geometries[row.case], geometry)
            images[at : at + len(items)] = items
            at += len(items)
            if constant.all():
                _log.warning(
                    "%s: every %s is constant within the crop; it trains nothing and is predicted empty", row.case, kind
                )
            lines += [f"{row.case},{z},{int(flag)}" for z, flag in enumerate(constant)]
        assert images is not None
        images.flush()  # type: ignore[attr-defined]
        del images
        files.write_text(temporary / paths.PREPARED_SLICES, "\n".join(lines) + "\n")
        write_geometries(temporary / paths.PREPARED_GEOMETRY, geometries)
    _log.info("prepared %d %ss of %d cases", total, kind, len(rows))


def _create(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A mapped float32 array whose disk space is reserved, so that a full disk is an error and not a killed process."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, os.fstat(stream.fileno()).st_size)
    return array


def prepare_image(image: np.ndarray, case: CaseGeometry, geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """Prepare one case's image.

    Parameters
    ----------
    image : ``(C, X, Y, Z)`` float32.

    Returns
    -------
    Slices ``(Z, C, H, W)`` or a volume ``(1, C, H, W, D)``, float32, and which items are constant in some contrast,
    ``(Z,)`` or ``(1,)`` bool.
    """
    prepared = to_items(to_prepared(image, case, geometry.image_order), case)
    constant = _constant(to_items(image, case)) | _constant(prepared)
    items = np.zeros(prepared.shape, dtype=np.float32)
    region: np.ndarray | None = None
    if geometry.region == "nonzero":
        seen = (image != 0).any(axis=0).astype(np.float32)
        region = to_items(to_prepared(seen, case, order=1), case) >= 0.5
        constant |= np.array([_flat(item[:, where]) for item, where in zip(prepared, region, strict=True)])
    for at in np.flatnonzero(~constant):
        items[at] = normalise(prepared[at], geometry.normalisation, None if region is None else region[at])
    return items, constant


def _flat(values: np.ndarray) -> bool:
    """Whether some contrast of values ``(C, n)`` has one value, or there are none."""
    return values.shape[1] == 0 or bool((np.ptp(values, axis=1) == 0).any())


def _constant(items: np.ndarray) -> np.ndarray:
    """Which items ``(n, C, ...)`` have one value all over in some contrast, ``(n,)``."""
    span = np.ptp(items, axis=tuple(range(2, items.ndim)))
    constant: np.ndarray = np.any(span == 0, axis=1)
    return constant


def prepare_labels(class_maps: np.ndarray, geometry: CaseGeometry, order: int) -> np.ndarray:
    """Bring one case's labels onto the network's grid.

    Parameters
    ----------
    class_maps : ``(V, K, X, Y, Z)`` in [0, 1].
    order : order of the splines (thesis: 1).

    Returns
    -------
    ``(Z, V, K, H, W)``, of a volume ``(1, V, K, H, W, D)``, float32, clipped to [0, 1].
    """
    prepared = to_prepared(np.asarray(class_maps, dtype=np.float32), geometry, order)
    return np.ascontiguousarray(np.clip(to_items(prepared, geometry), 0.0, 1.0))
