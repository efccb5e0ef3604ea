"""Adapter ``decathlon``: the layout of the Medical Segmentation Decathlon (Antonelli et al. 2022), one rater.

::

    dataset.json             modality: {"0": "FLAIR", "1": "T1w"}; labels: {"0": "background", "1": "edema"};
                             training: [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}]
    imagesTr/<case>.nii.gz   (X, Y, Z), or (X, Y, Z, C) with several modalities
    labelsTr/<case>.nii.gz   (X, Y, Z) label map
    imagesTs/<case>.nii.gz   test images without labels: left alone

Cases are those that ``dataset.json`` lists for training; it may lie in the raw folder or in the one folder there. A
contrast of the data set is the modality of that name, in any order and not necessarily all of them; upper and lower
case, blanks and punctuation do not matter. A task with one modality may call its one contrast anything. Without the
option ``labels`` the classes are the labels 1, 2, ... by name, in their order. There is one rater, ``1``: declare
``raters: {count: 1}``.

Options
-------
labels : labels of each class, for classes that are several labels together, or only some of them: ``{core: [2, 3]}``.
    Every other label becomes background.
orientation : as for the adapter ``folder``: three axis codes onto which images and masks are turned.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from penumbra.data.adapters import folder
from penumbra.data.adapters._labels import checked_labels, classes_of, some
from penumbra.data.found import Fault, FoundCase, RawCase, Volume, read_volume
from penumbra.errors import PenumbraError

DESCRIPTION = "dataset.json"
RATER = "1"
FETCH = "fetch or unpack the archive again"


@dataclass(frozen=True)
class Task:
    """What ``dataset.json`` says: modalities and labels by number, and each case's image and label file."""

    modalities: dict[int, str]
    labels: dict[int, str]
    cases: dict[str, tuple[str, str]]


@dataclass(frozen=True)
class Decathlon:
    """Finds the training cases of one task of the Decathlon."""

    contrasts: list[str]
    classes: list[str]
    labels: dict[str, list[int]]
    orientation: str

    def find(self, raw: Path) -> list[FoundCase]:
        """Every training case of ``dataset.json``.

        Raises
        ------
        PenumbraError : there is no ``dataset.json`` or more than one, it is not what the Decathlon's are, or its
            modalities or labels are not those that the data set declares.
        """
        description = find_description(raw)
        task = read_task(description)
        channels = self._channels(task, description)
        numbers = self._numbers(task, description)
        return [
            FoundCase(name, "", partial(self._read, raw, description.parent, name, files, task, channels, numbers))
            for name, files in task.cases.items()
        ]

    def _channels(self, task: Task, file: Path) -> list[int]:
        """The position of each contrast among the channels of an image."""
        if len(task.modalities) == len(self.contrasts) == 1:
            return [0]
        known = {_plain(name): position for position, name in enumerate(task.modalities.values())}
        unknown = [c for c in self.contrasts if _plain(c) not in known]
        if unknown:
            present = ", ".join(task.modalities.values())
            raise PenumbraError(
                f"the task has no modality {', '.join(map(repr, unknown))}; it has {present}",
                file=file,
                cure="correct `contrasts` of the data set",
            )
        return [known[_plain(c)] for c in self.contrasts]

    def _numbers(self, task: Task, file: Path) -> list[list[int]]:
        """The labels of each class."""
        foreground = {number: name for number, name in task.labels.items() if number != 0}
        shown = ", ".join(f"{number} {name}" for number, name in foreground.items())
        if self.labels:
            missing = sorted({n for numbers in self.labels.values() for n in numbers} - set(foreground))
            if missing:
                raise PenumbraError(
                    f"the task has no label {', '.join(map(str, missing))}; it has {shown}",
                    file=file,
                    cure="correct the adapter's option `labels`",
                )
            return [self.labels[c] for c in self.classes]
        if [_plain(name) for name in foreground.values()] != [_plain(c) for c in self.classes]:
            raise PenumbraError(
                f"the data set's classes {', '.join(self.classes)} are not the task's labels: {shown}",
                file=file,
                cure="correct `classes`, or say with the adapter's option `labels` of which labels each is made",
            )
        return [[number] for number in foreground]

    def _read(
        self,
        raw: Path,
        top: Path,
        name: str,
        files: tuple[str, str],
        task: Task,
        channels: list[int],
        numbers: list[list[int]],
    ) -> RawCase:
        case = RawCase()
        image, labels = (self._volume(raw, top, name, file, case.faults) for file in files)
        if image is not None:
            stack = image.array[..., np.newaxis] if image.array.ndim == 3 else image.array
            if stack.ndim != 4 or stack.shape[3] != len(task.modalities):
                fault = f"the image has the shape {image.array.shape}, the task has {len(task.modalities)} modalities"
                case.faults.append(Fault(name, image.file, fault, FETCH))
            else:
                for contrast, channel in zip(self.contrasts, channels, strict=True):
                    case.images[contrast] = Volume(image.file, stack[..., channel], image.affine)
        if labels is None:
            case.lost.append(RATER)
        else:
            array, unknown = classes_of(labels.array, numbers, list(task.labels))
            if len(unknown):
                fault = f"labels that {DESCRIPTION} does not name: {some(unknown)}"
                case.faults.append(Fault(name, labels.file, fault, FETCH))
            case.raters[RATER] = Volume(labels.file, array, labels.affine)
        return case

    def _volume(self, raw: Path, top: Path, name: str, file: str, faults: list[Fault]) -> Volume | None:
        path = top / file
        if not path.is_file():
            shown = path.relative_to(raw).as_posix()
            faults.append(Fault(name, shown, f"{DESCRIPTION} lists the file, and it is not there", FETCH))
            return None
        volume = read_volume(raw, path, name, faults)
        if volume is None or volume.array.dtype.kind not in "biuf":
            if volume is not None:
                fault = f"the voxels are of type {volume.array.dtype}, not plain numbers"
                faults.append(Fault(name, volume.file, fault, FETCH))
            return None
        return folder.oriented(volume, self.orientation)


def find_description(raw: Path) -> Path:
    """``dataset.json`` in the raw folder or in a folder of it.

    Raises
    ------
    PenumbraError : there is none, or several.
    """
    found = [raw / DESCRIPTION] if (raw / DESCRIPTION).is_file() else sorted(raw.glob(f"*/{DESCRIPTION}"))
    if len(found) != 1:
        many = ", ".join(p.relative_to(raw).as_posix() for p in found)
        raise PenumbraError(
            f"there are several tasks: {many}" if found else f"there is no {DESCRIPTION}",
            file=raw,
            cure="give the folder or archive of one task of the Medical Segmentation Decathlon",
        )
    return found[0]


def read_task(path: Path) -> Task:
    """Read ``dataset.json``.

    Raises
    ------
    PenumbraError : it is no JSON, lacks ``modality``, ``labels`` or ``training``, or names a file outside its folder.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        modalities = _numbered(content["modality"])
        labels = _numbered(content["labels"])
        listed = [(str(entry["image"]), str(entry["label"])) for entry in content["training"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PenumbraError(
            f"{DESCRIPTION} is not as the Decathlon's are: {type(error).__name__}: {error}",
            file=path,
            cure="it needs modality, labels (name by number) and training (a list of image and label)",
        ) from error
    cases: dict[str, tuple[str, str]] = {}
    for image, label in listed:
        for file in (image, label):
            if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts:
                raise PenumbraError(f"{DESCRIPTION} names a file outside its folder: {file!r}", file=path, cure=FETCH)
        name = re.sub(r"\.nii(\.gz)?$", "", PurePosixPath(image).name)
        if name in cases:
            raise PenumbraError(
                f"{DESCRIPTION} lists the case {name!r} twice", file=path, cure="take one of the two lines out"
            )
        cases[name] = (PurePosixPath(image).as_posix(), PurePosixPath(label).as_posix())
    return Task(modalities, labels, cases)


def _numbered(content: dict[str, Any]) -> dict[int, str]:
    """``{"1": "b", "0": "a"}`` by number, in the order of the numbers."""
    return dict(sorted((int(number), str(name)) for number, name in content.items()))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def build(
    contrasts: list[str],
    classes: list[str],
    raters: int,
    seed: int = 0,
    dataset: str = "",
    *,
    labels: dict[str, list[int]] = {},  # noqa: B006 - never changed
    orientation: str = "",
) -> Decathlon:
    """Make the adapter; ``seed`` and ``dataset`` do not matter to this one.

    Raises
    ------
    PenumbraError : several raters are declared, ``labels`` does not name every class once or gives a label to two of
        them, or ``orientation`` is not three axis codes.
    """
    if raters != 1:
        raise PenumbraError(
            f"the Decathlon has one rater, declared are {raters}", cure="set `raters: {count: 1}` of the data set"
        )
    of_class = checked_labels(labels, classes) if labels else {}
    turned = folder.build(contrasts, classes, raters, orientation=orientation).orientation
    return Decathlon(list(contrasts), list(classes), of_class, turned)
