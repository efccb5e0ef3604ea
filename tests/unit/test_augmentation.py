"""The batched affine transformation, against scipy and closed forms."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.interpolate import BSpline

from penumbra.augmentation.affine import AffineParameters, affine_parameters, augment, sampled, sampling_grid, transform
from penumbra.augmentation.elastic import Displacement, basis
from penumbra.augmentation.epoch import Epoch
from penumbra.augmentation.intensity import change, intensity_parameters
from penumbra.config.models import Augmentation, Elastic, Flips, Intensity
from penumbra.errors import PenumbraError
from penumbra.networks.dimensions import check_turns
from penumbra.seeds import generator


def parameters(angle=0.0, scale=(1.0, 1.0), translation=(0, 0)):
    return AffineParameters(np.array([angle]), np.array([scale], float), np.array([translation], float))


def apply(image, drawn):
    """One (H, W) image as image and label at once."""
    tensor = torch.from_numpy(image)[None, None]
    images, labels = augment(tensor, tensor, drawn)
    return images[0, 0].numpy(), labels[0, 0].numpy()


@pytest.mark.parametrize("size", [(24, 17), (9, 31), (16, 16)])
def test_agrees_with_scipy(rng, size):
    images = torch.from_numpy(rng.uniform(size=(5, 2, *size)))
    labels = torch.from_numpy(rng.uniform(size=(5, 3, *size)))
    options = Augmentation(rotation_degrees=180, translation=0.2, scale=0.4)
    drawn = affine_parameters(rng, 5, options, size)
    moved_images, moved_labels = augment(images, labels, drawn)
    centre = 0.5 * np.array(size)
    for item in range(5):
        radians = np.deg2rad(drawn.angle[item])
        rotation = np.array([[np.cos(radians), -np.sin(radians)], [np.sin(radians), np.cos(radians)]])
        matrix = (rotation @ np.diag(1 / drawn.scale[item])).T
        offset = centre - matrix @ centre + drawn.translation[item]
        for before, after in ((images, moved_images), (labels, moved_labels)):
            for channel in range(before.shape[1]):
                expected = ndimage.affine_transform(
                    before[item, channel].numpy(), matrix, offset, order=1, mode="grid-constant"
                )
                np.testing.assert_allclose(after[item, channel].numpy(), expected, atol=1e-9)


def test_identity_changes_nothing(rng):
    image = rng.uniform(size=(13, 20))
    for moved in apply(image, parameters()):
        np.testing.assert_allclose(moved, image, atol=1e-12)


@pytest.mark.parametrize("shift", [(3, 0), (-2, 5), (0, -4)])
def test_whole_pixel_translation_moves_pixels_and_fills_with_zero(rng, shift):
    image = rng.uniform(1, 2, size=(12, 15))
    rows, columns = np.arange(12)[:, None] + shift[0], np.arange(15) + shift[1]
    inside = (rows >= 0) & (rows < 12) & (columns >= 0) & (columns < 15)
    expected = np.where(inside, image[rows % 12, columns % 15], 0)
    np.testing.assert_allclose(apply(image, parameters(translation=shift))[0], expected, atol=1e-12)


def test_half_turn_is_about_half_the_shape(rng):
    image = rng.uniform(1, 2, size=(10, 8))
    expected = np.zeros_like(image)
    expected[1:, 1:] = image[:0:-1, :0:-1]
    np.testing.assert_allclose(apply(image, parameters(angle=180))[0], expected, atol=1e-9)


def test_scale_above_one_enlarges():
    y, x = np.mgrid[:64, :64] - 32.0
    disc = (np.hypot(y, x) < 10).astype(float)
    moved = apply(disc, parameters(scale=(1.5, 1.0)))[1]
    assert moved.sum() == pytest.approx(1.5 * disc.sum(), rel=0.02)
    assert moved[:, 32].sum() > moved[32].sum() * 1.3


def test_rotations_compose(rng):
    first, second = rng.uniform(-90, 90, 2)
    both = parameters(first).matrices()[0] @ parameters(second).matrices()[0]
    np.testing.assert_allclose(both, parameters(first + second).matrices()[0], atol=1e-12)
    # On a smooth image, also the images compose, away from the border.
    y, x = np.mgrid[:80, :80]
    image = np.exp(-((y - 45) ** 2 + (x - 36) ** 2) / 200) + 0.3 * np.exp(-((y - 33) ** 2 + (x - 47) ** 2) / 150)
    twice = apply(apply(image, parameters(15))[0], parameters(20))[0]
    once = apply(image, parameters(35))[0]
    np.testing.assert_allclose(twice[15:-15, 15:-15], once[15:-15, 15:-15], atol=5e-3)


def test_draws_stay_in_range_and_fill_it(rng):
    drawn = affine_parameters(rng, 4000, Augmentation(), (128, 200))
    assert np.abs(drawn.angle).max() <= 20 and np.abs(drawn.angle).max() > 19.5 and abs(drawn.angle.mean()) < 1
    assert drawn.scale.min() >= 0.9 and drawn.scale.max() <= 1.1 and np.ptp(drawn.scale, axis=0).min() > 0.19
    assert np.array_equal(drawn.translation, np.round(drawn.translation))
    assert np.abs(drawn.translation).max(axis=0).tolist() == [4, 6]
    assert affine_parameters(rng, 50, Augmentation(translation=0), (128, 128)).translation.any() == np.False_


def test_an_item_depends_on_its_own_parameters_only(rng):
    images = torch.from_numpy(rng.normal(size=(6, 1, 16, 16)))
    labels = torch.from_numpy(rng.uniform(size=(6, 2, 16, 16)))
    drawn = affine_parameters(rng, 6, Augmentation(), (16, 16))
    together = augment(images, labels, drawn)
    alone = AffineParameters(drawn.angle[4:5], drawn.scale[4:5], drawn.translation[4:5])
    for whole, single in zip(together, augment(images[4:5], labels[4:5], alone), strict=True):
        torch.testing.assert_close(whole[4:5], single)


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_labels_stay_within_zero_and_one(rng, kind):
    labels = torch.ones(8, 1, 32, 32, dtype=kind)
    images = torch.from_numpy(rng.normal(size=(8, 1, 32, 32)).astype(np.float32))
    moved = augment(images, labels, affine_parameters(rng, 8, Augmentation(), (32, 32)))[1]
    assert moved.dtype == torch.float32
    assert moved.min() >= 0 and moved.max() <= 1
    assert moved.max() > 0.999


# ---------------------------------------------------------------- volumes


@pytest.mark.parametrize("size", [(14, 11, 9), (7, 12, 16)])
def test_volumes_agree_with_scipy(rng, size):
    images = torch.from_numpy(rng.uniform(size=(6, 2, *size)))
    labels = torch.from_numpy(rng.uniform(size=(6, 1, *size)))
    drawn = affine_parameters(rng, 6, Augmentation(rotation_degrees=180, translation=0.2, scale=0.4), size)
    drawn.plane[:3] = [0, 1, 2]
    moved_images, moved_labels = augment(images, labels, drawn)
    centre = 0.5 * np.array(size)
    for item in range(6):
        radians = np.deg2rad(drawn.angle[item])
        first, second = [(0, 1), (0, 2), (1, 2)][drawn.plane[item]]
        rotation = np.eye(3)
        rotation[first, first] = rotation[second, second] = np.cos(radians)
        rotation[first, second], rotation[second, first] = -np.sin(radians), np.sin(radians)
        matrix = (rotation @ np.diag(1 / drawn.scale[item])).T
        offset = centre - matrix @ centre + drawn.translation[item]
        for before, after in ((images, moved_images), (labels, moved_labels)):
            for channel in range(before.shape[1]):
                expected = ndimage.affine_transform(
                    before[item, channel].numpy(), matrix, offset, order=1, mode="grid-constant"
                )
                np.testing.assert_allclose(after[item, channel].numpy(), expected, atol=1e-9)


def test_a_volume_turned_in_plane_is_its_slices_turned(rng):
    volume = torch.from_numpy(rng.uniform(size=(1, 1, 15, 12, 8)))
    drawn = AffineParameters(np.array([33.0]), np.array([[1.2, 0.9, 1.0]]), np.array([[2.0, -1, 0]]), np.array([0]))
    flat = AffineParameters(
        drawn.angle.repeat(8), drawn.scale[:, :2].repeat(8, 0), drawn.translation[:, :2].repeat(8, 0)
    )
    slices = volume[0].permute(3, 0, 1, 2)
    expected = augment(slices, slices, flat)[0].permute(1, 2, 3, 0)
    np.testing.assert_allclose(augment(volume, volume, drawn)[0][0].numpy(), expected.numpy(), atol=1e-9)


def test_draws_for_volumes_fill_their_ranges_on_all_axes_and_planes(rng):
    drawn = affine_parameters(rng, 6000, Augmentation(), (100, 200, 60))
    assert np.abs(drawn.angle).max() <= 20 and np.abs(drawn.angle).max() > 19.5
    assert drawn.scale.shape == (6000, 3) and drawn.scale.min() >= 0.9 and drawn.scale.max() <= 1.1
    assert np.ptp(drawn.scale, axis=0).min() > 0.19
    assert np.abs(drawn.translation).max(axis=0).tolist() == [3, 6, 2]
    np.testing.assert_allclose(np.bincount(drawn.plane) / 6000, 1 / 3, atol=0.03)
    for n, plane in ((0, 2), (1, 1), (2, 0)):
        still = drawn.matrices()[drawn.plane == plane]
        np.testing.assert_allclose(still[:, n, n], 1 / drawn.scale[drawn.plane == plane, n])
        assert not np.delete(still[:, n], n, axis=1).any()


def test_draws_for_slices_are_what_they_were(rng):
    """Angle, scale, translation, in this order: results of earlier trainings stay as they are."""
    seed = int(rng.integers(2**31))
    drawn = affine_parameters(np.random.default_rng(seed), 7, Augmentation(), (50, 60))
    again = np.random.default_rng(seed)
    np.testing.assert_array_equal(drawn.angle, again.uniform(-20, 20, 7))
    np.testing.assert_array_equal(drawn.scale, again.uniform(0.9, 1.1, (7, 2)))
    np.testing.assert_array_equal(drawn.translation, np.round(again.uniform(-1, 1, (7, 2)) * [1.5, 1.8]))
    assert drawn.plane is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(128, 128), (17, 40), (1, 9), (8, 12, 10), (40, 56, 40)])
def test_the_grid_is_torchs_but_for_the_order_of_a_sum(rng, size, dtype):
    for count in (1, 8):
        theta = torch.from_numpy(rng.normal(size=(count, len(size), len(size) + 1))).to(dtype)
        expected = torch.nn.functional.affine_grid(theta, [count, 2, *size], align_corners=False)
        # A sum of d + 1 products, each no larger than its factor of the map.
        error = (sampling_grid(theta, size) - expected).abs()
        bound = 2 * theta.shape[-1] * torch.finfo(dtype).eps * theta.abs().sum(dim=-1)
        assert (error <= bound.view(count, *[1] * len(size), len(size))).all()


# ---------------------------------------------------------------- right angles, flips, elastic, intensity


STILL = {"rotation_degrees": 0.0, "scale": 0.0, "translation": 0.0}


@pytest.mark.parametrize("size", [(12, 12), (10, 10, 7)])
def test_right_angles_and_flips_move_whole_voxels(rng, size):
    count, axes = 100, len(size)
    images = torch.from_numpy(rng.normal(size=(count, 2, *size)))
    labels = torch.from_numpy(rng.uniform(size=(count, 1, *size)))
    options = Augmentation(**STILL, right_angles=0.8, flips=Flips(chance=0.5, axes=tuple(range(axes))))
    drawn = affine_parameters(rng, count, options, size)
    assert set(drawn.right_angles) == {0, 1, 2, 3} and 0 < drawn.flipped.mean() < 1
    for moved, before in zip(augment(images, labels, drawn), (images, labels), strict=True):
        for item in range(count):
            turned = np.rot90(before[item].numpy(), drawn.right_angles[item], axes=(1, 2))
            expected = np.flip(turned, 1 + np.flatnonzero(drawn.flipped[item]))
            np.testing.assert_allclose(moved[item].numpy(), expected, atol=1e-9)


def test_right_angles_come_after_the_affine_transformation(rng):
    image = torch.from_numpy(rng.normal(size=(1, 1, 16, 16)))
    drawn = AffineParameters(np.array([13.0]), np.array([[1.1, 0.9]]), np.array([[2.0, -1.0]]))
    both = AffineParameters(drawn.angle, drawn.scale, drawn.translation, None, np.array([3]), np.array([[True, False]]))
    first = augment(image, image, drawn)[0][0, 0].numpy()
    found = augment(image, image, both)[0][0, 0].numpy()
    np.testing.assert_allclose(found, np.flip(np.rot90(first, 3), 0), atol=1e-9)


@pytest.mark.parametrize("size", [(24, 17), (10, 12, 9)])
def test_a_part_is_enlarged_to_the_whole(rng, size):
    """Linear ramps stay linear: their corners say which part is shown."""
    count, axes = 300, len(size)
    drawn = affine_parameters(rng, count, Augmentation(**STILL, crop=0.6), size)
    ramps = torch.from_numpy(np.indices(size, dtype=float)).expand(count, axes, *size)
    shown = augment(ramps, ramps[:, :1] * 0, drawn)[0].numpy()
    first, last = shown[(..., *[0] * axes)], shown[(..., *[-1] * axes)]
    sides = np.array(size) - 1
    share = (last - first) / sides
    np.testing.assert_allclose(share, share[:, :1].repeat(axes, axis=1), atol=1e-9)
    assert share.min() >= 0.6 - 1e-9 and share.max() <= 1 and share.min() < 0.62 and share.max() > 0.98
    assert first.min() >= -1e-9 and (last <= sides + 1e-9).all()
    place = first / (sides - (last - first))
    assert place.min() < 0.05 and place.max() > 0.95 and abs(place.mean() - 0.5) < 6 * (axes * count * 12) ** -0.5


def test_chances_are_kept_and_what_is_off_draws_nothing(rng):
    drawn = affine_parameters(rng, 4000, Augmentation(chance=0.3), (32, 32))
    still = (drawn.angle == 0) & (drawn.scale == 1).all(axis=1) & (drawn.translation == 0).all(axis=1)
    assert abs(still.mean() - 0.7) < 6 * (0.21 / 4000) ** 0.5
    together = affine_parameters(rng, 200, Augmentation(flips=Flips(together=True, axes=(0, 2))), (8, 8, 8)).flipped
    assert (together[:, 0] == together[:, 2]).all() and not together[:, 1].any() and 0 < together[:, 0].mean() < 1
    seed = int(rng.integers(2**32))
    plain, changed = np.random.default_rng(seed), np.random.default_rng(seed)
    usual = affine_parameters(plain, 9, Augmentation(), (32, 32))
    added = affine_parameters(changed, 9, Augmentation(right_angles=0.5, flips=Flips()), (32, 32))
    for name in ("angle", "scale", "translation"):
        assert (getattr(usual, name) == getattr(added, name)).all()
    again = np.random.default_rng(seed)
    for shape in ((9,), (9, 2), (9, 2)):
        again.uniform(size=shape)
    assert plain.random() == again.random() != changed.random()


@pytest.mark.parametrize(("side", "spacing"), [(17, 4.0), (9, 2.5), (30, 40.0), (1, 5.0)])
def test_the_basis_is_that_of_cubic_b_splines(side, spacing):
    found = basis(side, spacing)
    points = found.shape[1]
    knots = spacing * np.arange(-3, points + 1)
    expected = BSpline.design_matrix(np.arange(side, dtype=float), knots, 3).toarray()
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(found.sum(axis=1), 1)


@pytest.mark.parametrize("size", [(20, 14), (9, 12, 10)])
def test_a_displacement_agrees_with_scipy(rng, size):
    axes, options = len(size), Elastic(chance=0.5, amplitude=3.0, spacing=6.0)
    displacement = Displacement(options, size, torch.device("cpu")).draw(rng, 40)
    moved = displacement.flatten(1).abs().amax(dim=1) > 0
    assert 0 < moved.double().mean() < 1
    voxels = displacement.double().numpy()[..., ::-1] * np.array(size) / 2
    assert np.abs(voxels).max() <= 3.0 and np.abs(voxels).max() > 0.3
    assert np.abs(np.diff(voxels, axis=1)).max() < 3.0, "smooth"
    images = torch.from_numpy(rng.normal(size=(40, 1, *size)))
    grid = sampling_grid(torch.eye(axes, axes + 1, dtype=torch.float64).expand(40, axes, axes + 1), size)
    found = torch.nn.functional.grid_sample(images, grid + displacement, padding_mode="zeros", align_corners=False)
    for item in range(40):
        where = np.moveaxis(voxels[item], -1, 0) + np.indices(size)
        expected = ndimage.map_coordinates(images[item, 0].numpy(), where, order=1, mode="grid-constant")
        np.testing.assert_allclose(found[item, 0].numpy(), expected, atol=1e-5)


def test_intensities_are_linear_and_each_contrast_has_its_own(rng):
    options = Intensity(chance=0.5, scale_deviation=0.01, shift=(0.0, 0.05))
    drawn = intensity_parameters(rng, 4000, 3, options)
    kept = (drawn == [1.0, 0.0]).all(axis=(1, 2))
    assert abs(kept.mean() - 0.5) < 6 * (0.25 / 4000) ** 0.5
    scale, shift = drawn[~kept].reshape(-1, 2).T
    assert abs(scale.mean() - 1) < 6 * 0.01 / len(scale) ** 0.5 and scale.std() == pytest.approx(0.01, rel=0.1)
    assert 0 <= shift.min() < 0.002 and 0.048 < shift.max() <= 0.05
    assert len(np.unique(drawn[~kept][0, :, 0])) == 3
    images = torch.from_numpy(rng.normal(size=(5, 3, 4, 6)))
    found = change(images, torch.from_numpy(drawn[:5]))
    expected = images.numpy() * drawn[:5, :, 0, None, None] + drawn[:5, :, 1, None, None]
    np.testing.assert_allclose(found.numpy(), expected)


class Ones:
    """All numbers drawn are the largest ones."""

    def random(self, size):
        return np.zeros(size)

    def uniform(self, low, high, size):
        return np.full(size, float(high))


def test_points_that_all_move_by_the_amplitude_move_every_voxel_by_it():
    displacement = Displacement(Elastic(amplitude=3.0, spacing=6.0), (9, 12, 10), torch.device("cpu")).draw(Ones(), 2)
    voxels = displacement.numpy()[..., ::-1] * np.array((9, 12, 10)) / 2
    np.testing.assert_allclose(voxels, 3.0, rtol=1e-5)


def test_an_epoch_makes_all_changes_in_order_and_the_same_again(rng):
    seed, size, device = int(rng.integers(2**32)), (16, 16), torch.device("cpu")
    options = Augmentation(
        right_angles=0.5,
        flips=Flips(),
        elastic=Elastic(chance=1.0, spacing=8),
        intensity=Intensity(chance=1.0, shift=(-1, 1)),
    )
    images = torch.from_numpy(rng.normal(size=(6, 2, *size)).astype(np.float32))
    labels = torch.from_numpy(rng.integers(0, 2, size=(6, 1, *size)).astype(np.float32))

    def drawn(*more):
        return generator(seed, "augmentation", *more)

    def of(options, chosen):
        return Epoch(options, 6, 2, size, drawn, device)(images[chosen], labels[chosen], chosen)

    theta = torch.from_numpy(affine_parameters(drawn(), 6, options, size).normalised(size)).float()
    linear = torch.from_numpy(intensity_parameters(drawn("intensity"), 6, 2, options.intensity)).float()
    displacements = []
    epoch = Epoch(options, 6, 2, size, drawn, device)
    for chosen in (slice(0, 3), slice(3, 6)):
        displacements.append(Displacement(options.elastic, size, device).draw(drawn("elastic", chosen.start), 3))
        grid = sampling_grid(theta[chosen], size) + displacements[-1]
        expected, expected_labels = sampled(images[chosen], labels[chosen], grid)
        expected = change(expected, linear[chosen])
        # In one epoch after another batch, and in one that is taken up here, as after an interruption.
        for found in (epoch(images[chosen], labels[chosen], chosen), of(options, chosen)):
            assert torch.equal(found[0], expected) and torch.equal(found[1], expected_labels)
        assert expected_labels.min() >= 0 and expected_labels.max() <= 1
        plain = of(options.model_copy(update={"intensity": None}), chosen)
        assert torch.equal(plain[1], expected_labels) and not torch.equal(plain[0], expected)
    assert not torch.equal(*displacements)


def test_without_more_an_epoch_is_the_affine_transformation_alone(rng):
    images = torch.from_numpy(rng.normal(size=(4, 2, 16, 16)).astype(np.float32))
    labels = torch.from_numpy(rng.integers(0, 2, size=(4, 1, 16, 16)).astype(np.float32))
    seed = int(rng.integers(2**32))
    epoch = Epoch(Augmentation(), 6, 2, (16, 16), lambda: generator(seed, "augmentation"), torch.device("cpu"))
    drawn = affine_parameters(generator(seed, "augmentation"), 6, Augmentation(), (16, 16))
    theta = torch.from_numpy(drawn.normalised((16, 16))[1:5]).float()
    for found, expected in zip(epoch(images, labels, slice(1, 5)), transform(images, labels, theta), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("options", "size", "says"),
    [
        ({"right_angles": 0.5}, (12, 10), r"right_angles: items of \[12, 10\]"),
        ({"flips": {"axes": [2]}}, (12, 12), r"flips.axes: \[2\] of items with 2 axes"),
    ],
)
def test_turns_that_cannot_be_are_refused(options, size, says):
    check_turns(None, size)
    check_turns(Augmentation(), size)
    with pytest.raises(PenumbraError, match=says):
        check_turns(Augmentation.model_validate(options), size)
