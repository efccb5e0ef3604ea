"""Predicting cases, and writing predictions and threshold of a run."""

import nibabel
import numpy as np
import pytest
import torch

from penumbra import parts
from penumbra.data.case import IMAGE, read_class_map, write_nifti
from penumbra.data.geometry import CaseGeometry, to_native, write_geometries
from penumbra.errors import PenumbraError
from penumbra.inference.infer import case_predictor, discard, infer
from penumbra.inference.prediction import Prediction
from penumbra.inference.threshold import thresholds
from penumbra.training.model import build_model, copy_state, save_weights
from penumbra.training.slices import read_index

from .small_training import make_candidate, make_data, make_dataset

NATIVE = (23, 11)


def affine_of(number):
    return np.diag([0.5, 0.7, 3 + number, 1.0])


@pytest.fixture
def world(tmp_path, rng):
    """A function that makes a data set with native cases, and weights of untrained members."""

    def make(classes=1, members=1, constant=(), evaluation=None, **candidate):
        data = make_data(tmp_path / "data", rng, classes=classes, constant=constant)
        data.targets[:] = data.targets >= 0.5
        np.save(data.labels / "prepared.npy", data.targets)
        geometries = {}
        for number, case in enumerate(data.cases):
            geometries[case] = CaseGeometry((*NATIVE, 4), (0.5, 0.7, 3.0 + number), (18, 10), (16, 12))
            write_nifti(tmp_path / "cases" / case / IMAGE, np.zeros((*NATIVE, 4), np.float32), affine_of(number))
        write_geometries(data.prepared / "geometry.json", geometries)
        recipe, dataset = make_candidate(members=members, **candidate), make_dataset(1, classes, **(evaluation or {}))
        weights = []
        for member in range(members):
            torch.manual_seed(int(rng.integers(2**31)))
            model = build_model(recipe, dataset)
            # Statistics and scale such that probabilities spread over [0, 1].
            for _ in range(20):
                model(torch.from_numpy(data.images))
            with torch.no_grad():
                model.network.last.weight.mul_(4)
            weights.append(tmp_path / f"member-{member}.safetensors")
            save_weights(weights[-1], copy_state(model))
        return data, recipe, dataset, weights

    return make


def predictor_of(data, candidate, dataset, weights, images=None, seed=7):
    return case_predictor(
        index=read_index(data.prepared),
        images=data.images if images is None else images,
        weights=weights,
        candidate=candidate,
        dataset=dataset,
        device=torch.device("cpu"),
        seed=seed,
        names=("discs", "tiny", 0),
    )


def run(tmp_path, data, candidate, dataset, weights, name="run"):
    infer(
        prepared=data.prepared,
        cases_folder=tmp_path / "cases",
        hard_labels=data.labels,
        split=data.split,
        weights=weights,
        candidate=candidate,
        dataset=dataset,
        dataset_name="discs",
        candidate_name="tiny",
        split_index=0,
        seed=7,
        device="cpu",
        predictions=tmp_path / name / "predictions",
        threshold=tmp_path / name / "threshold.csv",
        threshold_curve=tmp_path / name / "threshold-curve.csv",
    )
    lines = [line.split(",") for line in (tmp_path / name / "threshold.csv").read_text().splitlines()]
    assert lines[0] == ["class", "threshold", "dice"]
    return tmp_path / name / "predictions", {line[0]: (float(line[1]), float(line[2])) for line in lines[1:]}


def plain(model_file, candidate, dataset, images):
    """Probabilities of images (Z, C, H, W) as one batch."""
    from safetensors.torch import load_file

    model = build_model(candidate, dataset)
    model.load_state_dict(load_file(model_file))
    with torch.no_grad():
        return model.eval()(torch.from_numpy(images)).probabilities.numpy()


def test_single_pass_is_the_mean_over_members(world):
    data, candidate, dataset, weights = world(members=3)
    found = predictor_of(data, candidate, dataset, weights)("case-2", sampled=True)
    each = np.stack([plain(w, candidate, dataset, data.images[8:12]) for w in weights])
    assert np.ptp(each, axis=0).max() > 0.01
    np.testing.assert_allclose(found.probabilities.numpy(), each.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(found.samples.numpy(), each, atol=1e-5)
    assert predictor_of(data, candidate, dataset, weights[:1])("case-2").samples is None


@pytest.mark.parametrize("activation", ["sigmoid", "norm_relu"])
def test_a_case_is_predicted_alike_whatever_is_predicted_beside_it(world, activation):
    data, candidate, dataset, weights = world(activation=activation, batch_size=3)
    predict = predictor_of(data, candidate, dataset, weights)
    first = predict("case-4").probabilities.numpy().copy()
    for case in reversed(data.cases):
        predict(case)
    np.testing.assert_array_equal(predict("case-4").probabilities.numpy(), first)
    others = data.images.copy()
    others[:16] *= 50
    fresh = predictor_of(data, candidate, dataset, weights, images=others)
    np.testing.assert_array_equal(fresh("case-4").probabilities.numpy(), first)


def test_batches_are_consecutive_slices_of_one_case(world, monkeypatch):
    data, candidate, dataset, weights = world(batch_size=3)
    seen = []

    def build(kind, name, options=None, **context):
        if kind != "predictor":
            return real(kind, name, options, **context)

        def predict(models, images, *, sampled):
            seen.append(images.clone())
            return Prediction(torch.zeros(len(images), 1, 16, 12))

        return predict

    real = parts.build
    monkeypatch.setattr(parts, "build", build)
    predictor_of(data, candidate, dataset, weights)("case-1")
    assert [len(s) for s in seen] == [3, 1]
    np.testing.assert_array_equal(torch.cat(seen).numpy(), data.images[4:8])


def test_constant_slices_are_zero_and_not_shown_to_the_network(world):
    data, candidate, dataset, weights = world(constant=(8, 10))
    found = predictor_of(data, candidate, dataset, weights)("case-2").probabilities.numpy()
    assert not found[[0, 2]].any()
    np.testing.assert_allclose(found[[1, 3]], plain(weights[0], candidate, dataset, data.images[[9, 11]]), atol=1e-5)


def test_predictors_that_draw_repeat_by_case(world, monkeypatch):
    data, candidate, dataset, weights = world()

    def build(kind, name, options=None, **context):
        if kind != "predictor":
            return real(kind, name, options, **context)
        return lambda models, images, *, sampled: Prediction(torch.rand(len(images), 1, 16, 12))

    real = parts.build
    monkeypatch.setattr(parts, "build", build)
    predict = predictor_of(data, candidate, dataset, weights)
    first = predict("case-0").probabilities
    assert not torch.equal(predict("case-1").probabilities, first)
    torch.rand(5)
    assert torch.equal(predict("case-0").probabilities, first)
    assert not torch.equal(predictor_of(data, candidate, dataset, weights, seed=8)("case-0").probabilities, first)


@pytest.mark.parametrize("classes", [1, 2])
def test_predictions_are_native_class_maps_of_the_test_cases(tmp_path, world, classes):
    data, candidate, dataset, weights = world(classes=classes, activation="softmax")
    folder, _ = run(tmp_path, data, candidate, dataset, weights)
    assert sorted(f.name for f in folder.iterdir()) == [f"{case}.nii.gz" for case in data.parts["test"]]
    number = 5
    maps = plain(weights[0], candidate, dataset, data.images[4 * number : 4 * number + 4])
    geometry = CaseGeometry((*NATIVE, 4), (0.5, 0.7, 3.0 + number), (18, 10), (16, 12))
    native = to_native(np.moveaxis(maps, 0, -1), geometry)
    written = nibabel.load(folder / "case-5.nii.gz")
    assert written.shape == (*NATIVE, 4, classes) and written.get_data_dtype() == np.float32
    np.testing.assert_allclose(written.affine, affine_of(number))
    found = read_class_map(folder / "case-5.nii.gz")
    expected = np.where(native <= 0.01, 0, native)
    clear = np.abs(native - 0.01) > 1e-4
    np.testing.assert_allclose(found[clear], expected[clear], atol=1e-5)
    assert found.max() > 0.1 and not ((found > 0) & (found <= 0.01)).any()


def test_discarding_follows_the_configuration(tmp_path, world):
    data, candidate, _, weights = world()
    keeping, strict = (make_dataset(1, 1, discard_below=below) for below in (0.0, 0.4))
    all_of_it = read_class_map(run(tmp_path, data, candidate, keeping, weights, "a")[0] / "case-5.nii.gz")
    rest = read_class_map(run(tmp_path, data, candidate, strict, weights, "b")[0] / "case-5.nii.gz")
    assert ((all_of_it > 0) & (all_of_it <= 0.4)).any()
    np.testing.assert_array_equal(rest, np.where(all_of_it <= np.float32(0.4), 0, all_of_it))


@pytest.mark.parametrize("classes", [1, 2])
def test_threshold_has_the_best_mean_dice_over_training_and_validation(tmp_path, world, classes):
    data, candidate, dataset, weights = world(classes=classes, activation="sigmoid")
    _, found = run(tmp_path, data, candidate, dataset, weights)
    assert list(found) == dataset.classes
    predict = predictor_of(data, candidate, dataset, weights)
    for k, name in enumerate(dataset.classes):
        means = []
        for level in thresholds(0.05):
            scores = []
            for number, case in enumerate(data.cases[:5]):
                binary = predict(case).probabilities.numpy()[:, k].astype(np.float64) >= level
                label = data.targets[4 * number : 4 * number + 4, 0, k] == 1
                scores.append(2 * (binary & label).sum() / (binary.sum() + label.sum()))
            means.append(np.mean(scores))
        best = max(level for level, mean in zip(thresholds(0.05), means, strict=True) if mean >= max(means) - 1e-12)
        assert found[name] == pytest.approx((best, max(means)), abs=1e-12)


def test_argmax_has_no_threshold_but_a_dice(tmp_path, world):
    data, candidate, dataset, weights = world(classes=2, activation="softmax", evaluation={"binarisation": "argmax"})
    _, found = run(tmp_path, data, candidate, dataset, weights)
    predict = predictor_of(data, candidate, dataset, weights)
    for k, name in enumerate(dataset.classes):
        scores = []
        for number, case in enumerate(data.cases[:5]):
            # What is discarded falls to the background, and can decide a voxel.
            p = discard(predict(case).probabilities.numpy(), dataset.evaluation.discard_below)
            background = 1 - p.sum(axis=1, keepdims=True, dtype=np.float64)
            winner = np.concatenate([background, p], axis=1).argmax(axis=1)
            label = data.targets[4 * number : 4 * number + 4, 0, k] == 1
            scores.append(2 * ((winner == k + 1) & label).sum() / ((winner == k + 1).sum() + label.sum()))
        assert np.isnan(found[name][0]) and found[name][1] == pytest.approx(np.mean(scores), abs=1e-9)


def test_equal_inputs_give_equal_bytes(tmp_path, world):
    made = world(members=2)
    for name in ("a", "b"):
        run(tmp_path, *made, name=name)
        torch.rand(3)
    for file in ("threshold.csv", "predictions/case-5.nii.gz"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_reference_with_several_variants_is_refused(tmp_path, world):
    data, candidate, dataset, weights = world()
    np.save(data.labels / "prepared.npy", np.repeat(data.targets, 2, axis=1))
    with pytest.raises(PenumbraError, match="'staple' has 2 variants"):
        run(tmp_path, data, candidate, dataset, weights)


def test_predictions_that_are_not_finite_name_the_case_and_leave_no_folder(tmp_path, world):
    data, candidate, dataset, weights = world()
    data.images[22] = np.nan
    np.save(data.prepared / "images.npy", data.images)
    with pytest.raises(PenumbraError, match="not finite") as error:
        run(tmp_path, data, candidate, dataset, weights)
    assert error.value.case == "case-5" and not (tmp_path / "run" / "predictions").exists()


@pytest.mark.parametrize("binarisation", ["threshold", "argmax"])
def test_the_threshold_curve_is_the_mean_dice_over_training_and_validation_cases(tmp_path, world, binarisation):
    data, candidate, _, weights = world(classes=2)
    dataset = make_dataset(classes=2, binarisation=binarisation, threshold_step=0.1)
    _, best = run(tmp_path, data, candidate, dataset, weights)
    lines = [line.split(",") for line in (tmp_path / "run" / "threshold-curve.csv").read_text().splitlines()]
    assert lines[0] == ["class", "threshold", "dice"] and len(lines) == 1 + 2 * 9
    predict = predictor_of(data, candidate, dataset, weights)
    for name, level, dice in lines[1:]:
        k, scores = int(name.removeprefix("class")), []
        for case in data.parts["train"] + data.parts["validation"]:
            rows = slice(data.cases.index(case) * 4, data.cases.index(case) * 4 + 4)
            truth = data.targets[rows, 0, k] >= 0.5
            p = predict(case).probabilities.numpy()[:, k].astype(np.float64)
            found = np.where(p > np.float32(0.01), p, 0) >= float(level)
            if truth.sum() + found.sum():
                scores.append(2 * (truth & found).sum() / (truth.sum() + found.sum()))
        np.testing.assert_allclose(float(dice), np.mean(scores) if scores else np.nan, rtol=1e-12)
    curve = {(name, float(level)): float(dice) for name, level, dice in lines[1:]}
    if binarisation == "threshold":
        for name, (level, dice) in best.items():
            assert curve[name, level] == dice == max(v for (n, _), v in curve.items() if n == name)
