"""Losses against plain-Python formulas, MONAI, and finite differences."""

import math

import pytest
import torch
from monai.losses import DiceLoss

from penumbra import parts
from penumbra.losses.adaptive_wing import adaptive_wing_loss
from penumbra.losses.dice import dice_loss
from penumbra.networks.output import ModelOutput


@pytest.fixture(autouse=True)
def _fresh(rng):
    torch.manual_seed(int(rng.integers(2**62)))


def pair(*shape, soft=True):
    prediction, target = torch.rand(*shape, dtype=torch.float64), torch.rand(*shape, dtype=torch.float64)
    return prediction, target if soft else (target > 0.5).double()


def dice_by_hand(p, t, smooth=1.0):
    overlap = total = 0.0
    for a, b in zip(p.flatten().tolist(), t.flatten().tolist(), strict=True):
        overlap, total = overlap + a * b, total + a + b
    return -(2 * overlap + smooth) / (total + smooth)


@pytest.mark.parametrize("soft", [True, False])
@pytest.mark.parametrize("smooth", [1.0, 0.01])
def test_dice_equals_its_formula(soft, smooth):
    p, t = pair(3, 2, 5, 4, soft=soft)
    assert dice_loss(p, t, smooth=smooth).item() == pytest.approx(dice_by_hand(p, t, smooth), rel=1e-12)
    classes = [dice_by_hand(p[:, k], t[:, k], smooth) for k in range(2)]
    assert dice_loss(p, t, smooth=smooth, per_class=True).item() == pytest.approx(sum(classes) / 2, rel=1e-12)


def test_dice_equals_monai():
    p, t = pair(4, 3, 6, 5, soft=False)
    monai = DiceLoss(batch=True, smooth_nr=1.0, smooth_dr=1.0)
    torch.testing.assert_close(dice_loss(p, t, per_class=True), monai(p, t) - 1)
    flat = (p.reshape(1, 1, -1), t.reshape(1, 1, -1))
    torch.testing.assert_close(dice_loss(p, t), monai(*flat) - 1)


def test_dice_of_one_class_is_the_same_pooled_and_per_class():
    p, t = pair(2, 1, 4, 4)
    assert dice_loss(p, t) == dice_loss(p, t, per_class=True)


def test_dice_bounds_and_empty_masks():
    empty, full = torch.zeros(2, 1, 8, 8), torch.ones(2, 1, 8, 8)
    assert dice_loss(empty, empty) == -1 and dice_loss(full, full) == -1
    assert dice_loss(full, empty).item() == pytest.approx(-1 / 129)
    p, t = pair(2, 2, 6, 6)
    assert -1 <= dice_loss(p, t) < 0


def wing_by_hand(p, t, theta=0.5, alpha=2.1, omega=8.0, epsilon=1.0):
    total = 0.0
    for a, b in zip(p.flatten().tolist(), t.flatten().tolist(), strict=True):
        distance, power = abs(b - a), alpha - b
        if distance < theta:
            total += omega * math.log(1 + (distance / epsilon) ** power)
        else:
            ratio = theta / epsilon
            slope = omega * (1 / (1 + ratio**power)) * power * ratio ** (power - 1) * (1 / epsilon)
            total += slope * distance - (theta * slope - omega * math.log(1 + ratio**power))
    return total


@pytest.mark.parametrize(
    "options", [{}, {"theta": 0.3, "alpha": 2.4, "omega": 14.0, "epsilon": 0.7}, {"epsilon": 2.0}, {"omega": 14.0}]
)
@pytest.mark.parametrize("soft", [True, False])
def test_adaptive_wing_equals_its_formula(options, soft):
    p, t = pair(3, 2, 7, 5, soft=soft)
    assert ((p - t).abs() < 0.3).any() and ((p - t).abs() >= 0.5).any()
    expected = wing_by_hand(p, t, **options)
    assert adaptive_wing_loss(p, t, **options).item() == pytest.approx(expected, rel=1e-12)
    mean = adaptive_wing_loss(p, t, reduction="mean", **options)
    assert mean.item() == pytest.approx(expected / p.numel(), rel=1e-12)


def test_adaptive_wing_values_worked_out_by_hand():
    def one(p, t):
        return adaptive_wing_loss(torch.tensor([p], dtype=torch.float64), torch.tensor([t], dtype=torch.float64)).item()

    assert one(0.2, 0.2) == 0
    assert one(0.25, 0.0) == pytest.approx(8 * math.log1p(0.25**2.1))
    slope = 8 * 1.1 * 0.5**0.1 / (1 + 0.5**1.1)
    assert one(0.0, 1.0) == pytest.approx(8 * math.log1p(0.5**1.1) + 0.5 * slope)


def test_adaptive_wing_is_continuous_and_smooth_at_theta():
    t = torch.linspace(0, 1, 21, dtype=torch.float64)
    for sign in (-1, 1):
        sides = []
        for nudge in (-1e-7, 0.0, 1e-7):
            p = (t + sign * (0.5 + nudge)).requires_grad_()
            loss = adaptive_wing_loss(p, t, reduction="none")
            sides.append((loss.detach(), torch.autograd.grad(loss.sum(), p)[0]))
        for value, gradient in sides[1:]:
            torch.testing.assert_close(value, sides[0][0], atol=1e-5, rtol=0)
            torch.testing.assert_close(gradient, sides[0][1], atol=1e-4, rtol=0)


@pytest.mark.parametrize("soft", [True, False])
def test_gradients(soft):
    p, t = pair(2, 2, 3, 3, soft=soft)
    p = torch.where(((p - t).abs() - 0.5).abs() < 1e-3, p + 0.01, p)
    p = torch.where((p - t).abs() < 1e-2, t + 0.02, p).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: dice_loss(x, t), (p,))
    assert torch.autograd.gradcheck(lambda x: dice_loss(x, t, per_class=True), (p,))
    assert torch.autograd.gradcheck(lambda x: adaptive_wing_loss(x, t), (p,))
    assert torch.autograd.gradcheck(lambda x: adaptive_wing_loss(x, t, reduction="mean"), (p,))


@pytest.mark.parametrize("name", ["dice", "adaptive_wing"])
def test_perfect_and_opposite_predictions_have_finite_gradients(name):
    loss = parts.build("loss", name)
    for start, target in ((0.0, 0.0), (1.0, 1.0), (0.0, 1.0), (1.0, 0.0), (0.5, 0.5), (0.5, 1.0)):
        p = torch.full((2, 1, 4, 4), start, requires_grad=True)
        value = loss(ModelOutput(p, p), torch.full((2, 1, 4, 4), target))
        (gradient,) = torch.autograd.grad(value, p)
        assert torch.isfinite(value) and torch.isfinite(gradient).all()
        if name == "adaptive_wing" and start == target:
            assert value == 0 and not gradient.any()


@pytest.mark.parametrize("loss", [dice_loss, adaptive_wing_loss])
def test_float32_is_close_to_float64_on_a_whole_batch(loss):
    p, t = pair(24, 1, 160, 224)
    p, t = p.float(), (t > 0.99).float()
    torch.testing.assert_close(loss(p, t).double(), loss(p.double(), t.double()), rtol=2e-6, atol=0)


@pytest.mark.parametrize("name", ["dice", "adaptive_wing"])
def test_parts_read_probabilities_and_accept_any_target_type(name):
    p, t = pair(2, 2, 4, 4, soft=False)
    expected = {"dice": dice_loss(p, t), "adaptive_wing": adaptive_wing_loss(p, t)}[name]
    loss = parts.build("loss", name)
    output = ModelOutput(torch.full_like(p, torch.nan), p)
    torch.testing.assert_close(loss(output, t.to(torch.uint8)), expected)
    assert loss(ModelOutput(p, p.bfloat16()), t).dtype == torch.float32


@pytest.mark.parametrize("name", ["dice", "adaptive_wing"])
def test_shapes_that_would_broadcast_are_refused(name):
    p = torch.rand(2, 2, 4, 4)
    with pytest.raises(ValueError, match="differ in shape"):
        parts.build("loss", name)(ModelOutput(p, p), torch.rand(2, 1, 4, 4))


def test_options_reach_the_loss():
    p, t = pair(2, 2, 4, 4)
    output = ModelOutput(p, p)
    wing = parts.build("loss", "adaptive_wing", {"omega": 14.0, "reduction": "mean"})(output, t)
    torch.testing.assert_close(wing, adaptive_wing_loss(p, t, omega=14.0) / p.numel())
    dice = parts.build("loss", "dice", {"per_class": True, "smooth": 0.5})(output, t)
    torch.testing.assert_close(dice, dice_loss(p, t, smooth=0.5, per_class=True))
