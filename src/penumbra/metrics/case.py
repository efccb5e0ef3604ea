"""Every metric of one case."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from penumbra.metrics import lesions, nonzero, overlap, squared_error, truth, uncertainty, volume
from penumbra.metrics.binarisation import BINARISATIONS
from penumbra.metrics.measurement import NO_THRESHOLD, NOT_FINITE, Measured, Measurement, undefined

if TYPE_CHECKING:
    from penumbra.config.models import Evaluation, Lesions

OVERLAP = {
    "dice": overlap.dice,
    "precision": overlap.precision,
    "recall": overlap.recall,
    "avd": volume.avd,
    "rvd": volume.rvd,
}
ERROR = {"mse": squared_error.mse, "mse_depthless": squared_error.mse_depthless}
SOFT_ERROR = {"mse_soft": squared_error.mse, "mse_soft_depthless": squared_error.mse_depthless}
SOFT = {"brier": uncertainty.brier, "brier_depthless": uncertainty.brier_depthless}
ENTROPY = {
    "entropy": lambda probability, reference: uncertainty.entropy(probability),
    "entropy_reference": lambda probability, reference: uncertainty.entropy(reference),
    "entropy_error": uncertainty.entropy_error,
    "entropy_error_per_voxel": uncertainty.entropy_error_per_voxel,
}
NONZERO = {"nonzero_share": nonzero.nonzero_share, "nonzero_intermediate": nonzero.nonzero_intermediate}
BY_SIZE = ("ltpr_by_size", "lfdr_by_size")


@dataclass(frozen=True)
class CaseMaps:
    """One case's prediction and what it is held against, all of one shape.

    Attributes
    ----------
    probabilities : ``(K, X, Y, Z)`` in [0, 1]; where a value is not finite, every metric that uses the prediction is
        undefined.
    hard : ``(K, X, Y, Z)`` booleans, the hard reference.
    soft : ``(K, X, Y, Z)`` in [0, 1], the soft reference.
    fraction, rater_probability : ``(K, X, Y, Z)`` in [0, 1], the truth of a phantom, or None where nobody knows it.
    """

    probabilities: np.ndarray
    hard: np.ndarray
    soft: np.ndarray
    fraction: np.ndarray | None = None
    rater_probability: np.ndarray | None = None

    @property
    def finite(self) -> bool:
        """Whether all probabilities are."""
        return bool(np.isfinite(self.probabilities).all())

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each map that is there, by what it is called."""
        maps = {
            "prediction": self.probabilities, "hard reference": self.hard, "soft reference": self.soft,
            "true fraction": self.fraction, "true rater probability": self.rater_probability,
        }  # fmt: skip
        return {name: array.shape for name, array in maps.items() if array is not None}


def measure_case(maps: CaseMaps, thresholds: np.ndarray, evaluation: Evaluation) -> Iterator[Measured]:
    """Every metric of one case, for each class and for the whole image.

    Components of fewer than ``evaluation.remove_small`` voxels are taken out of the binary prediction and the hard
    reference before metrics of these two, and before no other.

    Parameters
    ----------
    thresholds : ``(K,)``; where they are used, a NaN leaves that class' binary metrics undefined.
    evaluation : ``binarisation``, ``remove_small`` and ``lesions`` are used.
    """
    finite = maps.finite
    binary, binarised = BINARISATIONS[evaluation.binarisation](maps.probabilities, thresholds)
    for k, probability in enumerate(maps.probabilities):
        fault = NOT_FINITE if not finite else None if binarised[k] else NO_THRESHOLD
        yield from _binary(k, binary[k], maps.hard[k], fault, evaluation)
        yield from _soft(k, probability, maps.hard[k], maps.soft[k], finite)
    voxels = maps.soft[0].size
    if len(binary) > 1:
        fault = NOT_FINITE if not finite else None if all(binarised) else NO_THRESHOLD
        any_class, reference = np.logical_or.reduce(binary), np.logical_or.reduce(maps.hard)
        together = undefined(fault) if fault else overlap.dice(any_class, reference)
        yield Measured(None, "dice_foreground", None, together, voxels)
    for name, metric in ENTROPY.items():
        value = _checked(finite or name == "entropy_reference", metric, maps.probabilities, maps.soft)
        yield Measured(None, name, None, value, voxels)
    known = truth.measure_case(maps.probabilities, binary, maps.fraction, maps.rater_probability, binarised=binarised)
    for k, name, measurement in known:
        yield Measured(k, name, None, measurement, voxels)


def _checked(defined: bool, metric: Callable[..., float], *maps: np.ndarray) -> Measurement:
    return Measurement(metric(*maps)) if defined else undefined(NOT_FINITE)


def _soft(k: int, probability: np.ndarray, hard: np.ndarray, soft: np.ndarray, finite: bool) -> Iterator[Measured]:
    """What needs no binary prediction of one class."""
    for metrics, reference in ((SOFT_ERROR, hard), (SOFT | ENTROPY, soft)):
        for name, metric in metrics.items():
            value = _checked(finite or name == "entropy_reference", metric, probability, reference)
            yield Measured(k, name, None, value, soft.size)
    for name, describe in NONZERO.items():
        n = soft.size if name == "nonzero_share" or not finite else int(np.count_nonzero(probability))
        yield Measured(k, name, None, describe(probability) if finite else undefined(NOT_FINITE), n)


def _binary(
    k: int, prediction: np.ndarray, reference: np.ndarray, fault: str | None, evaluation: Evaluation
) -> Iterator[Measured]:
    """What holds the binary prediction of one class against its hard reference."""
    connectivity = evaluation.lesions.connectivity if evaluation.lesions else 18
    if evaluation.remove_small > 1:
        prediction = lesions.remove_small(prediction, evaluation.remove_small, connectivity)
        reference = lesions.remove_small(reference, evaluation.remove_small, connectivity)
    for name, measure in OVERLAP.items():
        value = undefined(fault) if fault else measure(prediction, reference)
        yield Measured(k, name, None, value, reference.size)
    for name, error in ERROR.items():
        value = undefined(fault) if fault else Measurement(error(prediction, reference))
        yield Measured(k, name, None, value, reference.size)
    if evaluation.lesions:
        yield from _lesions(k, prediction, reference, fault, evaluation.lesions)


def _lesions(
    k: int, prediction: np.ndarray, reference: np.ndarray, fault: str | None, settings: Lesions
) -> Iterator[Measured]:
    """Lesions of one class found and invented; ``n`` of a rate is its denominator, in lesions."""
    match = lesions.match_lesions(
        prediction,
        reference,
        convention=settings.convention,
        overlap=settings.overlap,
        connectivity=settings.connectivity,
        wrap_labels=settings.wrap_labels,
    )
    predicted = undefined(fault) if fault else Measurement(float(len(match.predicted_sizes)))
    yield Measured(k, "lesion_count", None, Measurement(float(len(match.reference_sizes))), reference.size)
    yield Measured(k, "lesion_count_predicted", None, predicted, reference.size)
    yield from _rates(k, ("ltpr", "lfdr"), None, lesions.lesion_rates(match), fault)
    for bin_, rates in enumerate(lesions.lesion_rates_by_size(match, settings.size_edges)):
        yield from _rates(k, BY_SIZE, bin_, rates, fault)


def _rates(
    k: int, names: tuple[str, str], bin_: int | None, rates: lesions.LesionRates, fault: str | None
) -> Iterator[Measured]:
    denominators = (rates.reference, 0 if fault else rates.found + rates.false)
    for name, rate, n in zip(names, (rates.ltpr, rates.lfdr), denominators, strict=True):
        yield Measured(k, name, bin_, undefined(fault) if fault else rate, n)
