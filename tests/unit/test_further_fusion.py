"""Soft STAPLE: SimpleITK's probability, and what is left when it is binarised."""

import numpy as np
import pytest
import SimpleITK

from penumbra import parts
from penumbra.data.labels import fuse_case


def soft_staple(raters, classes):
    return parts.build("fusion", "soft_staple")(raters, classes)


def itk(decisions):
    stapler = SimpleITK.STAPLEImageFilter()
    stapler.SetForegroundValue(1)
    images = [SimpleITK.GetImageFromArray(d.astype(np.uint8)) for d in decisions]
    return SimpleITK.GetArrayFromImage(stapler.Execute(images))


def noisy(rng, classes, raters=5, wrong=0.25):
    truth = rng.integers(0, classes + 1, (10, 9, 3))
    noise = rng.integers(0, classes + 1, (raters, *truth.shape))
    return np.where(rng.random(noise.shape) < wrong, noise, truth).astype(np.uint8)


@pytest.mark.parametrize("attempt", range(4))
@pytest.mark.parametrize("raters", [2, 3, 5])
def test_one_class_is_the_probability_of_itk(attempt, raters, rng):
    given = noisy(rng, 1, raters)
    fused = soft_staple(given, 1)
    assert fused.shape == (1, 1, *given.shape[1:]) and fused.dtype == np.float32
    np.testing.assert_allclose(fused[0, 0], itk(given == 1), atol=1e-5)
    assert ((fused > 0) & (fused < 1)).any()


@pytest.mark.parametrize("classes", [2, 3])
def test_several_classes_are_one_staple_each_and_sum_to_1_at_most(classes, rng):
    given = noisy(rng, classes)
    fused = soft_staple(given, classes)
    each = np.stack([itk(given == k) for k in range(1, classes + 1)])
    np.testing.assert_allclose(fused[0], each / np.maximum(each.sum(axis=0), 1), atol=2e-5)
    assert fused.min() >= 0 and fused.sum(axis=1).max() <= 1 + 1e-6


@pytest.mark.parametrize("classes", [1, 3])
def test_binarised_it_is_staple(classes, rng):
    given = noisy(rng, classes, wrong=0.15)
    fused, hard = soft_staple(given, classes)[0], parts.build("fusion", "staple")(given, classes)[0]
    first, second = np.sort(np.concatenate([np.zeros_like(fused[:1]), fused]), axis=0)[[-1, -2]]
    foreground, sure = hard.any(axis=0), np.abs(first - 0.5) > 1e-4
    assert 0 < foreground.mean() < 1 and sure.mean() > 0.5
    assert (first[~foreground & sure] < 0.5).all()
    clear = foreground & (first - second > 1e-4)
    np.testing.assert_array_equal(hard.argmax(axis=0)[clear], fused.argmax(axis=0)[clear])
    if classes == 1:
        assert (first[foreground & sure] > 0.5).all()


def test_agreeing_absent_and_single_raters():
    empty = np.zeros((3, 4, 4, 2), dtype=np.uint8)
    assert not soft_staple(empty, 2).any()
    assert soft_staple(np.ones_like(empty), 1).all()
    one = np.zeros((1, 5, 4, 2), dtype=np.uint8)
    one[0, :2], one[0, 2:4] = 1, 2
    for given in (one, np.repeat(one, 3, axis=0)):
        fused = soft_staple(given, 2)[0]
        np.testing.assert_array_equal(fused[0] + 2 * fused[1], one[0])


def test_order_of_raters_does_not_matter(rng):
    given = noisy(rng, 2)
    np.testing.assert_array_equal(soft_staple(given, 2), soft_staple(given[rng.permutation(len(given))], 2))


def test_raters_who_are_nobody_are_fused_slice_by_slice(rng):
    given = noisy(rng, 1)
    fused = fuse_case(soft_staple, given, 1, identified=False)
    for z in range(given.shape[-1]):
        np.testing.assert_allclose(fused[0, 0, ..., z], itk(given[..., z] == 1), atol=1e-5)
    assert not np.allclose(fused, fuse_case(soft_staple, given, 1, identified=True), atol=1e-4)


@pytest.mark.parametrize("raters", [np.zeros((2, 3, 3)), np.zeros((0, 3, 3, 1)), np.full((2, 3, 3, 1), 3)])
def test_wrong_arrays_are_refused(raters):
    with pytest.raises(ValueError, match=r"raters|labels"):
        soft_staple(raters.astype(np.uint8), 2)
