import numpy as np
import pytest

from penumbra.metrics.measurement import ALL_ZERO, NO_VOXEL, OK
from penumbra.metrics.nonzero import EDGES, nonzero_histogram, nonzero_intermediate, nonzero_share


def test_edges_are_hundredths_and_belong_to_the_bin_below():
    assert [float(e) for e in EDGES] == [k / 100 for k in range(101)]
    counts = nonzero_histogram(np.concatenate([EDGES, [0.0, 0.0]]))
    np.testing.assert_array_equal(counts, np.ones(100))
    for k in range(1, 101):
        assert np.flatnonzero(nonzero_histogram(np.array([k / 100]))).tolist() == [k - 1]
        above = np.nextafter(k / 100, 2)
        if k < 100:
            assert np.flatnonzero(nonzero_histogram(np.array([above]))).tolist() == [k]
    assert np.flatnonzero(nonzero_histogram(np.array([5e-324]))).tolist() == [0]
    assert nonzero_histogram(np.zeros(7)).sum() == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_histogram_agrees_with_numpy(rng: np.random.Generator, dtype: type):
    values = np.concatenate([rng.uniform(size=4000), rng.integers(0, 101, 500) / 100, np.zeros(500), np.ones(50)])
    values = rng.permutation(values).astype(dtype).reshape(5, -1)
    wide = values[values > 0].astype(np.float64)
    # numpy's bins hold their lower edge, and the last one both: mirrored, they hold the upper
    expected = np.histogram(-wide, bins=-(np.arange(101) / 100)[::-1])[0][::-1]
    np.testing.assert_array_equal(nonzero_histogram(values), expected)


def test_stored_values_count_on_the_side_where_they_lie():
    for k in range(1, 100):
        stored = np.float32(k / 100)
        side = k if float(stored) > k / 100 else k - 1
        assert np.flatnonzero(nonzero_histogram(np.array([stored]))).tolist() == [side]


def test_shares(rng: np.random.Generator):
    p = rng.choice([0.0, 0.03, 0.05, 0.2, 0.95, 0.951, 1.0], size=(6, 5, 4))
    positive = [v for v in p.ravel() if v > 0]
    assert nonzero_share(p) == (len(positive) / p.size, OK)
    assert nonzero_intermediate(p) == (sum(v == 0.2 for v in positive) / len(positive), OK)
    assert nonzero_share(np.zeros((2, 2))) == (0.0, OK)
    assert nonzero_intermediate(np.zeros((2, 2))).status == ALL_ZERO
    assert nonzero_share(np.zeros((0, 2))).status == NO_VOXEL
    assert nonzero_intermediate(np.full(3, 0.5)).value == 1
