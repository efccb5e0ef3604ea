import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score

from penumbra.metrics.measurement import BOTH_EMPTY, OK, PREDICTION_EMPTY, REFERENCE_EMPTY
from penumbra.metrics.overlap import dice, precision, recall

SHAPE = (7, 5, 3)
EMPTY, FULL = np.zeros(SHAPE, bool), np.ones(SHAPE, bool)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("metric", "oracle"),
    [(dice, f1_score), (precision, precision_score), (recall, recall_score)],
    ids=lambda f: f.__name__,
)
def test_agrees_with_sklearn(metric, oracle, seed):
    rng = np.random.default_rng(seed)
    prediction, reference = rng.random(SHAPE) < 0.3, rng.random(SHAPE) < 0.5
    value, status = metric(prediction, reference)
    assert status == OK
    assert value == pytest.approx(oracle(reference.ravel(), prediction.ravel()), abs=1e-14)


@pytest.mark.parametrize(
    ("metric", "prediction", "reference", "value", "status"),
    [
        (dice, EMPTY, EMPTY, np.nan, BOTH_EMPTY),
        (dice, EMPTY, FULL, 0.0, OK),
        (dice, FULL, EMPTY, 0.0, OK),
        (dice, FULL, FULL, 1.0, OK),
        (precision, EMPTY, EMPTY, np.nan, BOTH_EMPTY),
        (precision, EMPTY, FULL, np.nan, PREDICTION_EMPTY),
        (precision, FULL, EMPTY, 0.0, OK),
        (precision, FULL, FULL, 1.0, OK),
        (recall, EMPTY, EMPTY, np.nan, BOTH_EMPTY),
        (recall, EMPTY, FULL, 0.0, OK),
        (recall, FULL, EMPTY, np.nan, REFERENCE_EMPTY),
        (recall, FULL, FULL, 1.0, OK),
    ],
)
def test_empty_and_full(metric, prediction, reference, value, status):
    measured = metric(prediction, reference)
    assert measured.status == status
    assert measured.value == pytest.approx(value, nan_ok=True)


@pytest.mark.parametrize("metric", [dice, precision, recall])
def test_refuses_other_shapes_and_types(metric):
    with pytest.raises(ValueError, match="shapes differ"):
        metric(EMPTY, EMPTY[..., :1])
    with pytest.raises(TypeError, match="boolean"):
        metric(EMPTY.astype(np.uint8), EMPTY)
