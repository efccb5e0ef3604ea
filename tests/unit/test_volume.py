import numpy as np
import pytest

from penumbra.metrics.measurement import BOTH_EMPTY, OK, REFERENCE_EMPTY
from penumbra.metrics.volume import avd, rvd


def _map(voxels):
    flat = np.zeros(60, bool)
    flat[:voxels] = True
    return flat.reshape(5, 4, 3)


@pytest.mark.parametrize(("predicted", "referred", "signed"), [(10, 20, 0.5), (20, 10, -1.0), (7, 7, 0.0), (0, 5, 1.0)])
def test_closed_form(predicted, referred, signed):
    assert rvd(_map(predicted), _map(referred)) == (signed, OK)
    assert avd(_map(predicted), _map(referred)) == (abs(signed), OK)


@pytest.mark.parametrize("seed", range(5))
def test_antisymmetric_in_the_numerator(seed):
    a, b = np.random.default_rng(seed).random((2, 6, 6, 2)) < 0.4
    forward, backward = rvd(a, b).value * b.sum(), rvd(b, a).value * a.sum()
    assert forward == pytest.approx(b.sum() - a.sum())
    assert forward == pytest.approx(-backward)


@pytest.mark.parametrize("metric", [rvd, avd])
def test_undefined_without_reference(metric):
    assert np.isnan(metric(_map(3), _map(0)).value)
    assert metric(_map(3), _map(0)).status == REFERENCE_EMPTY
    assert metric(_map(0), _map(0)).status == BOTH_EMPTY
