"""Cross-entropy, Dice with cross-entropy, squared error, wing and log-cosh Dice: against torch, MONAI, sklearn and loops."""

import itertools
import math

import pytest
import torch
from monai.losses import DiceCELoss, DiceLoss
from pydantic import ValidationError
from sklearn.metrics import log_loss
from torch.nn import functional as F

from penumbra import parts
from penumbra.errors import PenumbraError
from penumbra.heads.logits import Logits
from penumbra.losses.cross_entropy import cross_entropy_loss
from penumbra.losses.dice import dice_loss
from penumbra.losses.log_cosh_dice import log_cosh_dice_loss
from penumbra.losses.squared_error import squared_error_loss
from penumbra.losses.wing import wing_loss
from penumbra.networks.output import ModelOutput
from penumbra.training.model import Model, build_model

from .small_training import make_candidate, make_dataset

NEW = ("cross_entropy", "dice_cross_entropy", "squared_error", "wing", "log_cosh_dice")
ACTIVATIONS = ("sigmoid", "softmax", "norm_relu", "norm_softplus")


@pytest.fixture(autouse=True)
def _fresh(rng):
    torch.manual_seed(int(rng.integers(2**62)))


def normal(*shape, spread=2.0):
    return torch.randn(*shape, dtype=torch.float64) * spread


def label(classes, *size, soft=True, batch=2):
    """Exclusive labels (B, K, ...): shares of background and classes, or one of them."""
    shares = torch.rand(batch, classes + 1, *size, dtype=torch.float64) ** 2
    if soft:
        return (shares / shares.sum(dim=1, keepdim=True))[:, 1:]
    return F.one_hot(shares.argmax(dim=1), classes + 1).movedim(-1, 1)[:, 1:].double()


def passed(activation, logits, options=None, classes=None):
    """A model's output for these logits, as training makes it."""
    classes = classes or max(1, logits.shape[1] - 1)
    layer = parts.build("activation", activation, options, classes=classes)
    return Model(torch.nn.Identity(), layer, Logits(layer.channels))(logits)


def with_background(target):
    return torch.cat([1 - target.sum(dim=1, keepdim=True), target], dim=1)


# ---------------------------------------------------------------- cross-entropy from logits


@pytest.mark.parametrize("soft", [True, False])
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_cross_entropy_of_one_class_equals_torch(activation, soft):
    x, t = normal(2, 1, 5, 4), label(1, 5, 4, soft=soft)
    for reduction in ("mean", "sum"):
        found = cross_entropy_loss(passed(activation, x), t, reduction=reduction)
        torch.testing.assert_close(found, F.binary_cross_entropy_with_logits(x, t, reduction=reduction))


@pytest.mark.parametrize("soft", [True, False])
@pytest.mark.parametrize("classes", [2, 4])
def test_cross_entropy_of_a_softmax_rebuilds_the_background(classes, soft):
    x, t = normal(2, classes + 1, 5, 4), label(classes, 5, 4, soft=soft)
    for reduction in ("mean", "sum"):
        found = cross_entropy_loss(passed("softmax", x), t, reduction=reduction)
        torch.testing.assert_close(found, F.cross_entropy(x, with_background(t), reduction=reduction))


def test_cross_entropy_of_independent_classes_is_one_yes_or_no_each():
    x, t = normal(2, 3, 5, 4), torch.rand(2, 3, 5, 4, dtype=torch.float64)
    found = cross_entropy_loss(passed("sigmoid", x, classes=3), t)
    torch.testing.assert_close(found, F.binary_cross_entropy_with_logits(x, t))


def test_cross_entropy_of_hard_labels_equals_sklearn():
    x, t = normal(2, 4, 5, 4), label(3, 5, 4, soft=False)
    truth = with_background(t).argmax(dim=1).flatten()
    chances = torch.softmax(x, dim=1).movedim(1, -1).reshape(-1, 4)
    found = cross_entropy_loss(passed("softmax", x), t)
    assert found.item() == pytest.approx(log_loss(truth.numpy(), chances.numpy(), labels=[0, 1, 2, 3]), rel=1e-9)


@pytest.mark.parametrize("classes", [1, 3])
def test_weights_equal_torch(classes, rng):
    weights = rng.uniform(0, 3, classes + 1).tolist()
    x, t = normal(2, max(2, classes + 1), 6, 4), label(classes, 6, 4, soft=False)
    # One class: torch's two channels are the logits (a, b), ours is b - a.
    output = passed("softmax", x if classes > 1 else x[:, 1:] - x[:, :1])
    truth = with_background(t).argmax(dim=1)
    weight = torch.tensor(weights, dtype=torch.float64)
    for ours, theirs in (("weighted_mean", "mean"), ("sum", "sum")):
        expected = F.cross_entropy(x, truth, weight=weight, reduction=theirs)
        torch.testing.assert_close(cross_entropy_loss(output, t, weights=weights, reduction=ours), expected)
    soft = label(classes, 6, 4)
    expected = F.cross_entropy(x, with_background(soft), weight=weight)
    torch.testing.assert_close(cross_entropy_loss(output, soft, weights=weights), expected)


def test_weights_of_independent_classes_share_the_background():
    x, t = normal(2, 2, 5, 4), torch.rand(2, 2, 5, 4, dtype=torch.float64)
    ratio = torch.tensor([3.0, 0.5], dtype=torch.float64)[:, None, None]
    expected = 2 * F.binary_cross_entropy_with_logits(x, t, pos_weight=ratio)
    torch.testing.assert_close(
        cross_entropy_loss(passed("sigmoid", x, classes=2), t, weights=[2.0, 6.0, 1.0]), expected
    )


def test_weighted_mean_without_any_weight_is_zero():
    x = normal(2, 1, 4, 4).requires_grad_()
    loss = cross_entropy_loss(
        passed("sigmoid", x), torch.zeros(2, 1, 4, 4), weights=[0.0, 1.0], reduction="weighted_mean"
    )
    assert loss == 0 and not torch.autograd.grad(loss, x)[0].any()


@pytest.mark.parametrize(("activation", "classes"), [("sigmoid", 1), ("sigmoid", 2), ("softmax", 1), ("softmax", 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cross_entropy_is_exact_where_probabilities_round(activation, classes, dtype):
    channels = parts.build("activation", activation, classes=classes).channels
    for size, (wrong, t) in itertools.product((40.0, 1e4, 1e30), ((False, 0.0), (True, 1.0))):
        # Every class at -size: right where the label is 0, wrong by `size` where it is 1.
        x = torch.full((1, channels, 3, 3), -size, dtype=dtype)
        if channels > classes:
            x[:, 0] = 0.0
        x.requires_grad_()
        target = torch.zeros(1, classes, 3, 3, dtype=dtype)
        target[:, 0] = t
        loss = cross_entropy_loss(passed(activation, x, classes=classes), target, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x)
        assert loss.item() == pytest.approx(9 * size if wrong else 0.0, rel=1e-6, abs=1e-15)
        where = gradient[:, 1 if channels > classes else 0]
        torch.testing.assert_close(where, torch.full_like(where, -1.0 if wrong else 0.0), atol=1e-6, rtol=0)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("classes", [1, 3])
def test_gradient_of_cross_entropy_is_probability_minus_label(classes):
    x, t = normal(2, 1 if classes == 1 else classes + 1, 4, 3).requires_grad_(), label(classes, 4, 3)
    output = passed("softmax", x)
    (gradient,) = torch.autograd.grad(cross_entropy_loss(output, t, reduction="sum"), x)
    difference = output.probabilities - t
    torch.testing.assert_close(gradient[:, -classes:], difference.detach())


@pytest.mark.parametrize("classes", [1, 3])
def test_at_the_label_itself_cross_entropy_is_its_entropy_and_flat(classes):
    t = label(classes, 4, 3)
    every = with_background(t)
    x = every.log() if classes > 1 else torch.log(t) - torch.log1p(-t)
    x.requires_grad_()
    loss = cross_entropy_loss(passed("softmax", x), t, reduction="sum")
    torch.testing.assert_close(loss, -(every * every.log()).sum())
    torch.testing.assert_close(torch.autograd.grad(loss, x)[0], torch.zeros_like(x), atol=1e-12, rtol=0)


# ---------------------------------------------------------------- cross-entropy from probabilities


def from_probabilities_by_hand(p, t, floor):
    total = 0.0
    for b, h, w in itertools.product(range(p.shape[0]), range(p.shape[2]), range(p.shape[3])):
        chances, shares = p[b, :, h, w].tolist(), t[b, :, h, w].tolist()
        for share, chance in zip([1 - sum(shares), *shares], [1 - sum(chances), *chances], strict=True):
            total -= share * math.log(max(chance, floor))
    return total


@pytest.mark.parametrize("activation", ["norm_relu", "norm_softplus"])
@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize("floor", [1e-6, 0.01])
def test_other_activations_are_judged_by_their_probabilities(activation, classes, floor):
    x, t = normal(2, 1 if classes == 1 else 3, 5, 4), label(classes, 5, 4)
    output = passed(activation, x)
    assert output.log_outcomes is None
    expected = from_probabilities_by_hand(output.probabilities, t, floor)
    assert cross_entropy_loss(output, t, floor=floor, reduction="sum").item() == pytest.approx(expected, rel=1e-9)
    assert cross_entropy_loss(output, t, floor=floor).item() == pytest.approx(expected / 40, rel=1e-9)


@pytest.mark.parametrize("classes", [1, 3])
def test_logits_and_probabilities_agree_where_nothing_rounds(classes):
    x, t = normal(2, 1 if classes == 1 else 4, 5, 4), label(classes, 5, 4)
    output = passed("softmax", x)
    for options in ({}, {"weights": [0.5, 2.0, 1.0, 3.0][: classes + 1]}, {"reduction": "sum"}):
        without = ModelOutput(torch.full_like(x, torch.nan), output.probabilities)
        torch.testing.assert_close(
            cross_entropy_loss(without, t, floor=1e-12, **options), cross_entropy_loss(output, t, **options)
        )


@pytest.mark.parametrize("classes", [1, 2])
def test_probabilities_of_exactly_0_and_1_cost_no_more_than_the_floor(classes):
    for p, t in itertools.product((0.0, 1.0), repeat=2):
        chances = torch.zeros(1, classes, 3, 3)
        target = chances.clone()
        chances[:, 0], target[:, 0] = p, t
        chances.requires_grad_()
        loss = cross_entropy_loss(ModelOutput(chances, chances), target)
        (gradient,) = torch.autograd.grad(loss, chances)
        assert loss.item() == pytest.approx(0.0 if p == t else -math.log(1e-6), rel=1e-6)
        assert torch.isfinite(gradient).all()


def test_a_voxel_of_two_classes_is_half_of_each():
    x = normal(1, 3, 4, 4)
    both, half = torch.ones(1, 2, 4, 4), torch.full((1, 2, 4, 4), 0.5)
    output = passed("softmax", x)
    assert cross_entropy_loss(output, both) == cross_entropy_loss(output, half)
    independent = passed("sigmoid", x[:, 1:], classes=2)
    expected = F.binary_cross_entropy_with_logits(x[:, 1:], both.double())
    torch.testing.assert_close(cross_entropy_loss(independent, both), expected)


@pytest.mark.parametrize("name", ["cross_entropy", "dice_cross_entropy"])
def test_wrong_weights_are_refused(name):
    x, t = normal(1, 3, 4, 4), label(2, 4, 4, batch=1)
    with pytest.raises(PenumbraError, match=r"2 weights \[1.0, 2.0\] for background and 2") as error:
        parts.build("loss", name, {"weights": (1.0, 2.0)})(passed("softmax", x), t)
    assert "3 weights" in error.value.cure
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        parts.options_model("loss", name)(weights=[1, -1, 2])
    assert parts.options_model("loss", name)(weights=[1, 2]).weights == (1.0, 2.0)


@pytest.mark.parametrize(
    ("activation", "classes", "grouped"), [("sigmoid", 2, 2), ("softmax", 2, 1), ("norm_relu", 2, 0)]
)
def test_a_built_model_offers_what_its_activation_has(activation, classes, grouped):
    candidate, dataset = make_candidate(activation=activation), make_dataset(classes=classes)
    output = build_model(candidate, dataset).eval()(torch.randn(2, 1, 16, 12))
    if not grouped:
        assert output.log_outcomes is None
        return
    logarithms = output.log_outcomes(output.logits)
    assert logarithms.shape == (2, grouped, classes // grouped + 1, 16, 12)
    torch.testing.assert_close(logarithms.exp().sum(dim=2), torch.ones(2, grouped, 16, 12))
    torch.testing.assert_close(logarithms[:, :, 1:].exp().flatten(1, 2), output.probabilities)


# ---------------------------------------------------------------- Dice with cross-entropy


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.3, 2.5)])
def test_dice_cross_entropy_of_one_class_equals_monai(weights):
    x, t = normal(3, 1, 6, 5), label(1, 6, 5, batch=3, soft=False)
    dice, entropy = weights
    monai = DiceCELoss(
        sigmoid=True, batch=True, smooth_nr=1.0, smooth_dr=1.0, lambda_dice=dice, lambda_ce=entropy
    )  # fmt: skip
    loss = parts.build("loss", "dice_cross_entropy", {"dice_weight": dice, "cross_entropy_weight": entropy})
    torch.testing.assert_close(loss(passed("sigmoid", x), t), monai(x, t) - dice)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_dice_cross_entropy_is_the_sum_of_its_parts(activation):
    classes = 2
    x, t = normal(2, 2 if activation == "sigmoid" else 3, 5, 4), label(2, 5, 4)
    output = passed(activation, x, classes=classes)
    options = {"smooth": 0.5, "per_class": True, "weights": (1.0, 2.0, 3.0), "floor": 1e-3}
    mixed = parts.build("loss", "dice_cross_entropy", {"dice_weight": 0.7, "cross_entropy_weight": 0.2, **options})
    dice = parts.build("loss", "dice", {k: options[k] for k in ("smooth", "per_class")})
    entropy = parts.build("loss", "cross_entropy", {k: options[k] for k in ("weights", "floor")})
    torch.testing.assert_close(mixed(output, t), 0.7 * dice(output, t) + 0.2 * entropy(output, t))


# ---------------------------------------------------------------- squared error


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_squared_error_equals_torch(reduction):
    p, t = torch.rand(3, 2, 5, 4, dtype=torch.float64), torch.rand(3, 2, 5, 4, dtype=torch.float64)
    torch.testing.assert_close(squared_error_loss(p, t, reduction=reduction), F.mse_loss(p, t, reduction=reduction))
    built = parts.build("loss", "squared_error", {"reduction": reduction})(ModelOutput(p, p), t)
    torch.testing.assert_close(built, F.mse_loss(p, t, reduction=reduction))


# ---------------------------------------------------------------- wing


def wing_by_hand(p, t, omega, epsilon):
    total = 0.0
    for a, b in zip(p.flatten().tolist(), t.flatten().tolist(), strict=True):
        d = abs(a - b)
        constant = omega - omega * math.log(1 + omega / epsilon)
        total += omega * math.log(1 + d / epsilon) if d < omega else d - constant
    return total


@pytest.mark.parametrize(("omega", "epsilon"), [(10.0, 2.0), (0.5, 0.1), (0.2, 0.7), (5.0, 0.5)])
def test_wing_equals_its_formula(omega, epsilon):
    p, t = torch.rand(3, 2, 7, 5, dtype=torch.float64), torch.rand(3, 2, 7, 5, dtype=torch.float64)
    expected = wing_by_hand(p, t, omega, epsilon)
    assert wing_loss(p, t, omega=omega, epsilon=epsilon).item() == pytest.approx(expected, rel=1e-12)
    mean = parts.build("loss", "wing", {"omega": omega, "epsilon": epsilon, "reduction": "mean"})
    assert mean(ModelOutput(p, p), t).item() == pytest.approx(expected / p.numel(), rel=1e-12)


def test_wing_values_worked_out_by_hand():
    def one(distance, **options):
        return wing_loss(torch.tensor([distance], dtype=torch.float64), torch.zeros(1), **options).item()

    assert one(0.0) == 0
    assert one(1.0) == pytest.approx(10 * math.log(1.5))
    assert one(0.5, omega=0.5, epsilon=0.5) == pytest.approx(0.5 * math.log(2))
    assert one(0.9, omega=0.5, epsilon=0.5) == pytest.approx(0.5 * math.log(2) + 0.4)


def test_wing_is_continuous_at_omega_and_linear_beyond():
    options = {"omega": 0.4, "epsilon": 0.1, "reduction": "none"}
    at = torch.tensor([0.4 - 1e-9, 0.4, 0.4 + 1e-9], dtype=torch.float64)
    values = wing_loss(at, torch.zeros(3), **options)
    assert values.max() - values.min() < 1e-7
    p = torch.tensor([0.39, 0.41, 0.9], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(wing_loss(p, torch.zeros(3), **options).sum(), p)
    torch.testing.assert_close(slope, torch.tensor([0.4 / 0.49, 1.0, 1.0], dtype=torch.float64))


def test_wing_scales_with_the_unit_of_distance(rng):
    factor = rng.uniform(0.02, 0.2)
    p, t = torch.rand(2, 1, 5, 5, dtype=torch.float64), torch.rand(2, 1, 5, 5, dtype=torch.float64)
    scaled = wing_loss(p, t, omega=10 * factor, epsilon=2 * factor)
    torch.testing.assert_close(scaled, factor * wing_loss(p / factor, t / factor))


# ---------------------------------------------------------------- log-cosh Dice


@pytest.mark.parametrize("per_class", [True, False])
def test_log_cosh_dice_equals_its_formula_and_monai(per_class):
    p, t = torch.rand(3, 2, 6, 5, dtype=torch.float64), label(2, 6, 5, batch=3, soft=False)
    monai = DiceLoss(batch=True, smooth_nr=1.0, smooth_dr=1.0)
    distance = monai(p, t) if per_class else monai(p.reshape(1, 1, -1), t.reshape(1, 1, -1))
    found = log_cosh_dice_loss(p, t, per_class=per_class)
    assert found.item() == pytest.approx(math.log(math.cosh(distance.item())), rel=1e-9)
    built = parts.build("loss", "log_cosh_dice", {"per_class": per_class, "smooth": 0.2})(ModelOutput(p, p), t)
    dice = dice_loss(p, t, smooth=0.2, per_class=per_class).item()
    assert built.item() == pytest.approx(math.log(math.cosh(1 + dice)), rel=1e-9)


def test_gradient_of_log_cosh_dice_fades_with_tanh():
    p, t = torch.rand(2, 1, 6, 5, dtype=torch.float64, requires_grad=True), label(1, 6, 5)
    (found,) = torch.autograd.grad(log_cosh_dice_loss(p, t), p)
    dice = dice_loss(p, t)
    (plain,) = torch.autograd.grad(dice, p)
    torch.testing.assert_close(found, plain * torch.tanh(1 + dice.detach()))


def test_log_cosh_dice_bounds_and_small_values():
    empty, full = torch.zeros(2, 1, 8, 8), torch.ones(2, 1, 8, 8)
    assert log_cosh_dice_loss(empty, empty) == 0 and log_cosh_dice_loss(full, full) == 0
    assert log_cosh_dice_loss(full, empty).item() == pytest.approx(math.log(math.cosh(1 - 1 / 129)), rel=1e-6)
    big = torch.ones(1, 1, 1, 4096)
    # 1 - Dice is about 1.2e-4 here; log(cosh(.)) of it is 0 in float32.
    p = big.clone()
    p[..., 0] = 0
    distance = 1 - (2 * 4095 + 1) / (4095 + 4096 + 1)
    assert log_cosh_dice_loss(p, big).item() == pytest.approx(distance**2 / 2, rel=2e-2)
    assert torch.log(torch.cosh(torch.tensor(distance))) == 0


# ---------------------------------------------------------------- all of them


def safe(p, t):
    """Probabilities away from kinks: distance 0, and distance 0.5 of the wing below."""
    return torch.where(
        (p - t).abs() < 1e-2, t * 0.9 + 0.05, torch.where(((p - t).abs() - 0.5).abs() < 1e-3, p * 0.9, p)
    )


@pytest.mark.parametrize("name", ["squared_error", "wing", "log_cosh_dice"])
@pytest.mark.parametrize("soft", [True, False])
def test_gradients_by_probability(name, soft):
    t = label(2, 3, 3, soft=soft)
    p = safe(torch.rand(2, 2, 3, 3, dtype=torch.float64), t).requires_grad_()
    for options in ({}, {"omega": 0.5, "epsilon": 0.1} if name == "wing" else {}):
        loss = parts.build("loss", name, options)
        assert torch.autograd.gradcheck(lambda x: loss(ModelOutput(x, x), t), (p,))  # noqa: B023


@pytest.mark.parametrize("name", ["cross_entropy", "dice_cross_entropy"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("classes", [1, 2])
def test_gradients_through_the_activation(name, activation, classes):
    t = label(classes, 3, 3)
    channels = parts.build("activation", activation, classes=classes).channels
    x = normal(2, channels, 3, 3)
    x = torch.where(x.abs() < 0.1, 0.5 + x, x)
    # The highest voxel of one class is 1 whatever its logit: no derivative there through log(1 - p).
    weights = (0.0, 1.0) if classes == 1 and activation.startswith("norm") else ()
    loss = parts.build("loss", name, {"weights": weights, "floor": 1e-9})
    assert torch.autograd.gradcheck(lambda v: loss(passed(activation, v, classes=classes), t), (x.requires_grad_(),))


@pytest.mark.parametrize("name", NEW)
def test_perfect_and_opposite_predictions_have_finite_gradients(name):
    loss = parts.build("loss", name)
    for start, target in itertools.product((0.0, 0.5, 1.0), repeat=2):
        p = torch.full((2, 1, 4, 4), start, requires_grad=True)
        value = loss(ModelOutput(p, p), torch.full((2, 1, 4, 4), target))
        (gradient,) = torch.autograd.grad(value, p)
        assert torch.isfinite(value) and torch.isfinite(gradient).all()
        if start == target and name in ("squared_error", "wing"):
            assert value == 0 and not gradient.any()


@pytest.mark.parametrize("name", NEW)
def test_a_better_prediction_costs_less(name):
    t = label(1, 8, 8, soft=False)
    loss = parts.build("loss", name)
    costs = [loss(ModelOutput(p, p), t).item() for p in (t * (1 - 2 * s) + s for s in (0.05, 0.2, 0.4, 0.6, 0.9))]
    assert costs == sorted(costs) and len(set(costs)) == 5


@pytest.mark.parametrize("name", NEW)
def test_shapes_that_would_broadcast_are_refused(name):
    p = torch.rand(2, 2, 4, 4)
    with pytest.raises(ValueError, match="differ in shape"):
        parts.build("loss", name)(ModelOutput(p, p), torch.rand(2, 1, 4, 4))


@pytest.mark.parametrize("name", NEW)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_any_target_type_is_taken_and_half_precision_is_widened(name, activation):
    channels = parts.build("activation", activation, classes=2).channels
    x, t = normal(2, channels, 4, 4), label(2, 4, 4, soft=False)
    loss = parts.build("loss", name)
    output = passed(activation, x, classes=2)
    torch.testing.assert_close(loss(output, t.to(torch.uint8)), loss(output, t))
    assert loss(passed(activation, x.bfloat16(), classes=2), t).dtype == torch.float32
    p = output.probabilities.bfloat16()
    assert loss(ModelOutput(p, p), t).dtype == torch.float32


@pytest.mark.parametrize("name", NEW)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_float32_is_close_to_float64_on_a_whole_batch(name, activation):
    channels = parts.build("activation", activation, classes=1).channels
    x, t = torch.randn(8, channels, 128, 128) * 4, (torch.rand(8, 1, 128, 128) > 0.99).float()
    loss = parts.build("loss", name)
    narrow, wide = (loss(passed(activation, v, classes=1), t.to(v)) for v in (x, x.double()))
    torch.testing.assert_close(narrow.double(), wide, rtol=2e-5, atol=0)
