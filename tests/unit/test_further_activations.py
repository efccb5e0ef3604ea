"""The normalised softplus against loops over voxels, and logarithms of sigmoid and softmax."""

import itertools
import math

import pytest
import torch

from penumbra import parts
from penumbra.activations.norm_softplus import SMALLEST

SCOPES = ["batch", "image"]


@pytest.fixture(autouse=True)
def _fresh(rng):
    torch.manual_seed(int(rng.integers(2**62)))


def logits(*shape):
    return torch.randn(*shape, dtype=torch.float64) * 3


def norm_softplus(classes, **options):
    return parts.build("activation", "norm_softplus", options, classes=classes)


def softplus(value, beta=1.0):
    return math.log(1 + math.exp(beta * value)) / beta


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_channels_shape_and_range(classes):
    activation = norm_softplus(classes)
    assert activation.channels == (1 if classes == 1 else classes + 1)
    probabilities = activation(logits(2, activation.channels, 5, 4))
    assert probabilities.shape == (2, classes, 5, 4)
    assert (probabilities > 0).all() and (probabilities <= 1).all()
    if classes > 1:
        assert (probabilities.sum(dim=1) < 1).all()


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("beta", [1.0, 0.3, 2.5])
def test_one_class_divides_by_the_maximum(scope, beta):
    x = logits(3, 1, 5, 4)
    result = norm_softplus(1, scope=scope, beta=beta)(x)
    for b in range(3):
        highest = max(softplus(v, beta) for v in (x if scope == "batch" else x[b]).flatten().tolist())
        for value, got in zip(x[b].flatten().tolist(), result[b].flatten().tolist(), strict=True):
            assert got == pytest.approx(softplus(value, beta) / highest, rel=1e-9)
    assert (result.amax(dim=(1, 2, 3)) == 1).sum() == (1 if scope == "batch" else 3)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("beta", [1.0, 2.5])
def test_several_classes_are_shares_with_background(scope, beta):
    x = logits(2, 4, 5, 4)
    x[0, :, 2, 2] = -4
    result = norm_softplus(3, scope=scope, beta=beta)(x)
    for b, h, w in itertools.product(range(2), range(5), range(4)):
        values = [softplus(v, beta) for v in x[b, :, h, w].tolist()]
        assert result[b, :, h, w].tolist() == pytest.approx([v / sum(values) for v in values][1:], rel=1e-9)
    torch.testing.assert_close(result[0, :, 2, 2], torch.full((3,), 0.25, dtype=torch.float64))


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("classes", [1, 3])
def test_a_sharp_softplus_is_the_normalised_relu(scope, classes):
    relu = parts.build("activation", "norm_relu", {"scope": scope}, classes=classes)
    x = logits(3, relu.channels, 6, 5)
    # Where a voxel has no channel above 0 the ReLU gives zeros, and softplus shares.
    x[:, 0] = x[:, 0].abs() + 0.5
    torch.testing.assert_close(norm_softplus(classes, scope=scope, beta=1e4)(x), relu(x), atol=1e-3, rtol=0)


def test_a_batch_depends_on_its_other_slices_and_an_image_does_not():
    x = logits(2, 1, 4, 4)
    louder = torch.stack([x[0], x[1].abs() * 100])
    for scope, same in (("batch", False), ("image", True)):
        assert torch.allclose(norm_softplus(1, scope=scope)(x)[0], norm_softplus(1, scope=scope)(louder)[0]) is same


def test_the_highest_voxel_is_1_even_without_foreground():
    for scope in SCOPES:
        assert norm_softplus(1, scope=scope)(logits(1, 1, 4, 4).abs() * -10 - 1).max() == 1


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize("beta", [1.0, 3.0])
def test_gradients(scope, classes, beta):
    activation = norm_softplus(classes, scope=scope, beta=beta)
    x = logits(2, activation.channels, 3, 3).requires_grad_()
    assert torch.autograd.gradcheck(activation, (x,))


def test_gradients_do_not_vanish_at_negative_logits():
    x = (logits(1, 3, 4, 4).abs() * -1 - 0.1).requires_grad_()
    for name, alive in (("norm_softplus", True), ("norm_relu", False)):
        activation = parts.build("activation", name, classes=2)
        (gradient,) = torch.autograd.grad((activation(x) * torch.rand(1, 2, 4, 4)).sum(), x)
        assert bool(gradient.any()) is alive


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize("beta", [1.0, 5.0])
@pytest.mark.parametrize(
    "value", [-1e30, -200, -104, -100, -88, -87.3, -86, -80, -60, -44, -43.7, -43, -20, 0, 19, 21, 1e30]
)
def test_values_and_gradients_are_always_finite(scope, classes, beta, value):
    activation = norm_softplus(classes, scope=scope, beta=beta)
    x = torch.full((4, activation.channels, 32, 32), value / beta) + torch.randn(4, activation.channels, 32, 32) / 4
    x.requires_grad_()
    result = activation(x)
    (gradient,) = torch.autograd.grad((result * torch.rand_like(result)).sum(), x)
    assert torch.isfinite(result).all() and torch.isfinite(gradient).all()
    assert (result >= 0).all() and (result <= 1).all()


def test_what_counts_as_0():
    # ln(1 + e^x) is e^x to all digits here.
    edge = math.log(SMALLEST)
    for offset, alive in ((-0.01, False), (0.01, True)):
        x = torch.full((1, 1, 4, 4), edge + offset, dtype=torch.float64)
        assert torch.equal(norm_softplus(1)(x), torch.full_like(x, float(alive)))


def test_half_precision_logits_give_float32_probabilities():
    activation = norm_softplus(2)
    assert activation(logits(1, 3, 4, 4).bfloat16()).dtype == torch.float32


def test_wrong_options_are_refused():
    for options in ({"beta": 0.0}, {"scope": "slice"}):
        with pytest.raises(ValueError, match=r"greater than 0|'batch' or 'image'"):
            parts.options_model("activation", "norm_softplus")(**options)


# ---------------------------------------------------------------- logarithms


@pytest.mark.parametrize(
    ("name", "classes", "groups"), [("sigmoid", 1, 1), ("sigmoid", 3, 3), ("softmax", 1, 1), ("softmax", 3, 1)]
)
def test_logarithms_are_those_of_the_probabilities(name, classes, groups):
    activation = parts.build("activation", name, classes=classes)
    x = logits(2, activation.channels, 4, 3)
    found, p = activation.log_outcomes(x), activation(x)
    assert found.shape == (2, groups, classes // groups + 1, 4, 3)
    for b, h, w in itertools.product(range(2), range(4), range(3)):
        chances = p[b, :, h, w].tolist()
        expected = [[1 - c, c] for c in chances] if name == "sigmoid" else [[1 - sum(chances), *chances]]
        for row, wanted in zip(found[b, :, :, h, w].tolist(), expected, strict=True):
            assert row == pytest.approx([math.log(v) for v in wanted], rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", ["sigmoid", "softmax"])
@pytest.mark.parametrize("classes", [1, 3])
def test_logarithms_have_gradients_and_stay_finite(name, classes):
    activation = parts.build("activation", name, classes=classes)
    x = logits(2, activation.channels, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(activation.log_outcomes, (x,))
    extreme = torch.tensor([1e30, -1e30, 0.0]).repeat(activation.channels, 1)[None, :, None].requires_grad_()
    found = activation.log_outcomes(extreme)
    (gradient,) = torch.autograd.grad(found.sum(), extreme)
    assert torch.isfinite(found).all() and torch.isfinite(gradient).all()
    assert activation.log_outcomes(x.bfloat16()).dtype == torch.float32
