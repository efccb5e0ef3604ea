"""The normal over logits, its Monte-Carlo likelihood and its draws against closed forms and other libraries."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from penumbra import parts
from penumbra.errors import PenumbraError
from penumbra.losses.monte_carlo_likelihood import monte_carlo_likelihood
from penumbra.networks.distribution import LowRankNormal
from penumbra.networks.output import ModelOutput
from penumbra.training.model import Model


@pytest.fixture(autouse=True)
def _fresh(rng):
    torch.manual_seed(int(rng.integers(2**62)))


def normal(channels=2, size=(3, 2), rank=2, batch=2) -> LowRankNormal:
    mean = torch.randn(batch, channels, *size, dtype=torch.float64)
    return LowRankNormal(
        mean, torch.randn(batch, rank, channels, *size, dtype=torch.float64), torch.rand_like(mean) + 0.1
    )


def output(distribution: LowRankNormal, activation: str = "softmax", classes: int = 1) -> ModelOutput:
    layer = parts.build("activation", activation, {}, classes=classes)
    return ModelOutput(distribution.mean, layer(distribution.mean), layer.log_outcomes, distribution)


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_moments_of_draws_are_those_of_torch(rank):
    found = normal(rank=rank, batch=1)
    draws = found.sample(40_000).flatten(2)[:, 0]
    factor = found.factor[0].flatten(1).T
    if rank:
        other = torch.distributions.LowRankMultivariateNormal(
            found.mean[0].flatten(), factor, found.diagonal[0].flatten()
        )
        covariance, mean = other.covariance_matrix, other.mean
    else:
        covariance, mean = torch.diag(found.diagonal[0].flatten()), found.mean[0].flatten()
    spread = covariance.diagonal().sqrt()
    torch.testing.assert_close(draws.mean(dim=0), mean, atol=0.05 * spread.max().item(), rtol=0)
    error = (torch.cov(draws.T) - covariance).abs() / (spread[:, None] * spread[None])
    assert error.max() < 0.05
    torch.testing.assert_close(found.variance().flatten(), covariance.diagonal())


def test_antithetic_draws_mirror_each_other():
    found = normal()
    draws = found.sample(6, antithetic=True)
    torch.testing.assert_close(draws[:3] + draws[3:], 2 * found.mean.expand(3, *found.mean.shape))
    for count, antithetic in ((0, False), (3, True)):
        with pytest.raises(ValueError, match="at least one sample"):
            found.sample(count, antithetic=antithetic)


def test_images_of_a_batch_are_independent():
    found = normal(size=(1,), channels=1, rank=1)
    draws = found.sample(40_000).reshape(-1, 2)
    assert abs(np.corrcoef(draws.T)[0, 1]) < 0.03


def test_temperature_and_scaled_channels():
    found = normal()
    torch.testing.assert_close(found.tempered(0.25).variance(), found.variance() / 4)
    torch.testing.assert_close(found.tempered(0).sample(2), found.mean.expand(2, *found.mean.shape))
    turned = found.scaled(1, -3.0)
    torch.testing.assert_close(turned.variance()[:, 1], 9 * found.variance()[:, 1])
    torch.testing.assert_close(turned.variance()[:, 0], found.variance()[:, 0])
    torch.testing.assert_close(turned.factor[:, :, 1], -3 * found.factor[:, :, 1])
    same = found.scaled(0, 1.0)
    torch.testing.assert_close(same.factor, found.factor)
    with pytest.raises(ValueError, match="not negative"):
        found.tempered(-1)


def quadrature(mean: float, deviation: float, label: int) -> float:
    """E sigmoid(x)^y (1 - sigmoid(x))^(1 - y) for a normal x, by Gauss and Hermite."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    p = 1 / (1 + np.exp(-(mean + deviation * nodes)))
    return float(weights @ (p if label else 1 - p) / math.sqrt(2 * math.pi))


@pytest.mark.parametrize("antithetic", [False, True])
@pytest.mark.parametrize("label", [0, 1])
def test_likelihood_of_one_pixel_is_the_integral(antithetic, label):
    found = normal(channels=1, size=(1, 1), rank=1, batch=1)
    target = torch.full((1, 1, 1, 1), float(label), dtype=torch.float64)
    loss = monte_carlo_likelihood(output(found), target, samples=40_000, antithetic=antithetic)
    expected = -math.log(quadrature(found.mean.item(), found.variance().sqrt().item(), label))
    assert loss.item() == pytest.approx(expected, abs=0.02)


def test_pixels_that_vary_together_are_likelier_together():
    """Two pixels with one common direction: E p1 p2, by quadrature over that direction, is not E p1 E p2."""
    mean, factor = torch.zeros(1, 1, 2, dtype=torch.float64), torch.full((1, 1, 1, 2), 4.0, dtype=torch.float64)
    found = LowRankNormal(mean, factor, torch.full_like(mean, 1e-9))
    loss = monte_carlo_likelihood(output(found), torch.ones(1, 1, 2, dtype=torch.float64), samples=40_000)
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    p = 1 / (1 + np.exp(-4 * nodes))
    expected = -math.log(weights @ p**2 / math.sqrt(2 * math.pi))
    assert loss.item() == pytest.approx(expected, abs=0.02)
    assert expected < 2 * math.log(2) - 0.4


def test_without_spread_it_is_the_cross_entropy_summed_over_places():
    found = normal(channels=3, rank=2)
    point = found.tempered(0)
    target = torch.nn.functional.one_hot(torch.randint(3, (2, 3, 2)), 3).movedim(-1, 1)[:, 1:].double()
    loss = monte_carlo_likelihood(output(point, classes=2), target, samples=7)
    labels = torch.cat([1 - target.sum(dim=1, keepdim=True), target], dim=1).argmax(dim=1)
    expected = torch.nn.functional.cross_entropy(point.mean, labels, reduction="sum") / 2
    torch.testing.assert_close(loss, expected)


def test_outside_a_mask_the_covariance_is_left_out():
    found = normal(channels=1)
    parameters = [t.detach().clone().requires_grad_() for t in (found.mean, found.factor, found.diagonal)]
    target = torch.randint(2, (2, 1, 3, 2)).double()
    mask = torch.zeros(2, 3, 2, dtype=torch.bool)
    mask[:, 0, 0] = True
    draws = LowRankNormal(*parameters).within(mask).sample(4000)
    away = (draws - parameters[0]).detach()[..., ~mask[0]]
    assert away.var().item() == pytest.approx(1e-5, rel=0.1)
    torch.manual_seed(3)
    loss = monte_carlo_likelihood(output(LowRankNormal(*parameters)), target, samples=6, mask=mask)
    seen = mask.double()
    torch.manual_seed(3)
    by_hand = LowRankNormal(found.mean, found.factor * seen[:, None, None], found.diagonal * seen[:, None] + 1e-5)
    torch.testing.assert_close(loss, monte_carlo_likelihood(output(by_hand), target, samples=6))
    loss.backward()
    for parameter, is_mean in zip(parameters, (True, False, False), strict=True):
        assert (parameter.grad[..., ~mask[0]] != 0).any() == is_mean
        assert (parameter.grad[..., mask[0]] != 0).any()
    nowhere = monte_carlo_likelihood(output(found), target, samples=6, mask=torch.zeros_like(mask))
    of_mean = torch.nn.functional.binary_cross_entropy_with_logits(found.mean, target, reduction="sum") / 2
    torch.testing.assert_close(nowhere, of_mean, rtol=0.01, atol=0.05)


def test_gradients_are_right_and_extreme_logits_are_finite(rng):
    mean = torch.randn(1, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    factor = torch.randn(1, 2, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    diagonal = (torch.rand(1, 1, 2, 2, dtype=torch.float64) + 0.1).requires_grad_()
    target, seed = torch.randint(2, (1, 1, 2, 2)).double(), int(rng.integers(2**62))

    def loss(mean, factor, diagonal):
        torch.manual_seed(seed)
        return monte_carlo_likelihood(output(LowRankNormal(mean, factor, diagonal)), target, samples=4)

    assert torch.autograd.gradcheck(loss, (mean, factor, diagonal))
    far = LowRankNormal(torch.full_like(mean, 1e4), factor * 1e3, diagonal)
    value = monte_carlo_likelihood(output(far), torch.zeros_like(target), samples=4)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(mean.grad if mean.grad is not None else factor.grad).all()


def test_what_is_missing_is_told():
    found = normal(channels=1)
    with pytest.raises(PenumbraError, match="needs a distribution"):
        monte_carlo_likelihood(ModelOutput(found.mean, found.mean), torch.zeros(2, 1, 3, 2))
    with pytest.raises(PenumbraError, match="logarithms"):
        monte_carlo_likelihood(ModelOutput(found.mean, found.mean, None, found), torch.zeros(2, 1, 3, 2))
    with pytest.raises(PenumbraError, match="mirror"):
        parts.build("loss", "monte_carlo_likelihood", {"samples": 5, "antithetic": True})


def model(rank: int, classes: int = 2) -> Model:
    activation = parts.build("activation", "softmax", {}, classes=classes)
    head = parts.build("head", "low_rank_normal", {"rank": rank}, channels=activation.channels)
    return Model(torch.nn.Conv2d(1, head.channels_in, 1).double(), activation, head).eval()


@pytest.mark.parametrize("rank", [0, 3])
def test_the_head_gives_mean_diagonal_and_factor_in_that_order(rank):
    made = model(rank)
    images = torch.randn(2, 1, 4, 5, dtype=torch.float64)
    features, found = made.network(images), made(images)
    assert features.shape[1] == 3 * (2 + rank)
    normal = found.distribution
    torch.testing.assert_close(found.logits, features[:, :3])
    torch.testing.assert_close(normal.diagonal, features[:, 3:6].exp() + 1e-5)
    for r in range(rank):
        torch.testing.assert_close(normal.factor[:, r], features[:, 6 + 3 * r : 9 + 3 * r])
    torch.testing.assert_close(found.probabilities, torch.softmax(features[:, :3], dim=1)[:, 1:])


def test_the_predictor_draws_whole_segmentations():
    made, images = model(3), torch.randn(2, 1, 4, 5, dtype=torch.float64)
    predict = parts.build("predictor", "distribution", {"samples": 7})
    torch.manual_seed(5)
    found = predict([made, made], images)
    torch.manual_seed(5)
    again = predict([made, made], images)
    assert found.samples.shape == (14, 2, 2, 4, 5) and torch.equal(found.samples, again.samples)
    torch.testing.assert_close(found.probabilities, made(images).probabilities)
    assert found.samples.min() >= 0 and found.samples.sum(dim=2).max() <= 1 + 1e-12
    mean = parts.build("predictor", "distribution", {"samples": 7, "probabilities": "mean_draws"})([made], images)
    torch.testing.assert_close(mean.probabilities, mean.samples.mean(dim=0))
    plain = Model(torch.nn.Identity(), made.activation, parts.build("head", "logits", channels=3))
    with pytest.raises(PenumbraError, match="needs a distribution"):
        predict([plain], torch.zeros(1, 3, 2, 2))
