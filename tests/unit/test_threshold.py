"""The search for the binarisation threshold, against all thresholds tried one by one."""

import warnings

import numpy as np
import pytest

from penumbra.inference.threshold import argmax_classes, best_threshold, dice, dice_at_thresholds, thresholds


def brute_force(probabilities, label, levels):
    scores = []
    for level in levels:
        prediction = probabilities.astype(np.float64) >= level
        total = prediction.sum() + label.sum()
        scores.append(2 * (prediction & label).sum() / total if total else np.nan)
    return np.array(scores)


def test_levels_leave_out_zero_and_are_round():
    assert thresholds(0.05).tolist() == [round(0.05 * k, 2) for k in range(1, 20)]
    assert thresholds(0.25).tolist() == [0.25, 0.5, 0.75]


@pytest.mark.parametrize("step", [0.05, 0.1, 0.013])
def test_one_histogram_scores_all_levels(rng, step):
    levels = thresholds(step)
    for sparse in (0.0, 0.7, 1.0):
        probabilities = rng.uniform(size=(7, 9, 4)).astype(np.float32) ** 2
        probabilities[rng.uniform(size=probabilities.shape) < sparse] = 0
        # Values that lie exactly on a level count as foreground.
        probabilities[0, :, 0] = rng.choice([0.25, 0.5, 0.75, 1.0], 9)
        label = rng.uniform(size=probabilities.shape) < 0.3
        np.testing.assert_allclose(
            dice_at_thresholds(probabilities, label, levels), brute_force(probabilities, label, levels), rtol=1e-15
        )


def test_on_a_level_counts_as_foreground():
    assert dice_at_thresholds(np.array([0.5]), np.array([True]), np.array([0.25, 0.5, 0.75])).tolist() == [1, 1, 0]


def test_both_empty_is_undefined_and_one_empty_is_zero():
    levels = np.array([0.3, 0.6])
    nothing, label = np.zeros(5, bool), np.array([0, 0, 1, 0, 0], bool)
    assert np.isnan(dice_at_thresholds(np.zeros(5), nothing, levels)).all()
    assert dice_at_thresholds(np.zeros(5), label, levels).tolist() == [0, 0]
    found = dice_at_thresholds(np.array([0, 0.4, 0, 0, 0]), nothing, levels)
    assert found[0] == 0 and np.isnan(found[1])
    assert np.isnan(dice(nothing, nothing)) and dice(label, nothing) == 0 and dice(label, label) == 1


def test_ties_go_to_the_largest():
    levels = np.array([0.1, 0.2, 0.3, 0.4])
    assert best_threshold(np.array([[0.5, 0.8, 0.8, 0.2]]), levels) == (0.3, 0.8)


def test_undefined_cases_are_left_out_of_the_mean():
    levels = np.array([0.2, 0.4])
    scores = np.array([[0.6, 0.5], [np.nan, np.nan], [0.6, np.nan]])
    assert best_threshold(scores, levels) == (0.2, 0.6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        level, score = best_threshold(np.full((3, 2), np.nan), levels)
    assert level == 0.5 and np.isnan(score)


def test_finds_the_threshold_that_was_planted(rng):
    label = rng.uniform(size=2000) < 0.2
    probabilities = np.where(label, rng.uniform(0.351, 0.8, 2000), rng.uniform(0, 0.349, 2000))
    scores = np.array([dice_at_thresholds(probabilities, label, thresholds(0.05))])
    assert best_threshold(scores, thresholds(0.05)) == (0.35, 1.0)


def test_argmax_takes_background_into_account(rng):
    maps = rng.dirichlet([1, 1, 1], size=(6, 5)).astype(np.float32)
    found = argmax_classes(np.moveaxis(maps[..., 1:], -1, 0))
    expected = maps.argmax(axis=-1)
    np.testing.assert_array_equal(found, np.stack([expected == 1, expected == 2]))
    assert found.sum(axis=0).max() <= 1
    assert not argmax_classes(np.zeros((2, 3))).any()
    assert argmax_classes(np.array([[0.5, 0.51]]))[0].tolist() == [False, True]
