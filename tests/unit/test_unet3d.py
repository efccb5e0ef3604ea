"""The 3-D U-Net: the 2-D one with another axis."""

import numpy as np
import pytest
import torch
from torch import nn

from penumbra import parts
from penumbra.config.load import Configuration, read_yaml
from penumbra.errors import PenumbraError
from penumbra.networks import unet2d
from penumbra.networks._unet import max_pool3d
from penumbra.networks.dimensions import check_dimensions
from penumbra.networks.unet3d import build


@pytest.fixture(autouse=True)
def _fresh(rng):
    torch.manual_seed(int(rng.integers(2**62)))


class _Elsewhere:
    """A tensor that says it lies on a GPU."""

    device = torch.device("cuda")

    def __init__(self, tensor):
        self.shape, self.reshape = tensor.shape, tensor.reshape


def spread(network):
    """Running statistics and weights of the normalisations far from those they start with."""
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
            module.get_buffer("running_mean").normal_()
            module.get_buffer("running_var").uniform_(0.5, 2)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)


@pytest.mark.parametrize("train", [True, False])
def test_on_a_volume_that_is_one_slice_repeated_it_is_the_2d_network(train):
    flat = unet2d.build(2, 3, depth=2, base_filters=3, dropout=0.0).double()
    spread(flat)
    state = flat.state_dict()
    network = build(2, 3, depth=2, base_filters=3, dropout=0.0).double()
    assert list(network.state_dict()) == list(state)
    for name, value in state.items():
        if value.ndim == 4:
            state[name] = torch.zeros(*value.shape, 3, dtype=value.dtype)
            state[name][..., 1] = value
    network.load_state_dict(state)
    images = torch.randn(2, 2, 12, 9, dtype=torch.float64)
    volumes = images[..., None].expand(-1, -1, -1, -1, 7)
    found, expected = network.train(train)(volumes), flat.train(train)(images)
    torch.testing.assert_close(found, expected[..., None].expand_as(found), atol=1e-10, rtol=0)


def test_equals_its_definition_written_out():
    network = build(2, 1, depth=2, base_filters=3, dropout=0.0).double().eval()
    spread(network)
    volumes = torch.randn(2, 2, 12, 8, 16, dtype=torch.float64)

    def level(layers, x):
        for start in (0, 4):
            x, norm = torch.relu(layers[start](x)), layers[start + 2]
            scale = (norm.weight / (norm.running_var + norm.eps).sqrt())[:, None, None, None]
            x = (x - norm.running_mean[:, None, None, None]) * scale + norm.bias[:, None, None, None]
        return x

    up = nn.Upsample(scale_factor=2, mode="trilinear", align_corners=True)
    one = level(network.encoder[0], volumes)
    two = level(network.encoder[1], nn.MaxPool3d(2)(one))
    x = level(network.bottom, nn.MaxPool3d(2)(two))
    x = level(network.decoder[0], torch.cat([up(x), two], 1))
    x = level(network.decoder[1], torch.cat([up(x), one], 1))
    torch.testing.assert_close(network(volumes), network.last(x), atol=1e-10, rtol=0)


@pytest.mark.parametrize(("depth", "channels_in", "channels_out", "filters"), [(3, 1, 1, 64), (2, 4, 3, 8)])
def test_parameters_are_those_of_the_2d_network_with_three_times_the_kernels(depth, channels_in, channels_out, filters):
    with torch.device("meta"):
        flat, deep = (m(channels_in, channels_out, depth=depth, base_filters=filters) for m in (unet2d.build, build))
    kernels, others = (sum(p.numel() for p in flat.parameters() if (p.ndim == 4) is wanted) for wanted in (True, False))
    assert sum(p.numel() for p in deep.parameters()) == 3 * kernels + others


@pytest.mark.parametrize("size", [(16, 16, 16), (17, 16, 9), (8, 13, 31), (8, 8, 9)])
def test_any_size_from_two_to_the_depth(size):
    network = build(2, 3, depth=3, base_filters=2).eval()
    logits = network(torch.randn(2, 2, *size))
    assert logits.shape == (2, 3, *size) and torch.isfinite(logits).all()


@pytest.mark.parametrize("size", [(4, 6, 8), (5, 7, 9), (2, 3, 4)])
def test_deterministic_pooling_is_torchs_own_ties_and_gradients_included(rng, monkeypatch, size):
    """Small integers tie often; where they do, torch's pooling gives the gradient to the first."""
    given = torch.from_numpy(rng.integers(0, 3, size=(2, 3, *size)).astype(np.float64))
    expected, found = given.clone().requires_grad_(), given.clone().requires_grad_()
    pooled = nn.functional.max_pool3d(expected, 2)
    weight = torch.from_numpy(rng.normal(size=tuple(pooled.shape)))
    (pooled * weight).sum().backward()
    monkeypatch.setattr(nn.functional, "max_pool3d", None)
    elsewhere = _Elsewhere(found)
    again = max_pool3d(elsewhere)
    assert torch.equal(pooled, again)
    (again * weight).sum().backward()
    assert torch.equal(expected.grad, found.grad)


def test_too_small_volumes_are_told_with_a_cure():
    with pytest.raises(PenumbraError, match="volumes of 16 x 64 x 7 voxels are too small for depth 3") as caught:
        build(1, 1, depth=3, base_filters=2)(torch.randn(1, 1, 16, 64, 7))
    assert "8 voxels" in str(caught.value.cure)


def test_dropout_acts_on_whole_channels_in_training_only():
    network = build(1, 1, depth=1, base_filters=4, dropout=0.5)
    (first, *_), kinds = network.encoder[0].children(), {type(m) for m in network.modules()}
    assert isinstance(first, nn.Conv3d) and nn.Dropout3d in kinds and nn.Dropout2d not in kinds
    level = nn.Sequential(*list(network.encoder[0])[:4])
    channels = level(torch.randn(16, 1, 8, 8, 8)).flatten(2).any(dim=2)
    assert channels.any() and not channels.all()
    network.eval()
    volumes = torch.randn(2, 1, 8, 8, 8)
    assert torch.equal(network(volumes), network(volumes))


def test_one_volume_alone_is_what_it_is_among_others():
    """Alone it is computed twice over, which only the clock and the rounding may tell."""
    network, volumes = build(1, 2, depth=2, base_filters=4).double(), torch.randn(3, 1, 12, 16, 9, dtype=torch.float64)
    spread(network)
    together = network.eval()(volumes)
    torch.testing.assert_close(network(volumes[1:2]), together[1:2])
    network.train()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    network(volumes[:1])
    first = network.encoder[0][0](volumes[:1]).relu()
    means = first.mean(dim=(0, 2, 3, 4)) * 0.9 + state["encoder.0.2.running_mean"] * 0.1
    torch.testing.assert_close(network.state_dict()["encoder.0.2.running_mean"], means)
    variance = first.var(dim=(0, 2, 3, 4), unbiased=True) * 0.9 + state["encoder.0.2.running_var"] * 0.1
    torch.testing.assert_close(network.state_dict()["encoder.0.2.running_var"], variance)


def test_every_parameter_learns():
    torch.manual_seed(3)
    network = build(1, 2, depth=2, base_filters=4, dropout=0.0)
    network(torch.randn(2, 1, 12, 16, 9)).square().sum().backward()
    for parameter in network.parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all() and parameter.grad.any()


def test_options_and_defaults_are_those_of_the_2d_network():
    flat, deep = (parts.options_model("network", name)().model_dump() for name in ("unet2d", "unet3d"))
    assert flat == deep


def test_a_network_on_the_wrong_kind_of_items_is_refused_with_the_cure():
    check_dimensions("unet2d", (16, 16))
    check_dimensions("unet3d", (16, 16, 16))
    with pytest.raises(
        PenumbraError, match=r"unet2d takes slices.*whole volumes \(geometry.crop: \[16, 16, 8\]\)"
    ) as error:
        check_dimensions("unet2d", (16, 16, 8))
    assert "recipe: {network: {unet2d: {name: unet3d}}}" in error.value.cure
    with pytest.raises(
        PenumbraError, match=r"unet3d takes whole volumes.*slices \(geometry.crop: \[16, 16\]\)"
    ) as error:
        check_dimensions("unet3d", (16, 16))
    assert "unet2d" in error.value.cure and "geometry.crop to 3 numbers" in error.value.cure


def test_every_candidate_of_every_study_has_a_network_for_its_data(root):
    settings, files = read_yaml(root / "config" / "config.yaml"), sorted((root / "config" / "studies").glob("*.yaml"))
    configuration, seen = Configuration.load(settings, root / "config"), set()
    for study in (configuration.study(file.stem) for file in files):
        for entry in study.datasets:
            dataset = configuration.dataset(entry.id)
            for candidate in study.candidates:
                network = configuration.candidate(candidate, entry.id).network.name
                check_dimensions(network, dataset.geometry.crop)
                seen.add(network)
    crop = configuration.dataset("hippocampus_volumes").geometry.crop
    recipe = configuration.candidate("soft-relu-wing", "hippocampus_volumes").network
    check_dimensions(recipe.name, crop)
    assert min(crop) >= 2 ** recipe.options["depth"] and "unet2d" in seen
