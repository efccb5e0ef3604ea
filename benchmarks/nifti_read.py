"""Reading NIfTI files: penumbra.data.case.read_nifti against nibabel.load and SimpleITK.ReadImage.

::

    .venv/bin/python benchmarks/nifti_read.py

Compressed label maps and images of realistic sizes are written to a temporary folder and read in turn, so that all
come from the page cache; medians are printed and arrays must be equal. ``read_nifti`` reads the file whole and checks
the checksum of its gzip stream, which nibabel does not: it stops at the last voxel. The limit printed beside is reading
and decompressing the same bytes with nothing else.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from penumbra.data.case import read_nifti, write_nifti
from penumbra.seeds import generator

SIZES = {"cord slice stack": (128, 128, 20), "brain, 1 mm": (182, 218, 182), "tumour, 240 x 240 x 155": (240, 240, 155)}


def contents(shape: tuple[int, ...], kind: str) -> np.ndarray:
    """A smooth image, int16, with noise inside a ball and 0 around it; or a label map, uint8."""
    rng = generator(0, "benchmark", "nifti", kind)
    grid = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in shape)]
    inside = sum(axis**2 for axis in grid) < 0.6
    if kind == "labels":
        return (inside & (ndimage.zoom(rng.normal(size=(8, 8, 8)), [n / 8 for n in shape], order=1) > 0.8)).astype(
            np.uint8
        )
    return np.where(inside, rng.normal(500, 60, shape), 0).astype(np.int16)


def by_nibabel(path: Path) -> np.ndarray:
    return np.asanyarray(nibabel.load(path).dataobj)  # type: ignore[attr-defined]


def by_simpleitk(path: Path) -> np.ndarray:
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))).T


def by_penumbra(path: Path) -> np.ndarray:
    return read_nifti(path)[0]


def decompression(path: Path) -> np.ndarray:
    return np.frombuffer(zlib.decompress(path.read_bytes(), wbits=31), dtype=np.uint8)


def seconds(method: Callable[[Path], np.ndarray], path: Path) -> float:
    start = time.perf_counter()
    array = method(path)
    array.max()
    return time.perf_counter() - start


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for title, shape in SIZES.items():
            for kind in ("labels", "image"):
                path = Path(folder) / f"{kind}.nii.gz"
                array = contents(shape, kind)
                write_nifti(path, array, np.eye(4))
                for method in (by_penumbra, by_nibabel, by_simpleitk):
                    np.testing.assert_array_equal(method(path), array)
                methods = (by_nibabel, by_simpleitk, by_penumbra, decompression)
                runs = [[seconds(method, path) for method in methods] for _ in range(9)]
                nib, itk, own, least = (statistics.median(column) * 1e3 for column in zip(*runs, strict=True))
                print(
                    f"{title}, {kind}: nibabel {nib:.1f} ms, SimpleITK {itk:.1f} ms, Penumbra {own:.1f} ms "
                    f"({nib / own:.2f} and {itk / own:.2f} times); decompression alone {least:.1f} ms"
                )
