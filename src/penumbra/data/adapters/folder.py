"""Adapter ``folder``: a plain layout for data of one's own, with any number of contrasts, classes, raters and centres.

::

    participants.tsv                      optional: tab-separated, columns case and centre (others are left alone)
    <case>/image_<contrast>.nii.gz        one file a contrast; with a single contrast image.nii.gz will do
    <case>/rater-<name>.nii.gz            a rater's label map: 0 = background, 1 = first class, 2 = second class, ...
    <case>/rater-<name>_<class>.nii.gz    or one binary mask (0/1 or 0/255) a class, empty where the rater saw none
    <case>/true-fraction.nii.gz           optional, phantoms: (X, Y, Z, K) in [0, 1]
    <case>/true-rater-probability.nii.gz  optional, phantoms: (X, Y, Z, K) in [0, 1]

``.nii`` is read as well as ``.nii.gz``. A case's name is its folder's, and may hold letters, digits, ``.``, ``_`` and
``-``. The image and masks of a case share one grid; slices lie along the third axis. A rater's name (letters, digits,
``-``) stands for the same person in every case. A slice, or a whole case, in which a rater drew nothing is no fault. A
case that ``participants.tsv`` does not name, or names without a centre, gets the centre ``unknown``. Hidden files, and
files of other names, are left alone.

Options
-------
labels : the labels of each class in label maps, where they are not 1, 2, ... in the order of the classes: for classes
    that join labels or leave some out. ``background`` names those that are left out: ``{gray_matter: [1], background:
    [2]}``. Every label but 0 must be named.
overlap : what becomes of a voxel that a rater's binary masks put into two classes: ``fault`` refuses it, ``first`` and
    ``last`` give it to the class named earlier or later in the data set's list of classes.
orientation : three axis codes such as ``RAS`` or ``LPI`` onto which image and masks are turned without interpolation,
    so that the third axis is the one across slices; empty keeps the stored order.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np

from penumbra.data.adapters._labels import checked_labels, classes_of, some
from penumbra.data.case import natural
from penumbra.data.found import Fault, FoundCase, RawCase, Volume, read_volume
from penumbra.errors import PenumbraError

PARTICIPANTS = "participants.tsv"
BACKGROUND = "background"
TRUTH = ("fraction", "rater-probability")


@dataclass(frozen=True)
class Folder:
    """Finds cases in the plain layout that the module describes."""

    contrasts: list[str]
    classes: list[str]
    labels: dict[str, list[int]]
    overlap: str
    orientation: str

    def find(self, raw: Path) -> list[FoundCase]:
        """Every folder below ``raw``, and every case that ``participants.tsv`` names."""
        folders = sorted((p.name for p in raw.iterdir() if p.is_dir() and not p.name.startswith(".")), key=natural)
        rows = read_participants(raw / PARTICIPANTS)
        listed = {name for name, _ in rows}
        rows += [(name, "") for name in folders if name not in listed]
        return [FoundCase(name, centre, partial(self._read, raw, name)) for name, centre in rows]

    def _read(self, raw: Path, name: str) -> RawCase:
        case, folder = RawCase(), raw / name
        if not folder.is_dir():
            case.faults.append(
                Fault(
                    name, PARTICIPANTS, "the case is listed but has no folder", "add its folder, or take its line out"
                )
            )
            return case
        present = {_stem(p): p for p in sorted(folder.iterdir(), reverse=True) if _stem(p)}
        for contrast in self.contrasts:
            stem = f"image_{contrast}"
            if stem not in present and len(self.contrasts) == 1 and "image" in present:
                stem = "image"
            if stem not in present:
                cure = f"add {stem}.nii.gz, or correct `contrasts` of the data set"
                case.faults.append(
                    Fault(name, f"{name}/{stem}.nii.gz", f"the contrast {contrast!r} has no image", cure)
                )
                continue
            self._add(case.images, contrast, read_volume(raw, present[stem], name, case.faults))
        self._read_raters(raw, name, present, case)
        for key in TRUTH:
            if (path := present.get(f"true-{key}")) is not None:
                self._add(case.truth, key, read_volume(raw, path, name, case.faults))
        return case

    def _read_raters(self, raw: Path, name: str, present: dict[str, Path], case: RawCase) -> None:
        whole: dict[str, Path] = {}
        by_class: dict[str, dict[str, Path]] = {}
        for stem, path in present.items():
            if not stem.startswith("rater-"):
                continue
            rater, _, label = stem.removeprefix("rater-").partition("_")
            if label and label not in self.classes:
                cure = (
                    f"name it after one of the classes {', '.join(self.classes)}, or correct `classes` of the data set"
                )
                case.faults.append(Fault(name, path.relative_to(raw).as_posix(), f"there is no class {label!r}", cure))
            elif label:
                by_class.setdefault(rater, {})[label] = path
            else:
                whole[rater] = path
        for rater in sorted({*whole, *by_class}, key=natural):
            if rater in whole and rater in by_class:
                cure = "keep the one or the others"
                fault = f"rater {rater!r} has a label map and also masks by class"
                case.faults.append(Fault(name, whole[rater].relative_to(raw).as_posix(), fault, cure))
            if rater in whole:
                volume = self._renumber(name, read_volume(raw, whole[rater], name, case.faults), case.faults)
            else:
                volume = self._merge(raw, name, rater, by_class[rater], case.faults)
            if volume is None:
                case.lost.append(rater)
            self._add(case.raters, rater, volume)

    def _renumber(self, name: str, volume: Volume | None, faults: list[Fault]) -> Volume | None:
        if volume is None or not self.labels or volume.array.dtype.kind not in "biuf":
            return volume
        known = [number for numbers in self.labels.values() for number in numbers]
        array, unknown = classes_of(volume.array, [self.labels[c] for c in self.classes], known)
        if len(unknown):
            cure = f"name them there, under {BACKGROUND!r} if they are of no class, or correct the label map"
            fault = f"labels that the adapter's option `labels` does not name: {some(unknown)}"
            faults.append(Fault(name, volume.file, fault, cure))
        return Volume(volume.file, array, volume.affine)

    def _merge(self, raw: Path, name: str, rater: str, masks: dict[str, Path], faults: list[Fault]) -> Volume | None:
        before = len(faults)
        volumes = []
        for label in self.classes:
            if label not in masks:
                file = f"{name}/rater-{rater}_{label}.nii.gz"
                faults.append(
                    Fault(
                        name,
                        file,
                        f"rater {rater!r} has no mask of {label!r}",
                        "add it; all zeros where the rater saw none",
                    )
                )
                continue
            volume = read_volume(raw, masks[label], name, faults)
            if volume is None:
                continue
            values = np.unique(volume.array)
            if not (np.isin(values, (0, 1)).all() or np.isin(values, (0, 255)).all()):
                cure = "a mask of one class holds 0 and 1, or 0 and 255"
                faults.append(Fault(name, volume.file, f"the mask holds the values {some(values)}", cure))
                continue
            volumes.append(volume)
        grids = {(v.array.shape, v.affine.round(3).tobytes()) for v in volumes}
        if len(grids) > 1:
            fault = f"the masks of rater {rater!r} differ in shape or affine"
            faults.append(Fault(name, volumes[0].file, fault, "export them on the image's grid"))
        if len(faults) > before:
            return None
        stack = np.stack([v.array > 0 for v in volumes])
        twice = int((stack.sum(axis=0) > 1).sum())
        if twice and self.overlap == "fault":
            cure = "make the masks disjoint, or set the adapter's option `overlap` to first or last"
            faults.append(Fault(name, volumes[0].file, f"rater {rater!r} put {twice} voxels into two classes", cure))
            return None
        order = range(len(volumes)) if self.overlap == "last" else range(len(volumes) - 1, -1, -1)
        labels = np.zeros(stack.shape[1:], dtype=np.uint8 if len(volumes) < 256 else np.uint16)
        for k in order:
            labels[stack[k]] = k + 1
        return Volume(f"{name}/rater-{rater}_*.nii.gz", labels, volumes[0].affine)

    def _add(self, into: dict[str, Volume], key: str, volume: Volume | None) -> None:
        if volume is None:
            return
        into[key] = oriented(volume, self.orientation)


def read_participants(path: Path) -> list[tuple[str, str]]:
    """Rows (case, centre) of ``participants.tsv``, in its order; none where there is no such file.

    Raises
    ------
    PenumbraError : the table has no column ``case``, or is not UTF-8 text.
    """
    if not path.is_file():
        return []
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, delimiter="\t")
            if "case" not in (reader.fieldnames or ()):
                raise PenumbraError(
                    f"participants.tsv has no column 'case'; it has: {', '.join(reader.fieldnames or ())}",
                    file=path,
                    cure="write a tab-separated table with the columns case and centre",
                )
            return [((row["case"] or "").strip(), (row.get("centre") or "").strip()) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise PenumbraError(
            f"participants.tsv cannot be read: {error}", file=path, cure="save it as UTF-8 text"
        ) from error


def oriented(volume: Volume, codes: str) -> Volume:
    """A volume turned by :func:`reorient`; as it is without codes, or where ingest will refuse its shape or affine."""
    if not codes or volume.array.ndim < 3 or abs(np.linalg.det(volume.affine[:3, :3])) == 0:
        return volume
    return Volume(volume.file, *reorient(volume.array, volume.affine, codes))


def reorient(array: np.ndarray, affine: np.ndarray, codes: str) -> tuple[np.ndarray, np.ndarray]:
    """Permute and flip the first three axes so that they point to ``codes`` (e.g. ``"RAS"``); world positions stay."""
    wanted = nib.orientations.axcodes2ornt(tuple(codes))
    turn = nib.orientations.ornt_transform(nib.orientations.io_orientation(affine), wanted)
    turned = nib.orientations.apply_orientation(array, turn)
    return turned, affine @ nib.orientations.inv_ornt_aff(turn, array.shape[:3])


def _stem(path: Path) -> str:
    match = re.fullmatch(r"(?P<stem>[^.].*?)\.nii(\.gz)?", path.name)
    return match["stem"] if match else ""


def build(
    contrasts: list[str],
    classes: list[str],
    raters: int,
    seed: int = 0,
    dataset: str = "",
    *,
    labels: dict[str, list[int]] = {},  # noqa: B006 - never changed
    overlap: Literal["fault", "first", "last"] = "fault",
    orientation: str = "",
) -> Folder:
    """Make the adapter; ``raters``, ``seed`` and ``dataset`` do not matter to this one.

    Raises
    ------
    PenumbraError : ``orientation`` is not three axis codes; ``labels`` does not name every class once, or gives a
        label to two of them.
    """
    if orientation and not (
        len(orientation) == 3 and {frozenset(pair) & set(orientation) != set() for pair in ("RL", "AP", "SI")} == {True}
    ):
        raise PenumbraError(
            f"orientation {orientation!r} is not three axis codes", cure="write e.g. RAS or LPI, or leave it empty"
        )
    of_class = checked_labels(labels, classes, BACKGROUND) if labels else {}
    return Folder(list(contrasts), list(classes), of_class, overlap, orientation)
