"""Final activations against loops over voxels, and their gradients at the awkward places."""

import math

import pytest
import torch

from penumbra import parts


@pytest.fixture(autouse=True)
def _fresh(rng):
    torch.manual_seed(int(rng.integers(2**62)))


def logits(*shape):
    return torch.randn(*shape, dtype=torch.float64) * 3


@pytest.mark.parametrize(
    ("name", "classes", "channels"),
    [
        ("sigmoid", 1, 1),
        ("sigmoid", 3, 3),
        ("softmax", 1, 1),
        ("softmax", 3, 4),
        ("norm_relu", 1, 1),
        ("norm_relu", 2, 3),
    ],
)
def test_channels_shape_and_range(name, classes, channels):
    activation = parts.build("activation", name, classes=classes)
    assert activation.channels == channels
    probabilities = activation(logits(2, channels, 5, 4))
    assert probabilities.shape == (2, classes, 5, 4)
    assert (probabilities >= 0).all() and (probabilities <= 1).all()
    if name != "sigmoid":
        assert (probabilities.sum(dim=1) <= 1 + 1e-12).all()


def test_sigmoid_and_softmax_equal_their_formulas():
    x = logits(2, 3, 4, 3)
    sigmoid = parts.build("activation", "sigmoid", classes=3)(x)
    softmax = parts.build("activation", "softmax", classes=2)(x)
    for b, h, w in ((b, h, w) for b in range(2) for h in range(4) for w in range(3)):
        values = x[b, :, h, w].tolist()
        total = sum(map(math.exp, values))
        for k in range(3):
            assert sigmoid[b, k, h, w].item() == pytest.approx(1 / (1 + math.exp(-values[k])), rel=1e-12)
        for k in range(2):
            assert softmax[b, k, h, w].item() == pytest.approx(math.exp(values[k + 1]) / total, rel=1e-12)


def test_softmax_of_one_class_is_the_softmax_against_logit_zero():
    x = logits(2, 1, 4, 4)
    pair = torch.softmax(torch.cat([torch.zeros_like(x), x], dim=1), dim=1)[:, 1:]
    torch.testing.assert_close(parts.build("activation", "softmax", classes=1)(x), pair)


@pytest.mark.parametrize("scope", ["batch", "image"])
def test_norm_relu_of_one_class_divides_by_the_maximum(scope):
    x = logits(3, 1, 5, 4)
    result = parts.build("activation", "norm_relu", {"scope": scope}, classes=1)(x)
    for b in range(3):
        highest = max(0.0, (x if scope == "batch" else x[b]).max().item())
        for value, got in zip(x[b].flatten().tolist(), result[b].flatten().tolist(), strict=True):
            assert got == pytest.approx(max(value, 0.0) / highest, rel=1e-12)
    assert result.max() == 1


def test_norm_relu_of_a_batch_depends_on_its_other_slices_and_of_an_image_does_not():
    x = logits(2, 1, 4, 4)
    louder = torch.stack([x[0], x[1] * 100])
    for scope, same in (("batch", False), ("image", True)):
        activation = parts.build("activation", "norm_relu", {"scope": scope}, classes=1)
        assert torch.allclose(activation(x)[0], activation(louder)[0]) is same


@pytest.mark.parametrize("scope", ["batch", "image"])
def test_norm_relu_of_several_classes(scope):
    x = logits(3, 4, 5, 4)
    x[0, :, 2, 2] = -1
    x[1] = -x[1].abs()
    result = parts.build("activation", "norm_relu", {"scope": scope}, classes=3)(x)
    for b, h, w in ((b, h, w) for b in range(3) for h in range(5) for w in range(4)):
        rectified = [max(v, 0.0) for v in x[b, :, h, w].tolist()]
        expected = [v / sum(rectified) if sum(rectified) else 0.0 for v in rectified][1:]
        assert result[b, :, h, w].tolist() == pytest.approx(expected, rel=1e-12)
    assert not result[0, :, 2, 2].any() and not result[1].any()


@pytest.mark.parametrize("scope", ["batch", "image"])
@pytest.mark.parametrize("classes", [1, 2])
def test_norm_relu_gradients(scope, classes):
    activation = parts.build("activation", "norm_relu", {"scope": scope}, classes=classes)
    x = logits(2, activation.channels, 3, 3)
    x = torch.where(x.abs() < 0.05, torch.full_like(x, 0.5), x).requires_grad_()
    assert torch.autograd.gradcheck(activation, (x,))


@pytest.mark.parametrize("scope", ["batch", "image"])
@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize("value", [0.0, -0.0, -3.0, 1e-45, 1e-39, 1e-37, 1e-20, 1e30])
def test_norm_relu_never_gives_nan(scope, classes, value):
    activation = parts.build("activation", "norm_relu", {"scope": scope}, classes=classes)
    x = torch.full((2, activation.channels, 3, 3), value, requires_grad=True)
    result = activation(x)
    (gradient,) = torch.autograd.grad(result.sum(), x)
    assert torch.isfinite(result).all() and torch.isfinite(gradient).all()
    if value <= 1e-39:
        assert not result.any()
    else:
        torch.testing.assert_close(result, torch.full_like(result, 1.0 if classes == 1 else 1 / 3))


@pytest.mark.parametrize("name", ["sigmoid", "softmax"])
@pytest.mark.parametrize("classes", [1, 3])
def test_sigmoid_and_softmax_gradients_and_extremes(name, classes):
    activation = parts.build("activation", name, classes=classes)
    assert torch.autograd.gradcheck(activation, (logits(2, activation.channels, 2, 2).requires_grad_(),))
    extreme = torch.tensor([1e30, -1e30, 0.0]).repeat(activation.channels, 1)[None, :, None].requires_grad_()
    result = activation(extreme)
    (gradient,) = torch.autograd.grad(result.sum(), extreme)
    assert torch.isfinite(result).all() and torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["sigmoid", "softmax", "norm_relu"])
def test_half_precision_logits_give_float32_probabilities(name):
    activation = parts.build("activation", name, classes=2)
    assert activation(logits(1, activation.channels, 4, 4).bfloat16()).dtype == torch.float32
