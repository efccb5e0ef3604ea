"""A region of interest: what is 0 in all contrasts is neither normalised nor looked at, and is predicted background."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from penumbra.augmentation.intensity import change
from penumbra.config.models import Candidate, Dataset, Patches
from penumbra.data.geometry import normalise
from penumbra.networks.region import inside
from penumbra.training import trainer as trainer_module
from penumbra.training.patches import Sampler
from penumbra.training.slices import Slices

from . import test_preprocess
from .small_training import make_candidate, make_data, make_dataset
from .test_inference import predictor_of, switches, world
from .test_training import outputs, run

__all__ = ["switches", "world"]

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


def test_intensities_change_inside_alone(rng):
    images = torch.from_numpy(rng.normal(size=(2, 3, 6, 5)))
    images[..., :2] = 0
    images[:, 1, :, 3] = 0  # in one contrast, and so inside
    parameters = torch.from_numpy(rng.uniform(1, 2, size=(2, 3, 2)))
    found, everywhere = change(images, parameters, region=True), change(images, parameters)
    assert (found[..., :2] == 0).all() and torch.equal(found[..., 2:], everywhere[..., 2:])
    assert (everywhere[..., :2] != 0).all()
    assert torch.equal(inside(found), inside(images))


@pytest.mark.parametrize("resident", [True, False])
def test_patches_of_background_lie_inside(tmp_path, rng, monkeypatch, resident):
    if not resident:
        monkeypatch.setattr("penumbra.training.slices.free_memory", lambda device: 0)
    data = cut(make_data(tmp_path / "data", rng, size=(16, 12, 9), contrasts=2), rng)
    items = Slices(data.images, data.targets, np.arange(2), hard=True, device=torch.device("cpu"))
    chosen = np.repeat([0, 1], 100)
    for region in (True, False):
        middles = Sampler(items, Patches(size=(4, 4, 4), foreground=0.0), region=region).middles(rng, chosen)
        at = (chosen, *middles.T)
        assert not (data.targets[:, 0, 0][at] >= 0.5).any()
        assert (data.images[:, 0][at] == 0).any() != region


@pytest.mark.parametrize("parts", [1, 3])
def test_the_likelihood_does_not_look_outside(tmp_path, rng, parts):
    """Labels outside change nothing of a training; without a region they do."""
    data = cut(make_data(tmp_path / "data", rng, contrasts=1), rng)
    candidate = stochastic(augmentation=None, epochs=1, gradient_accumulation=parts)
    found = {}
    for name, dataset in (("region", with_region(make_dataset())), ("all", make_dataset())):
        targets = data.targets.copy()
        for side in ("a", "b"):
            np.save(data.labels / "prepared.npy", targets)
            folder = run(tmp_path / name / side, data, candidate, dataset)[1]
            found[name, side] = [(folder / f).read_bytes() for f in ("weights.safetensors", "history.csv")]
            targets[..., : targets.shape[-1] // 3] = 1 - targets[..., : targets.shape[-1] // 3]
    assert found["region", "a"] == found["region", "b"] != found["all", "a"]
    assert found["all", "a"] != found["all", "b"]


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
    assert outputs(both[0]) == outputs(both[1])


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
