from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from penumbra.data.geometry import (
    CaseGeometry,
    case_geometry,
    crop_or_pad,
    crop_start,
    from_items,
    normalise,
    read_geometries,
    resample,
    to_items,
    to_native,
    to_prepared,
    write_geometries,
)
from penumbra.errors import PenumbraError

spacings = st.floats(0.2, 1.2)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 40),
    st.integers(2, 40),
    st.integers(1, 3),
    spacings,
    spacings,
    st.integers(8, 50),
    st.integers(8, 50),
)
def test_way_back_restores_the_native_shape(
    nx: int, ny: int, nz: int, sx: float, target: float, height: int, width: int
) -> None:
    geometry = case_geometry((nx, ny, nz), (sx, 0.7 * sx, 3.0), (target, target), (height, width))
    back = to_native(np.ones((2, height, width, nz), np.float32), geometry)
    assert back.shape == (2, nx, ny, nz)
    assert back.dtype == np.float32
    assert back.min() >= 0
    assert back.max() <= 1 + 1e-6
    prepared = to_prepared(np.ones((1, nx, ny, nz), np.float32), geometry, 1)
    assert prepared.shape == (1, height, width, nz)


def test_round_trip_without_resampling_is_exact_inside_and_zero_outside(rng: np.random.Generator) -> None:
    maps = rng.uniform(size=(2, 21, 12, 3)).astype(np.float32)
    geometry = case_geometry((21, 12, 3), (1.0, 1.0, 1.0), None, (16, 16))
    back = to_native(to_prepared(maps, geometry, 1), geometry)
    kept = np.zeros((21, 12), bool)
    kept[2:18] = True  # round(2.5) = 2, halves to even
    np.testing.assert_array_equal(back[:, kept], maps[:, kept])
    assert not back[:, ~kept].any()


def test_round_trip_with_resampling_keeps_linear_ramps() -> None:
    """Linear interpolation reproduces ramps exactly; ends coincide, so upsampling and back is the identity on them."""
    x, y = np.meshgrid(np.linspace(0, 1, 23), np.linspace(0, 1, 17), indexing="ij")
    maps = np.stack([x, 1 - y, 0.5 * (x + y)]).astype(np.float32)[..., None]
    geometry = case_geometry((23, 17, 1), (0.5, 0.4, 2.0), (0.25, 0.25), (64, 64))
    assert geometry.resampled == (46, 27)
    np.testing.assert_allclose(to_native(to_prepared(maps, geometry, 1), geometry), maps, atol=1e-5)


def test_resample_agrees_with_coordinates_that_keep_the_end_voxels(rng: np.random.Generator) -> None:
    image = rng.normal(size=(19, 14, 2))
    for order in (1, 2):
        found = resample(image, (31, 9), order)
        x, y = np.meshgrid(np.linspace(0, 18, 31), np.linspace(0, 13, 9), indexing="ij")
        for z in range(2):
            expected = ndimage.map_coordinates(image[..., z], [x, y], order=order, mode="mirror")
            np.testing.assert_allclose(found[..., z], expected, atol=1e-9)


def test_slices_do_not_mix(rng: np.random.Generator) -> None:
    image = rng.normal(size=(2, 20, 20, 4))
    changed = image.copy()
    changed[..., 1] += rng.normal(size=(2, 20, 20))
    before, after = resample(image, (33, 33), 2), resample(changed, (33, 33), 2)
    np.testing.assert_array_equal(before[..., [0, 2, 3]], after[..., [0, 2, 3]])


def test_integer_labels_become_fractions() -> None:
    mask = np.zeros((1, 10, 10, 1), np.uint8)
    mask[0, 5:] = 1
    values = np.unique(resample(mask, (25, 25), 1))
    assert ((values > 0) & (values < 1)).any()


@given(st.integers(1, 30), st.integers(1, 30), st.integers(8, 40))
def test_crop_or_pad_is_centred(n: int, m: int, size: int) -> None:
    array = np.arange(1, n * m + 1, dtype=float).reshape(n, m, 1)
    start = (crop_start(n, size), crop_start(m, size))
    window = crop_or_pad(array, (size, size), start)
    padded = np.pad(array, ((50, 50), (50, 50), (0, 0)))
    np.testing.assert_array_equal(window, padded[50 + start[0] :, 50 + start[1] :][:size, :size])
    for length, begin in ((n, start[0]), (m, start[1])):
        before, after = begin, length - size - begin
        assert abs(before - after) <= 1


def test_normalise_joint_is_the_published_form(rng: np.random.Generator) -> None:
    image = rng.normal(5, 3, size=(2, 8, 9)).astype(np.float32) * np.array([1, 40])[:, None, None].astype(np.float32)
    flat = image.astype(float).ravel()
    expected = (image - flat.mean()) / np.sqrt(((flat - flat.mean()) ** 2).sum() / (flat.size - 1))
    np.testing.assert_allclose(normalise(image, "joint"), expected, rtol=1e-4, atol=1e-5)
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(image, dtype=torch.float64)
    np.testing.assert_allclose(
        normalise(image, "joint"), ((tensor - tensor.mean()) / tensor.std()).numpy(), rtol=1e-4, atol=1e-5
    )
    each = normalise(image, "per_contrast").astype(float)
    np.testing.assert_allclose(each.mean(axis=(1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(each.std(axis=(1, 2)), 1, atol=1e-5)
    assert np.abs(normalise(image, "joint").mean(axis=(1, 2))).max() > 0.1


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_normalise_of_a_constant_is_zero(value: float, rng: np.random.Generator) -> None:
    image = np.full((2, 7, 7), value, np.float32)
    assert not normalise(image, "joint").any()
    image[1] = rng.normal(size=(7, 7))
    each = normalise(image, "per_contrast")
    assert not each[0].any()
    assert each[1].std() == pytest.approx(1, abs=1e-5)


def test_geometries_come_back(tmp_path: Path) -> None:
    geometries = {
        "b": case_geometry((10, 20, 3), (0.3, 0.3, 4.0), (0.375, 0.375), (64, 64)),
        "a": case_geometry((5, 6, 1), (1.0, 1.0, 1.0), None, (8, 8)),
    }
    write_geometries(tmp_path / "g.json", geometries)
    back = read_geometries(tmp_path / "g.json")
    assert back == geometries
    assert isinstance(back["a"], CaseGeometry)
    assert back["b"].start == geometries["b"].start
    (tmp_path / "g.json").write_text('{"a": {"shape": [1]}}')
    with pytest.raises(PenumbraError, match="geometries"):
        read_geometries(tmp_path / "g.json")


def test_wrong_shapes_are_refused() -> None:
    geometry = case_geometry((10, 10, 2), (1.0, 1.0, 1.0), None, (8, 8))
    with pytest.raises(ValueError, match="expected an array"):
        to_native(np.zeros((1, 8, 9, 2)), geometry)
    with pytest.raises(ValueError, match="expected an array"):
        to_prepared(np.zeros((1, 10, 10, 3)), geometry, 1)


# ---------------------------------------------------------------- volumes


def interpolation(n: int, m: int) -> np.ndarray:
    """The matrix (m, n) of linear interpolation at m places from the first to the last of n."""
    places = np.linspace(0, n - 1, m)
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(n)))


def window(n: int, size: int) -> np.ndarray:
    """The matrix (size, n) that cuts the middle out of n, or pads them."""
    return np.eye(n + 200)[100 + round((n - size) / 2) :][:size, 100 : 100 + n]


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.integers(2, 22)] * 3),
    st.tuples(*[spacings] * 3),
    st.sampled_from([0, 2, 3]),
    st.tuples(*[st.integers(8, 26)] * 3),
    st.integers(0, 2**32 - 1),
)
def test_volumes_go_and_come_back_as_products_of_matrices(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], axes: int, crop: tuple[int, ...], seed: int
) -> None:
    maps = np.random.default_rng(seed).uniform(size=(2, *shape))
    geometry = case_geometry(shape, spacing, (0.5, 0.4, 0.6)[:axes] or None, crop)
    assert geometry.volumetric and geometry.items == 1 and len(geometry.resampled) == 3
    there, back = [], []
    for axis, (n, m, size) in enumerate(zip(shape, geometry.resampled, crop, strict=True)):
        assert m == (max(1, round(n * spacing[axis] / (0.5, 0.4, 0.6)[axis])) if axis < axes else n)
        there.append(window(m, size) @ interpolation(n, m))
        back.append(interpolation(m, n) @ window(m, size).T)
    expected = np.einsum("kxyz,ax,by,cz->kabc", maps, *there)
    prepared = to_prepared(maps, geometry, 1)
    np.testing.assert_allclose(prepared, expected, atol=1e-9)
    found = to_native(prepared, geometry)
    assert found.shape == (2, *shape) and found.dtype == np.float32
    np.testing.assert_allclose(found, np.einsum("kabc,xa,yb,zc->kxyz", expected, *back), atol=1e-5)


def test_a_volume_resampled_in_plane_is_its_slices(rng: np.random.Generator) -> None:
    image = rng.normal(size=(2, 14, 19, 9))
    slices = case_geometry((14, 19, 9), (0.5, 0.5, 3.0), (0.3, 0.4), (16, 16))
    volume = case_geometry((14, 19, 9), (0.5, 0.5, 3.0), (0.3, 0.4), (16, 16, 12))
    found = to_prepared(image, volume, 2)
    np.testing.assert_array_equal(found[..., 2:11], to_prepared(image, slices, 2))  # round(-1.5) = -2, halves to even
    assert not found[..., :2].any() and not found[..., 11:].any()


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_first_and_last_voxel_keep_their_values_at_every_size(rng: np.random.Generator, order: int) -> None:
    """Rounding may put the last place outside the image, as from 8 to 26 voxels; it must not become zero."""
    for n in (8, 12, int(rng.integers(2, 60))):
        line = rng.uniform(1, 2, size=(n, 1, 1))
        for m in range(2, 110):
            found = resample(line, (m, 1, 1), order)[:, 0, 0]
            np.testing.assert_allclose(found[[0, -1]], line[[0, -1], 0, 0], rtol=1e-6)


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_volumes_are_resampled_along_z_by_the_same_splines(rng: np.random.Generator, order: int) -> None:
    image = rng.normal(size=(11, 14, 8))
    found = resample(image, (17, 9, 13), order)
    places = np.meshgrid(np.linspace(0, 10, 17), np.linspace(0, 13, 9), np.linspace(0, 7, 13), indexing="ij")
    expected = ndimage.map_coordinates(image, places, order=order, mode="mirror")
    # Of two voxels that are equally near, rounding errors choose.
    near = 1e-6 if order == 0 else 0
    clear = np.all([np.abs(p % 1 - 0.5) >= near for p in places], axis=0)
    np.testing.assert_allclose(found[clear], expected[clear], atol=1e-9)
    turned = resample(np.moveaxis(image, 2, 0), (13, 17, 9), order)
    if order:
        np.testing.assert_allclose(np.moveaxis(turned, 0, 2), found, atol=1e-9)


def test_items_are_slices_or_one_volume(rng: np.random.Generator) -> None:
    array = rng.normal(size=(2, 3, 8, 9, 5))
    for crop, shape in (((8, 9), (5, 2, 3, 8, 9)), ((8, 9, 5), (1, 2, 3, 8, 9, 5))):
        geometry = case_geometry((8, 9, 5), (1.0, 1.0, 1.0), None, crop)
        items = to_items(array, geometry)
        assert items.shape == shape and len(items) == geometry.items
        np.testing.assert_array_equal(from_items(items, geometry), array)
        np.testing.assert_array_equal(items[-1][..., 4], array[..., 4] if len(crop) == 3 else array[..., 4, 4])


@pytest.mark.parametrize("mode", ["joint", "per_contrast"])
def test_a_volume_is_normalised_as_a_whole(rng: np.random.Generator, mode: str) -> None:
    image = rng.normal(5, 3, size=(2, 8, 9, 6)) * np.array([1, 40])[:, None, None, None]
    found = normalise(image, mode)  # type: ignore[arg-type]
    flat = normalise(image.reshape(2, 8, 54), mode)  # type: ignore[arg-type]
    np.testing.assert_allclose(found, flat.reshape(image.shape), atol=1e-6)
    assert np.abs(found.mean(axis=(1, 2))).max() > 0.1


def test_geometries_of_volumes_come_back(tmp_path: Path) -> None:
    geometries = {
        "a": case_geometry((10, 20, 3), (0.3, 0.3, 4.0), (0.4, 0.4, 2.0), (64, 64, 8)),
        "b": case_geometry((5, 6, 9), (1.0, 1.0, 1.0), None, (8, 8, 8)),
    }
    write_geometries(tmp_path / "g.json", geometries)
    assert read_geometries(tmp_path / "g.json") == geometries
    assert geometries["a"].resampled == (8, 15, 6) and geometries["a"].start == (-28, -24, -1)
