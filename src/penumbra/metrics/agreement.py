"""A case's prediction and samples against each of its readers, not a fusion of them (Monteiro et al. 2020, 5.2).

The prediction is the most probable class of each voxel. Readers and samples are label maps. Where a data set is cut
into slices, a sample is one of a slice: two slices of a case are drawn independently, so every measure is taken of each
slice and the case's value is the mean over its slices; Dice scores, as in the paper, are pooled over all pairs of slice
and reader that are not empty on both sides. Where the data set holds whole volumes, a case is one item.

How the samples' own Dice scores spread about the prediction's (the paper's figure 5) is taken for each item and reader,
as :func:`penumbra.metrics.distribution.sample_scores` does, and averaged over the pairs where it is defined.

Without samples the prediction stands as the only one, as for the paper's deterministic baseline: its diversity and its
marginal entropy are 0.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from penumbra.metrics.distribution import Comparison, class_mean, mean_marginal_entropy
from penumbra.metrics.measurement import (
    BOTH_EMPTY,
    NO_VOXEL,
    NOT_FINITE,
    REFERENCE_EMPTY,
    Measured,
    Measurement,
    undefined,
)

SAMPLED = (
    "ged", "sample_diversity", "reader_diversity", "matched_iou", "maximum_dice", "sample_entropy", "reader_entropy"
)  # fmt: skip
SPREAD = ("samples_better", "sample_dice_upper")
READERS = ("reader_dice", "reader_dice_annotated")
QUANTILE = 0.95


def measure_readers(
    prediction: np.ndarray | None, samples: np.ndarray | None, readers: np.ndarray, classes: int, *, by_slice: bool
) -> Iterator[Measured]:
    """Every measure of one case against its readers, each of the whole image (all classes together).

    Parameters
    ----------
    prediction : label map ``(X, Y, Z)``, 0 (background) .. K; None where the probabilities were not finite, which
        leaves every measure undefined.
    samples : label maps ``(S, X, Y, Z)``, or None. readers : label maps ``(R, X, Y, Z)``.
    classes : K. by_slice : whether each slice along Z is an item of its own.

    Yields
    ------
    :data:`SAMPLED` with ``n`` the number of items, :data:`SPREAD` with that of pairs of item and reader,
    :data:`READERS` with that of Dice scores.

    Raises
    ------
    ValueError, TypeError : shapes differ or labels are none, as :func:`penumbra.metrics.distribution.pair_counts`.
    """
    if prediction is None:
        for name in SAMPLED + SPREAD + READERS:
            yield Measured(None, name, None, undefined(NOT_FINITE), 0)
        return
    drawn = prediction[None] if samples is None else samples
    items = range(prediction.shape[-1]) if by_slice else (slice(None),)
    rows, scores, marked = [], [], []
    better: list[float] = []
    upper: list[float] = []
    for item in items:
        compared = Comparison(drawn[..., item], readers[..., item], classes)
        found = compared.agreement()
        entropies = mean_marginal_entropy(drawn[..., item], classes), mean_marginal_entropy(readers[..., item], classes)
        matched = compared.matched_iou(), compared.maximum_dice()
        rows.append((found.ged, found.diversity, found.reader_diversity, *matched, *entropies))
        alone = Comparison(prediction[None][..., item], readers[..., item], classes)
        own = alone.sample_dice()
        for draws, mean in zip(class_mean(compared.sample_dice(), "skip").T, class_mean(own, "skip")[0], strict=True):
            if (draws := draws[~np.isnan(draws)]).size:
                upper.append(float(np.quantile(draws, QUANTILE)))
                better += [] if np.isnan(mean) else [float((draws > mean).mean())]
        scores.append(own[:, 0].ravel())
        marked.append(alone.counts.sizes()[:, 1:].ravel() > 0)
    for name, values in zip(SAMPLED, np.array(rows).reshape(-1, len(SAMPLED)).T, strict=True):
        yield Measured(
            None, name, None, Measurement(float(values.mean())) if len(rows) else undefined(NO_VOXEL), len(rows)
        )
    for name, pairs in zip(SPREAD, (better, upper), strict=True):
        spread = Measurement(float(np.mean(pairs))) if pairs else undefined(BOTH_EMPTY)
        yield Measured(None, name, None, spread, len(pairs))
    dice, annotated = np.concatenate([[], *scores]), np.concatenate([np.zeros(0, bool), *marked])
    defined = ~np.isnan(dice)
    for name, kept, reason in (
        ("reader_dice", defined, BOTH_EMPTY),
        ("reader_dice_annotated", annotated, REFERENCE_EMPTY),
    ):
        value = Measurement(float(dice[kept].mean())) if kept.any() else undefined(reason)
        yield Measured(None, name, None, value, int(kept.sum()))
