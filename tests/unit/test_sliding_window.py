"""The residual U-Net, folded normalisation, and windows over a volume against a loop over them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference

from penumbra import parts
from penumbra.errors import PenumbraError
from penumbra.heads.logits import Logits
from penumbra.networks.folding import folded
from penumbra.networks.residual_unet3d import build
from penumbra.training.model import Model
from tests.unit.test_unet3d import spread


@pytest.fixture(autouse=True)
def _fresh(rng):
    torch.manual_seed(int(rng.integers(2**62)))


def parameters(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_parameters_are_those_of_the_paper():
    assert parameters(build(1, 2)) == 4_808_917
    assert parameters(build(1, 2, channels=[32, 32, 64, 64, 128])) == 2_007_173


def test_sizes_that_cannot_be_halved_are_told():
    with pytest.raises(PenumbraError, match="halves its input 2 times") as caught:
        build(1, 1, channels=[2, 3, 4])(torch.zeros(1, 1, 8, 8, 6))
    assert "multiples of 4" in str(caught.value)
    with pytest.raises(PenumbraError, match="channels"):
        build(1, 1, channels=[4])


def small(double: bool = True) -> Model:
    network = build(2, 2, channels=[3, 4, 5])
    spread(network)
    activation = parts.build("activation", "sigmoid", {}, classes=2)
    model = Model(network, activation, Logits(2)).eval().requires_grad_(False)
    return model.double() if double else model


def test_folding_changes_nothing_but_the_number_of_layers():
    model = small()
    images = torch.randn(2, 2, 8, 12, 4, dtype=torch.float64)
    other = folded(model.network)
    left = [m for m in other.modules() if isinstance(m, torch.nn.BatchNorm3d)]
    assert left == [] and any(isinstance(m, torch.nn.BatchNorm3d) for m in model.network.modules())
    torch.testing.assert_close(other(images), model.network(images), atol=1e-10, rtol=0)
    plain = torch.nn.Conv3d(1, 1, 1)
    assert folded(plain) is plain


def starts(size: int, window: int, overlap: float) -> list[int]:
    step = max(int(window * (1 - overlap)), 1) if window < size else window
    count = int(np.ceil((size - window) / step)) + 1
    return [min(k * step, size - window) for k in range(count)]


@pytest.mark.parametrize(("size", "overlap"), [((12, 8, 8), 0.5), ((8, 8, 8), 0.0), ((16, 12, 9), 0.25)])
@pytest.mark.parametrize("fold", [True, False])
def test_windows_are_blended_as_logits(size, overlap, fold):
    model, window = small(), (8, 8, 4)
    images = torch.randn(1, 2, *size, dtype=torch.float64)
    total, number = torch.zeros(1, 2, *size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
    for corner in itertools.product(*(starts(n, w, overlap) for n, w in zip(size, window, strict=True))):
        box = tuple(slice(c, c + w) for c, w in zip(corner, window, strict=True))
        total[(slice(None), slice(None), *box)] += model.network(images[(slice(None), slice(None), *box)])
        number[box] += 1
    options = {"window": list(window), "overlap": overlap, "windows_at_once": 3, "fold_normalisation": fold}
    found = parts.build("predictor", "sliding_window", options)([model], images)
    torch.testing.assert_close(found.probabilities, torch.sigmoid(total / number), atol=1e-5, rtol=0)
    assert found.samples is None


@pytest.mark.parametrize("blending", ["constant", "gaussian"])
def test_an_image_smaller_than_the_window_and_several_members(blending):
    models = [small(), small()]
    images = torch.randn(1, 2, 6, 8, 3, dtype=torch.float64)
    options = {"window": [8, 8, 4], "blending": blending}
    found = parts.build("predictor", "sliding_window", options)(models, images)
    padded = torch.nn.functional.pad(images, (0, 1, 0, 0, 1, 1))
    maps = torch.stack([model(padded).probabilities[:, :, 1:7, :, :3] for model in models])
    torch.testing.assert_close(found.probabilities, maps.mean(dim=0), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.samples, maps, atol=1e-5, rtol=0)


@pytest.mark.parametrize("blending", ["constant", "gaussian"])
@pytest.mark.parametrize("size", [(16, 8, 9), (6, 12, 8)])
def test_both_blendings_are_those_of_monai(blending, size):
    """Also where the image is shorter than the window along one axis and longer along another."""
    model, images = small(), torch.randn(1, 2, *size, dtype=torch.float64)
    options = {"window": [8, 8, 4], "blending": blending, "overlap": 0.5}
    found = parts.build("predictor", "sliding_window", options)([model], images).probabilities
    logits = sliding_window_inference(images, (8, 8, 4), 1, model.network, overlap=0.5, mode=blending)
    torch.testing.assert_close(found, torch.sigmoid(logits), atol=1e-5, rtol=0)


def test_weights_that_changed_are_used():
    model, images = small(), torch.randn(1, 2, 8, 12, 4, dtype=torch.float64)
    predict = parts.build("predictor", "sliding_window", {"window": [8, 8, 4], "overlap": 0.5})
    predict([model], images)
    for parameter in model.parameters():
        parameter.mul_(1.5)
    logits = sliding_window_inference(images, (8, 8, 4), 1, model.network, overlap=0.5)
    torch.testing.assert_close(predict([model], images).probabilities, torch.sigmoid(logits), atol=1e-5, rtol=0)


def test_a_window_with_another_number_of_sides_is_told():
    predict = parts.build("predictor", "sliding_window", {"window": [8, 8]})
    with pytest.raises(PenumbraError, match="2 sides, the images have 3"):
        predict([small()], torch.zeros(1, 2, 8, 8, 4, dtype=torch.float64))


def test_bfloat16_is_close(rng):
    model = small(double=False)
    images = torch.randn(1, 2, 12, 8, 8)
    predict = parts.build("predictor", "sliding_window", {"window": [8, 8, 4], "overlap": 0.5})
    exact = predict([model], images).probabilities
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = predict([model], images).probabilities
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).abs().mean() < 0.03
