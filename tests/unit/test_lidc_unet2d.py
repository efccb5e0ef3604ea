"""The U-Net of the LIDC experiments: parameters, upsampling and forward pass against plain arithmetic."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from penumbra import parts
from penumbra.errors import PenumbraError
from penumbra.networks._lidc import upsampled


@pytest.fixture(autouse=True)
def _fresh(rng):
    torch.manual_seed(int(rng.integers(2**62)))


def build(channels_in=1, channels_out=1, **options):
    return parts.build("network", "lidc_unet2d", options, channels_in=channels_in, channels_out=channels_out)


def unit(a, b, kernel):
    return a * b * kernel * kernel + 2 * b


def test_learnable_parameters_are_those_of_the_published_layers():
    total = 0
    encoder = [(1, 32), (32, 64), (64, 128), (128, 192), (192, 192), (192, 192), (192, 192)]
    decoder = [(192 + 192, 192), (192 + 192, 192), (192 + 192, 192), (192 + 128, 192), (192 + 64, 128), (128 + 32, 64)]
    for a, b in encoder + decoder:
        total += unit(a, b, 3) + 2 * unit(b, b, 3)
    total += unit(64, 32, 1) + 2 * unit(32, 32, 1) + 32 + 1
    assert total == 10_319_809 == sum(p.numel() for p in build().parameters())


def test_upsampling_keeps_values_in_place_and_means_between_them(rng):
    found = upsampled(torch.from_numpy(values := rng.normal(size=(2, 3, 4, 5)))).numpy()
    padded = np.pad(values, [(0, 0), (0, 0), (0, 1), (0, 1)], mode="edge")
    for i in range(8):
        for j in range(10):
            rows, columns = {i // 2, (i + 1) // 2}, {j // 2, (j + 1) // 2}
            expected = np.mean([padded[..., r, c] for r in rows for c in columns], axis=0)
            np.testing.assert_allclose(found[..., i, j], expected, atol=1e-12)


def test_forward_pass_is_the_layers_one_after_another(rng):
    network = build(2, 3, levels=3, base_filters=4).double()
    for _ in range(5):
        network(torch.randn(4, 2, 8, 12).double())
    network.eval()
    state = iter(network.state_dict().values())

    def level(x):
        for _ in range(3):
            weight, scale, shift, mean, variance, _count = (next(state) for _ in range(6))
            x = functional.conv2d(x, weight, padding=weight.shape[-1] // 2)
            move = [t.reshape(-1, 1, 1) for t in (mean, variance, scale, shift)]
            x = ((x - move[0]) / (move[1] + 1e-3).sqrt() * move[2] + move[3]).clamp(min=0)
        return x

    def halved(x):
        return x.reshape(*x.shape[:2], x.shape[2] // 2, 2, x.shape[3] // 2, 2).mean(dim=(3, 5))

    images = torch.from_numpy(rng.normal(size=(2, 2, 8, 12)))
    first = level(images)
    second = level(halved(first))
    third = level(halved(second))
    up = level(torch.cat([upsampled(third), second], dim=1))
    up = level(torch.cat([upsampled(up), first], dim=1))
    assert up.shape[1] == 8
    up = level(up)
    weight, bias = next(state), next(state)
    torch.testing.assert_close(network(images), functional.conv2d(up, weight, bias))


def test_it_learns_and_carries_a_distribution():
    head = parts.build("head", "low_rank_normal", {"rank": 2}, channels=1)
    network = build(1, head.channels_in, levels=3, base_filters=4)
    images = torch.randn(4, 1, 16, 16)
    logits, distribution = head(network(images))
    assert logits.shape == (4, 1, 16, 16) and distribution.sample(5).shape == (5, 4, 1, 16, 16)
    distribution.sample(5).square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
    torch.testing.assert_close(network.encoder[0][0][1].momentum, 0.01)


@pytest.mark.parametrize("size, words", [((96, 64), "96 x 64"), ((64, 100), "multiples of 64"), ((32, 32), "6 times")])
def test_sides_that_cannot_be_halved_are_refused(size, words):
    with pytest.raises(PenumbraError) as told:
        build(base_filters=2)(torch.zeros(2, 1, *size))
    assert words in str(told.value) and "geometry.crop" in str(told.value)


def test_one_value_a_channel_is_refused_in_training_only():
    network = build(base_filters=2)
    with pytest.raises(PenumbraError, match="batch of one slice of 64 x 64 pixels"):
        network(torch.zeros(1, 1, 64, 64))
    assert network.eval()(torch.zeros(1, 1, 64, 64)).shape == (1, 1, 64, 64)
