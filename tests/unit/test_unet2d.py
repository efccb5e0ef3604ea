"""The U-Net: published sizes, layers, odd slices, gradients."""

import pytest
import torch
from torch import nn

from penumbra import parts
from penumbra.errors import PenumbraError
from penumbra.networks.unet2d import build


@pytest.fixture(autouse=True)
def _fresh(rng):
    torch.manual_seed(int(rng.integers(2**62)))


@pytest.mark.parametrize(
    ("depth", "channels_in", "channels_out", "number"),
    [(3, 1, 1, 4_837_249), (4, 5, 1, 19_592_833), (4, 4, 1, 19_592_257), (3, 1, 3, 4_838_403)],
)
def test_parameter_counts_of_the_thesis(depth, channels_in, channels_out, number):
    with torch.device("meta"):
        network = build(channels_in, channels_out, depth=depth)
    assert sum(p.numel() for p in network.parameters()) == number


def test_layers_are_the_released_codes():
    network = build(1, 1, depth=2, base_filters=4)
    assert {m.p for m in network.modules() if isinstance(m, nn.Dropout2d)} == {0.4}
    assert {m.momentum for m in network.modules() if isinstance(m, nn.BatchNorm2d)} == {0.9}
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert all(c.kernel_size == (3, 3) and c.padding == (1, 1) and c.bias is not None for c in convolutions)
    kinds = [type(layer) for layer in network.encoder[0].children()]
    assert kinds == [nn.Conv2d, nn.ReLU, nn.BatchNorm2d, nn.Dropout2d] * 2


@pytest.mark.parametrize("size", [(16, 16), (17, 16), (23, 31), (8, 9), (8, 8)])
def test_any_size_from_two_to_the_depth(size):
    network = build(2, 3, depth=3, base_filters=2).eval()
    logits = network(torch.randn(2, 2, *size))
    assert logits.shape == (2, 3, *size) and torch.isfinite(logits).all()


def test_too_small_slices_are_told_with_a_cure():
    with pytest.raises(PenumbraError, match="too small") as caught:
        build(1, 1, depth=3, base_filters=2)(torch.randn(1, 1, 7, 64))
    assert "8 pixels" in str(caught.value.cure)


def test_equals_its_definition_written_out():
    network = build(2, 1, depth=2, base_filters=3, dropout=0.0).double().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.get_buffer("running_mean").normal_()
            module.get_buffer("running_var").uniform_(0.5, 2)
            nn.init.normal_(module.weight)
    images = torch.randn(2, 2, 12, 8, dtype=torch.float64)

    def level(layers, x):
        for start in (0, 4):
            x, norm = torch.relu(layers[start](x)), layers[start + 2]
            scale = (norm.weight / (norm.running_var + norm.eps).sqrt())[:, None, None]
            x = (x - norm.running_mean[:, None, None]) * scale + norm.bias[:, None, None]
        return x

    up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
    one = level(network.encoder[0], images)
    two = level(network.encoder[1], nn.MaxPool2d(2)(one))
    x = level(network.bottom, nn.MaxPool2d(2)(two))
    x = level(network.decoder[0], torch.cat([up(x), two], 1))
    x = level(network.decoder[1], torch.cat([up(x), one], 1))
    torch.testing.assert_close(network(images), network.last(x), atol=1e-10, rtol=0)


def test_seed_decides_the_weights_and_every_parameter_learns():
    networks = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        networks.append(build(1, 2, depth=2, base_filters=4))
    same, again, other = (n.state_dict() for n in networks)
    assert all(torch.equal(same[k], again[k]) for k in same)
    assert any(not torch.equal(same[k], other[k]) for k in same)
    networks[0](torch.randn(2, 1, 16, 16)).square().sum().backward()
    for parameter in networks[0].parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all() and parameter.grad.any()


def test_dropout_acts_on_whole_channels_in_training_only():
    network = build(1, 1, depth=1, base_filters=4, dropout=0.5)
    images = torch.randn(2, 1, 8, 8)
    assert not torch.equal(network(images), network(images))
    network.eval()
    assert torch.equal(network(images), network(images))


def test_options_are_checked():
    model = parts.options_model("network", "unet2d")
    assert model().model_dump() == {"depth": 3, "base_filters": 64, "dropout": 0.4, "batch_norm_momentum": 0.9}
    for wrong in ({"dropout": 1.0}, {"depth": 0}, {"width": 3}):
        with pytest.raises(ValueError, match="validation error"):
            model(**wrong)


@pytest.mark.parametrize(("size", "batch", "refused"), [((8, 8), 1, True), ((8, 8), 2, False), ((8, 16), 1, False)])
def test_one_value_a_channel_is_refused_in_training_alone(size, batch, refused):
    network = build(1, 1, depth=3, base_filters=2)
    images = torch.randn(batch, 1, *size)
    if refused:
        with pytest.raises(PenumbraError, match="one value a channel"):
            network(images)
    else:
        network(images)
    network.eval()(images)
