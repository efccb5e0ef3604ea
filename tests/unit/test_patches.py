"""Trainings on random parts of volumes, their optimiser and schedule."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import stats

from penumbra.config.models import Optimiser, Patches, Training
from penumbra.errors import PenumbraError
from penumbra.training import trainer as trainer_module
from penumbra.training.interruption import Interrupted
from penumbra.training.patches import Sampler
from penumbra.training.slices import Slices
from penumbra.training.trainer import learning_rate, optimiser

from .small_training import Data, make_candidate, make_data, make_dataset
from .test_training import history, outputs, run

VOLUME = (16, 12, 8)


@pytest.fixture
def data(tmp_path, rng) -> Data:
    return make_data(tmp_path / "data", rng, size=VOLUME, variants=2)


def items_of(data: Data, *, hard: bool = False, device: str = "cpu") -> Slices:
    return Slices(data.images, data.targets, np.arange(len(data.images)), hard=hard, device=torch.device(device))


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("hard", [True, False])
def test_a_patch_is_cut_from_a_padded_volume(data, rng, monkeypatch, resident, hard):
    if not resident:
        monkeypatch.setattr("penumbra.training.slices.free_memory", lambda device: 0)
    items = items_of(data, hard=hard)
    assert items.resident == resident
    options = Patches(size=(5, 4, 3), context=2)
    chosen, variants = rng.integers(len(data.images), size=6), rng.integers(2, size=6)
    middles = np.stack([rng.integers(side, size=6) for side in VOLUME], axis=1)
    images, labels = Sampler(items, options).gather(chosen, variants, middles)
    for k in range(6):
        box = tuple(
            slice(at + 20 - side // 2, at + 20 - side // 2 + side)
            for at, side in zip(middles[k], (9, 8, 7), strict=True)
        )
        for found, array in ((images, data.images[chosen[k]]), (labels, data.targets[chosen[k], variants[k]])):
            array = (array >= 0.5) if hard and found is labels else array
            expected = np.pad(array, [(0, 0), *[(20, 20)] * 3])[(slice(None), *box)]
            np.testing.assert_array_equal(found[k].numpy(), expected.astype(np.float32))


def test_middles_are_foreground_as_often_as_asked_and_uniform(data, rng):
    sampler = Sampler(items_of(data), Patches(size=(4, 4, 4), foreground=0.3))
    middles = sampler.middles(rng, np.full(4000, 2))
    inside = (data.targets[2] >= 0.5).any(axis=(0, 1))
    drawn = np.zeros(VOLUME, int)
    np.add.at(drawn, tuple(middles.T), 1)
    count = int(drawn[inside].sum())
    assert stats.binomtest(count, 4000, 0.3).pvalue > 1e-5
    for where in (inside, ~inside):
        assert stats.chisquare(drawn[where]).pvalue > 1e-5


def test_an_item_without_foreground_or_without_background_still_has_patches(data, rng):
    targets = data.targets.copy()
    targets[0], targets[1] = 0, 1
    items = Slices(data.images, targets, np.arange(len(targets)), hard=True, device=torch.device("cpu"))
    for chance in (0.0, 1.0):
        middles = Sampler(items, Patches(size=(4, 4, 4), foreground=chance)).middles(rng, np.array([0, 1] * 20))
        assert (middles >= 0).all() and (middles < np.array(VOLUME)).all()
        assert len(np.unique(middles, axis=0)) > 30


def candidate_of(**training):
    network = {"name": "unet3d", "depth": 1, "base_filters": 4, "dropout": 0.0}
    patches = {"size": [8, 8, 4], "context": 2, "of_each": 3}
    return make_candidate(network=network, **{"epochs": 2, "patches": patches, **training})


def train(folder, data, candidate, **more):
    return run(folder, data, candidate, dataset=make_dataset(crop=VOLUME), **more)


@pytest.mark.parametrize(("limit", "batches"), [(None, (4, 4, 1)), (5, (4, 1))])
def test_a_training_on_patches_sees_each_item_as_often_as_asked(tmp_path, data, monkeypatch, limit, batches):
    seen = []
    real = trainer_module.Trainer._features

    def features(self, images):
        seen.append((self.model.training, tuple(images.shape)))
        found = real(self, images)
        assert found.shape[2:] == (8, 8, 4)
        return found

    monkeypatch.setattr(trainer_module.Trainer, "_features", features)
    record, folder = train(tmp_path / "a", data, candidate_of(slices_per_epoch=limit))
    # 3 cases of training, 2 of validation, 3 patches of each in batches of 4.
    shapes = [(True, (n, 1, 12, 12, 8)) for n in batches] + [(False, (n, 1, 12, 12, 8)) for n in (4, 2)]
    assert seen == shapes * 2
    assert len(history(folder)) == 2
    with np.load(folder / "progression.npz") as kept:
        assert kept["predictions"].shape == (1, 1, 16, 12), "the watched slice, out of the whole volume"
    assert record["candidate"]["training"]["patches"]["size"] == [8, 8, 4]
    assert json.loads((folder / "run.json").read_text())["candidate"]["training"]["patches"]["context"] == 2


ALL_CHANGES = {
    "right_angles": 1.0, "flips": {"axes": [0, 2]}, "elastic": {"chance": 1.0, "spacing": 6, "amplitude": 2},
    "intensity": {"chance": 1.0, "scale_deviation": 0.1, "shift": [-0.1, 0.1]},
}  # fmt: skip


@pytest.mark.parametrize("augmentation", [{}, ALL_CHANGES])
def test_a_training_on_patches_is_repeatable_and_resumes_to_the_byte(tmp_path, data, augmentation):
    candidate = candidate_of(augmentation=augmentation)
    whole = outputs(train(tmp_path / "a", data, candidate)[1])
    for _ in range(3):
        with pytest.raises(Interrupted):
            train(tmp_path / "b", data, candidate, stop_after=1)
    assert outputs(train(tmp_path / "b", data, candidate)[1]) == whole
    assert outputs(train(tmp_path / "c", data, candidate, seed=8)[1]) != whole


@pytest.mark.parametrize("key", ALL_CHANGES)
def test_each_change_of_patches_reaches_the_training(tmp_path, data, key):
    usual = outputs(train(tmp_path / "a", data, candidate_of(epochs=1))[1])
    changed = candidate_of(epochs=1, augmentation={key: ALL_CHANGES[key]})
    assert outputs(train(tmp_path / "b", data, changed)[1]) != usual


def test_patches_learn(tmp_path, data):
    _, folder = train(tmp_path / "a", data, candidate_of(epochs=12))
    losses = history(folder)[:, 1]
    assert losses[-1] < losses[0] - 0.1


def test_memory_that_is_used_up_names_the_patch(tmp_path, data, monkeypatch):
    def refuse(self, images):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(trainer_module.Trainer, "_features", refuse)
    monkeypatch.setattr("penumbra.training.memory._memory", lambda *_: "the GPU's memory is used up")
    with pytest.raises(PenumbraError, match="batches of 4 patches of 12 x 12 x 8 voxels") as error:
        train(tmp_path / "a", data, candidate_of())
    assert "training.patches.size to [8, 8, 8]" in error.value.cure


@pytest.mark.parametrize(
    "wrong", [{"size": [8]}, {"size": [0, 8]}, {"size": [8, 8], "context": -1}, {"size": [8, 8], "foreground": 1.5}, {}]
)
def test_patches_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValidationError):
        Patches.model_validate(wrong)


def test_patches_of_slices_on_volumes_are_refused(tmp_path, data):
    with pytest.raises(PenumbraError, match=r"training\.patches\.size: \[8, 8\] has 2 sides") as error:
        train(tmp_path / "a", data, candidate_of(patches={"size": [8, 8]}))
    assert "as many numbers as geometry.crop" in error.value.cure


# ---------------------------------------------------------------- optimiser and schedule


@pytest.mark.parametrize("schedule", ["cosine", "constant", {"epochs": [3, 5, 9], "factor": 0.5}])
def test_learning_rates_are_those_of_torch(schedule):
    options = Training.model_validate({"epochs": 12, "learning_rate": 0.01, "schedule": schedule})
    weight = torch.nn.Parameter(torch.zeros(1))
    plain = torch.optim.SGD([weight], lr=0.01)
    schedulers = torch.optim.lr_scheduler
    if schedule == "cosine":
        oracle = schedulers.CosineAnnealingLR(plain, T_max=12)
    elif schedule == "constant":
        oracle = schedulers.ConstantLR(plain, factor=1.0)
    else:
        oracle = schedulers.MultiStepLR(plain, schedule["epochs"], gamma=0.5)
    for epoch in range(1, 13):
        assert learning_rate(options, epoch) == pytest.approx(oracle.get_last_lr()[0], rel=1e-9, abs=1e-15)
        plain.step()
        oracle.step()


def test_rmsprop_moves_weights_as_written_down_by_hand(rng):
    options = Training.model_validate(
        {"learning_rate": 0.01, "optimiser": {"name": "rmsprop", "alpha": 0.9, "momentum": 0.6, "weight_decay": 1e-2}}
    )
    start, gradients = rng.normal(size=5), rng.normal(size=(4, 5))
    weight = torch.nn.Parameter(torch.from_numpy(start.copy()))
    made = optimiser(options, iter([weight]))
    expected, square, velocity = start.copy(), np.zeros(5), np.zeros(5)
    for gradient in gradients:
        weight.grad = torch.from_numpy(gradient.copy())
        made.step()
        decayed = gradient + 1e-2 * expected
        square = 0.9 * square + 0.1 * decayed**2
        velocity = 0.6 * velocity + decayed / (np.sqrt(square) + 1e-8)
        expected = expected - 0.01 * velocity
    np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=1e-10)


def test_options_of_another_optimiser_are_refused():
    with pytest.raises(ValidationError, match="options of rmsprop"):
        Optimiser.model_validate({"momentum": 0.6})
    told = Optimiser.model_validate({"weight_decay": 0.1})
    assert told.name == "adam" and Optimiser.model_validate(told.model_dump()) == told


def test_a_training_by_rmsprop_resumes_to_the_byte(tmp_path, data):
    candidate = candidate_of(
        optimiser={"name": "rmsprop", "momentum": 0.6}, schedule={"epochs": [1]}, learning_rate=0.001
    )
    whole = train(tmp_path / "a", data, candidate)
    assert history(whole[1])[:, 3].tolist() == [0.001, 0.0005]
    with pytest.raises(Interrupted):
        train(tmp_path / "b", data, candidate, stop_after=4)
    assert outputs(train(tmp_path / "b", data, candidate)[1]) == outputs(whole[1])
