import numpy as np
import pytest
from sklearn.metrics import mean_squared_error

from penumbra.metrics.squared_error import mse, mse_depthless


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mean_over_voxels_and_over_one_slice(rng: np.random.Generator, dtype: type):
    p, r = (rng.uniform(size=(7, 5, 3)).astype(dtype) for _ in range(2))
    assert mse(p, r) == pytest.approx(mean_squared_error(r.astype(float).ravel(), p.astype(float).ravel()))
    total = 0.0
    for at in np.ndindex(p.shape):
        total += (float(p[at]) - float(r[at])) ** 2
    assert mse_depthless(p, r) == pytest.approx(total / (7 * 5))
    assert mse_depthless(p, r) == pytest.approx(3 * mse(p, r))


def test_of_booleans_it_is_the_share_that_differs(rng: np.random.Generator):
    p, r = rng.uniform(size=(2, 7, 5, 3)) < 0.3
    assert mse(p, r) == np.count_nonzero(p != r) / p.size
    assert mse_depthless(p, r) == np.count_nonzero(p != r) / 35
    assert mse(p, p) == mse_depthless(r, r) == 0
    assert mse(p, ~p) == 1


def test_shapes_must_agree():
    for measure in (mse, mse_depthless):
        with pytest.raises(ValueError, match="shapes differ"):
            measure(np.zeros((2, 2, 2)), np.zeros((2, 2, 1)))
