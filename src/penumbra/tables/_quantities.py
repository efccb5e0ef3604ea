"""The metrics that tables choose their columns from, each as a data set shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from penumbra.errors import PenumbraError
from penumbra.reporting.context import DatasetInfo
from penumbra.tables._layout import Quantity

_QUANTITIES = {
    "dice": Quantity("dice", "Dice", "%", 1.0, 100.0, 1, published="dice"),
    "precision": Quantity("precision", "Precision", "%", 1.0, 100.0, 1, published="precision"),
    "recall": Quantity("recall", "Recall", "%", 1.0, 100.0, 1, published="recall"),
    "avd": Quantity("avd", "AVD", "%", 0.0, 100.0, 1, published="avd"),
    "rvd": Quantity("rvd", "RVD", "%", 0.0, 100.0, 1, published="rvd"),
    "mse": Quantity("mse", "MSE", "%", 0.0, 100.0, None, published="mse"),
    "lfdr": Quantity("lfdr", "LFDR", "%", 0.0, 100.0, 1, published="lfdr"),
    "ltpr": Quantity("ltpr", "LTPR", "%", 1.0, 100.0, 1, published="ltpr"),
    "brier": Quantity("brier", "Brier score", "×10³", 0.0, 1e3, None),
    "entropy_error": Quantity("entropy_error", "MAE of the entropy", "nats", 0.0, 1.0, None, "image"),
    "ece": Quantity("ece", "ECE", "%", 0.0, 100.0, 1, "image"),
}
LESION_METRICS = ("lfdr", "ltpr")
_PRINTED_MSE = {
    "mse_depthless": "as printed: by the released code divided by the voxels of one slice, as the value above it.",
    "mse": "as printed: by the released code divided by the voxels of one slice, the value above it by all voxels.",
}


def size_names(edges: Sequence[int]) -> list[str]:
    """What the bins of lesion sizes are called; ``edges`` in voxels, each the largest size of its bin."""
    between = [f"{low + 1} to {high} voxels" for low, high in pairwise(edges)]
    return [f"up to {edges[0]} voxels", *between, f"over {edges[-1]} voxels"]


def quantities(dataset: DatasetInfo, names: Sequence[str], *, sizes: bool = False) -> list[Quantity]:
    """The columns of a data set, in the convention that it shows (:meth:`DatasetInfo.headline`).

    ``sizes`` adds, after each lesion rate, its values by size of lesion; these have no published counterpart.

    Raises
    ------
    PenumbraError : a lesion rate is asked of a data set whose lesions are not counted.
    """
    found = []
    for name in names:
        plain = _QUANTITIES[name]
        metric = dataset.headline(plain.metric)
        found.append(replace(plain, metric=metric, published_note=_PRINTED_MSE.get(metric, "")))
        if name not in LESION_METRICS:
            continue
        lesions = dataset.evaluation.get("lesions")
        if not lesions:
            raise PenumbraError(
                f"{name.upper()} is to be shown of {dataset.name}, whose lesions are not counted",
                cure=f"say `evaluation: {{lesions: {{}}}}` in config/datasets/{dataset.base}.yaml, or take {name} out",
            )
        if sizes:
            found += [
                replace(plain, metric=f"{name}_by_size", heading=f"{plain.heading}, {size}", bin=k, published=None)
                for k, size in enumerate(size_names(lesions["size_edges"]))
            ]
    return found
