"""Predictions and samples against each reader: brute force, files, and what is wrong with them."""

from itertools import product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import entropy

from penumbra import parts
from penumbra.config.models import Candidate
from penumbra.data.case import read_class_map, read_nifti, write_nifti
from penumbra.data.geometry import from_items, read_geometries, to_native
from penumbra.errors import PenumbraError
from penumbra.inference.predictors.independent_draws import draw
from penumbra.metrics.agreement import READERS, SAMPLED, SPREAD, measure_readers
from penumbra.metrics.distribution import sample_scores
from penumbra.metrics.measurement import BOTH_EMPTY, NOT_FINITE, REFERENCE_EMPTY
from penumbra.training.model import build_model, copy_state, save_weights

from .small_training import make_dataset
from .test_evaluate import Run
from .test_inference import predictor_of, run, world

__all__ = ["world"]


def overlap(a, b, classes, *, dice=False):
    """Mean over classes of IoU or Dice, 1 where a class is absent from both."""
    values = []
    for k in range(1, classes + 1):
        x, y = a == k, b == k
        both, either = (x & y).sum(), (x | y).sum()
        values.append(1.0 if either == 0 else 2 * both / (x.sum() + y.sum()) if dice else both / either)
    return np.mean(values)


def distance(ones, others, classes):
    return np.mean([1 - overlap(a, b, classes) for a, b in product(ones, others)])


def label_maps(rng, count, classes, size=(5, 4, 3), empty=0.3):
    maps = rng.integers(0, classes + 1, size=(count, *size)).astype(np.uint8)
    maps[rng.uniform(size=(count, 1, 1, size[-1])).repeat(size[0], 1).repeat(size[1], 2) < empty] = 0
    return maps


def measured(*arguments, **options):
    return {row.metric: row for row in measure_readers(*arguments, **options)}


@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize("by_slice", [True, False])
def test_brute_force(rng, classes, by_slice):
    samples, readers = label_maps(rng, 5, classes), label_maps(rng, 4, classes)
    prediction = label_maps(rng, 1, classes)[0]
    found = measured(prediction, samples, readers, classes, by_slice=by_slice)
    items = [np.s_[..., z] for z in range(3)] if by_slice else [np.s_[...]]
    expected = {name: [] for name in SAMPLED}
    dice, marked = [], []
    for item in items:
        s, r, p = samples[item], readers[item], prediction[item]
        within = distance(s, s, classes), distance(r, r, classes)
        expected["ged"].append(2 * distance(s, r, classes) - sum(within))
        expected["sample_diversity"].append(within[0])
        expected["reader_diversity"].append(within[1])
        expected["maximum_dice"].append(np.mean([max(overlap(a, b, classes, dice=True) for a in s) for b in r]))
        for name, maps in (("sample_entropy", s), ("reader_entropy", r)):
            counts = [(maps == k).sum(axis=0) for k in range(classes + 1)]
            expected[name].append(entropy(counts, base=classes + 1, axis=0).mean())
        for reader, k in product(r, range(1, classes + 1)):
            x, y = p == k, reader == k
            if x.any() or y.any():
                dice.append(2 * (x & y).sum() / (x.sum() + y.sum()))
                if y.any():
                    marked.append(dice[-1])
    del expected["matched_iou"]  # held against another solver in test_distribution
    for name, values in expected.items():
        assert found[name].measurement.value == pytest.approx(np.mean(values), abs=1e-12), name
        assert found[name].n == len(items)
    assert found["reader_dice"].measurement.value == pytest.approx(np.mean(dice), abs=1e-12)
    assert found["reader_dice"].n == len(dice)
    assert found["reader_dice_annotated"].measurement.value == pytest.approx(np.mean(marked), abs=1e-12)
    assert found["reader_dice_annotated"].n == len(marked)
    assert set(found) == {*SAMPLED, *SPREAD, *READERS}
    each = [sample_scores(samples[i], reader, prediction[i], classes) for i in items for reader in readers[i]]
    for name, values in zip(SPREAD, ([s.better for s in each], [s.upper for s in each]), strict=True):
        values = np.array(values)[~np.isnan(values)]
        assert found[name].measurement.value == pytest.approx(values.mean(), abs=1e-12)
        assert found[name].n == len(values)


def test_without_samples_the_prediction_is_the_only_one(rng):
    prediction, readers = label_maps(rng, 1, 1)[0], label_maps(rng, 4, 1)
    alone = measured(prediction, None, readers, 1, by_slice=True)
    assert alone == measured(prediction, prediction[None], readers, 1, by_slice=True)
    assert alone["sample_diversity"].measurement.value == alone["sample_entropy"].measurement.value == 0


def test_nothing_marked_anywhere_agrees_and_has_no_dice():
    nothing = np.zeros((4, 3, 3, 2), np.uint8)
    found = measured(nothing[0], nothing, nothing, 1, by_slice=True)
    assert found["ged"].measurement.value == 0 and found["matched_iou"].measurement.value == 1
    assert found["reader_dice"].measurement.status == BOTH_EMPTY
    assert {found[name].measurement.status for name in SPREAD} == {BOTH_EMPTY}
    assert found["reader_dice_annotated"].measurement.status == REFERENCE_EMPTY
    some = nothing[0].copy()
    some[0, 0, 0] = 1
    found = measured(some, None, nothing, 1, by_slice=False)
    assert found["reader_dice"].measurement.value == 0
    assert found["reader_dice_annotated"].measurement.status == REFERENCE_EMPTY


def test_probabilities_that_are_not_finite_leave_all_undefined():
    nothing = np.zeros((4, 3, 3, 2), np.uint8)
    found = measured(None, nothing, nothing, 1, by_slice=True)
    assert {row.measurement.status for row in found.values()} == {NOT_FINITE}
    assert set(found) == {*SAMPLED, *SPREAD, *READERS}


def test_independent_draws_have_the_marginals_of_the_map_and_nothing_in_common(rng):
    torch.manual_seed(int(rng.integers(2**62)))
    maps = torch.from_numpy(rng.dirichlet((1, 1, 1), size=(1, 6))).movedim(2, 1)[:, :2]  # (1, K, 6)
    drawn = draw(maps, 40_000)
    assert drawn.shape == (40_000, 1, 2, 6) and set(drawn.unique().tolist()) == {0.0, 1.0}
    assert drawn.sum(dim=2).max() == 1
    torch.testing.assert_close(drawn.mean(dim=0), maps, atol=0.015, rtol=0)
    between = torch.corrcoef(drawn[:, 0, 0].T) - torch.eye(6)
    assert between.abs().max() < 0.03
    certain = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    assert (draw(certain, 50) == certain).all()
    too_much = draw(torch.tensor([[[0.9], [0.9]]], dtype=torch.float64), 40_000)
    torch.testing.assert_close(too_much.mean(dim=0).flatten(), torch.full((2,), 0.5).double(), atol=0.015, rtol=0)


def test_first_rater_is_alone(rng):
    raters = label_maps(rng, 3, 2)
    fused = parts.build("fusion", "first_rater")(raters, 2)
    assert fused.shape == (1, 2, 5, 4, 3) and fused.dtype == np.float32
    np.testing.assert_array_equal(fused[0], np.stack([raters[0] == 1, raters[0] == 2]))


@pytest.mark.parametrize("head, predictor", [
    ({"name": "low_rank_normal", "rank": 2}, {"name": "distribution", "samples": 7}),
    ("logits", {"name": "independent_draws", "samples": 7}),
])  # fmt: skip
def test_samples_are_kept_as_native_labels_where_readers_are_compared(tmp_path, world, head, predictor):
    data, candidate, _, weights = world(classes=2, activation="softmax")
    candidate = Candidate.model_validate({**candidate.model_dump(), "head": head, "predictor": predictor})
    if head != "logits":
        model = build_model(candidate, make_dataset(1, 2))
        save_weights(weights[0], copy_state(model))
    plain, compared = make_dataset(1, 2), make_dataset(1, 2, readers=True)
    assert not (run(tmp_path, data, candidate, plain, weights, "plain")[0] / "samples").exists()
    folder, _ = run(tmp_path, data, candidate, compared, weights, "compared")
    again, _ = run(tmp_path, data, candidate, compared, weights, "again")
    for case in data.parts["test"]:
        file = folder / "samples" / f"{case}.nii.gz"
        assert file.read_bytes() == (again / "samples" / f"{case}.nii.gz").read_bytes()
    predict = predictor_of(data, candidate, compared, weights)
    with_samples, without = predict("case-5", sampled=True), predict("case-5")
    assert without.samples is None and torch.equal(with_samples.probabilities, without.probabilities)
    geometry = read_geometries(data.prepared / "geometry.json")["case-5"]
    drawn = with_samples.samples.numpy()
    written = read_class_map(folder / "samples" / "case-5.nii.gz")
    assert written.shape[0] == 7 and set(np.unique(written)) <= {0, 1, 2} and len({m.tobytes() for m in written}) > 1
    for labels, maps in zip(written, drawn, strict=True):
        native = np.clip(to_native(from_items(maps, geometry), geometry), 0, 1)
        winner = np.concatenate([1 - native.sum(axis=0, keepdims=True), native]).argmax(axis=0)
        # Where two classes are as likely as each other, as halfway between two draws, rounding decides.
        assert (labels == winner).mean() > 0.98


@pytest.fixture
def compared(tmp_path, rng):
    """A run with readers and samples, and a function that evaluates it."""
    found = Run(tmp_path, rng)
    for case in found.cases:
        for number in range(3):
            readers = label_maps(rng, 1, 2, size=(10, 9, 4))[0]
            write_nifti(tmp_path / "cases" / case / f"rater-{number + 1}.nii.gz", readers, np.eye(4))
        samples = np.moveaxis(label_maps(rng, 6, 2, size=(10, 9, 4)), 0, 3)
        write_nifti(tmp_path / "predictions" / "samples" / f"{case}.nii.gz", samples, np.eye(4))
    dataset = SimpleNamespace(
        classes=found.classes,
        evaluation=found.evaluation.model_copy(update={"readers": True}),
        geometry=SimpleNamespace(volumetric=False),
    )
    return found, dataset, lambda: found.evaluate(dataset=dataset)


def test_rows_of_a_run_hold_what_is_measured_of_its_files(compared):
    found, _, measure = compared
    table = measure()
    plain = found.evaluate(out=found.folder / "plain.parquet")
    more = table[table["metric"].isin(SAMPLED + SPREAD + READERS)]
    assert (
        len(more) == len(found.cases) * len(SAMPLED + SPREAD + READERS)
        and set(more["target"]) == {"image"}
        and set(more["scope"]) == {"case"}
    )
    pd.testing.assert_frame_equal(table.drop(more.index).reset_index(drop=True), plain)
    cases = found.folder / "cases"
    for case in found.cases:
        readers = np.stack([read_nifti(cases / case / f"rater-{n}.nii.gz")[0] for n in (1, 2, 3)]).astype(np.uint8)
        samples = read_class_map(found.folder / "predictions" / "samples" / f"{case}.nii.gz").astype(np.uint8)
        p = found.maps[case]["predictions"].astype(np.float64)
        prediction = np.concatenate([1 - p.sum(axis=0, keepdims=True), p]).argmax(axis=0)
        expected = measured(prediction, samples, readers, 2, by_slice=True)
        rows = more[more["case"] == case].set_index("metric")
        for name, row in expected.items():
            assert rows.loc[name, "value"] == row.measurement.value and rows.loc[name, "n"] == row.n


@pytest.mark.parametrize("break_it, words", [
    (lambda f: (f / "predictions/samples/s2.nii.gz").unlink(), ["there are no samples", "s2.nii.gz", "inference"]),
    (lambda f: write_nifti(f / "predictions/samples/s2.nii.gz", np.full((10, 9, 4, 6), 3, np.uint8), np.eye(4)),
     ["other than 0 .. 2", "s2"]),
    (lambda f: write_nifti(f / "predictions/samples/s2.nii.gz", np.zeros((10, 9, 5, 6), np.uint8), np.eye(4)),
     ["differ: (10, 9, 4), (10, 9, 5)", "s2"]),
    (lambda f: write_nifti(f / "cases/s2/rater-2.nii.gz", np.full((10, 9, 4), 0.5, np.float32), np.eye(4)),
     ["reader's annotation", "rater-2.nii.gz", "ingest"]),
    (lambda f: [file.unlink() for file in (f / "cases/s2").glob("rater-*")], ["no rater-<n>.nii.gz", "s2"]),
])  # fmt: skip
def test_what_is_wrong_is_told_and_nothing_written(compared, break_it, words):
    found, _, measure = compared
    break_it(found.folder)
    with pytest.raises(PenumbraError) as told:
        measure()
    for word in words:
        assert word in str(told.value)
    assert not (found.folder / "metrics.parquet").exists()
