"""Fusions against their definitions, voxel by voxel."""

import itertools

import numpy as np
import pytest

from penumbra import parts

SIMPLE = ("average", "majority", "union", "intersection", "random_rater")
ALL = (*SIMPLE, "staple")


@pytest.fixture(params=range(5))
def raters_and_classes(request, rng):
    classes = 1 + request.param % 3
    return rng.integers(0, classes + 1, (rng.integers(1, 8), 6, 5, 3)).astype(np.uint8), classes


def counted(raters, voxel, classes):
    given = [int(rater[voxel]) for rater in raters]
    return [given.count(k) for k in range(classes + 1)]


def expected_label(name, votes, tie):
    background, *classes = votes
    best = max(range(1, len(votes)), key=lambda k: (votes[k], -k))
    match name:
        case "union":
            return best if any(classes) else 0
        case "intersection":
            return best if votes[best] == sum(votes) else 0
        case "majority":
            if votes[best] == background:
                return best if tie == "foreground" else 0
            return best if votes[best] > background else 0


@pytest.mark.parametrize("name", ["majority", "union", "intersection"])
@pytest.mark.parametrize("tie", ["background", "foreground"])
def test_voting_fusions_equal_a_loop_over_voxels(raters_and_classes, name, tie):
    raters, classes = raters_and_classes
    fused = parts.build("fusion", name, {"tie": tie} if name == "majority" else {})(raters, classes)
    assert fused.shape == (1, classes, *raters.shape[1:]) and fused.dtype == np.float32
    for voxel in np.ndindex(raters.shape[1:]):
        label = expected_label(name, counted(raters, voxel, classes), tie)
        one_hot = [float(label == k) for k in range(1, classes + 1)]
        assert fused[(0, slice(None), *voxel)].tolist() == one_hot


def test_average_is_the_fraction_of_raters(raters_and_classes):
    raters, classes = raters_and_classes
    fused = parts.build("fusion", "average")(raters, classes)
    for voxel in np.ndindex(raters.shape[1:]):
        fractions = np.array(counted(raters, voxel, classes)[1:]) / len(raters)
        np.testing.assert_allclose(fused[(0, slice(None), *voxel)], fractions, rtol=1e-7)
    assert fused.sum(axis=1).max() <= 1 + 1e-6


def test_random_rater_keeps_every_rater(raters_and_classes):
    raters, classes = raters_and_classes
    fused = parts.build("fusion", "random_rater")(raters, classes)
    assert fused.shape == (len(raters), classes, *raters.shape[1:]) and fused.dtype == np.float32
    labels = sum((k + 1) * fused[:, k] for k in range(classes))
    np.testing.assert_array_equal(labels, raters)


def test_all_2_to_the_r_ways_of_four_raters():
    raters = np.array(list(itertools.product((0, 1), repeat=4)), dtype=np.uint8).T.reshape(4, 16, 1, 1)
    yes = raters.sum(axis=0).ravel()
    fused = {name: parts.build("fusion", name)(raters, 1).ravel() for name in ("majority", "union", "intersection")}
    np.testing.assert_array_equal(fused["majority"], yes > 2)
    np.testing.assert_array_equal(fused["union"], yes > 0)
    np.testing.assert_array_equal(fused["intersection"], yes == 4)
    generous = parts.build("fusion", "majority", {"tie": "foreground"})(raters, 1).ravel()
    np.testing.assert_array_equal(generous, yes >= 2)


@pytest.mark.parametrize("name", ALL)
def test_one_rater_and_agreeing_raters_are_kept(name, rng):
    rater = rng.integers(0, 3, (1, 7, 6, 2)).astype(np.uint8)
    alone = parts.build("fusion", name)(rater, 2)
    np.testing.assert_array_equal(alone[0, 0] + 2 * alone[0, 1], rater[0])
    np.testing.assert_array_equal(parts.build("fusion", name)(np.repeat(rater, 3, axis=0), 2)[0], alone[0])


@pytest.mark.parametrize("name", ALL)
def test_empty_raters(name):
    empty = np.zeros((3, 4, 4, 2), dtype=np.uint8)
    assert not parts.build("fusion", name)(empty, 2).any()
    full = np.ones_like(empty)
    assert parts.build("fusion", name)(full, 1).all()
    half = empty.copy()
    half[[0, 2], :2] = 1
    fused = parts.build("fusion", name)(half, 1)[0, 0]
    kept = {"intersection": 0.0, "average": 2 / 3}.get(name, 1.0)
    np.testing.assert_allclose(fused, kept * half[0], rtol=1e-6)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("classes", [1, 3])
def test_order_of_raters_does_not_matter(name, classes, rng):
    truth = rng.integers(0, classes + 1, (9, 8, 3))
    noise = rng.integers(0, classes + 1, (5, *truth.shape))
    raters = np.where(rng.random(noise.shape) < 0.2, noise, truth).astype(np.uint8)
    order = rng.permutation(len(raters))
    fuse = parts.build("fusion", name)
    fused, again = fuse(raters, classes), fuse(raters[order], classes)
    np.testing.assert_array_equal(again, fused[order] if name == "random_rater" else fused)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("raters", [np.zeros((2, 3, 3)), np.zeros((0, 3, 3, 1)), np.full((2, 3, 3, 1), 3)])
def test_wrong_arrays_are_refused(name, raters):
    with pytest.raises(ValueError, match=r"raters|labels"):
        parts.build("fusion", name)(raters.astype(np.uint8), 2)
