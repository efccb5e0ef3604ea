"""Training and prediction on whole volumes: losses and activations, resumption, the way to native maps and thresholds."""

import json
import math

import nibabel
import numpy as np
import pytest
import torch

from penumbra import parts
from penumbra.data.case import IMAGE, read_class_map, write_nifti
from penumbra.data.geometry import case_geometry, to_native, write_geometries
from penumbra.errors import PenumbraError
from penumbra.inference.infer import infer
from penumbra.inference.threshold import thresholds
from penumbra.networks.output import ModelOutput
from penumbra.training import slices as slices_module
from penumbra.training.interruption import Interrupted
from penumbra.training.loop import train
from penumbra.training.model import build_model, load_weights

from .small_training import arguments, make_candidate, make_data, make_dataset

SIZE = (16, 12, 9)


def candidate(**options):
    return make_candidate(**{"network": {"name": "unet3d", "dropout": 0.2}, "batch_size": 2, **options})


def dataset(classes=1, **evaluation):
    return make_dataset(1, classes, crop=SIZE, **evaluation)


def outputs(folder):
    return tuple((folder / name).read_bytes() for name in ("weights.safetensors", "history.csv", "progression.npz"))


@pytest.fixture
def data(tmp_path, rng):
    return make_data(tmp_path / "data", rng, cases=9, size=SIZE, variants=3)


# ---------------------------------------------------------------- losses and activations


def outcome(activation, classes, logits):
    return ModelOutput(
        logits=logits,
        probabilities=activation(logits),
        log_outcomes=getattr(activation, "log_outcomes", None),
    )


OPTIONS = {
    "cross_entropy": [{}, {"weights": [0.5, 2.0, 3.0], "reduction": "weighted_mean"}],
    "dice": [{}, {"per_class": True}],
    "dice_cross_entropy": [{"per_class": True, "weights": [0.5, 2.0, 3.0]}],
}
LOSSES = [
    (loss, options)
    for loss in parts.names("loss")
    if not parts.constant("loss", loss, "NEEDS_DISTRIBUTION", False)
    for options in OPTIONS.get(loss, [{}])
]


@pytest.mark.parametrize("activation", parts.names("activation"))
@pytest.mark.parametrize(("loss", "options"), LOSSES)
def test_a_volume_costs_what_its_slices_side_by_side_cost(rng, activation, loss, options):
    """No loss and no activation looks at neighbours, so the shape of the grid does not matter."""
    activation, loss = parts.build("activation", activation, classes=2), parts.build("loss", loss, options)
    volume = torch.from_numpy(rng.normal(size=(3, activation.channels, 5, 4, 6))).requires_grad_()
    target = torch.from_numpy(rng.dirichlet(np.ones(3), size=(3, 5, 4, 6))[..., 1:].transpose(0, 4, 1, 2, 3).copy())
    flat = volume.detach().reshape(3, -1, 5, 24).requires_grad_()
    values = (
        loss(outcome(activation, 2, volume), target),
        loss(outcome(activation, 2, flat), target.reshape(3, 2, 5, 24)),
    )
    torch.testing.assert_close(values[0], values[1], rtol=1e-12, atol=1e-12)
    for value in values:
        value.backward()
    torch.testing.assert_close(volume.grad.reshape(flat.shape), flat.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("loss", "options"), LOSSES)
def test_gradients_of_volumes_are_those_of_finite_differences(rng, loss, options):
    loss = parts.build("loss", loss, options)
    activation = parts.build("activation", "softmax", classes=2)
    logits = torch.from_numpy(rng.normal(size=(2, 3, 2, 3, 2))).requires_grad_()
    target = torch.from_numpy(rng.dirichlet(np.ones(3), size=(2, 2, 3, 2))[..., 1:].transpose(0, 4, 1, 2, 3).copy())
    assert torch.autograd.gradcheck(lambda x: loss(outcome(activation, 2, x), target), logits, atol=1e-6)


@pytest.mark.parametrize("name", ["norm_relu", "norm_softplus"])
def test_scope_image_takes_the_maximum_of_each_volume(rng, name):
    logits = torch.from_numpy(rng.normal(size=(3, 1, 4, 5, 6)))
    found = parts.build("activation", name, {"scope": "image"}, classes=1)(logits)
    alone = [parts.build("activation", name, {"scope": "batch"}, classes=1)(item[None]) for item in logits]
    torch.testing.assert_close(found, torch.cat(alone))
    assert found.flatten(1).amax(dim=1).tolist() == [1, 1, 1]


# ---------------------------------------------------------------- training


@pytest.mark.parametrize("every", [1, 3])
def test_stopped_at_every_few_steps_ends_in_the_same_bytes(tmp_path, data, every):
    recipe = candidate(encoding="hard", slices_per_epoch=3, epochs=3, progression=[1, 2])

    def run(folder, **more):
        return train(**arguments(folder, data, recipe, dataset(), **more))

    run(tmp_path / "whole")
    for _ in range(6 // every):
        with pytest.raises(Interrupted):
            run(tmp_path / "cut", stop_after=every)
    record = run(tmp_path / "cut", stop_after=every)
    assert record["resumptions"] == 6 // every and record["slices"] == {"train": 4, "validation": 3}
    assert outputs(tmp_path / "cut" / "member-0") == outputs(tmp_path / "whole" / "member-0")


def test_volumes_that_do_not_fit_are_read_from_the_files_with_the_same_result(tmp_path, data, monkeypatch):
    train(**arguments(tmp_path / "a", data, candidate(encoding="hard"), dataset()))
    monkeypatch.setattr(slices_module, "free_memory", lambda _: 0)
    train(**arguments(tmp_path / "b", data, candidate(encoding="hard"), dataset()))
    assert outputs(tmp_path / "a" / "member-0") == outputs(tmp_path / "b" / "member-0")


@pytest.mark.parametrize(("activation", "loss"), [("softmax", "dice"), ("norm_relu", "adaptive_wing")])
def test_learns_and_keeps_the_prediction_of_the_busiest_slice(tmp_path, rng, activation, loss):
    data = make_data(tmp_path / "data", rng, size=SIZE, classes=2)
    still = {"network": {"name": "unet3d", "dropout": 0.0}, "augmentation": None}
    recipe = candidate(activation=activation, loss=loss, epochs=25, learning_rate=0.02, progression=[1], **still)
    record = train(**arguments(tmp_path, data, recipe, dataset(2)))
    lines = (tmp_path / "member-0" / "history.csv").read_text().splitlines()[1:]
    losses = [float(line.split(",")[1]) for line in lines]
    assert losses[-1] < (0.85 if loss == "adaptive_wing" else 1.6) * losses[0] and record["epochs_run"] == 25
    kept = np.load(tmp_path / "member-0" / "progression.npz")
    item, z = int(str(kept["case"]).removeprefix("case-")), int(kept["z"])
    assert kept["epochs"].tolist() == [1, 25] and kept["predictions"].shape == (2, 2, *SIZE[:2])
    sums = data.targets[3:5, 0].sum(axis=(1, 2, 3))
    assert (item - 3, z) == np.unravel_index(sums.argmax(), sums.shape)
    np.testing.assert_array_equal(kept["label"], data.targets[item, 0, ..., z])
    np.testing.assert_array_equal(kept["image"], data.images[item, ..., z])


def test_bfloat16_trains_volumes(tmp_path, data):
    record = train(**arguments(tmp_path, data, candidate(precision="bfloat16", epochs=1), dataset()))
    assert np.isfinite(record["best_validation_loss"])


def test_constant_volumes_are_left_out(tmp_path, rng):
    data = make_data(tmp_path / "data", rng, cases=9, size=SIZE, constant=(1, 5))
    record = train(**arguments(tmp_path, data, candidate(epochs=1), dataset()))
    assert record["slices"] == {"train": 3, "validation": 2}


@pytest.mark.parametrize("resident", [True, False])
def test_presence_of_classes_is_found_wherever_volumes_lie(monkeypatch, resident):
    if not resident:
        monkeypatch.setattr(slices_module, "free_memory", lambda _: 0)
    labels = np.zeros((4, 2, 3, 8, 8, 8), np.float32)
    labels[3, 1, 0, 2, 2, 7], labels[1, 0, 2, 0, 0, 0] = 0.6, 0.4
    images, rows = np.zeros((4, 1, 8, 8, 8), np.float32), np.array([1, 3])
    for hard, expected in ((True, [True, False, False]), (False, [True, False, True])):
        chosen = slices_module.Slices(images, labels, rows, hard=hard, device=torch.device("cpu"))
        assert chosen.classes_present().tolist() == expected and chosen.size == (8, 8, 8)


def test_networks_of_the_other_kind_and_arrays_of_the_other_kind_are_refused(tmp_path, rng, data):
    flat = make_data(tmp_path / "flat", rng, variants=3)
    with pytest.raises(PenumbraError, match=r"unet2d takes slices.*\[16, 12, 9\]"):
        train(**arguments(tmp_path, data, make_candidate(), dataset()))
    with pytest.raises(PenumbraError, match=r"unet3d takes whole volumes.*\[16, 12\]"):
        train(**arguments(tmp_path, flat, candidate(), make_dataset()))
    with pytest.raises(PenumbraError, match=r"prepared images have the shape \(24, 1, 16, 12\).*3 sides"):
        train(**arguments(tmp_path, flat, candidate(), dataset()))
    with pytest.raises(PenumbraError, match=r"prepared labels have the shape"):
        train(**arguments(tmp_path, data, candidate(), dataset()) | {"labels": flat.labels})


# ---------------------------------------------------------------- prediction


@pytest.mark.parametrize("binarisation", ["threshold", "argmax"])
@pytest.mark.parametrize("spacing", [(0.5, 0.6), (0.5, 0.6, 2.5)])
def test_trained_volumes_are_predicted_natively_and_give_a_threshold(tmp_path, rng, binarisation, spacing):
    data = make_data(tmp_path / "data", rng, size=SIZE, classes=2, constant=(1,))
    data.targets[:] = data.targets >= 0.4
    np.save(data.labels / "prepared.npy", data.targets)
    recipe = candidate(activation="softmax", epochs=3)
    described = dataset(2, binarisation=binarisation, threshold_step=0.1)
    train(**arguments(tmp_path, data, recipe, described))
    native, affine = (23, 11, 7), np.diag([0.4, 0.7, 3.0, 1.0])
    geometries = {case: case_geometry(native, (0.4, 0.7, 3.0), spacing, SIZE) for case in data.cases}
    write_geometries(data.prepared / "geometry.json", geometries)
    for case in data.cases:
        write_nifti(tmp_path / "cases" / case / IMAGE, np.zeros(native, np.float32), affine)
    weights = tmp_path / "member-0" / "weights.safetensors"
    for run in ("a", "b"):
        infer(
            prepared=data.prepared,
            cases_folder=tmp_path / "cases",
            hard_labels=data.labels,
            split=data.split,
            weights=[weights],
            candidate=recipe,
            dataset=described,
            dataset_name="discs",
            candidate_name="tiny",
            split_index=0,
            seed=7,
            device="cpu",
            predictions=tmp_path / run / "predictions",
            threshold=tmp_path / run / "threshold.csv",
            threshold_curve=tmp_path / run / "threshold-curve.csv",
        )
    for file in ("threshold.csv", "threshold-curve.csv", "predictions/case-5.nii.gz"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()

    model = build_model(recipe, described)
    load_weights(weights, model)
    with torch.no_grad():
        maps = [model.eval()(torch.from_numpy(data.images[k : k + 1])).probabilities[0].numpy() for k in range(6)]
    maps[1] = np.zeros_like(maps[1])
    expected = to_native(maps[5], geometries["case-5"])
    written = nibabel.load(tmp_path / "a" / "predictions" / "case-5.nii.gz")
    assert written.shape == (*native, 2)
    found, clear = read_class_map(tmp_path / "a" / "predictions" / "case-5.nii.gz"), np.abs(expected - 0.01) > 1e-4
    np.testing.assert_allclose(found[clear], np.where(expected <= 0.01, 0, expected)[clear], atol=1e-5)

    curve = [line.split(",") for line in (tmp_path / "a" / "threshold-curve.csv").read_text().splitlines()[1:]]
    assert [float(row[1]) for row in curve] == [*thresholds(0.1), *thresholds(0.1)]
    for name, level, dice in curve:
        k, scores = int(name.removeprefix("class")), []
        for number in range(5):
            p, truth = maps[number][k].astype(np.float64), data.targets[number, 0, k] >= 0.5
            binary = np.where(p > 0.01, p, 0) >= float(level)
            scores.append(2 * (binary & truth).sum() / (binary.sum() + truth.sum()))
        assert float(dice) == pytest.approx(np.mean(scores), abs=5e-3)
    rows = [line.split(",") for line in (tmp_path / "a" / "threshold.csv").read_text().splitlines()[1:]]
    assert [row[0] for row in rows] == ["class0", "class1"]
    assert all(math.isnan(float(row[1])) is (binarisation == "argmax") for row in rows)
    assert json.loads((tmp_path / "member-0" / "run.json").read_text())["slices"] == {"train": 2, "validation": 2}
