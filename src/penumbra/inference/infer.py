"""Predicting the test cases of a run, and finding its binarisation threshold on the training and validation cases.

A case is predicted alone, in batches of ``training.batch_size`` consecutive slices in order of z: no prediction
depends on which other cases are predicted beside it. The normalised ReLU divides by the maximum of a batch, so with
it slices of one case do influence each other, as in the released code. Constant slices are not predicted: their maps
are 0, as the released code fills slices it dropped. Where the data set keeps whole volumes, a case is predicted in one
pass. Outside the region of interest of a data set that has one, prediction and samples are background.

Test predictions are brought back to native space, and then probabilities ``<= evaluation.discard_below`` become 0.
Where ``evaluation.readers`` is set, a method's samples are kept too: as label maps in native space, each voxel with its
most probable class in that draw.
The threshold is searched in prepared space (cropped and resampled), where no interpolation of predictions is needed;
the thesis searched in native space. The label there is the prepared hard reference, binarised at >= 0.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from penumbra import device as devices
from penumbra import parts, paths
from penumbra.errors import PenumbraError
from penumbra.files import atomic_folder, write_text
from penumbra.inference import threshold as search
from penumbra.inference.prediction import Prediction
from penumbra.metrics.binarisation import most_probable_class
from penumbra.networks.region import inside
from penumbra.progress import Progress
from penumbra.seeds import torch_seed
from penumbra.training.model import build_model, load_weights, memory_format
from penumbra.training.slices import Index, open_array, read_index, read_split

if TYPE_CHECKING:
    from penumbra.config.models import Candidate, Dataset


class CasePredictor(Protocol):
    """Predicts a case by its name."""

    def __call__(self, case: str, *, sampled: bool = False) -> Prediction:
        """Maps of a case in prepared space; with samples, where the method has any, if they are asked for."""
        ...


def case_predictor(
    *,
    index: Index,
    images: np.ndarray,
    weights: Sequence[Path],
    candidate: Candidate,
    dataset: Dataset,
    device: torch.device,
    seed: int,
    names: tuple[str | int, ...],
) -> CasePredictor:
    """A function from a case's name to its :class:`Prediction` in prepared space: probabilities (Z, K, H, W), or of a
    volume (1, K, H, W, D), on the CPU.

    Parameters
    ----------
    images : (N, C, H, W) or (N, C, H, W, D), mapped. weights : one file for each member.
    seed, names : name the draws of predictors that sample (data set, trained candidate, split); the case's name is
        added.
    """
    layout = memory_format(device, candidate.training.precision, images.ndim - 2)
    models = []
    for path in weights:
        model = build_model(candidate, dataset)
        load_weights(path, model)
        models.append(model.to(device=device, memory_format=layout).eval().requires_grad_(False))  # type: ignore[call-overload]
    predict = parts.build("predictor", candidate.predictor.name, candidate.predictor.options)
    region = dataset.geometry.region == "nonzero"
    bfloat16, size, classes = (
        candidate.training.precision == "bfloat16",
        candidate.training.batch_size,
        len(dataset.classes),
    )

    def brought(maps: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        """Maps (..., B, K, ...) of a batch on the CPU, background where nothing was to be looked at."""
        maps = maps.float().cpu()
        return maps.mul_(inside(batch)) if region else maps

    def of_case(case: str, *, sampled: bool = False) -> Prediction:
        rows = index.rows([case])
        seen = np.flatnonzero(~index.constant[rows])
        torch.manual_seed(torch_seed(seed, "prediction", *names, case))
        probabilities = torch.zeros(len(rows), classes, *images.shape[2:])
        samples: torch.Tensor | None = None
        with torch.inference_mode(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
            for k in range(0, len(seen), size):
                chosen = seen[k : k + size]
                batch = torch.from_numpy(np.ascontiguousarray(images[rows[chosen]], np.float32))
                found = predict(models, batch.to(device).contiguous(memory_format=layout), sampled=sampled)
                probabilities[chosen] = brought(found.probabilities, batch)
                if not sampled or found.samples is None:
                    continue
                drawn = brought(found.samples, batch)
                if len(chosen) == len(rows):
                    samples = drawn  # not copied: those of a volume are gigabytes
                else:
                    samples = torch.zeros(len(drawn), *probabilities.shape) if samples is None else samples
                    samples[:, chosen] = drawn
        if not torch.isfinite(probabilities).all():
            raise PenumbraError(
                "the prediction holds values that are not finite numbers",
                case=case,
                cure="look at the case's image and at the run's history.csv; train with a lower training.learning_rate",
            )
        return Prediction(probabilities, samples)

    return of_case


Row = tuple[str, float, float]
"""Class name, threshold, and mean Dice over cases."""


def find_threshold(
    predict: CasePredictor, cases: Sequence[str], index: Index, labels: np.ndarray, dataset: Dataset
) -> tuple[list[Row], list[Row]]:
    """The best threshold of each class, and the whole curve that it was found on.

    With argmax the best threshold is NaN and its Dice that of the argmax; the curve takes each class by itself.

    Parameters
    ----------
    labels : (N, 1, K, H, W) or (N, 1, K, H, W, D) prepared labels of the hard reference, mapped.
    """
    evaluation = dataset.evaluation
    levels = search.thresholds(evaluation.threshold_step)
    argmax = evaluation.binarisation == "argmax"
    by_argmax, by_level = [], []
    for case in cases:
        maps = np.moveaxis(discard(predict(case).probabilities.numpy(), evaluation.discard_below), 1, 0)
        truth = np.moveaxis(labels[index.rows([case]), 0] >= 0.5, 1, 0)
        by_level.append([search.dice_at_thresholds(p, t, levels) for p, t in zip(maps, truth, strict=True)])
        if argmax:
            by_argmax.append([[search.dice(p, t)] for p, t in zip(search.argmax_classes(maps), truth, strict=True)])
    curves = np.asarray(by_level)
    best: list[Row] = []
    curve: list[Row] = []
    for k, name in enumerate(dataset.classes):
        scores, at = (np.asarray(by_argmax)[:, k], np.array([np.nan])) if argmax else (curves[:, k], levels)
        level, score = search.best_threshold(scores, at)
        best.append((name, float("nan") if argmax else level, score))
        means = search.mean_over_cases(curves[:, k])
        curve += [(name, float(at), float(mean)) for at, mean in zip(levels, means, strict=True)]
    return best, curve


def _write_rows(path: Path, rows: list[Row]) -> None:
    lines = ["class,threshold,dice", *(f"{name},{level!r},{score!r}" for name, level, score in rows)]
    write_text(path, "\n".join(lines) + "\n")


def _seen(image: Path) -> np.ndarray:
    """Where some contrast of a case's image is not 0, (X, Y, Z): on the prepared grid its region of interest is known
    already, but the way back interpolates across its border."""
    from penumbra.data.case import read_nifti

    values, _ = read_nifti(image)
    contrasts = values if values.ndim == 4 else values[..., np.newaxis]
    found: np.ndarray = (contrasts != 0).any(axis=3)
    return found


def discard(probabilities: np.ndarray, below: float) -> np.ndarray:
    """Probabilities with values ``<= below`` set to 0 (released code's ``discard_noise``)."""
    return np.where(probabilities <= np.float32(below), np.float32(0), probabilities)


def infer(
    *,
    prepared: Path,
    cases_folder: Path,
    hard_labels: Path,
    split: Path,
    weights: Sequence[Path],
    candidate: Candidate,
    dataset: Dataset,
    dataset_name: str,
    candidate_name: str,
    split_index: int,
    seed: int,
    device: str = "auto",
    deterministic: bool = True,
    predictions: Path,
    threshold: Path,
    threshold_curve: Path,
) -> None:
    """Write ``<case>.nii.gz``, float32 (X, Y, Z, K), for every test case into ``predictions``, and both tables.

    With ``evaluation.readers`` and a predictor that samples, ``samples/<case>.nii.gz`` too, uint8 labels (X, Y, Z, S).

    Parameters
    ----------
    prepared : folder of prepared images. cases_folder : ingested cases, for their affine.
    hard_labels : label folder of ``dataset.evaluation.hard_reference``. weights : ``weights.safetensors`` of each
        member.
    threshold : table of ``class,threshold,dice``, the Dice being the mean over training and validation cases; with
        ``evaluation.binarisation: argmax`` the threshold is ``nan`` and the Dice that of the argmax.
    threshold_curve : table of the same columns with a row for each class and threshold tried.

    Raises
    ------
    PenumbraError : weights that do not fit, predictions that are not finite, cases that were not prepared, no CUDA
        though asked for.
    """
    from penumbra.data.case import IMAGE, read_affine, write_class_map
    from penumbra.data.geometry import CaseGeometry, from_items, read_geometries, to_native

    place = devices.choose(device)
    devices.prepare(place, threads=candidate.training.torch_threads, deterministic=deterministic)
    index = read_index(prepared)
    cases = read_split(split, index, prepared)
    labels = open_array(hard_labels / paths.PREPARED_LABELS)
    if labels.shape[1] != 1:
        raise PenumbraError(
            f"the hard reference {dataset.evaluation.hard_reference!r} has {labels.shape[1]} variants, not one",
            file=hard_labels,
            cure="set evaluation.hard_reference to a fusion that gives one label, such as staple or majority",
        )
    predict = case_predictor(
        index=index,
        images=open_array(prepared / paths.PREPARED_IMAGES),
        weights=weights,
        candidate=candidate,
        dataset=dataset,
        device=place,
        seed=seed,
        # Candidates that share a training share their draws too, so that they differ in what they do with them alone.
        names=(dataset_name, candidate.trained_as or candidate_name, split_index),
    )
    geometries = read_geometries(prepared / paths.PREPARED_GEOMETRY)
    seen = cases["train"] + cases["validation"]
    title = f"predict {dataset_name} / {candidate_name} / split {split_index}"
    with Progress(len(cases["test"]) + len(seen), title, unit="cases") as progress:
        done = 0

        def counted(case: str, *, sampled: bool = False) -> Prediction:
            nonlocal done
            found = predict(case, sampled=sampled)
            done += 1
            progress.update(done)
            return found

        with atomic_folder(predictions) as folder:
            for case in cases["test"]:
                found = counted(case, sampled=dataset.evaluation.readers)

                image = cases_folder / case / IMAGE
                seen_there = _seen(image) if dataset.geometry.region == "nonzero" else None

                def native(
                    maps: torch.Tensor,
                    geometry: CaseGeometry = geometries[case],
                    seen_there: np.ndarray | None = seen_there,
                ) -> np.ndarray:
                    found = np.clip(to_native(from_items(maps.numpy(), geometry), geometry), 0, 1).astype(np.float32)
                    return found if seen_there is None else found * seen_there

                affine = read_affine(image)
                maps = discard(native(found.probabilities), dataset.evaluation.discard_below)
                write_class_map(folder / f"{case}.nii.gz", maps, affine)
                if found.samples is not None:
                    labels_drawn = [most_probable_class(native(draw)).astype(np.uint8) for draw in found.samples]
                    (folder / paths.SAMPLES).mkdir(exist_ok=True)
                    write_class_map(folder / paths.SAMPLES / f"{case}.nii.gz", np.stack(labels_drawn), affine)
        best, curve = find_threshold(counted, seen, index, labels, dataset)
    _write_rows(threshold, best)
    _write_rows(threshold_curve, curve)
