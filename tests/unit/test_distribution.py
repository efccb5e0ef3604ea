"""Measures of sampled segmentations against plain loops over pairs, voxels and classes, in exact fractions."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from penumbra.metrics import distribution
from penumbra.metrics.distribution import (
    Comparison,
    diversity,
    ged,
    marginal_entropy,
    marginals,
    mean_dice,
    mean_marginal_entropy,
    pair_counts,
    reader_dice,
    sample_scores,
)


def overlap_of(a, b, classes, kind, absent):
    """Mean over foreground classes of IoU or Dice of two label maps, as a fraction; None where no class is left."""
    values = []
    for k in range(1, classes + 1):
        first = {v for v, label in enumerate(a.ravel().tolist()) if label == k}
        second = {v for v, label in enumerate(b.ravel().tolist()) if label == k}
        if not first and not second:
            values += [Fraction(1)] if absent == "one" else []
        elif kind == "iou":
            values.append(Fraction(len(first & second), len(first | second)))
        else:
            values.append(Fraction(2 * len(first & second), len(first) + len(second)))
    return sum(values, Fraction(0)) / len(values) if values else None


def mean_of(values):
    values = [v for v in values if v is not None]
    return float(sum(values, Fraction(0)) / len(values)) if values else math.nan


def distances(first, second, classes, kind, absent, identical=True):
    found = []
    for (i, a), (j, b) in itertools.product(enumerate(first), enumerate(second)):
        if identical or i != j:
            overlap = overlap_of(a, b, classes, kind, absent)
            found.append(None if overlap is None else 1 - overlap)
    return mean_of(found)


def label_maps(rng, number, classes, shape=(5, 6), foreground=0.4):
    maps = rng.integers(1, classes + 1, (number, *shape))
    return np.where(rng.random(maps.shape) < foreground, maps, 0).astype(np.uint8)


CASES = [
    (1, 1, 1, 0.5),
    (6, 4, 1, 0.3),
    (5, 3, 3, 0.5),
    (4, 4, 2, 0.03),
    (3, 2, 4, 0.05),
    (7, 1, 2, 1.0),
    (2, 3, 2, 0.0),
]


@pytest.mark.parametrize(("samples", "readers", "classes", "foreground"), CASES)
@pytest.mark.parametrize("kind", ["iou", "dice"])
@pytest.mark.parametrize("absent", ["one", "skip"])
@pytest.mark.parametrize("identical", [True, False])
def test_energy_distance_equals_a_loop_over_pairs(samples, readers, classes, foreground, kind, absent, identical, rng):
    drawn, read = (label_maps(rng, n, classes, foreground=foreground) for n in (samples, readers))
    found = Comparison(drawn, read, classes).agreement(overlap=kind, absent=absent, identical=identical)
    cross = distances(drawn, read, classes, kind, absent)
    own = distances(drawn, drawn, classes, kind, absent, identical)
    others = distances(read, read, classes, kind, absent, identical)
    expected = [2 * cross - own - others, cross, own, others]
    np.testing.assert_allclose(
        [found.ged, found.cross, found.diversity, found.reader_diversity], expected, rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_short_forms_are_the_released_conventions(dtype, rng):
    drawn, read = label_maps(rng, 5, 2).astype(dtype), label_maps(rng, 4, 2).astype(dtype)
    whole = Comparison(drawn, read, 2).agreement()
    assert (ged(drawn, read, 2), diversity(drawn, 2)) == (whole.ged, whole.diversity)
    assert diversity(drawn, 2, identical=False) == pytest.approx(diversity(drawn, 2) * 5 / 4)


def test_known_values():
    empty, left, right = np.zeros((2, 4), bool), np.zeros((2, 4), bool), np.zeros((2, 4), bool)
    left[:, :2], right[:, 2:] = True, True
    assert ged(np.array([empty]), np.array([empty])) == 0.0
    assert ged(np.array([left]), np.array([left, left])) == 0.0
    assert ged(np.array([left]), np.array([right])) == 2.0
    assert ged(np.array([left, right]), np.array([right, left])) == 0.0
    assert diversity(np.array([left, right])) == 0.5
    assert diversity(np.array([left, right]), identical=False) == 1.0
    assert diversity(np.array([left])) == 0.0
    assert math.isnan(diversity(np.array([left]), identical=False))
    assert math.isnan(diversity(np.array([empty]), absent="skip"))


@pytest.mark.parametrize("foreground", [0.0, 0.02, 0.6, 1.0])
def test_counts_are_exact_across_blocks(foreground, rng, monkeypatch):
    maps = label_maps(rng, 5, 3, shape=(7, 5, 4), foreground=foreground)
    maps[:, 3:5] = 0
    monkeypatch.setattr(distribution, "_BLOCK", 19)
    both = pair_counts(maps[:2], maps[2:], classes=3).both
    for k, i, j in np.ndindex(both.shape):
        assert both[k, i, j] == sum(
            a == b == k + 1 for a, b in zip(maps[i].ravel().tolist(), maps[j].ravel().tolist(), strict=True)
        )


def test_counts_beyond_what_float32_holds():
    voxels = (1 << 24) + 3
    assert pair_counts(np.ones((1, voxels), bool), classes=1).both.item() == voxels


@pytest.mark.parametrize(("samples", "readers", "classes", "foreground"), [c for c in CASES if c[0] <= 4])
@pytest.mark.parametrize("absent", ["one", "skip"])
def test_matched_iou_is_the_best_of_all_matchings(samples, readers, classes, foreground, absent, rng):
    drawn, read = (label_maps(rng, n, classes, (3, 3), foreground) for n in (samples, readers))
    total = math.lcm(samples, readers)
    best, pairs = None, []
    for order in itertools.permutations(range(total)):
        chosen = [
            overlap_of(drawn[i * samples // total], read[j * readers // total], classes, "iou", absent)
            for i, j in enumerate(order)
        ]
        value = sum((v for v in chosen if v is not None), Fraction(0))
        if best is None or value > best:
            best, pairs = value, [chosen]
        elif value == best:
            pairs.append(chosen)
    found = Comparison(drawn, read, classes).matched_iou(absent=absent)
    expected = [mean_of(chosen) for chosen in pairs]
    assert any(found == pytest.approx(e, abs=1e-12, nan_ok=True) for e in expected)
    if absent == "one":
        assert max(expected) - min(expected) < 1e-12


@pytest.mark.parametrize(("samples", "readers", "classes", "foreground"), CASES)
@pytest.mark.parametrize("absent", ["one", "skip"])
def test_maximum_dice_is_each_readers_best(samples, readers, classes, foreground, absent, rng):
    drawn, read = (label_maps(rng, n, classes, foreground=foreground) for n in (samples, readers))
    best = []
    for reader in read:
        scores = [overlap_of(sample, reader, classes, "dice", absent) for sample in drawn]
        best.append(max((s for s in scores if s is not None), default=None))
    found = Comparison(drawn, read, classes).maximum_dice(absent=absent)
    assert found == pytest.approx(mean_of(best), abs=1e-12, nan_ok=True)


@pytest.mark.parametrize(("number", "readers", "classes", "foreground"), CASES)
def test_dice_with_readers_leaves_out_what_is_empty(number, readers, classes, foreground, rng):
    prediction, read = label_maps(rng, 1, classes, foreground=foreground)[0], label_maps(rng, readers, classes)
    read[0] = 0
    every, annotated = [], []
    scores = reader_dice(prediction, read, classes)
    for k, r in itertools.product(range(classes), range(readers)):
        value = overlap_of(prediction == k + 1, read[r] == k + 1, 1, "dice", "skip")
        assert scores[k, r] == pytest.approx(math.nan if value is None else float(value), nan_ok=True)
        every.append(value)
        annotated.append(value if (read[r] == k + 1).any() else None)
    assert mean_dice(prediction, read, classes) == pytest.approx(mean_of(every), nan_ok=True)
    assert mean_dice(prediction, read, classes, annotated=True) == pytest.approx(mean_of(annotated), nan_ok=True)


def test_a_prediction_on_an_empty_annotation_weighs_only_in_the_plain_mean():
    full, empty = np.ones((3, 3), bool), np.zeros((3, 3), bool)
    readers = np.array([full, empty, empty])
    assert mean_dice(full, readers) == pytest.approx(1 / 3)
    assert mean_dice(full, readers, annotated=True) == 1.0
    assert math.isnan(mean_dice(empty, np.array([empty])))


@pytest.mark.parametrize("classes", [1, 2, 4])
def test_marginal_entropy_equals_a_loop(classes, rng):
    samples = label_maps(rng, 6, classes)
    shares = marginals(samples, classes)
    found = marginal_entropy(shares)
    for at in np.ndindex(samples.shape[1:]):
        column = [int(sample[at]) for sample in samples]
        p = [column.count(k) / len(column) for k in range(classes + 1)]
        np.testing.assert_allclose(shares[(slice(None), *at)], p)
        assert found[at] == pytest.approx(-sum(q * math.log(q, classes + 1) for q in p if q), abs=1e-12)
    assert marginal_entropy(np.full((classes + 1, 2), 1 / (classes + 1))) == pytest.approx([1.0, 1.0])
    assert (marginal_entropy(np.eye(classes + 1)) == 0).all()
    assert mean_marginal_entropy(samples, classes) == pytest.approx(found.mean(), abs=1e-12)
    assert mean_marginal_entropy(samples[:1], classes) == 0
    assert math.isnan(mean_marginal_entropy(samples[..., :0], classes))


@pytest.mark.parametrize(("number", "readers", "classes", "foreground"), CASES)
def test_sample_scores_equal_a_loop(number, readers, classes, foreground, rng):
    samples = label_maps(rng, number, classes, foreground=foreground)
    reference, mean = label_maps(rng, 2, classes, foreground=foreground)
    found = sample_scores(samples, reference, mean, classes)
    expected = [overlap_of(sample, reference, classes, "dice", "skip") for sample in samples]
    against = overlap_of(mean, reference, classes, "dice", "skip")
    scores = sorted(float(e) for e in expected if e is not None)
    np.testing.assert_allclose(found.scores, [math.nan if e is None else float(e) for e in expected])
    if not scores:
        assert math.isnan(found.better) and math.isnan(found.upper)
        return
    place = 0.95 * (len(scores) - 1)
    low, high = scores[math.floor(place)], scores[math.ceil(place)]
    assert found.upper == pytest.approx(low + (place - math.floor(place)) * (high - low))
    better = math.nan if against is None else sum(s > float(against) for s in scores) / len(scores)
    assert found.better == pytest.approx(better, nan_ok=True)


def test_a_sample_that_equals_the_mean_prediction_is_not_better(rng):
    maps = label_maps(rng, 1, 2)
    assert sample_scores(maps.repeat(4, axis=0), label_maps(rng, 1, 2)[0], maps[0], 2).better == 0.0


def test_wrong_input_is_refused(rng):
    maps = label_maps(rng, 3, 2)
    maps[0, 0, 0] = 2
    with pytest.raises(ValueError, match="labels must lie"):
        pair_counts(maps, classes=1)
    with pytest.raises(ValueError, match="labels must lie"):
        pair_counts(-maps.astype(np.int8), classes=2)
    with pytest.raises(ValueError, match="grids differ"):
        pair_counts(maps, maps.reshape(3, 6, 5), classes=2)
    with pytest.raises(ValueError, match="a sample and a reader"):
        Comparison(maps, maps[:0], 2)
    with pytest.raises(ValueError, match="at least one label map"):
        pair_counts(maps[:0], classes=2)
    with pytest.raises(TypeError, match="integers"):
        pair_counts(maps.astype(float), classes=2)
    with pytest.raises(ValueError, match="at least 2"):
        marginal_entropy(np.ones((1, 3)))
