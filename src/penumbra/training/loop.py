"""Training a network: Adam, cosine annealing, early stopping, best weights by validation loss, resumable at any moment.

Every random choice is drawn from a generator named by what it is for (seed, purpose, data set, candidate, split,
member, epoch), so a training that was killed and started again ends in the same bytes as one that was not, and adding
a candidate shifts nobody's draws. Purposes: ``initialisation``, ``order`` (which slices in which order), ``rater``
(which variant of the label, one draw for each slice and access), ``augmentation``, ``dropout`` (a seed for torch at
each step: dropout and whatever else a network draws), and ``validation-rater`` (data set and split only: a slice
keeps its variant, so that the validation losses of epochs, members and candidates are comparable).

The losses in the history are means over batches. Validation batches have a fixed order and no augmentation. Constant
slices are left out of both.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from penumbra import device as devices
from penumbra import paths
from penumbra.errors import PenumbraError
from penumbra.files import write_json, write_text
from penumbra.progress import Progress, duration
from penumbra.training.checkpoint import Checkpoint
from penumbra.training.interruption import Interrupted, StopSignal
from penumbra.training.memory import explained
from penumbra.training.model import save_weights
from penumbra.training.slices import Index, Slices, open_array, read_index, read_split
from penumbra.training.trainer import Names, Trainer

if TYPE_CHECKING:
    from penumbra.config.models import Candidate, Dataset

HISTORY_COLUMNS = ("epoch", "train_loss", "validation_loss", "learning_rate")


def _describe_rows(index: Index, rows: np.ndarray) -> Callable[[np.ndarray], str]:
    def where(items: np.ndarray) -> str:
        chosen = rows[items]
        return ", ".join(f"{case} z={z}" for case, z in zip(index.case[chosen], index.z[chosen], strict=True))

    return where


def _read(
    prepared: Path,
    labels: Path,
    split: Path,
    candidate: Candidate,
    dataset: Dataset,
    names: Names,
    device: torch.device,
) -> tuple[Slices, Slices, Callable[[np.ndarray], str]]:
    index = read_index(prepared)
    cases = read_split(split, index, prepared)
    images = open_array(prepared / paths.PREPARED_IMAGES)
    targets = open_array(labels / paths.PREPARED_LABELS)
    expected, sides = (len(index.case), len(dataset.contrasts)), len(dataset.geometry.crop)
    if images.shape[:2] != expected or images.ndim != 2 + sides:
        raise PenumbraError(
            f"the prepared images have the shape {images.shape}; {expected} and {sides} sides are expected",
            file=prepared / paths.PREPARED_IMAGES,
            cure="prepare this data set again",
        )
    if targets.ndim != images.ndim + 1 or (targets.shape[0], *targets.shape[2:]) != (
        len(index.case),
        len(dataset.classes),
        *images.shape[2:],
    ):
        raise PenumbraError(
            f"the prepared labels have the shape {targets.shape}, the images {images.shape}",
            file=labels / paths.PREPARED_LABELS,
            cure="fuse the labels of this data set again",
        )
    hard = candidate.labels.encoding == "hard"
    rows = {part: index.rows(cases[part], constant=False) for part in ("train", "validation")}
    for part, found in rows.items():
        if not len(found):
            reason, cure = "it has no cases", "check the split's fractions and the number of cases"
            if cases[part]:
                reason = f"all of its slices are constant within the crop (cases: {', '.join(cases[part])})"
                cure = "look at these images, or enlarge geometry.crop of the data set"
            raise PenumbraError(
                f"the {part} part of {names.dataset}, split {names.split}, is empty: {reason}", file=split, cure=cure
            )
    training, validation = (Slices(images, targets, found, hard=hard, device=device) for found in rows.values())
    present = training.classes_present()
    for name, there in zip(dataset.classes, present, strict=True):
        if not there:
            raise PenumbraError(
                f"class {name!r} appears in no training slice of {names.dataset}, split {names.split} "
                f"(labels: {candidate.labels.fusion}, {candidate.labels.encoding}; cases: {', '.join(cases['train'])})",
                file=labels / paths.PREPARED_LABELS,
                cure="use another split or fusion, or drop the class from the data set",
            )
    return training, validation, _describe_rows(index, np.concatenate(list(rows.values())))


BEYOND_TRAINING = {"label", "trained_as", "members", "predictor"}
"""What of a candidate does not bear on the training of one member."""


def history_text(history: list[tuple[int, float, float, float]]) -> str:
    """The text of ``history.csv``: one row an epoch, floats with all their digits, no timings."""
    rows = [",".join(HISTORY_COLUMNS), *(",".join(repr(value) for value in row) for row in history)]
    return "\n".join(rows) + "\n"


def train(
    *,
    prepared: Path,
    labels: Path,
    split: Path,
    candidate: Candidate,
    dataset: Dataset,
    dataset_name: str,
    candidate_name: str,
    split_index: int,
    member: int,
    seed: int,
    device: str = "auto",
    deterministic: bool = True,
    out_folder: Path,
    resume_root: Path,
    digest: str,
    checkpoint_seconds: float = 60.0,
    choices: Mapping[str, Any] | None = None,
    stop_after: int | None = None,
) -> dict[str, Any]:
    """Train one member of a candidate; write its weights, ``history.csv``, ``progression.npz`` and ``run.json``.

    Parameters
    ----------
    prepared, labels, split : prepared images, prepared labels of the candidate's fusion, the split's file.
    candidate, dataset : resolved configurations (the data set's recipe already laid over the candidate).
    dataset_name, candidate_name, split_index, member, seed : name every random draw.
    device : ``"auto"``, ``"cpu"`` or ``"cuda"``. deterministic : only deterministic algorithms.
    out_folder : where the four files go. All but the record have equal bytes for equal inputs, device and versions.
    resume_root : folder for unfinished trainings; this one is kept in ``<digest>-<hash of names, config and data>``.
    digest : digest of the code and configuration that the training depends on.
    checkpoint_seconds : how old the saved state may become; 0 saves at each step.
    choices : the preset that the run follows and where it deviates from it, for the record.
    stop_after : stop as if asked to after so many steps of this process.

    Returns
    -------
    What is written to ``run.json``.

    Raises
    ------
    PenumbraError : an empty part of the split, a class that no training slice has, a loss that is not finite, no CUDA
        though asked for, memory used up, inputs that do not fit each other.
    Interrupted : SIGTERM, SIGINT or ``stop_after``; the state was saved before.
    """
    names = Names(seed, dataset_name, candidate_name, split_index, member)
    place = devices.choose(device)
    options = candidate.training
    devices.prepare(place, threads=options.torch_threads, deterministic=deterministic)
    training, validation, where = _read(prepared, labels, split, candidate, dataset, names, place)
    recipe = candidate.model_dump(mode="json", exclude=BEYOND_TRAINING)
    content = [digest, str(names), seed, recipe, place.type, torch.__version__]
    content += [deterministic, training.digest(), validation.digest()]
    identity = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    checkpoint = Checkpoint(resume_root / f"{digest[:32]}-{identity[:16]}", identity)
    stop = StopSignal()
    with stop.watched(), explained(place, options, training.size):
        trainer = Trainer(names, candidate, dataset, training, validation, where, place)
        saved = checkpoint.load()
        if saved is not None:
            trainer.restore(saved)
        record = _run(trainer, checkpoint, checkpoint_seconds, stop, stop_after)
    record |= {
        "candidate": recipe,
        "names": {"dataset": dataset_name, "candidate": candidate_name, "split": split_index, "member": member},
        "seed": seed,
        "device": devices.describe(place),
        "threads": torch.get_num_threads(),
        "deterministic": deterministic,
        "precision": options.precision,
        "gradient_accumulation": {
            "option": options.gradient_accumulation,
            "parts": trainer.state.parts,
            "changes": trainer.state.changes,
        },
        "slices": {"train": training.count, "validation": validation.count},
        "digest": digest,
        "choices": dict(choices or {}),
    }
    write_text(out_folder / "history.csv", history_text(trainer.state.history))
    index = read_index(prepared)
    image, label, row = validation.raw(trainer.progression.item)
    trainer.progression.write(
        out_folder / "progression.npz", image=image, label=label, case=str(index.case[row]), z=int(index.z[row])
    )
    save_weights(out_folder / "weights.safetensors", trainer.state.best)
    write_json(out_folder / "run.json", record)
    checkpoint.remove()
    return record


def _run(
    trainer: Trainer, checkpoint: Checkpoint, checkpoint_seconds: float, stop: StopSignal, stop_after: int | None
) -> dict[str, Any]:
    """Train to the end; what of the record only the training itself knows."""
    epochs, before = trainer.options.epochs, trainer.state.seconds
    began = saved_at = time.monotonic()
    taken = 0
    done = (trainer.state.epoch - 1) * trainer.steps + trainer.state.step

    def save() -> None:
        nonlocal saved_at
        trainer.state.seconds = before + time.monotonic() - began
        checkpoint.save(trainer.saved())
        saved_at = time.monotonic()

    def stop_if_asked() -> None:
        reason = stop.name or ("the limit of steps" if stop_after is not None and taken >= stop_after else None)
        if reason is not None:
            trainer.collect()
            save()
            raise Interrupted(
                f"{trainer.names}: stopped in epoch {trainer.state.epoch} of {epochs}, as {reason} asked",
                file=checkpoint.path,
                cure="start it again: it goes on from the state saved in this file",
            )

    over = False
    note = ""
    with Progress(epochs * trainer.steps, f"train {trainer.names}", start=done) as progress:
        if done:
            progress.say(f"resumed in epoch {trainer.state.epoch}, after {trainer.state.step} steps of it")
        while not over:
            for _ in trainer.epoch_steps():
                taken += 1
                done += 1
                progress.update(done, note)
                stop_if_asked()
                if time.monotonic() - saved_at >= checkpoint_seconds:
                    trainer.collect()
                    save()
            over = trainer.finish_epoch()
            number, train_loss, validation_loss, _ = trainer.state.history[-1]
            note = f"epoch {number}/{epochs}: training loss {train_loss:.4f}, validation loss {validation_loss:.4f}"
            progress.update(done, note)
            if not over:
                stop_if_asked()
        state = trainer.state
        seconds = before + time.monotonic() - began
        progress.say(
            f"{len(state.history)} of {epochs} epochs in {duration(seconds)}; "
            f"best validation loss {state.best_loss:.4f} in epoch {state.best_epoch}"
        )
    return {
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "best_epoch": state.best_epoch,
        "best_validation_loss": state.best_loss,
        "epochs_run": len(state.history),
        "stopped_early": len(state.history) < epochs,
        "steps_per_epoch": trainer.steps,
        "seconds": seconds,
        "resumptions": len(state.devices) - 1,
        "devices": state.devices,
        "peak_memory_bytes": torch.cuda.max_memory_allocated(trainer.device) if trainer.device.type == "cuda" else None,
    }
