"""A region of interest: what is 0 in all contrasts is neither normalised nor looked at, and is predicted background."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from penumbra.augmentation.epoch import Epoch
from penumbra.config.models import Augmentation, Candidate, Dataset, Elastic, Intensity, Patches
from penumbra.data.case import IMAGE, read_class_map, read_nifti, write_nifti
from penumbra.data.geometry import normalise
from penumbra.networks.region import inside
from penumbra.training import trainer as trainer_module
from penumbra.training.patches import Sampler
from penumbra.training.slices import Slices

from . import test_preprocess
from .small_training import make_candidate, make_data, make_dataset
from .test_inference import predictor_of, world
from .test_inference import run as infer_run
from .test_training import outputs, run

__all__ = ["world"]

STOCHASTIC = {
    "head": {"name": "low_rank_normal", "rank": 2}, "loss": {"name": "monte_carlo_likelihood", "samples": 4},
    "predictor": {"name": "distribution", "samples": 5},
}  # fmt: skip


def with_region(dataset: Dataset) -> Dataset:
    return dataset.model_copy(update={"geometry": dataset.geometry.model_copy(update={"region": "nonzero"})})


def stochastic(**more) -> Candidate:
    return Candidate.model_validate(make_candidate(**more).model_dump() | STOCHASTIC)


def cut(data, rng):
    """The same data with images that are 0 in every contrast on the left third."""
    images = data.images.copy()
    images[..., : images.shape[-1] // 3] = 0
    np.save(data.prepared / "images.npy", images)
    return replace(data, images=images)


@pytest.mark.parametrize(("mode", "ddof"), [("joint", 1), ("per_contrast", 0)])
def test_what_is_outside_does_not_enter_the_normalisation(rng, mode, ddof):
    image, seen = rng.normal(5, 2, size=(3, 9, 7)).astype(np.float32), rng.uniform(size=(9, 7)) < 0.6
    found = normalise(image, mode, seen)
    assert (found[:, ~seen] == 0).all()
    within = image[:, seen].astype(float)
    axis = None if mode == "joint" else 1
    mean, deviation = within.mean(axis=axis, keepdims=True), within.std(axis=axis, ddof=ddof, keepdims=True)
    np.testing.assert_allclose(found[:, seen], (within - mean) / deviation, rtol=1e-5, atol=1e-6)
    assert not normalise(image, mode, np.zeros_like(seen)).any()


@pytest.mark.parametrize("spacing", [None, (1.0, 1.0)])
def test_prepared_images_are_zero_outside_the_region(tmp_path, rng, spacing):
    image = rng.uniform(1, 2, size=(2, 24, 20, 3))
    image[:, :, :8] = 0
    image[1, :, :14] = 0  # of one contrast alone
    test_preprocess.write_cases(tmp_path, {"a": image})
    size = (24, 20) if spacing is None else (12, 10)
    prepared, _ = test_preprocess.run(
        tmp_path, crop=size, spacing=spacing, region="nonzero", normalisation="per_contrast"
    )
    seen = (prepared != 0).any(axis=1)
    edge = 8 if spacing is None else 4
    assert not seen[:, :, :edge].any() and seen[:, :, edge + 1 :].all()
    for contrast in np.moveaxis(prepared, 1, 0):
        for z in range(3):
            within = contrast[z][seen[z]]
            assert abs(within.mean()) < 1e-5 and abs(within.std() - 1) < 1e-5


@pytest.mark.parametrize("mode", ["joint", "per_contrast"])
def test_values_that_are_the_mean_are_no_holes(mode):
    image = np.array([[[0, 0, 1, 2, 3]]], np.float32)
    found = normalise(image, mode, image[0] != 0)
    assert ((found != 0) == (image != 0)).all() and abs(found[0, 0, 3]) == np.float32(1e-6)


def test_a_region_in_which_a_contrast_has_one_value_is_constant(tmp_path, rng):
    image = rng.uniform(1, 2, size=(2, 8, 8, 4))
    image[:, :3] = 0
    image[:, :, :, 1] = 0
    image[:, 5, 5, 1] = 2  # one voxel
    image[1, 3:, :, 2] = 7  # one contrast has one value
    image[:, 3:, 2:, 3] = 0
    test_preprocess.write_cases(tmp_path, {"a": image})
    prepared, slices = test_preprocess.run(tmp_path, crop=(8, 8), region="nonzero")
    assert slices["constant"].tolist() == [0, 1, 1, 0]
    assert not prepared[1:3].any() and (prepared[3] != 0).any()


def known_region(rng, size, count=4):
    y, *rest = np.indices(size)
    distance = sum((at - side / 2) ** 2 for at, side in zip((y, *rest), size, strict=True)) ** 0.5
    seen = torch.from_numpy(np.broadcast_to(distance < 0.4 * min(size), (count, 1, *size)).astype(np.float32))
    return torch.from_numpy(rng.uniform(1, 2, size=(count, 2, *size)).astype(np.float32)) * seen, seen


@pytest.mark.parametrize("size", [(64, 64), (110, 110), (21, 21, 14)])
def test_changes_that_move_nothing_leave_the_region_as_it_is(rng, size):
    images, seen = known_region(rng, size)
    options = Augmentation(chance=0, right_angles=0, intensity=Intensity(chance=1.0, shift=(5, 5)))
    epoch = Epoch(options, 4, 2, size, lambda *more: rng, torch.device("cpu"), region=True)
    found, labels = epoch(images, seen, slice(0, 4))
    assert labels.shape == seen.shape and torch.equal(inside(found), seen > 0)
    torch.testing.assert_close(found, (images + 5) * seen, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("size", [(64, 64), (21, 21, 14)])
def test_the_region_moves_as_a_label_does(rng, size):
    images, seen = known_region(rng, size)
    options = Augmentation(
        right_angles=1.0,
        elastic=Elastic(chance=1.0, spacing=8, amplitude=3),
        intensity=Intensity(chance=1.0, shift=(-1, 1)),
    )
    epoch = Epoch(options, 4, 2, size, lambda *more: rng, torch.device("cpu"), region=True)
    found, labels = epoch(images, seen, slice(0, 4))
    assert torch.equal(inside(found), labels >= 0.5)
    assert not torch.equal(inside(found), seen > 0)
    everywhere = Epoch(options, 4, 2, size, lambda *more: rng, torch.device("cpu"))(images, seen, slice(0, 4))[0]
    assert inside(everywhere).sum() > inside(found).sum()


@pytest.mark.parametrize("resident", [True, False])
def test_patches_lie_inside(tmp_path, rng, monkeypatch, resident):
    if not resident:
        monkeypatch.setattr("penumbra.training.slices.free_memory", lambda device: 0)
    data = cut(make_data(tmp_path / "data", rng, size=(16, 12, 9), contrasts=2), rng)
    data.images[1] = 0
    data.images[1, 1, 3:6, 4, 4] = 1  # a region that is hardly ever met by chance
    items = Slices(data.images, data.targets, np.arange(2), hard=True, device=torch.device("cpu"))
    chosen = np.repeat([0, 1], 100)
    for foreground, region in ((0.0, True), (0.0, False), (1.0, True), (1.0, False)):
        middles = Sampler(items, Patches(size=(4, 4, 4), foreground=foreground), region=region).middles(rng, chosen)
        at = (chosen, *middles.T)
        marked, seen = data.targets[:, 0, 0][at] >= 0.5, (data.images != 0).any(axis=1)[at]
        assert seen.all() == region
        assert (marked[:100] == foreground).all(), "the first item has both within its region"


@pytest.mark.parametrize("parts", [1, 3])
def test_the_likelihood_is_told_the_region(tmp_path, rng, parts):
    """A training with a region differs from one without, also where a batch passes in parts."""
    data = cut(make_data(tmp_path / "data", rng, contrasts=1), rng)
    found = {}
    for name, dataset in (("region", with_region(make_dataset())), ("all", make_dataset())):
        candidate = stochastic(augmentation=None, epochs=1, gradient_accumulation=parts)
        folder = run(tmp_path / name, data, candidate, dataset)[1]
        found[name] = [(folder / f).read_bytes() for f in ("weights.safetensors", "history.csv")]
    assert found["region"] != found["all"]


def test_the_mask_of_a_patch_is_that_of_its_middle(tmp_path, rng, monkeypatch):
    data = cut(make_data(tmp_path / "data", rng, size=(16, 12, 9), contrasts=2), rng)
    seen = []
    real = trainer_module.Trainer._loss_for

    def loss_for(self, images, target):
        chosen = real(self, images, target)
        mask = chosen.keywords["mask"]
        assert mask.shape == (len(images), *target.shape[2:]) == (len(images), 8, 8, 4)
        assert torch.equal(mask, (images[..., 2:-2, 2:-2, 2:-2] != 0).any(dim=1))
        seen.append(mask.double().mean())
        return chosen

    monkeypatch.setattr(trainer_module.Trainer, "_loss_for", loss_for)
    network = {"name": "unet3d", "depth": 1, "base_filters": 4, "dropout": 0.0}
    patches = {"size": [8, 8, 4], "context": 2, "of_each": 2}
    changes = {"intensity": {"chance": 1.0, "shift": [1, 2]}, "elastic": {"spacing": 6, "amplitude": 2}}
    candidate = stochastic(network=network, patches=patches, epochs=1, augmentation=changes)
    run(tmp_path / "a", data, candidate, with_region(make_dataset(2, crop=(16, 12, 9))))
    assert len(seen) > 2 and 0 < min(seen) < 1


def test_other_losses_take_no_mask(tmp_path, rng):
    data = cut(make_data(tmp_path / "data", rng), rng)
    candidate = make_candidate(augmentation=None, epochs=1)
    both = [run(tmp_path / n, data, candidate, d)[1] for n, d in (("a", make_dataset()), ("b", with_region(make_dataset())))]  # fmt: skip
    assert outputs(both[0])[:2] == outputs(both[1])[:2]
    with np.load(both[0] / "progression.npz") as whole, np.load(both[1] / "progression.npz") as within:
        edge = data.images.shape[-1] // 3
        assert whole["predictions"][..., :edge].any() and not within["predictions"][..., :edge].any()
        np.testing.assert_array_equal(whole["predictions"][..., edge:], within["predictions"][..., edge:])


def test_prediction_and_samples_are_background_outside(world, rng):
    data, recipe, dataset, weights = world(classes=2, members=2, activation="softmax")
    data = cut(data, rng)
    drawn = Candidate.model_validate(recipe.model_dump() | {"predictor": {"name": "independent_draws", "samples": 9}})
    whole = predictor_of(data, drawn, dataset, weights)("case-5", sampled=True)
    found = predictor_of(data, drawn, with_region(dataset), weights)("case-5", sampled=True)
    edge = data.images.shape[-1] // 3
    for maps, before in ((found.probabilities, whole.probabilities), (found.samples, whole.samples)):
        assert before[..., :edge].any() and not maps[..., :edge].any()
        assert torch.equal(maps[..., edge:], before[..., edge:]) and maps.any()


def test_written_predictions_and_samples_are_background_outside_the_native_region(tmp_path, world, rng):
    data, recipe, dataset, weights = world(classes=2, members=2, activation="softmax", evaluation={"readers": True})
    drawn = Candidate.model_validate(recipe.model_dump() | {"predictor": {"name": "independent_draws", "samples": 3}})
    image = tmp_path / "cases/case-5" / IMAGE
    seen = rng.uniform(size=read_nifti(image)[0].shape) < 0.5
    write_nifti(image, seen.astype(np.float32), np.diag([0.5, 0.7, 8, 1.0]))
    whole, _ = infer_run(tmp_path, data, drawn, dataset, weights, name="whole")
    within, _ = infer_run(tmp_path, data, drawn, with_region(dataset), weights, name="within")
    for file in ("case-5.nii.gz", "samples/case-5.nii.gz"):
        before, after = read_class_map(whole / file), read_class_map(within / file)
        assert before[:, ~seen].any() and not after[:, ~seen].any()
        np.testing.assert_array_equal(after[:, seen], before[:, seen])
