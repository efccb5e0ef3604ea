"""Adapter ``brats``: the training data of the brain tumour segmentation challenge 2019 (BraTS), as they come.

::

    HGG/<subject>/<subject>_<contrast>.nii.gz   flair, t1, t1ce and t2, one file each; high-grade gliomas
    HGG/<subject>/<subject>_seg.nii.gz          (X, Y, Z): 1 necrotic and non-enhancing core, 2 oedema, 4 enhancing
    LGG/<subject>/...                           likewise; low-grade gliomas

The folders of the grades may lie in the raw folder or in the one folder there, and so may the subjects' own folders
without that level; then ``grades`` does not matter. ``.nii`` is read as well as ``.nii.gz``. Contrasts of the data set
are called ``FLAIR``, ``T1``, ``T1Gd`` (``T1ce`` will do) and ``T2``, in any order and not necessarily all of them.
There is one rater, ``1``: declare ``raters: {count: 1}``. Other files and folders are left alone.

Options
-------
grades : the folders that are searched: ``HGG``, ``LGG`` or both.
labels : the labels of each class, every other one becoming background: ``{whole_tumor: [1, 2, 4]}``. The tumour core is
    1 and 4.
subjects : the subjects by the names of their folders; empty takes all. One that is named and not there is a fault.
draw : how many of them to take, drawn at random: the first so many of a permutation of their sorted names by the
    generator that the study's seed, ``"subjects"`` and the data set's name make. 0 takes all.
orientation : as for the adapter ``folder``: three axis codes onto which images and masks are turned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from penumbra.data.adapters import folder
from penumbra.data.adapters._labels import checked_labels, classes_of, some
from penumbra.data.case import natural
from penumbra.data.found import Fault, FoundCase, RawCase, Volume, read_volume
from penumbra.errors import PenumbraError
from penumbra.seeds import generator

GRADES = ("HGG", "LGG")
LABELS = [1, 2, 4]
RATER = "1"
SUFFIXES = {"flair": "flair", "t1": "t1", "t1gd": "t1ce", "t1ce": "t1ce", "t2": "t2"}
"""How BraTS calls a contrast, by the data set's name for it in lower case."""
FETCH = "fetch or unpack the data again"


@dataclass(frozen=True)
class Brats:
    """Finds the chosen subjects of BraTS."""

    suffixes: dict[str, str]
    numbers: list[list[int]]
    grades: list[str]
    subjects: list[str]
    draw: int
    orientation: str
    seed: int
    dataset: str

    def find(self, raw: Path) -> list[FoundCase]:
        """The chosen subjects.

        Raises
        ------
        PenumbraError : there are no folders of subjects, or in several places, or fewer subjects than are to be drawn.
        """
        folders = [subject for place in self._places(raw) for subject in subfolders(place)]
        present = {path.name for path in folders}
        absent = [name for name in self.subjects if name not in present]
        if self.subjects:
            folders = [path for path in folders if path.name in self.subjects]
        if self.draw:
            chosen = self._drawn(raw, sorted({*(path.name for path in folders), *absent}))
            folders = [path for path in folders if path.name in chosen]
            absent = [name for name in absent if name in chosen]
        found = [FoundCase(path.name, "", partial(self._read, raw, path)) for path in folders]
        return found + [FoundCase(name, "", partial(self._absent, name)) for name in absent]

    def _drawn(self, raw: Path, names: Sequence[str]) -> set[str]:
        if len(names) < self.draw:
            raise PenumbraError(
                f"{self.draw} subjects are to be drawn, and there are {len(names)}",
                file=raw,
                cure="correct the adapter's options `draw`, `subjects` or `grades`, or unpack the rest of the data",
            )
        order = generator(self.seed, "subjects", self.dataset).permutation(len(names))
        return {names[i] for i in order[: self.draw]}

    def _places(self, raw: Path) -> list[Path]:
        """The folders that hold the subjects' folders."""
        tops = [raw, *subfolders(raw)]
        graded = [top for top in tops if any((top / grade).is_dir() for grade in GRADES)]
        flat = [top for top in tops if any(map(is_subject, subfolders(top)))]
        found = graded or flat
        if len(found) > 1:
            raise PenumbraError(
                f"there are subjects in several places: {', '.join(p.relative_to(raw).as_posix() for p in found)}",
                file=raw,
                cure="give the folder or archive of the training data of one year",
            )
        places = [found[0] / grade for grade in self.grades if (found[0] / grade).is_dir()] if graded else found
        if not places:
            missing = (
                f"no folder {' or '.join(self.grades)}" if graded else "neither HGG nor LGG, nor a subject's folder"
            )
            raise PenumbraError(
                f"there is {missing}",
                file=raw,
                cure="give the folder that holds HGG and LGG, such as MICCAI_BraTS_2019_Data_Training",
            )
        return places

    def _absent(self, name: str) -> RawCase:
        among = "" if set(self.grades) == set(GRADES) else f" among {', '.join(self.grades)}"
        cure = "unpack its folder too, or take it out of the adapter's option `subjects`"
        return RawCase(faults=[Fault(name, "", f"the subject is chosen, and has no folder{among}", cure)])

    def _read(self, raw: Path, subject: Path) -> RawCase:
        case = RawCase()
        for contrast, suffix in self.suffixes.items():
            volume = self._volume(raw, subject, suffix, case.faults)
            if volume is not None:
                case.images[contrast] = volume
        labels = self._volume(raw, subject, "seg", case.faults)
        if labels is None:
            case.lost.append(RATER)
        elif labels.array.dtype.kind not in "biuf":
            case.raters[RATER] = labels
        else:
            array, unknown = classes_of(labels.array, self.numbers, LABELS)
            if len(unknown):
                fault = f"labels that BraTS does not have: {some(unknown)}"
                cure = f"its labels are 1, 2 and 4; {FETCH}"
                case.faults.append(Fault(subject.name, labels.file, fault, cure))
            case.raters[RATER] = Volume(labels.file, array, labels.affine)
        return case

    def _volume(self, raw: Path, subject: Path, suffix: str, faults: list[Fault]) -> Volume | None:
        paths = [subject / f"{subject.name}_{suffix}.nii{end}" for end in (".gz", "")]
        path = next((p for p in paths if p.is_file()), None)
        if path is None:
            file = paths[0].relative_to(raw).as_posix()
            faults.append(Fault(subject.name, file, f"the subject has no file _{suffix}", FETCH))
            return None
        volume = read_volume(raw, path, subject.name, faults)
        return volume and folder.oriented(volume, self.orientation)


def subfolders(place: Path) -> list[Path]:
    """The folders in a folder, hidden ones left out, by name, numbers as numbers."""
    found = (p for p in place.iterdir() if p.is_dir() and not p.name.startswith("."))
    return sorted(found, key=lambda p: natural(p.name))


def is_subject(place: Path) -> bool:
    """Whether a folder holds files of a subject of its name."""
    return any(p.name.startswith(f"{place.name}_") and ".nii" in p.name for p in place.iterdir())


def build(
    contrasts: list[str],
    classes: list[str],
    raters: int,
    seed: int = 0,
    dataset: str = "",
    *,
    grades: Annotated[list[Literal["HGG", "LGG"]], Field(min_length=1)] = ["HGG"],  # noqa: B006 - never changed
    labels: dict[str, list[int]] = {"tumor_core": [1, 4]},  # noqa: B006 - never changed
    subjects: list[str] = [],  # noqa: B006 - never changed
    draw: Annotated[int, Field(ge=0)] = 0,
    orientation: str = "",
) -> Brats:
    """Make the adapter; ``seed`` and ``dataset`` name the generator that draws subjects.

    Raises
    ------
    PenumbraError : several raters are declared, a contrast is not one of BraTS', ``labels`` does not name every class
        once, gives a label to two of them or one that there is not, ``subjects`` names one twice, or ``orientation`` is
        not three axis codes.
    """
    if raters != 1:
        raise PenumbraError(
            f"BraTS has one rater, declared are {raters}", cure="set `raters: {count: 1}` of the data set"
        )
    suffixes = {contrast: SUFFIXES.get(contrast.casefold(), "") for contrast in contrasts}
    if not all(suffixes.values()):
        unknown = ", ".join(contrast for contrast, suffix in suffixes.items() if not suffix)
        raise PenumbraError(
            f"BraTS has no contrast {unknown}; it has FLAIR, T1, T1Gd, T2", cure="correct `contrasts` of the data set"
        )
    of_class = checked_labels(labels, classes)
    strange = sorted({number for numbers in of_class.values() for number in numbers} - set(LABELS))
    if strange:
        raise PenumbraError(
            f"BraTS has no label {', '.join(map(str, strange))}; it has 1, 2 and 4",
            cure="correct the adapter's option `labels`",
        )
    twice = sorted({name for name in subjects if subjects.count(name) > 1})
    if twice:
        raise PenumbraError(
            f"the adapter's option `subjects` names twice: {', '.join(twice)}", cure="take one of them out"
        )
    turned = folder.build(contrasts, classes, raters, orientation=orientation).orientation
    searched: list[str] = list(dict.fromkeys(grades))
    return Brats(suffixes, [of_class[c] for c in classes], searched, list(subjects), draw, turned, seed, dataset)
