"""Networks with latent variables: their parts against plain arithmetic, the bound against the likelihood itself."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.distributions import Normal, kl_divergence
from torch.nn import functional

from penumbra import parts
from penumbra.config.models import Candidate
from penumbra.errors import PenumbraError
from penumbra.losses.elbo import elbo
from penumbra.networks._lidc import upsampled
from penumbra.networks.latent import Evidence, IndependentNormal, LatentDistribution, shown_labels
from penumbra.networks.output import LatentOutput, ModelOutput
from penumbra.training.model import Model

NETWORKS = [n for n in parts.names("network") if parts.constant("network", n, "LATENT", False)]
SMALL = {"probabilistic_unet2d": {"levels": 3}, "phiseg2d": {"levels": 4, "latent_levels": 3}}


@pytest.fixture(autouse=True)
def _fresh(rng):
    torch.manual_seed(int(rng.integers(2**62)))


def build(name, channels_in=1, channels_out=1, **options):
    options = SMALL[name] | {"base_filters": 4} | options
    return parts.build("network", name, options, channels_in=channels_in, channels_out=channels_out)


def unit(a, b, kernel=3):
    return a * b * kernel * kernel + 2 * b


def convolution(a, b, kernel=1):
    return (a * kernel * kernel + 1) * b


def encoder(channels_in):
    wide = [32, 64, 128, 192, 192, 192, 192]
    return sum(unit(a, b) + 2 * unit(b, b) for a, b in zip([channels_in, *wide[:-1]], wide, strict=True))


def test_learnable_parameters_of_the_probabilistic_unet_are_those_of_the_published_layers():
    published = {"levels": 7, "base_filters": 32}
    total = sum(p.numel() for p in build("probabilistic_unet2d", **published).parameters())
    plain = sum(p.numel() for p in parts.build("network", "lidc_unet2d", channels_in=1, channels_out=1).parameters())
    joined = unit(64 + 6, 32, 1) - unit(64, 32, 1)
    heads = 4 * convolution(192, 6)
    assert total == plain + joined + encoder(1) + encoder(2) + heads == 19_037_305


def test_learnable_parameters_of_phiseg_are_those_of_the_published_layers():
    total = sum(p.numel() for p in build("phiseg2d", levels=7, latent_levels=5, base_filters=32).parameters())
    wide = [32, 64, 128, 192, 192, 192, 192]
    ladder = convolution(192, 2, 3) + convolution(192, 2)
    for level in range(4):
        ladder += unit(2, 64) + unit(64, 64) + unit(wide[level + 2] + 64, wide[level]) + unit(wide[level], wide[level])
        ladder += 2 * convolution(wide[level], 2)
    likelihood = sum(unit(2, w) + unit(w, w) + 2 * unit(w, w) for w in wide[:5])
    joined = [*wide[2:6], wide[4]]
    for level in range(4):
        likelihood += unit(joined[level + 1], wide[level])
        likelihood += unit(2 * wide[level], joined[level]) + unit(joined[level], joined[level])
    likelihood += sum(convolution(width, 1) for width in joined)
    assert total == encoder(1) + encoder(2) + 2 * ladder + likelihood == 17_817_997


def test_divergence_is_that_of_torch_summed_over_latent_variables():
    own, other = (IndependentNormal(torch.randn(3, 2, 4, 5).double(), torch.rand(3, 2, 4, 5).double() + 0.1)
                  for _ in range(2))  # fmt: skip
    expected = kl_divergence(Normal(own.mean, own.deviation), Normal(other.mean, other.deviation)).flatten(1).sum(1)
    torch.testing.assert_close(own.divergence(other), expected, rtol=1e-5, atol=0)
    assert own.divergence(own).abs().max() < 1e-5


def test_draws_have_their_mean_and_deviation():
    normal = IndependentNormal(torch.tensor([[2.0, -1.0]]).double(), torch.tensor([[0.5, 3.0]]).double())
    draws = torch.cat([normal.sample() for _ in range(4000)])
    assert torch.all((draws.mean(0) - normal.mean[0]).abs() < 5 * normal.deviation[0] / math.sqrt(4000))
    assert torch.all((draws.std(0) / normal.deviation[0] - 1).abs() < 5 / math.sqrt(2 * 4000))


def test_a_posterior_is_shown_labels_around_zero_with_a_background_where_the_logits_have_one():
    target = torch.rand(2, 2, 3, 4).double() / 2
    assert torch.equal(shown_labels(target, 2), target - 0.5)
    shown = shown_labels(target, 3)
    torch.testing.assert_close(shown.sum(dim=1), torch.full((2, 3, 4), -0.5).double())
    assert torch.equal(shown[:, 1:], target - 0.5)


class Layers:
    """The layers of a network in the order of their registration, applied by torch's functions."""

    def __init__(self, module):
        self.state = iter(module.state_dict().items())

    def units(self, x, count):
        for _ in range(count):
            weight, scale, shift, mean, variance, _batches = (next(self.state)[1] for _ in range(6))
            x = functional.conv2d(x, weight, padding=weight.shape[-1] // 2)
            x = functional.batch_norm(x, mean, variance, scale, shift, eps=1e-3).relu()
        return x

    def plain(self, x):
        weight, bias = next(self.state)[1], next(self.state)[1]
        return functional.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)

    def encoder(self, x, levels):
        found = []
        for _ in range(levels):
            x = self.units(functional.avg_pool2d(x, 2) if found else x, 3)
            found.append(x)
        return found


def moved(name, channels_in, channels_out):
    """A network with running statistics of its own, in float64."""
    network = build(name, channels_in, channels_out).double().train()
    for _ in range(3):
        found = network(torch.randn(4, channels_in, 16, 24).double())
        found.evidence(torch.rand(4, channels_out, 16, 24).double())
        found.central()
    return network.eval()


def test_the_probabilistic_unet_is_its_layers_one_after_another():
    network = moved("probabilistic_unet2d", 2, 3)
    images, labels = torch.randn(2, 2, 8, 12).double(), torch.rand(2, 3, 8, 12).double()
    layers = Layers(network)
    down = layers.encoder(images, 3)
    up = layers.units(torch.cat([upsampled(down[2]), down[1]], dim=1), 3)
    features = layers.units(torch.cat([upsampled(up), down[0]], dim=1), 3)
    recombination = [next(layers.state) for _ in range(18)]
    last = [next(layers.state) for _ in range(2)]

    def normal(shown):
        deepest = layers.encoder(shown, 3)[-1]
        return layers.plain(deepest).mean(dim=(2, 3)), functional.softplus(layers.plain(deepest)).mean(dim=(2, 3))

    prior = normal(images)
    posterior = normal(torch.cat([images, labels - 0.5], dim=1))

    def decoded(z):
        again = Layers(network)
        again.state = iter([*recombination, *last])
        wide = z[:, :, None, None].expand(-1, -1, 8, 12)
        return again.plain(again.units(torch.cat([features, wide], dim=1), 3))

    found = network(images)
    torch.testing.assert_close(found.central(), decoded(prior[0]))
    seed = int(torch.randint(2**31, (1,)))
    torch.manual_seed(seed)
    noise = torch.randn_like(prior[0])
    torch.manual_seed(seed)
    torch.testing.assert_close(found.draw(), decoded(prior[0] + prior[1] * noise))
    torch.manual_seed(seed)
    evidence = found.evidence(labels)
    torch.testing.assert_close(evidence.logits[0], decoded(posterior[0] + posterior[1] * noise))
    expected = kl_divergence(Normal(*posterior), Normal(*prior)).sum(dim=1)
    torch.testing.assert_close(evidence.divergences[0], expected, rtol=1e-6, atol=1e-8)


def test_phiseg_is_its_layers_one_after_another():
    """Four resolutions, three latent levels: latent variables at 1/2, 1/4 and 1/8 of the image's sides."""
    network = moved("phiseg2d", 1, 1)
    images, target = torch.randn(2, 1, 16, 24).double(), (torch.rand(2, 1, 16, 24) > 0.5).double()

    def ladder(module, shown, choose):
        layers = Layers(module)
        features = layers.encoder(shown, 4)[1:]
        order = []
        for level in range(3):  # registered from fine to coarse, walked the other way
            parts_of_it = [[next(layers.state) for _ in range(6 * n)] for n in ((2, 2) if level < 2 else ())]
            order.append((parts_of_it, [next(layers.state) for _ in range(4)]))
        z, normals = [None] * 3, [None] * 3
        for level in (2, 1, 0):
            units, heads = order[level]
            x = features[level]
            if units:
                above = Layers(module)
                above.state = iter([*units[0], *units[1]])
                enlarged = above.units(upsampled(z[level + 1]), 2)
                x = above.units(torch.cat([x, enlarged], dim=1), 2)
            head = Layers(module)
            head.state = iter(heads)
            normals[level] = (head.plain(x), functional.softplus(head.plain(x)))
            z[level] = choose(level, *normals[level])
        return normals, z

    def decoded(z):
        layers = Layers(network.likelihood)
        decodings = [layers.units(z[level], 2) for level in range(3)]
        own = [layers.units(upsampled(x), 1) for x in decodings]
        coarser = [[next(layers.state) for _ in range(6)] for _ in range(2)]
        joined = [[next(layers.state) for _ in range(12)] for _ in range(2)]
        joint = [None, None, own[2]]
        for level in (1, 0):
            step = Layers(network.likelihood)
            step.state = iter([*coarser[level], *joined[level]])
            below = step.units(upsampled(joint[level + 1]), 1)
            joint[level] = step.units(torch.cat([own[level], below], dim=1), 2)
        logits = [layers.plain(x) for x in joint]
        return [functional.interpolate(x, size=(16, 24), mode="nearest") for x in logits]

    found = network(images)
    _, z = ladder(network.prior, images, lambda level, mean, deviation: mean)
    torch.testing.assert_close(found.central(), sum(decoded(z)))
    sizes = [(2, 2, 8, 12), (2, 2, 4, 6), (2, 2, 2, 3)]
    seed = int(torch.randint(2**31, (1,)))
    torch.manual_seed(seed)
    noise = [torch.randn(size, dtype=torch.float64) for size in sizes[::-1]][::-1]
    _, z = ladder(network.prior, images, lambda level, mean, deviation: mean + deviation * noise[level])
    torch.manual_seed(seed)
    torch.testing.assert_close(found.draw(), sum(decoded(z)))
    posterior, z = ladder(
        network.posterior, torch.cat([images, target - 0.5], dim=1), lambda level, mean, deviation: mean + deviation * noise[level]
    )  # fmt: skip
    prior, _ = ladder(network.prior, images, lambda level, mean, deviation: z[level])
    torch.manual_seed(seed)
    evidence = found.evidence(target)
    logits = decoded(z)
    for level in range(3):
        torch.testing.assert_close(evidence.logits[level], sum(logits[level:]))
        expected = kl_divergence(Normal(*posterior[level]), Normal(*prior[level])).flatten(1).sum(1)
        torch.testing.assert_close(evidence.divergences[level], expected, rtol=1e-6, atol=1e-8)


# ---------------------------------------------------------------- the bound


class Known(LatentDistribution):
    """One latent variable z ~ N(0, 1); the logit of each of some pixels is ``slope z``; the posterior is told."""

    def __init__(self, slope, posterior):
        super().__init__(slope)
        self.slope, self.posterior = slope, posterior
        self.prior = IndependentNormal(torch.zeros(1, 1).double(), torch.ones(1, 1).double())

    def _logits(self, z):
        return self.slope * z[:, :, None, None]

    def _draw(self):
        return self._logits(self.prior.sample())

    def _central(self):
        return self._logits(self.prior.mean)

    def _evidence(self, target):
        return Evidence([self._logits(self.posterior.sample())], [self.posterior.divergence(self.prior)])


def test_the_bound_is_below_the_likelihood_and_near_it_for_the_right_posterior(rng):
    """The likelihood of a label map by quadrature over z; the posterior that fits it best by a normal, and another."""
    slope = torch.from_numpy(rng.normal(size=(1, 1, 3, 4)))
    target = torch.from_numpy((rng.random((1, 1, 3, 4)) < 0.5).astype(float))
    z, weights = np.polynomial.hermite_e.hermegauss(80)
    signs = (2 * target - 1).numpy()
    log_p = np.array([-np.log1p(np.exp(-signs * slope.numpy() * each)).sum() for each in z])
    likelihood = np.log((weights / weights.sum() * np.exp(log_p)).sum())
    joint = weights * np.exp(log_p - log_p.max())
    mean = (joint * z).sum() / joint.sum()
    deviation = math.sqrt((joint * (z - mean) ** 2).sum() / joint.sum())
    activation = parts.build("activation", "sigmoid", classes=1)

    def bound(mean, deviation):
        posterior = IndependentNormal(torch.full((1, 1), mean).double(), torch.full((1, 1), deviation).double())
        output = LatentOutput(Known(slope, posterior), activation)
        values = [-elbo(output, target).item() for _ in range(3000)]
        return np.mean(values), np.std(values) / math.sqrt(len(values))

    near, error = bound(mean, deviation)
    assert likelihood - 0.1 < near < likelihood + 5 * error
    far, error = bound(mean + 1.0, deviation)
    assert far < near - 0.1


def test_levels_count_with_their_weights_and_places_are_summed(rng):
    target = torch.from_numpy((rng.random((3, 2, 4, 5)) < 0.4).astype(float))
    target[:, 1] *= 1 - target[:, 0]
    logits = [torch.from_numpy(rng.normal(size=(3, 3, 4, 5))) for _ in range(3)]
    divergences = [torch.from_numpy(rng.random(3)) for _ in range(3)]

    class Told(Known):
        def _evidence(self, target):
            return Evidence(logits, divergences)

    activation = parts.build("activation", "softmax", classes=2)
    output = LatentOutput(Told(torch.zeros(1), None), activation)
    label = torch.where(target.sum(1) == 0, 0, target.argmax(1) + 1)
    expected = sum(
        functional.cross_entropy(x, label, reduction="sum").item() / 3 + 3.0**level * kl.mean().item()
        for level, (x, kl) in enumerate(zip(logits, divergences, strict=True))
    )
    built = parts.build("loss", "elbo", {"level_weight": 3.0})
    assert built(output, target).item() == pytest.approx(expected, rel=1e-10)


def test_another_network_or_activation_is_refused_by_name():
    logits = torch.zeros(1, 1, 2, 2)
    activation = parts.build("activation", "sigmoid", classes=1)
    with pytest.raises(PenumbraError, match="latent variables"):
        elbo(ModelOutput(logits, logits, activation.log_outcomes), logits)
    relu = parts.build("activation", "norm_relu", classes=1)
    with pytest.raises(PenumbraError, match="logarithms"):
        elbo(LatentOutput(Known(logits, None), relu), logits)


# ---------------------------------------------------------------- as a model


def model(name, activation="sigmoid", **options):
    layer = parts.build("activation", activation, classes=1)
    return Model(build(name, 1, layer.channels, **options), layer, parts.build("head", "logits", channels=1))


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_reach_every_parameter(name):
    whole = model(name).double()
    target = (torch.rand(4, 1, 16, 24) > 0.5).double()
    elbo(whole(torch.randn(4, 1, 16, 24).double()), target).backward()
    assert [n for n, p in whole.named_parameters() if p.grad is None or not p.grad.abs().sum()] == []


@pytest.mark.parametrize("name", NETWORKS)
def test_a_training_step_decodes_once_and_moves_no_statistics_twice(name):
    """Logits and probabilities of a training are never asked for, so normalisation sees each layer's input once."""
    whole = model(name)
    elbo(whole(torch.randn(4, 1, 16, 24)), torch.zeros(4, 1, 16, 24))
    counts = {int(v) for n, v in whole.state_dict().items() if n.endswith("num_batches_tracked")}
    assert counts == {1}


@pytest.mark.parametrize("name", NETWORKS)
def test_in_bfloat16_posterior_and_draws_run_in_bfloat16_too_and_agree(name):
    whole = model(name).eval()
    images, target = torch.randn(2, 1, 16, 24), (torch.rand(2, 1, 16, 24) > 0.5).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = whole.network(images)
    output = whole.output(features)
    assert output.probabilities.dtype == torch.float32
    torch.testing.assert_close(output.probabilities, whole(images).probabilities, atol=0.03, rtol=0)
    assert features.sample(2).dtype == torch.float32
    seed = int(torch.randint(2**31, (1,)))
    torch.manual_seed(seed)
    low = elbo(output, target)
    torch.manual_seed(seed)
    assert low.item() == pytest.approx(elbo(whole(images), target).item(), rel=0.02)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_predictor_draws_from_the_prior(name):
    whole = model(name).eval()
    images = torch.randn(2, 1, 16, 24)
    predict = parts.build("predictor", "distribution", {"samples": 5, "probabilities": "mean_draws"})
    with torch.inference_mode():
        torch.manual_seed(1)
        found = predict([whole], images)
        torch.manual_seed(1)
        expected = torch.stack([torch.sigmoid(whole(images).distribution.draw()) for _ in range(5)])
    assert torch.equal(found.samples, expected)
    torch.testing.assert_close(found.probabilities, expected.mean(0))


# ---------------------------------------------------------------- in a configuration

RECIPE = {"labels": {"fusion": "random_rater", "encoding": "hard"}, "network": "phiseg2d", "activation": "sigmoid",
          "loss": "elbo", "predictor": {"name": "distribution", "probabilities": "mean_draws"}}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"loss": "dice"}, "phiseg2d has latent variables"),
        ({"network": "unet2d"}, "unet2d has no latent variables"),
        ({"head": {"name": "low_rank_normal"}}, "right: head: logits"),
        ({"training": {"gradient_accumulation": "auto"}}, "right: gradient_accumulation: never"),
        ({"network": {"name": "phiseg2d", "latent": 0}}, "latent"),
    ],
)
def test_what_does_not_go_together_is_refused(changed, told):
    Candidate.model_validate(RECIPE)
    with pytest.raises(ValidationError, match=told):
        Candidate.model_validate(RECIPE | changed)


@pytest.mark.parametrize("name", [*NETWORKS, "lidc_unet2d"])
def test_running_statistics_move_as_told(name):
    context = {"channels_in": 1, "channels_out": 1}
    published, told = (
        parts.build("network", name, options, **context) for options in ({}, {"batch_norm_momentum": 0.3})
    )
    for network, momentum in ((published, 0.01), (told, 0.3)):
        assert {m.momentum for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {momentum}


def test_more_latent_levels_than_resolutions_are_refused():
    with pytest.raises(PenumbraError, match="5 latent levels on 3 resolutions"):
        build("phiseg2d", levels=3, latent_levels=5)
