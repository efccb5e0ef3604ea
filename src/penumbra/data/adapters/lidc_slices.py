"""Adapter ``lidc_slices``: the public pack "LIDC-IDRI slices" of 128 x 128 lung CT patches around nodules, four readers
each.

::

    LIDC-IDRI-slices/<patient>/nodule-<n>/images/slice-<k>.png      8-bit, scaled to 0-255 patch by patch
    LIDC-IDRI-slices/<patient>/nodule-<n>/mask-<r>/slice-<k>.png    0 or 255, r = 0, 1, 2, 3

A case is a patient: the slices of all its nodules are stacked along Z, nodule by nodule and slice by slice in the order
of their numbers. A patch is turned so that X runs along its columns and Y upwards against its rows. Pixel spacing and
Hounsfield units are gone from the pack, so the affine is the identity and distances are in pixels.

The number of a mask is no reader: readers who drew something come first, trailing masks are empty. Masks are therefore
permuted slice by slice with a seeded generator, named by patient, nodule and slice; declare ``raters: {count: 4,
identified: false}``. A slice that nobody annotated is no fault.

Options
-------
permute_raters : set to false to keep the pack's order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from penumbra.data.case import natural
from penumbra.data.found import Fault, FoundCase, RawCase, Volume
from penumbra.errors import PenumbraError
from penumbra.seeds import generator

TOP = "LIDC-IDRI-slices"


@dataclass(frozen=True)
class LidcSlices:
    """Finds patients in the pack's layout."""

    contrast: str
    raters: int
    seed: int
    dataset: str
    permute_raters: bool

    def find(self, raw: Path) -> list[FoundCase]:
        """Every patient's folder, in ``LIDC-IDRI-slices`` or, where that is missing, in ``raw`` itself."""
        top = raw / TOP if (raw / TOP).is_dir() else raw
        patients = sorted(
            (p for p in top.iterdir() if p.is_dir() and not p.name.startswith(".")), key=lambda p: natural(p.name)
        )
        return [FoundCase(p.name, "", partial(self._read, raw, p)) for p in patients]

    def _read(self, raw: Path, patient: Path) -> RawCase:
        case = RawCase()
        images: list[np.ndarray] = []
        masks: list[np.ndarray] = []
        for nodule in sorted(patient.glob("nodule-*"), key=lambda p: natural(p.name)):
            for path in sorted((nodule / "images").glob("*.png"), key=lambda p: natural(p.name)):
                image = _read_png(raw, path, patient.name, case.faults)
                drawn = [
                    _read_png(raw, nodule / f"mask-{r}" / path.name, patient.name, case.faults, image, mask=True)
                    for r in range(self.raters)
                ]
                if image is None or any(d is None for d in drawn):
                    continue
                order = np.arange(self.raters)
                if self.permute_raters:
                    order = generator(
                        self.seed, "rater", self.dataset, patient.name, nodule.name, path.stem
                    ).permutation(self.raters)
                images.append(image)
                masks.append(np.stack([d for d in drawn if d is not None])[order])
        if not images and not case.faults:
            file = patient.relative_to(raw).as_posix()
            case.faults.append(Fault(patient.name, file, "the patient has no slice", "fetch the archive again"))
        if len({i.shape for i in images}) > 1:
            shapes = ", ".join(sorted({f"{i.shape[0]} x {i.shape[1]}" for i in images}))
            file = patient.relative_to(raw).as_posix()
            case.faults.append(Fault(patient.name, file, f"slices differ in size: {shapes}", "fetch the archive again"))
        if case.faults:
            return case
        file, affine = patient.relative_to(raw).as_posix(), np.eye(4)
        case.images[self.contrast] = Volume(file, np.stack(images, axis=-1).astype(np.float32), affine)
        stack = np.stack(masks, axis=-1) > 0
        case.raters.update({str(r + 1): Volume(file, stack[r].astype(np.uint8), affine) for r in range(self.raters)})
        return case


def _read_png(
    raw: Path, path: Path, case: str, faults: list[Fault], like: np.ndarray | None = None, *, mask: bool = False
) -> np.ndarray | None:
    from PIL import Image, UnidentifiedImageError

    file = path.relative_to(raw).as_posix()
    if not path.is_file():
        faults.append(Fault(case, file, "the slice is missing", "extract the archive again, or fetch it again"))
        return None
    try:
        with Image.open(path) as picture:
            mode = picture.mode
            array = np.asarray(picture)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        faults.append(
            Fault(case, file, f"cannot read it as PNG: {error}", "extract the archive again, or fetch it again")
        )
        return None
    if mode != "L" or array.ndim != 2:
        faults.append(
            Fault(case, file, f"the picture has the mode {mode}, not 8-bit grey", "save it as 8-bit grey PNG")
        )
        return None
    if mask and not np.isin(array, (0, 255)).all():
        faults.append(Fault(case, file, "the mask holds other values than 0 and 255", "save it as a binary mask"))
        return None
    array = array[::-1].T
    if like is not None and like.shape != array.shape:
        faults.append(
            Fault(
                case, file, f"the mask's size {array.shape} is not the image's {like.shape}", "fetch the archive again"
            )
        )
        return None
    return array


def build(
    contrasts: list[str],
    classes: list[str],
    raters: int,
    seed: int = 0,
    dataset: str = "",
    *,
    permute_raters: bool = True,
) -> LidcSlices:
    """Make the adapter.

    Parameters
    ----------
    contrasts, classes : one name each: the pack has one image and one kind of object.
    raters : how many masks a slice has (4 in the pack).
    seed, dataset : name the generator that permutes the masks.

    Raises
    ------
    PenumbraError : several contrasts or classes are declared.
    """
    if len(contrasts) != 1 or len(classes) != 1:
        raise PenumbraError(
            f"the LIDC pack has one contrast and one class, declared are {contrasts} and {classes}",
            cure="correct `contrasts` and `classes` of the data set",
        )
    return LidcSlices(contrasts[0], raters, seed, dataset, permute_raters)
