"""Every data set in one form: ``<case>/image.nii.gz``, ``rater-1.nii.gz`` ... ``rater-R.nii.gz``, and a table of cases.

All cases are read and judged before anything is decided; one run tells every fault of every file, in a table with a
cure for each. With a single fault nothing but that table is written.

What is a fault: a missing or unreadable file; an image or mask that is not three-dimensional; shapes or affines that
differ within a case; NaN or infinite voxels; a constant image; labels other than 0 .. K; another number of raters than
declared, or, where raters are identified, other raters than in the other cases; a truth outside [0, 1]; a name that is
unsafe in a path; two cases of one name, or with the same image. What is none: a rater who drew nothing, in a slice or
in a case (in LIDC that is common, and it is information); a case without centre (it becomes ``unknown``); single slices
that recur.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from penumbra import files, parts
from penumbra.data.case import Case, CaseRow, write_case, write_cases_table
from penumbra.data.found import Adapter, Fault, FoundCase, RawCase, Volume
from penumbra.errors import PenumbraError

if TYPE_CHECKING:
    from penumbra.config.models import Dataset, Part

UNKNOWN_CENTRE = "unknown"
FAULTS_COLUMNS = ("case", "file", "fault", "cure")
AFFINE_TOLERANCE = 0.05
"""How far, in units of the smallest voxel side, image and mask may lie apart at any corner of the volume."""
_TOLD = 10
Add = Callable[[Volume, str, str], None]
_log = logging.getLogger(__name__)


def ingest(
    raw: str | Path,
    cases_folder: str | Path,
    cases_table: str | Path,
    faults_table: str | Path,
    dataset: Dataset,
    adapter: Part,
    seed: int,
    name: str,
) -> None:
    """Check every case of a data set and write them all in one form.

    Parameters
    ----------
    raw : the raw folder.
    cases_folder, cases_table : receive the cases and ``cases.tsv``, sorted by name; neither is written when there is a
        fault.
    faults_table : receives the faults (tsv: case, file, fault, cure); its header alone when there are none.
    dataset : what the data set holds: contrasts, classes, raters.
    adapter : the adapter part that knows the layout of the raw folder.
    seed, name : the study's seed and the data set's name, for an adapter that draws at random.

    Raises
    ------
    PenumbraError : a case has a fault, there is no case, or the disk is full.
    """
    raw, cases_folder, cases_table = Path(raw), Path(cases_folder), Path(cases_table)
    reader: Adapter = parts.build(
        "adapter",
        adapter.name,
        adapter.options,
        contrasts=dataset.contrasts,
        classes=dataset.classes,
        raters=dataset.raters.count,
        seed=seed,
        dataset=name,
    )
    try:
        found = sorted(reader.find(raw), key=lambda f: f.name)
    except PenumbraError as error:
        file = str(error.file or "")
        write_faults(faults_table, [Fault(error.case or "", Path(file).name, error.problem, error.cure or "")])
        raise
    if not found:
        cure = f"look at the layout that the adapter {adapter.name!r} expects (its documentation)"
        write_faults(faults_table, [Fault("", "", "there is no case", cure)])
        raise PenumbraError(f"there is no case of the data set {name!r}", file=raw, cure=cure)

    faults = check_names([f.name for f in found])
    rows: list[CaseRow] = []
    raters_of: dict[str, list[str]] = {}
    same_image: dict[str, list[str]] = defaultdict(list)
    tabled = False
    try:
        with files.atomic_folder(cases_folder) as temporary:
            for item in found:
                if Path(item.name).name != item.name or item.name == "..":  # a fault already, and it may lead elsewhere
                    continue
                case = item.read()
                faults += case.faults + check_case(
                    item.name, case, dataset.contrasts, len(dataset.classes), dataset.raters.count
                )
                raters_of[item.name] = [*case.raters, *case.lost]
                if case.images:
                    same_image[_digest(case)].append(item.name)
                if not faults:
                    checked = assemble(item, case, dataset.contrasts)
                    write_case(temporary / item.name, checked)
                    shape = checked.image.shape
                    rows.append(CaseRow(item.name, checked.centre, (shape[1], shape[2], shape[3]), checked.spacing))
            if dataset.raters.identified:
                faults += check_raters(raters_of, dataset.raters.count)
            faults += check_duplicates(same_image)
            faults.sort(key=lambda f: (f.case, f.file))
            write_faults(faults_table, faults)
            if faults:
                raise _summary(faults, faults_table, name)
            write_cases_table(cases_table, rows)
            tabled = True
    except BaseException:
        if tabled:
            cases_table.unlink(missing_ok=True)
        raise
    _log.info("ingested %d cases of %s", len(rows), name)


def check_names(names: list[str]) -> list[Fault]:
    """Faults of the cases' names: unsafe in a path, or the same but for upper and lower case."""
    faults = []
    for name, count in Counter(names).items():
        if count > 1:
            faults.append(
                Fault(name, "", f"{count} cases have this name", "give every case a name, and a line, of its own")
            )
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name) or "_variant-" in name:
            cure = (
                "rename it: letters, digits, '.', '_', '-'; a letter or digit first; at most 100; without '_variant-'"
            )
            faults.append(Fault(name, "", f"the case's name {name!r} is not safe in a path", cure))
    folded = defaultdict(set)
    for name in names:
        folded[name.casefold()].add(name)
    for alike in folded.values():
        for name in sorted(alike)[1:]:
            fault = f"its name differs from that of {min(alike)!r} in upper and lower case only"
            faults.append(Fault(name, "", fault, "rename one of them: some file systems do not tell them apart"))
    return faults


def check_case(name: str, case: RawCase, contrasts: list[str], classes: int, raters: int) -> list[Fault]:
    """Faults of one case's content.

    Parameters
    ----------
    case : what the adapter read.
    contrasts : expected contrasts.
    classes : number K of classes; labels are 0 .. K.
    raters : expected number of raters.
    """
    faults: list[Fault] = []

    def add(volume: Volume, fault: str, cure: str) -> None:
        faults.append(Fault(name, volume.file, fault, cure))

    for contrast in contrasts:
        if contrast not in case.images and not case.faults:
            faults.append(
                Fault(
                    name,
                    "",
                    f"the contrast {contrast!r} has no image",
                    "add it, or correct `contrasts` of the data set",
                )
            )
    present = [*case.raters, *case.lost]
    explained = case.faults and not case.images and not case.raters
    if len(present) != raters and not explained:
        names = f" ({', '.join(present)})" if present else ""
        cure = "add the missing rater's file, an empty mask if nothing was seen; or correct `raters` of the data set"
        faults.append(Fault(name, "", f"{len(present)} raters{names}, the data set has {raters}", cure))

    usable: list[Volume] = []
    for volume in case.images.values():
        if _numeric(volume, 3, add):
            usable.append(volume)
            _check_intensities(volume, add)
    for volume in case.raters.values():
        if _numeric(volume, 3, add):
            usable.append(volume)
            _check_labels(volume, classes, add)
    for volume in case.truth.values():
        if classes == 1 and volume.array.ndim == 3:
            volume = Volume(volume.file, volume.array[..., np.newaxis], volume.affine)
        if _numeric(volume, 4, add):
            usable.append(volume)
            _check_truth(volume, classes, add)

    singular = [v for v in usable if not np.isfinite(v.affine).all() or abs(np.linalg.det(v.affine[:3, :3])) < 1e-12]
    for volume in singular:
        add(volume, "the affine is singular or not finite: a voxel has no size", "set the voxel size in the header")
    if usable:
        reference = usable[0]
        for volume in usable[1:]:
            if volume.array.shape[:3] != reference.array.shape[:3]:
                cure = "resample it onto the image's grid"
                add(
                    volume,
                    f"the shape {volume.array.shape[:3]} is not {reference.array.shape[:3]} as of {reference.file}",
                    cure,
                )
            elif (
                not singular
                and (gap := affine_gap(reference.affine, volume.affine, reference.array.shape[:3])) > AFFINE_TOLERANCE
            ):
                cure = "resample it onto the image's grid; or, if its header is wrong, copy the image's affine"
                add(volume, f"the affine is not that of {reference.file}: a corner lies {gap:.3g} voxels apart", cure)
    return faults


def affine_gap(first: np.ndarray, second: np.ndarray, shape: tuple[int, ...]) -> float:
    """Largest distance between where two affines put a volume's corners, in units of the smallest voxel side."""
    corners = np.array([(*corner, 1.0) for corner in itertools.product(*((0, n - 1) for n in shape[:3]))])
    distance = np.linalg.norm((corners @ (first - second).T)[:, :3], axis=1).max()
    return float(distance / np.linalg.norm(first[:3, :3], axis=0).min())


def _numeric(volume: Volume, dimensions: int, add: Add) -> bool:
    array = volume.array
    if array.dtype.kind not in "biuf":
        add(volume, f"the voxels are of type {array.dtype}, not plain numbers", "export it as one grey value a voxel")
        return False
    if array.ndim != dimensions or 0 in array.shape:
        shape = "(X, Y, Z)" if dimensions == 3 else "(X, Y, Z, K)"
        add(
            volume,
            f"the array has the shape {array.shape}, expected is {shape}",
            "split it into one file a contrast or rater",
        )
        return False
    return True


def _finite(volume: Volume, add: Add) -> bool:
    bad = int(volume.array.size - np.isfinite(volume.array).sum()) if volume.array.dtype.kind == "f" else 0
    if bad:
        add(volume, f"{bad} voxels are NaN or infinite", "replace them, e.g. by 0 outside the body")
    return not bad


def _check_intensities(volume: Volume, add: Add) -> None:
    if not _finite(volume, add):
        return
    stored = _single(volume.array)
    if not np.isfinite(stored).all():
        add(volume, "intensities are beyond what float32 holds", "rescale the image")
    elif np.ptp(stored) == 0:
        fault = f"the image is empty: every voxel is {float(stored.flat[0]):g}"
        add(volume, fault, "export it again, or take the case out")


def _single(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _check_labels(volume: Volume, classes: int, add: Add) -> None:
    if not _finite(volume, add):
        return
    values = np.unique(volume.array)
    unknown = values[~np.isin(values, np.arange(classes + 1))]
    if len(unknown):
        shown = ", ".join(f"{v:g}" for v in unknown[:6]) + (", ..." if len(unknown) > 6 else "")
        cure = f"a label map holds 0 for background and 1 to {classes} for the classes in their order"
        add(volume, f"unknown labels: {shown}", cure)


def _check_truth(volume: Volume, classes: int, add: Add) -> None:
    if not _finite(volume, add):
        return
    if volume.array.shape[3] != classes:
        add(volume, f"{volume.array.shape[3]} class maps, the data set has {classes} classes", "write one map a class")
    elif volume.array.min() < 0 or volume.array.sum(axis=3, dtype=np.float64).max() > 1 + 1e-4:
        add(volume, "values are below 0 or sum to more than 1", "write shares in [0, 1]")


def check_raters(raters_of: dict[str, list[str]], count: int) -> list[Fault]:
    """Where raters are persons: faults of cases whose raters are not those of most cases."""
    sets = Counter(tuple(sorted(names)) for names in raters_of.values() if len(names) == count)
    if len(sets) < 2:
        return []
    usual = set(min(sets.items(), key=lambda item: (-item[1], item[0]))[0])
    cure = "name a rater alike in every case, or declare `raters: {identified: false}`"
    return [
        Fault(case, "", f"its raters are {', '.join(names)}; most cases have {', '.join(sorted(usual))}", cure)
        for case, names in raters_of.items()
        if len(names) == count and set(names) != usual
    ]


def check_duplicates(same_image: dict[str, list[str]]) -> list[Fault]:
    """Faults of cases whose images are equal voxel by voxel; ``same_image`` holds names by digest of the image."""
    cure = "take one of them out: a case on both sides of a split would spoil the comparison"
    return [
        Fault(name, "", f"its image is the same as that of {names[0]!r}", cure)
        for names in same_image.values()
        for name in names[1:]
        if name != names[0]
    ]


def assemble(found: FoundCase, case: RawCase, contrasts: list[str]) -> Case:
    """A checked :class:`Case` from what an adapter read; affine and grid are those of the first contrast."""
    first = case.images[contrasts[0]]
    truth = {}
    for key, volume in case.truth.items():
        maps = volume.array if volume.array.ndim == 4 else volume.array[..., np.newaxis]
        truth[key] = np.moveaxis(maps, 3, 0).astype(np.float32)
    return Case(
        name=found.name,
        centre=found.centre or UNKNOWN_CENTRE,
        image=np.stack([case.images[c].array.astype(np.float32) for c in contrasts]),
        raters=np.stack([v.array.astype(np.uint8) for v in case.raters.values()]),
        affine=first.affine,
        truth=truth,
    )


def write_faults(path: str | Path, faults: list[Fault]) -> None:
    """Write the table of faults, atomically; tabs and line breaks inside a text become spaces."""
    rows = [FAULTS_COLUMNS, *((f.case, f.file, f.fault, f.cure) for f in faults)]
    files.write_text(path, "".join("\t".join(" ".join(str(cell).split()) for cell in row) + "\n" for row in rows))


def _digest(case: RawCase) -> str:
    digest = hashlib.sha256()
    for contrast, volume in sorted(case.images.items()):
        array = _single(volume.array) if volume.array.dtype.kind in "biuf" else volume.array
        digest.update(f"{contrast}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _summary(faults: list[Fault], table: str | Path, name: str) -> PenumbraError:
    lines = [f"    {f.case} {f.file}: {f.fault} -> {f.cure}" for f in faults[:_TOLD]]
    if len(faults) > _TOLD:
        lines.append(f"    ... and {len(faults) - _TOLD} more")
    cases = len({f.case for f in faults})
    return PenumbraError(
        f"the data set {name!r} has {len(faults)} faults in {cases} cases:\n" + "\n".join(lines),
        file=table,
        cure="the table lists every one with its cure; correct them at the source and run again",
    )
