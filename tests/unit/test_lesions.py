from __future__ import annotations

import gzip
import itertools
import tarfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from scipy import ndimage

from penumbra.metrics import lesions
from penumbra.metrics.lesions import (
    NO_LESION,
    NO_PREDICTED_LESION,
    NO_REFERENCE_LESION,
    Connectivity,
    Convention,
    components,
    lesion_rates,
    lesion_rates_by_size,
    match_lesions,
    remove_small,
)
from penumbra.metrics.measurement import OK

# ---------------------------------------------------------------- an oracle that goes lesion by lesion

NEIGHBOURS = {
    connectivity: [s for s in itertools.product((-1, 0, 1), repeat=3) if 0 < np.abs(s).sum() <= steps]
    for connectivity, steps in ((6, 1), (18, 2), (26, 3))
}
assert {k: len(v) for k, v in NEIGHBOURS.items()} == {6: 6, 18: 18, 26: 26}


def flood(mask: np.ndarray, connectivity: int = 18) -> list[set[tuple[int, ...]]]:
    """Lesions as sets of voxels, in the order in which their first voxels stand in the array."""
    left = set(map(tuple, np.argwhere(mask).tolist()))
    found = []
    for seed in sorted(left):
        if seed not in left:
            continue
        left.remove(seed)
        lesion, edge = {seed}, [seed]
        while edge:
            x, y, z = edge.pop()
            for i, j, k in NEIGHBOURS[connectivity]:
                voxel = (x + i, y + j, z + k)
                if voxel in left:
                    left.remove(voxel)
                    lesion.add(voxel)
                    edge.append(voxel)
        found.append(lesion)
    return found


def grown(mask: np.ndarray) -> np.ndarray:
    """The mask and all voxels that share a face or an edge with it."""
    wide = mask.copy()
    for step in NEIGHBOURS[18]:
        at = np.argwhere(mask) + step
        inside = ((at >= 0) & (at < mask.shape)).all(axis=1)
        wide[tuple(at[inside].T)] = True
    return wide


class Oracle:
    """Rates from sets of voxels, in loops."""

    def __init__(
        self, prediction: np.ndarray, reference: np.ndarray, convention: str, overlap: int = 3, connectivity: int = 18
    ) -> None:
        self.convention, self.overlap = convention, overlap
        self.predicted = flood(grown(prediction) if convention == "text" else prediction, connectivity)
        self.reference = flood(reference, connectivity)
        self.really_predicted = set(map(tuple, np.argwhere(prediction).tolist()))
        self.all_predicted: set = set().union(*self.predicted)
        self.all_reference: set = set().union(*self.reference)

    def found(self, lesion: set) -> bool:
        common = len(lesion & self.all_predicted)
        return common >= self.overlap or (self.convention == "text" and common >= 0.5 * len(lesion))

    def false(self, lesion: set) -> bool:
        if self.convention == "released":
            return len(lesion & self.all_reference) < self.overlap
        return not any(self.found(r) for r in self.reference if r & lesion)

    def size(self, lesion: set) -> int:
        return len(lesion & self.really_predicted)

    def binned_size(self, lesion: set) -> int:
        if self.convention == "text":
            return self.size(lesion)
        touched = [r for r in self.reference if r & lesion]
        if touched:
            return max(len(p) for p in self.predicted if p & touched[-1])
        return max(len(p) for p in self.predicted if p - self.all_reference)

    def rates(self, low: float = 0, high: float = np.inf, whole: bool = True) -> tuple[float, float, tuple[int, ...]]:
        lesions = [r for r in self.reference if low <= len(r) <= high]
        found = sum(map(self.found, lesions))
        predicted = [p for p in self.predicted if low <= self.binned_size(p) <= high]
        false = sum(map(self.false, predicted))
        ltpr = found / len(lesions) if lesions else np.nan
        shown = whole or any(low <= len(p) <= high for p in self.predicted)
        defined = found + false and (self.convention == "text" or (lesions and shown))
        lfdr = false / (found + false) if defined else np.nan
        return ltpr, lfdr, (len(lesions), found, len(predicted), false)


def blobs(rng: np.random.Generator, shape: tuple[int, int, int], share: float) -> np.ndarray:
    field = ndimage.gaussian_filter(rng.normal(size=shape), rng.uniform(0.6, 1.4))
    return field > np.quantile(field, 1 - share)


def pair(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A reference of blobs, and a prediction that shares some of them, moved, and has others."""
    shape = tuple(rng.integers(14, 22, size=3))
    reference = blobs(rng, shape, rng.uniform(0.01, 0.06))
    prediction = np.roll(reference, rng.integers(-1, 2, size=3), axis=(0, 1, 2)) & (rng.uniform(size=shape) < 0.8)
    return prediction | blobs(rng, shape, 0.01), reference


@pytest.mark.parametrize("convention", ["released", "text"])
@pytest.mark.parametrize("repeat", range(8))
def test_rates_are_those_of_a_loop_over_lesions(rng: np.random.Generator, convention: Convention, repeat: int) -> None:
    prediction, reference = pair(rng)
    if repeat % 2:
        prediction, reference = remove_small(prediction), remove_small(reference)
    overlap = int(rng.integers(1, 5))
    oracle = Oracle(prediction, reference, convention, overlap)
    match = match_lesions(prediction, reference, convention=convention, overlap=overlap)
    rates = lesion_rates(match)
    ltpr, lfdr, counts = oracle.rates()
    assert rates[2:6] == counts
    assert rates.ltpr.value == pytest.approx(ltpr, nan_ok=True)
    assert rates.lfdr.value == pytest.approx(lfdr, nan_ok=True)
    assert match.reference_sizes.tolist() == [len(r) for r in oracle.reference]
    assert match.predicted_sizes.tolist() == [oracle.size(p) for p in oracle.predicted]
    assert match.binned_sizes.tolist() == [oracle.binned_size(p) for p in oracle.predicted]
    for bin_, (low, high) in zip(lesion_rates_by_size(match, (4, 12)), ((1, 4), (5, 12), (13, np.inf)), strict=True):
        ltpr, lfdr, counts = oracle.rates(low, high, whole=False)
        assert (bin_.low, bin_.high) == (low, high)
        assert bin_[2:6] == counts
        assert bin_.ltpr.value == pytest.approx(ltpr, nan_ok=True)
        assert bin_.lfdr.value == pytest.approx(lfdr, nan_ok=True)
        assert (bin_.lfdr.status == OK) == (not np.isnan(lfdr))


def test_conventions_and_binned_sizes_do_differ_on_such_pairs(rng: np.random.Generator) -> None:
    """The loop above would say nothing if both conventions came to the same on its inputs."""
    rates, sizes = [], []
    for _ in range(10):
        prediction, reference = pair(rng)
        both = [match_lesions(prediction, reference, convention=c) for c in ("released", "text")]
        rates.append(lesion_rates(both[0]).lfdr.value != lesion_rates(both[1]).lfdr.value)
        sizes.append(both[0].binned_sizes.tolist() != both[1].binned_sizes.tolist())
    assert any(rates) and any(sizes)


# ---------------------------------------------------------------- components and their removal


@pytest.mark.parametrize("connectivity", [6, 18, 26])
def test_components_are_those_of_a_flood_fill(rng: np.random.Generator, connectivity: int) -> None:
    mask = rng.uniform(size=(9, 8, 7)) < 0.15
    labels, sizes = components(mask, connectivity)  # type: ignore[arg-type]
    lesions = flood(mask, connectivity)
    assert sizes.tolist() == [len(lesion) for lesion in lesions]
    for number, lesion in enumerate(lesions, start=1):
        assert set(map(tuple, np.argwhere(labels == number).tolist())) == lesion
    if connectivity != 18:  # SimpleITK knows faces only, and all neighbours
        image = SimpleITK.GetImageFromArray(mask.astype(np.uint8))
        assert SimpleITK.GetArrayFromImage(SimpleITK.ConnectedComponent(image, connectivity == 26)).max() == len(sizes)


def test_eighteen_neighbours_join_at_edges_and_not_at_corners() -> None:
    mask = np.zeros((4, 4, 4), bool)
    mask[0, 0, 0] = mask[0, 1, 1] = mask[1, 2, 2] = True  # an edge, then a corner
    assert sorted(components(mask).sizes.tolist()) == [1, 2]
    assert len(components(mask, 6).sizes) == 3
    assert len(components(mask, 26).sizes) == 1


@pytest.mark.parametrize("minimum", [0, 1, 2, 3, 6])
def test_small_ones_are_removed_strictly_below_the_minimum(rng: np.random.Generator, minimum: int) -> None:
    mask = rng.uniform(size=(10, 9, 8)) < 0.12
    before = mask.copy()
    kept = remove_small(mask, minimum)
    expected = {v for lesion in flood(mask) if len(lesion) >= minimum for v in lesion}
    assert set(map(tuple, np.argwhere(kept).tolist())) == expected
    np.testing.assert_array_equal(mask, before)
    assert kept is not mask
    assert not remove_small(np.zeros((3, 3, 3), bool)).any()


# ---------------------------------------------------------------- by hand


def line(*spans: tuple[int, int], length: int = 60) -> np.ndarray:
    """A line of voxels that is True from the first up to, without, the last of each span."""
    mask = np.zeros((length, 1, 1), bool)
    for first, last in spans:
        mask[first:last] = True
    return mask


def test_a_worked_example() -> None:
    reference = line((0, 4), (10, 20), (30, 34), (50, 53))
    prediction = line((1, 4), (8, 12), (18, 25), (31, 33), (40, 45))
    # found: the first by 3, the second by 2 + 2; the third by 2 of 4, the fourth by none
    # false: 8-12 shares 2, 18-25 shares 2, 31-33 shares 2, 40-45 none
    rates = lesion_rates(match_lesions(prediction, reference))
    assert rates[2:6] == (4, 2, 5, 4)
    assert rates.ltpr.value == 2 / 4
    assert rates.lfdr.value == 4 / (2 + 4)
    # one voxel more of the third makes three in common
    rates = lesion_rates(match_lesions(prediction | line((33, 34)), reference))
    assert rates[2:6] == (4, 3, 5, 3)


def test_a_worked_example_of_the_text() -> None:
    reference = line((0, 4), (10, 20), (30, 34), (50, 60), length=90)
    prediction = line((3, 4), (21, 22), (36, 38), (61, 62), (70, 72), (74, 78), length=90)
    # grown: 2-5 covers two of four, exactly half; 20-23 ends where the second begins; 35-39 covers nothing;
    # 60-63 covers nothing; 69-73 and 73-79 are one
    match = match_lesions(prediction, reference, convention="text")
    assert match.found.tolist() == [True, False, False, False]
    assert match.predicted_sizes.tolist() == [1, 1, 2, 1, 6]
    assert match.false.tolist() == [False, True, True, True, True]
    rates = lesion_rates(match)
    assert rates.ltpr.value == 1 / 4
    assert rates.lfdr.value == 4 / (1 + 4)
    # the growth alone may reach enough: two of ten are not, three or half of five are
    assert lesion_rates(match_lesions(line((5, 6)), line((6, 16)), convention="text")).found == 0
    assert lesion_rates(match_lesions(line((6, 8)), line((6, 16)), convention="text")).found == 1


def test_growth_is_to_faces_and_edges_and_stops_at_the_border() -> None:
    reference, prediction = np.zeros((5, 5, 5), bool), np.zeros((5, 5, 5), bool)
    prediction[2, 2, 2] = True
    reference[1:4, 1:4, 1:4] = True
    counts = {}
    for name, at in {"face": (2, 2, 3), "edge": (2, 3, 3), "corner": (3, 3, 3)}.items():
        only = np.zeros((5, 5, 5), bool)
        only[at] = True
        counts[name] = lesion_rates(match_lesions(prediction, only, convention="text")).found
    assert counts == {"face": 1, "edge": 1, "corner": 0}
    corner = np.zeros((5, 5, 5), bool)
    corner[0, 0, 0] = corner[4, 4, 4] = True
    assert lesion_rates(match_lesions(corner, corner, convention="text"))[2:6] == (2, 2, 2, 0)


def test_half_of_a_small_lesion_counts_in_the_text_alone() -> None:
    reference, prediction = line((0, 4)), line((3, 8))
    assert lesion_rates(match_lesions(prediction, reference))[2:6] == (1, 0, 1, 1)
    assert lesion_rates(match_lesions(prediction, reference, convention="text"))[2:6] == (1, 1, 1, 0)


def test_a_lesion_smaller_than_the_overlap_is_never_found() -> None:
    tiny = line((5, 7))
    assert lesion_rates(match_lesions(tiny, tiny)).ltpr.value == 0
    assert lesion_rates(match_lesions(tiny, tiny, overlap=2)).ltpr.value == 1
    assert lesion_rates(match_lesions(tiny, tiny, convention="text")).ltpr.value == 1


def test_edges_of_bins_belong_to_the_bin_below() -> None:
    reference = line((0, 20), (30, 51), length=300) | line((60, 160), (170, 271), length=300)
    counts = [b.reference for b in lesion_rates_by_size(match_lesions(reference, reference))]
    assert counts == [1, 2, 1]
    bins = lesion_rates_by_size(match_lesions(reference, reference), (21,))
    assert [(b.low, b.high, b.reference, b.predicted) for b in bins] == [(1, 21, 2, 2), (22, np.inf, 2, 2)]


def test_binned_size_of_the_released_code_is_looked_up_on_the_reference() -> None:
    # on one reference lesion of 30: a prediction of 4 and one of 12; beside it one of 25
    reference, prediction = line((0, 30), length=80), line((0, 4), (10, 22), (40, 65), length=80)
    match = match_lesions(prediction, reference)
    assert match.binned_sizes.tolist() == [12, 12, 25]
    assert match_lesions(prediction, reference, convention="text").binned_sizes.tolist() == [4, 12, 25]
    # one that reaches out of the reference lesion lies on the background as well
    match = match_lesions(line((20, 60), (70, 73), length=80), reference)
    assert match.binned_sizes.tolist() == [40, 40]
    # one that touches two reference lesions goes by the second, on which lies a larger one
    match = match_lesions(line((5, 22), (24, 60), length=80), line((0, 10), (20, 30), length=80))
    assert match.binned_sizes.tolist() == [36, 36]


def test_a_bin_without_a_predicted_lesion_of_its_size_has_no_false_discovery_rate() -> None:
    match = match_lesions(line((0, 25)), line((0, 10), (30, 55)))
    small, large = lesion_rates_by_size(match, (20,))
    assert small.ltpr.value == 1 and small.lfdr.status == NO_PREDICTED_LESION
    assert large.ltpr.value == 0 and large.lfdr.status == NO_LESION


NONE, SOME, OTHER = line(), line((0, 5)), line((20, 25))


@pytest.mark.parametrize(
    ("convention", "prediction", "reference", "ltpr", "lfdr"),
    [
        ("released", NONE, NONE, NO_REFERENCE_LESION, NO_REFERENCE_LESION),
        ("released", SOME, NONE, NO_REFERENCE_LESION, NO_REFERENCE_LESION),
        ("released", NONE, SOME, 0.0, NO_LESION),
        ("released", SOME, SOME, 1.0, 0.0),
        ("released", SOME, OTHER, 0.0, 1.0),
        ("text", NONE, NONE, NO_REFERENCE_LESION, NO_LESION),
        ("text", SOME, NONE, NO_REFERENCE_LESION, 1.0),
        ("text", NONE, SOME, 0.0, NO_LESION),
        ("text", SOME, SOME, 1.0, 0.0),
        ("text", SOME, OTHER, 0.0, 1.0),
    ],
)
def test_empty_maps(
    convention: Convention, prediction: np.ndarray, reference: np.ndarray, ltpr: float | str, lfdr: float | str
) -> None:
    rates = lesion_rates(match_lesions(prediction, reference, convention=convention))
    for measured, expected in ((rates.ltpr, ltpr), (rates.lfdr, lfdr)):
        if isinstance(expected, str):
            assert measured.status == expected
            assert np.isnan(measured.value)
        else:
            assert measured == (expected, OK)


def test_labels_wrap_past_255_on_request() -> None:
    many = line(*((4 * k, 4 * k + 3) for k in range(300)), length=1200)
    first = line((0, 3), length=1200)
    assert lesion_rates(match_lesions(many, many)).found == 300
    wrapped = lesion_rates(match_lesions(many, many, wrap_labels=True))
    assert (wrapped.found, wrapped.false) == (255, 45)
    # lesion 257 is the only one predicted: it is taken for the first
    last = line((4 * 256, 4 * 256 + 3), length=1200)
    match = match_lesions(last, many, wrap_labels=True)
    assert np.flatnonzero(match.found).tolist() == [0]
    assert np.flatnonzero(match_lesions(last, many).found).tolist() == [256]
    few = line(*((4 * k, 4 * k + 3) for k in range(255)), length=1200)
    assert lesion_rates(match_lesions(few, few, wrap_labels=True)) == lesion_rates(match_lesions(few, few))
    # in loops, as 8-bit labels compare
    labels = components(many).labels.astype(np.uint8)
    expected = [np.count_nonzero((labels == k) & first) >= 3 for k in range(1, 301)]
    assert match_lesions(first, many, wrap_labels=True).found.tolist() == expected


def test_refuses_other_shapes_types_and_options() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        match_lesions(SOME, SOME[:-1])
    with pytest.raises(TypeError, match="boolean"):
        match_lesions(SOME.astype(np.uint8), SOME)
    with pytest.raises(TypeError, match="boolean"):
        remove_small(SOME.astype(float))
    with pytest.raises(ValueError, match="X, Y, Z"):
        match_lesions(SOME[..., 0], SOME[..., 0])
    with pytest.raises(ValueError, match="at least 1"):
        match_lesions(SOME, SOME, overlap=0)
    for edges in ((), (0, 5), (20, 20), (30, 20)):
        with pytest.raises(ValueError, match="edges"):
            lesion_rates_by_size(match_lesions(SOME, SOME), edges)


# ---------------------------------------------------------------- real masks


@pytest.fixture(scope="module")
def ms_masks(real_data: Path) -> dict[str, np.ndarray]:
    """Consensus lesion masks of three patients, 182 x 218 x 182 voxels of 1 mm."""
    archive = real_data / "ms_lesjak_3patients_mni.tar"
    if not archive.is_file():
        pytest.skip(f"no {archive.name} in {real_data}; set PENUMBRA_DATA to a folder that has it")
    masks = {}
    with tarfile.open(archive) as packed:
        for member in packed:
            if "GOLD_STANDARD" in member.name:
                stream = packed.extractfile(member)
                assert stream is not None
                image = nib.Nifti1Image.from_bytes(gzip.decompress(stream.read()))
                masks[member.name.split("/")[1]] = np.asanyarray(image.dataobj) > 0
    assert len(masks) == 3
    return masks


@pytest.mark.parametrize("convention", ["released", "text"])
@pytest.mark.parametrize("patient", ["patient07", "patient19", "patient26"])
def test_real_masks_agree_with_the_loop(
    ms_masks: dict[str, np.ndarray], rng: np.random.Generator, patient: str, convention: Convention
) -> None:
    reference = ms_masks[patient]
    labels, sizes = components(reference)
    drawn = rng.uniform(size=len(sizes)) < 0.7
    drawn[sizes.argsort()[-2:]] = False, True
    seen = np.concatenate([[False], drawn])[labels]
    noise = ndimage.binary_dilation(rng.uniform(size=reference.shape) < 2e-6, iterations=2)
    prediction = np.roll(seen, 1, axis=1) & (rng.uniform(size=reference.shape) < 0.9) | noise
    prediction, reference = remove_small(prediction), remove_small(reference)

    start = time.perf_counter()
    match = match_lesions(prediction, reference, convention=convention)
    rates, bins = lesion_rates(match), lesion_rates_by_size(match)
    assert time.perf_counter() - start < 2
    oracle = Oracle(prediction, reference, convention)
    ltpr, lfdr, counts = oracle.rates()
    assert rates[2:6] == counts
    assert (rates.ltpr.value, rates.lfdr.value) == pytest.approx((ltpr, lfdr))
    assert 0 < rates.found < rates.reference and rates.false > 0
    for bin_, (low, high) in zip(bins, ((1, 20), (21, 100), (101, np.inf)), strict=True):
        ltpr, lfdr, counts = oracle.rates(low, high, whole=False)
        assert bin_[2:6] == counts
        assert (bin_.ltpr.value, bin_.lfdr.value) == pytest.approx((ltpr, lfdr), nan_ok=True)


@pytest.mark.parametrize("connectivity", [6, 18, 26])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.1, 0.4, 1.0])
def test_a_graph_of_voxels_and_a_scan_of_the_array_number_alike(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, connectivity: Connectivity, share: float
) -> None:
    mask = rng.uniform(size=tuple(rng.integers(1, 20, size=3))) < share
    found = []
    for most in (-1.0, 1.0):
        monkeypatch.setattr(lesions, "_SPARSE", most)
        found.append(components(mask, connectivity))
    expected, _ = ndimage.label(mask, ndimage.generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[connectivity]))
    for labels, sizes in found:
        np.testing.assert_array_equal(labels, expected)
        np.testing.assert_array_equal(sizes, [np.sum(expected == i) for i in range(1, expected.max() + 1)])
        assert labels.dtype == np.int32
