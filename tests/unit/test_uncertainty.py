import numpy as np
import pytest
from scipy.stats import entropy as scipy_entropy
from sklearn.metrics import brier_score_loss

from penumbra.metrics import uncertainty as u


@pytest.fixture(params=range(4))
def maps(request):
    rng = np.random.default_rng(request.param)
    return rng.dirichlet(np.ones(3), size=(6, 5, 4)).transpose(3, 0, 1, 2)[:2], rng.random((2, 6, 5, 4)) / 2


def test_brier_of_a_binary_reference_agrees_with_sklearn(maps):
    p, soft = maps
    hard = (soft > 0.25).astype(np.float32)
    expected = brier_score_loss(hard[0].ravel().astype(int), p[0].ravel())
    assert u.brier(p[0], hard[0]) == pytest.approx(expected, rel=1e-12)


def test_brier_of_a_soft_reference_agrees_with_a_loop(maps):
    p, soft = maps
    total = sum((float(p[0][i]) - float(soft[0][i])) ** 2 for i in np.ndindex(p[0].shape))
    assert u.brier(p[0], soft[0]) == pytest.approx(total / p[0].size, rel=1e-12)
    assert u.brier_depthless(p[0], soft[0]) == pytest.approx(total / (6 * 5), rel=1e-12)
    assert u.brier_depthless(p[0], soft[0]) == pytest.approx(4 * u.brier(p[0], soft[0]), rel=1e-12)


def test_brier_is_computed_in_float64():
    p = np.full((300, 300, 3), 0.1, np.float32)
    assert u.brier(p, np.zeros_like(p)) == pytest.approx(float(np.float32(0.1)) ** 2, rel=1e-12)
    assert u.brier(p, p) == 0.0


def test_brier_extremes():
    ones, zeros = np.ones((3, 4, 5)), np.zeros((3, 4, 5))
    assert (u.brier(ones, zeros), u.brier(ones, ones), u.brier_depthless(ones, zeros)) == (1.0, 0.0, 5.0)
    with pytest.raises(ValueError, match="shapes differ"):
        u.brier(ones, zeros[0])


def test_entropy_agrees_with_scipy(maps):
    p, _ = maps
    with_background = np.concatenate([1 - p.sum(axis=0, keepdims=True), p])
    background = with_background[0]
    expected = scipy_entropy(with_background, axis=0).sum() + (background * np.log(background)).sum()
    assert u.entropy(p) == pytest.approx(expected, rel=1e-10)
    assert u.entropy(p) == pytest.approx(u.entropy(p[0]) + u.entropy(p[1]), rel=1e-12)


def test_entropy_has_neither_complement_nor_background_term():
    p = np.array([0.0, 1.0, 0.5, 1 / np.e]).reshape(1, 1, 2, 2)
    assert u.entropy(p) == pytest.approx(0.5 * np.log(2) + 1 / np.e, rel=1e-14)
    assert u.entropy(np.zeros((2, 3, 3, 1))) == 0.0
    assert u.entropy(np.ones((2, 3, 3, 1))) == 0.0


def test_entropy_errors(maps):
    p, soft = maps
    error = u.entropy_error(p, soft)
    assert error == pytest.approx(abs(u.entropy(p) - u.entropy(soft)))
    assert error == u.entropy_error(soft, p) > 0
    assert u.entropy_error(p, p) == 0
    assert u.entropy_error_per_voxel(p, soft) == pytest.approx(error / (6 * 5 * 4))
    assert u.entropy_error_per_voxel(p[0], soft[0]) == pytest.approx(u.entropy_error(p[0], soft[0]) / (6 * 5 * 4))


def test_entropy_error_is_of_the_sums_not_voxel_by_voxel():
    p = np.array([0.5, 0.0]).reshape(1, 2, 1)
    assert u.entropy_error(p, p[:, ::-1]) == 0
