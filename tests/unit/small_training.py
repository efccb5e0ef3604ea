"""A data set of a few tiny slices or volumes, prepared, and the configurations to train on it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from penumbra.config.models import Candidate, Dataset


@dataclass(frozen=True)
class Data:
    """Where the synthetic data set lies, and its arrays: images (N, C, ...), labels (N, V, K, ...)."""

    prepared: Path
    labels: Path
    split: Path
    images: np.ndarray
    targets: np.ndarray
    cases: list[str]
    parts: dict[str, list[str]]


def make_data(
    folder: Path,
    rng: np.random.Generator,
    *,
    cases: int = 6,
    depth: int = 4,
    size: tuple[int, ...] = (16, 12),
    contrasts: int = 1,
    classes: int = 1,
    variants: int = 1,
    constant: tuple[int, ...] = (),
) -> Data:
    """Blurred discs in noise, in each case ``depth`` slices, or with a size of three one volume with a ball.

    Half of the cases are for training, a third for validation, the rest for testing.
    """
    prepared, labels = folder / "prepared", folder / "labels"
    prepared.mkdir(parents=True)
    labels.mkdir()
    names = [f"case-{k}" for k in range(cases)]
    depth = 1 if len(size) == 3 else depth
    n, (height, *others) = cases * depth, size
    y, *rest = np.indices(size)
    targets = np.zeros((n, variants, classes, *size), np.float32)
    for row in range(n):
        for k in range(classes):
            # One third of the height to each class, so that classes exclude each other.
            middle = (height * (k + rng.uniform(0.4, 0.6)) / classes, *(n * rng.uniform(0.4, 0.6) for n in others))
            for v in range(variants):
                radius = rng.uniform(0.25, 0.4) * min(height / classes, *others)
                distance = np.sqrt(sum((at - m) ** 2 for at, m in zip((y, *rest), middle, strict=True)))
                targets[row, v, k] = np.clip(radius - distance + 0.5, 0, 1) / max(1, classes - 1)
    images = rng.normal(size=(n, contrasts, *size)).astype(np.float32) * 0.3
    images += 2 * targets.mean(axis=(1, 2))[:, None]
    for row in constant:
        images[row] = 0
    np.save(prepared / "images.npy", images)
    np.save(labels / "prepared.npy", targets)
    rows = [f"{names[r // depth]},{r % depth},{r in constant}" for r in range(n)]
    (prepared / "slices.csv").write_text("case,z,constant\n" + "\n".join(rows) + "\n")
    first, second = max(1, cases // 2), max(2, cases * 5 // 6)
    parts = {"train": names[:first], "validation": names[first:second], "test": names[second:]}
    split = folder / "split-0.json"
    split.write_text(json.dumps({"dataset": "discs", "split": 0, **parts}))
    return Data(prepared, labels, split, images, targets, names, parts)


def make_dataset(
    contrasts: int = 1, classes: int = 1, *, crop: tuple[int, ...] = (16, 12), **evaluation: Any
) -> Dataset:
    """The configuration of the synthetic data set."""
    return Dataset.model_validate(
        {
            "title": "Discs",
            "contrasts": [f"contrast{k}" for k in range(contrasts)],
            "classes": [f"class{k}" for k in range(classes)],
            "raters": {"count": 3},
            "geometry": {"crop": crop},
            "evaluation": evaluation,
        }
    )


def make_candidate(
    *,
    encoding: str = "soft",
    activation: str = "sigmoid",
    loss: str = "dice",
    network: dict[str, Any] | None = None,
    members: int = 1,
    **training: Any,
) -> Candidate:
    """A tiny U-Net, three epochs."""
    return Candidate.model_validate(
        {
            "label": "Tiny",
            "labels": {"fusion": "average", "encoding": encoding},
            "network": {"name": "unet2d", "depth": 1, "base_filters": 4, **(network or {})},
            "activation": activation,
            "loss": loss,
            "training": {"epochs": 3, "batch_size": 4, "learning_rate": 0.01, **training},
            "members": {"count": members},
        }
    )


def arguments(folder: Path, data: Data, candidate: Candidate, dataset: Dataset, **more: Any) -> dict[str, Any]:
    """Keyword arguments for :func:`penumbra.training.loop.train`."""
    return {
        "prepared": data.prepared,
        "labels": data.labels,
        "split": data.split,
        "candidate": candidate,
        "dataset": dataset,
        "dataset_name": "discs",
        "candidate_name": "tiny",
        "split_index": 0,
        "member": 0,
        "seed": 7,
        "device": "cpu",
        "out_folder": folder / "member-0",
        "resume_root": folder / "resume",
        "digest": "0123abcd",
        **more,
    }
