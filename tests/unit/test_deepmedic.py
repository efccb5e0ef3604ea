"""DeepMedic: published size, receptive field and output sizes, and each path against plain indexing."""

import itertools

import pytest
import torch

from penumbra import parts
from penumbra.networks import deepmedic, windows


@pytest.fixture(autouse=True)
def _fresh(rng):
    torch.manual_seed(int(rng.integers(2**62)))


def build(channels_in=4, channels_out=4, **options):
    return parts.build("network", "deepmedic", options, channels_in=channels_in, channels_out=channels_out)


def size_of(module):
    return sum(p.numel() for p in module.parameters())


def test_learnable_parameters_are_the_published_ones():
    assert size_of(build()) == 1_037_091
    head = parts.build("head", "low_rank_normal", {"rank": 10}, channels=4)
    assert size_of(build(channels_out=head.channels_in, features=50)) == 1_051_039


def test_units_add_their_input_where_widths_agree():
    with_sum = [a == b for a, b in itertools.pairwise((4, *deepmedic.WIDTHS))]
    assert with_sum == [False, True, False, True, True, True, False, True]
    unit = build().paths[0][1].eval()
    volumes = torch.randn(1, 30, 4, 5, 6)
    weight = unit.convolution.weight
    normal = volumes / (1 + unit.norm.eps) ** 0.5
    plain = torch.nn.functional.conv3d(torch.where(normal > 0, normal, 0.25 * normal), weight)
    torch.testing.assert_close(unit(volumes), plain + volumes[..., 1:-1, 1:-1, 1:-1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("shown, given", [(110, 30), (140, 60), (85, 5), (87, 5)])
def test_patches_give_labels_for_their_middle(shown, given):
    with torch.device("meta"):
        network = build()
    assert network.valid(torch.empty(1, 4, shown, shown, 85, device="meta")).shape == (1, 4, given, given, 5)
    assert network(torch.empty(2, 4, given, 7, 12, device="meta")).shape == (2, 4, given, 7, 12)
    if (shown, given) in ((110, 30), (140, 60)):
        assert deepmedic.shown((given,), 5) == (shown,)


def test_a_patch_too_small_is_refused():
    with pytest.raises(ValueError, match="85 voxels"):
        build().valid(torch.zeros(1, 4, 85, 85, 84))


@pytest.mark.parametrize("path, field", [(0, 81), (1, 49), (2, 17)])
def test_receptive_field_of_a_path(path, field):
    """From the voxel with a label to the farthest voxels that bear on it, along one axis."""
    scale = deepmedic.SCALES[path]
    layers = build(1, 1).paths[path].double().eval()
    side = (deepmedic.MARGIN + 1) * scale
    line = torch.randn(1, 1, side, 17, 17, dtype=torch.float64)
    line.requires_grad_()
    every = slice(scale // 2, None, scale)
    layers(line[:, :, every])[0, :, 0, 0, 0].sum().backward()
    bears = torch.nonzero(line.grad[0, 0].abs().amax(dim=(1, 2))).flatten()
    assert bears[-1] - bears[0] + 1 == field and len(bears) == 17


def test_padded_image_is_the_middle_of_a_patch_with_zeros_around_it():
    network = build(1, 2, features=3).eval()
    image = torch.randn(1, 1, 5, 5, 5)
    patch = torch.zeros(1, 1, 85, 85, 85)
    patch[..., 40:45, 40:45, 40:45] = image
    with torch.inference_mode():
        torch.testing.assert_close(network(image), network.valid(patch))


def test_gradients_reach_all_but_what_was_never_used():
    network = build(1, 1)
    network(torch.randn(2, 1, 6, 5, 7)).square().mean().backward()
    idle = {name for name, p in network.named_parameters() if p.grad is None}
    unused = ("norm.weight", "norm.bias", "slope.weight")
    assert idle == {f"paths.{k}.0.{name}" for k in range(3) for name in unused}


def test_voxels_are_repeated_as_by_a_library_and_the_middle_is_the_middle():
    volumes = torch.randn(2, 3, 2, 3, 4)
    expected = torch.nn.functional.interpolate(volumes, scale_factor=3, mode="nearest")
    torch.testing.assert_close(deepmedic.repeated(volumes, 3), expected)
    line = torch.arange(11.0).reshape(1, 1, 11, 1, 1)
    # The released code's middle: from c // 2 - s // 2 on, s voxels.
    assert windows.centre(line, (4, 1, 1)).flatten().tolist() == [3, 4, 5, 6]
    assert windows.centre(line, (5, 1, 1)).flatten().tolist() == [3, 4, 5, 6, 7]
