"""Large images in windows: against the whole image at once, and one distribution out of many windows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from penumbra import parts
from penumbra.config.models import Candidate
from penumbra.errors import PenumbraError
from penumbra.networks import deepmedic
from penumbra.networks.distribution import LowRankNormal
from penumbra.networks.windows import centre, stitched, within
from penumbra.training.model import Model, build_model

from .small_training import make_candidate, make_dataset


class Seeing(torch.nn.Module):
    """Two convolutions with padding: every output sees two voxels beyond itself, and no more."""

    def __init__(self, dimensions: int, channels: int = 3) -> None:
        super().__init__()
        convolution = (torch.nn.Conv2d, torch.nn.Conv3d)[dimensions - 2]
        self.layers = torch.nn.Sequential(
            convolution(2, 4, 3, padding=1, bias=False),
            torch.nn.Tanh(),
            convolution(4, channels, 3, padding=1, bias=False),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.layers(images)
        return found


class Middle(Seeing):
    """The same, which gives the middle itself where it is even."""

    called = 0

    def middle(self, images: torch.Tensor, size: list[int]) -> torch.Tensor | None:
        self.called += 1
        return centre(self.layers(images), size) if size[0] % 2 == 0 else None


def images_of(rng: np.random.Generator, *size: int, count: int = 2) -> torch.Tensor:
    return torch.from_numpy(rng.normal(size=(count, 2, *size)))


@pytest.mark.parametrize("network", [Seeing, Middle])
@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_windows_with_context_give_what_the_whole_image_gives(rng, network, at_once):
    layers = network(3).double()
    images = images_of(rng, 11, 8, 5)
    # Beyond its border an image is 0, and the network's own padding is further away.
    whole = centre(layers(torch.nn.functional.pad(images, [6] * 6)), images.shape[2:])
    torch.testing.assert_close(whole[..., 2:-2, 2:-2, 2:-2], layers(images)[..., 2:-2, 2:-2, 2:-2])
    for window in ([4, 4, 4], [3, 8, 2], [11, 8, 5], [40, 40, 40], [2, 3, 4]):
        found = stitched(layers, images, window, context=2, at_once=at_once)
        torch.testing.assert_close(found, whole, rtol=1e-12, atol=1e-12)
    assert network is Seeing or layers.called > 0


def test_without_context_windows_see_their_own_part_only(rng):
    """By hand, and unlike the whole image next to the seams alone."""
    layers = Seeing(2).double()
    images = images_of(rng, 8, 6)
    found = stitched(layers, images, [4, 6])
    expected = torch.cat([layers(images[..., :4, :]), layers(images[..., 4:, :])], dim=2)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    apart = (found - layers(images)).abs().amax(dim=(0, 1, 3))
    assert (apart[[0, 1, 6, 7]] < 1e-12).all() and (apart[3:5] > 1e-6).all()


def test_a_window_larger_than_the_image_is_shown_as_a_whole(rng):
    """As in training, where a patch that reaches beyond a volume is filled with zeros, not made smaller."""
    shapes = []

    def network(images: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(images.shape))
        return 2 * images

    images = images_of(rng, 6, 9)
    torch.testing.assert_close(stitched(network, images, [8, 4], at_once=2), 2 * images)
    assert shapes == [(4, 2, 8, 4), (2, 2, 8, 4)]


def test_deepmedic_in_windows_of_its_steps_is_deepmedic_as_a_whole(rng):
    """Windows of 15 voxels, which the steps of 5 and 3 divide, with the context of its widest path; also where the last
    window reaches beyond the image."""
    torch.manual_seed(int(rng.integers(2**31)))
    network = deepmedic.build(1, 2).eval()
    images = torch.from_numpy(rng.normal(size=(1, 1, 15, 30, 15)).astype(np.float32))
    with torch.no_grad():
        found = stitched(network, images, [15, 15, 15], context=40)
        padded = torch.nn.functional.pad(images, [40] * 6)
        torch.testing.assert_close(found, network.valid(padded), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(within(network, padded, 40), network.valid(padded))
        short = stitched(network, images[..., :25, :], [15, 15, 15], context=40)
        beyond = torch.nn.functional.pad(images[..., :25, :], [40, 40, 40, 45, 40, 40])
        torch.testing.assert_close(short, network.valid(beyond)[..., :25, :], rtol=1e-4, atol=1e-5)
        # Sides that the steps do not divide need more than is shown; then the whole patch is computed, as above.
        assert network.middle(padded[..., :93, :93, :93], (13, 13, 13)) is None


def stochastic(rng: np.random.Generator, rank: int) -> Model:
    candidate = make_candidate(network={"dropout": 0.0})
    candidate = candidate.model_copy(
        update={
            "head": Candidate.model_fields["head"].annotation.model_validate({"name": "low_rank_normal", "rank": rank})
        }
    )
    torch.manual_seed(int(rng.integers(2**31)))
    return build_model(candidate, make_dataset()).double().eval()


def test_windows_make_one_distribution_that_varies_together(rng):
    """The draws' covariance between voxels of two windows is that of their factors, not 0."""
    model = stochastic(rng, 2)
    images = torch.from_numpy(rng.normal(size=(1, 1, 16, 8)))
    predictor = parts.build("predictor", "distribution", {"samples": 4000, "window": [8, 8]})
    with torch.no_grad():
        torch.manual_seed(3)
        drawn = torch.logit(predictor([model], images).samples[:, 0, 0].clamp(1e-12, 1 - 1e-12))
        features = torch.cat([model.network(images[..., :8, :]), model.network(images[..., 8:, :])], dim=2)
        distribution = model.output(features).distribution
    a, b = (2, 3), (13, 4)
    factor = distribution.factor[0, :, 0]
    expected = float((factor[:, a[0], a[1]] * factor[:, b[0], b[1]]).sum())
    ones, others = drawn[:, a[0], a[1]], drawn[:, b[0], b[1]]
    found = float(torch.cov(torch.stack([ones, others]))[0, 1])
    spread = float(ones.std() * others.std()) / np.sqrt(4000)
    assert abs(found - expected) < 5 * spread
    torch.testing.assert_close(drawn.mean(dim=0), distribution.mean[0, 0], atol=float(drawn.std()) * 0.15, rtol=0)


def logits_drawn(model: Model, images: torch.Tensor, **options) -> tuple[torch.Tensor, torch.Tensor]:
    """Probability map, and the logits of the draws (S, H, W), from the same random numbers each time."""
    with torch.no_grad():
        torch.manual_seed(3)
        found = parts.build("predictor", "distribution", {"samples": 200, **options})([model], images)
    return found.probabilities, torch.logit(found.samples[:, 0, 0].clamp(1e-14, 1 - 1e-14))


def test_a_distribution_is_manipulated_after_training(rng):
    """Figure 6: temperature and scale move draws towards, away from and across the mean; the mean stays."""
    model = stochastic(rng, 3)
    images = torch.from_numpy(rng.normal(size=(1, 1, 8, 8)))
    mean, plain = logits_drawn(model, images)
    centre_of = torch.logit(mean[0, 0])
    for options, factor in (({"temperature": 0.25}, 0.5), ({"scale": 3.0}, 3.0), ({"temperature": 0.0}, 0.0)):
        same, drawn = logits_drawn(model, images, **options)
        torch.testing.assert_close(same, mean)
        torch.testing.assert_close(drawn - centre_of, factor * (plain - centre_of), rtol=1e-5, atol=2e-2)
    # What varies together turns round, what each place has for itself does not.
    _, turned = logits_drawn(model, images, scale=-1.0)
    with torch.no_grad():
        distribution = model(images).distribution
        torch.manual_seed(3)
        noise = distribution.diagonal.sqrt() * torch.randn(200, *distribution.mean.shape, dtype=torch.float64)
    torch.testing.assert_close((plain + turned) / 2, centre_of + noise[:, 0, 0], rtol=1e-4, atol=1e-2)


def test_large_images_are_drawn_for_a_few_times_each(rng, monkeypatch):
    """Other random numbers, the same distribution; and each draw is made whole."""
    model = stochastic(rng, 3)
    images = torch.from_numpy(rng.normal(size=(1, 1, 8, 8)))
    mean, whole = logits_drawn(model, images, samples=3000)
    counts = []
    real = LowRankNormal.sample
    monkeypatch.setattr(LowRankNormal, "sample", lambda self, n: counts.append(n) or real(self, n))
    monkeypatch.setattr("penumbra.inference.predictors.distribution.AT_ONCE", 64 * 700)
    same, parts_ = logits_drawn(model, images, samples=3000)
    assert counts == [700] * 4 + [200]
    torch.testing.assert_close(same, mean)
    for found in (whole, parts_):
        spread = found.std(dim=0)
        assert ((found.mean(dim=0) - torch.logit(mean[0, 0])).abs() < 6 * spread / 3000**0.5).all()
    torch.testing.assert_close(
        whole.flatten(1).T.cov().diagonal(), parts_.flatten(1).T.cov().diagonal(), rtol=0.3, atol=0
    )


def test_what_cannot_be_manipulated_is_told(rng):
    with pytest.raises(PenumbraError, match="scaled_class is 2, and the data set has 1"):
        logits_drawn(stochastic(rng, 1), torch.zeros(1, 1, 8, 8, dtype=torch.float64), scaled_class=2, scale=-1.0)
    recipe = make_candidate(network={"dropout": 0.0})
    latent = Candidate.model_validate(
        recipe.model_dump()
        | {"network": {"name": "probabilistic_unet2d", "levels": 2, "base_filters": 4}, "loss": "elbo"}
    )
    with pytest.raises(PenumbraError, match="those of a normal distribution"):
        logits_drawn(
            build_model(latent, make_dataset()).double().eval(), torch.zeros(1, 1, 8, 8).double(), temperature=0.5
        )


@pytest.mark.parametrize("name", ["single_pass", "distribution", "independent_draws"])
def test_a_window_of_the_wrong_number_of_sides_is_refused(rng, name):
    predictor = parts.build("predictor", name, {"window": [8, 8, 8]})
    with pytest.raises(
        PenumbraError, match=r"\[8, 8, 8\] has 3 sides, the data set's geometry\.crop \[16, 8\] has 2"
    ) as error:
        predictor([stochastic(rng, 1)], torch.zeros(1, 1, 16, 8, dtype=torch.float64))
    assert f"predictor.{name}.window" in error.value.cure


def test_networks_with_latent_variables_take_no_windows_or_patches():
    recipe = {
        "labels": {"fusion": "average", "encoding": "hard"}, "network": "phiseg2d", "activation": "sigmoid", "loss": "elbo",
    }  # fmt: skip
    with pytest.raises(ValidationError, match="a predictor without a window"):
        Candidate.model_validate(recipe | {"predictor": {"name": "distribution", "window": [8, 8]}})
    with pytest.raises(ValidationError, match=r"no training\.patches"):
        Candidate.model_validate(recipe | {"training": {"patches": {"size": [8, 8]}}})
