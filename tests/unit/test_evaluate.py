import json
import subprocess
import sys
from types import SimpleNamespace

import nibabel
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from sklearn.metrics import f1_score

from penumbra.config.models import Evaluation
from penumbra.errors import PenumbraError
from penumbra.metrics.binarisation import by_argmax, by_threshold, most_probable_class, with_background
from penumbra.metrics.calibration import Reliability
from penumbra.metrics.case import ENTROPY, ERROR, NONZERO, OVERLAP, SOFT, SOFT_ERROR, CaseMaps, measure_case
from penumbra.metrics.collect import collect
from penumbra.metrics.evaluate import evaluate
from penumbra.metrics.rows import METRICS, headline, judges

CLASSES = ["gm", "wm"]
SHAPE = (10, 9, 4)
BINARY = [*OVERLAP, *ERROR]
PER_CLASS = [*BINARY, *SOFT_ERROR, *SOFT, *ENTROPY, *NONZERO]
LEVELS = (0.25, 0.5, 0.75)


def _save(folder, case, array):
    folder.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.moveaxis(array, 0, -1), np.eye(4)), folder / f"{case}.nii.gz")


class Run:
    """A run's files in a folder, and how to evaluate them."""

    def __init__(self, folder, rng, cases=("s1", "s2", "s3"), classes=CLASSES, binarisation="threshold"):
        self.folder, self.cases, self.classes = folder, cases, classes
        self.evaluation = Evaluation(binarisation=binarisation)
        self.maps = {}
        for case in cases:
            soft = np.moveaxis(rng.dirichlet(np.full(len(classes) + 1, 0.4), size=SHAPE), -1, 0)[1:].astype(np.float32)
            winner = most_probable_class(soft)
            hard = np.stack([winner == k + 1 for k in range(len(classes))]).astype(np.uint8)
            p = np.clip(soft + rng.normal(0, 0.1, soft.shape), 0, 1).astype(np.float32)
            self.maps[case] = {"predictions": p / max(1, p.sum(axis=0).max()), "hard": hard, "soft": soft}
            for name, array in self.maps[case].items():
                _save(folder / name, case, array)
        self.thresholds([0.35] * len(classes))
        self.curve(rng.uniform(size=(len(classes), len(LEVELS))))
        split = {"train": ["t1", "t2"], "validation": ["v"], "test": list(cases)}
        (folder / "split.json").write_text(json.dumps(split))

    def thresholds(self, values):
        table = pd.DataFrame({"class": self.classes, "threshold": values, "dice": 0.5})
        table.to_csv(self.folder / "threshold.csv", index=False)

    def curve(self, scores):
        lines = [
            f"{c},{t!r},{float(d)!r}"
            for c, row in zip(self.classes, scores, strict=True)
            for t, d in zip(LEVELS, row, strict=True)
        ]
        (self.folder / "threshold-curve.csv").write_text("\n".join(["class,threshold,dice", *lines[::-1]]))

    def truth(self, case, name, array):
        _save(self.folder / "cases" / case, f"true-{name}", array)

    def replace(self, case, name, array):
        self.maps[case][name] = array
        _save(self.folder / name, case, array)

    def evaluate(self, **names):
        f = self.folder
        arguments = {
            "predictions": f / "predictions", "threshold": f / "threshold.csv",
            "threshold_curve": f / "threshold-curve.csv", "hard_labels": f / "hard", "soft_labels": f / "soft",
            "cases_folder": f / "cases", "split": f / "split.json", "dataset_name": "phantom",
            "candidate_name": "conv", "split_index": 0, "out": f / "metrics.parquet",
            "dataset": SimpleNamespace(classes=self.classes, evaluation=self.evaluation),
        }  # fmt: skip
        evaluate(**(arguments | names))
        return pd.read_parquet(arguments["out"] if "out" not in names else names["out"])


@pytest.fixture
def rng(request):
    return np.random.default_rng(list(request.node.name.encode()))


@pytest.fixture
def run(tmp_path, rng):
    return Run(tmp_path, rng)


def _value(table, case, target, metric):
    rows = table[(table["case"] == case) & (table["target"] == target) & (table["metric"] == metric)]
    assert len(rows) == 1
    return rows.iloc[0]


def test_every_case_class_and_metric_has_one_row(run):
    table = run.evaluate()
    case_rows = table[table["scope"] == "case"]
    for case in run.cases:
        for target in CLASSES:
            rows = case_rows[(case_rows["case"] == case) & (case_rows["target"] == target)]
            assert sorted(rows["metric"]) == sorted(PER_CLASS)
        rows = case_rows[(case_rows["case"] == case) & (case_rows["target"] == "image")]
        assert sorted(rows["metric"]) == sorted([*ENTROPY, "dice_foreground"])
    assert len(set(PER_CLASS)) == 17
    pooled = table[table["scope"] == "run"]
    assert len(pooled) == 3 + 6 * 10 + len(CLASSES) * (100 + len(LEVELS) + 1)
    assert set(pooled["case"]) == {"*"}
    assert set(table["metric"]) <= set(METRICS)
    assert (table["status"] == "ok").equals(table["value"].notna())
    assert str(table["bin"].dtype) == "Int64"


def test_values_agree_with_independent_computation(run):
    run.thresholds([0.35, 0.6])
    table = run.evaluate()
    for case, maps in run.maps.items():
        p, soft = maps["predictions"].astype(float), maps["soft"].astype(float)
        for k, (name, threshold) in enumerate(zip(CLASSES, (0.35, 0.6), strict=True)):
            expected = f1_score(maps["hard"][k].ravel(), (p[k] >= threshold).ravel())
            assert _value(table, case, name, "dice")["value"] == pytest.approx(expected)
            assert _value(table, case, name, "brier")["value"] == pytest.approx(np.mean((p[k] - soft[k]) ** 2))
            volume = (maps["hard"][k].sum() - (p[k] >= threshold).sum()) / maps["hard"][k].sum()
            assert _value(table, case, name, "rvd")["value"] == pytest.approx(volume)
            assert _value(table, case, name, "dice")["n"] == np.prod(SHAPE)
        with np.errstate(divide="ignore", invalid="ignore"):
            h, h_reference = (-np.nansum(m * np.log(m)) for m in (p, soft))
        assert _value(table, case, "image", "entropy_reference")["value"] == pytest.approx(h_reference)
        assert _value(table, case, "image", "entropy_error")["value"] == pytest.approx(abs(h - h_reference))
        any_class = (p >= np.array([0.35, 0.6]).reshape(2, 1, 1, 1)).any(axis=0)
        together = f1_score(maps["hard"].any(axis=0).ravel(), any_class.ravel())
        assert _value(table, case, "image", "dice_foreground")["value"] == pytest.approx(together)


def test_calibration_is_pooled_over_the_run(run):
    table = run.evaluate()
    reliability = Reliability()
    for maps in run.maps.values():
        hard = maps["hard"][0] + 2 * maps["hard"][1]
        reliability.add(maps["predictions"], hard)
    assert _value(table, "*", "image", "ece")["value"] == reliability.expected_calibration_error().value
    expected = reliability.table(closed=True)
    for metric, values in zip(("count", "confidence", "accuracy"), expected, strict=True):
        rows = table[table["metric"] == f"reliability_{metric}_closed"].sort_values("bin")
        np.testing.assert_allclose(rows["value"], values)
        assert rows["bin"].tolist() == list(range(10))
    empty = table[(table["metric"] == "reliability_accuracy") & (table["n"] == 0)]
    assert (empty["status"] == "no voxel in bin").all()
    assert len(empty) > 0


def test_argmax_does_not_look_at_thresholds(tmp_path, rng):
    run = Run(tmp_path, rng, binarisation="argmax")
    run.thresholds([np.nan, np.nan])
    table = run.evaluate()
    for case, maps in run.maps.items():
        p = maps["predictions"].astype(float)
        winner = np.argmax(np.stack([1 - p.sum(axis=0), *p]), axis=0)
        for k, name in enumerate(CLASSES, start=1):
            expected = f1_score(maps["hard"][k - 1].ravel(), (winner == k).ravel())
            assert _value(table, case, name, "dice")["value"] == pytest.approx(expected)


def test_a_fractional_hard_reference_is_binarised_at_one_half(run):
    expected = run.evaluate()
    for case, maps in list(run.maps.items()):
        run.replace(case, "hard", np.where(maps["hard"] > 0, np.float32(0.5), np.float32(0.49)))
    pd.testing.assert_frame_equal(run.evaluate(), expected)


def test_binarisation_ties():
    p = np.array([[0.5, 0.25, 0.4, 0.0], [0.5, 0.25, 0.4, 0.5]], np.float32)
    assert most_probable_class(p).tolist() == [1, 0, 1, 0]
    assert by_argmax(p, np.zeros(2))[0].tolist() == [[True, False, True, False], [False] * 4]
    binary, known = by_threshold(p, np.array([0.5, np.nan]))
    assert binary.tolist() == [[True, False, False, False], [False] * 4]
    assert known.tolist() == [True, False]
    np.testing.assert_array_equal(with_background(np.array([[0.9], [0.9]]))[0], [0.0])


def test_empty_prediction_and_reference_are_rows_that_say_why(run):
    run.replace("s1", "predictions", np.zeros((2, *SHAPE), np.float32))
    hard = run.maps["s2"]["hard"].copy()
    hard[1] = 0
    run.replace("s2", "hard", hard)
    table = run.evaluate()
    assert _value(table, "s1", "gm", "precision")["status"] == "prediction empty"
    assert _value(table, "s1", "gm", "dice")["value"] == 0
    assert _value(table, "s1", "gm", "avd")["value"] == 1
    assert _value(table, "s2", "wm", "recall")["status"] == "reference empty"
    assert _value(table, "s2", "wm", "avd")["status"] == "reference empty"
    assert len(table) == len(Run(run.folder / "again", np.random.default_rng(0)).evaluate())


def test_an_unknown_threshold_leaves_binary_metrics_undefined(run):
    run.thresholds([0.4, np.nan])
    table = run.evaluate()
    rows = table[table["target"] == "wm"]
    assert set(rows.loc[rows["metric"].isin(BINARY), "status"]) == {"no threshold"}
    assert set(rows.loc[~rows["metric"].isin(BINARY), "status"]) == {"ok"}
    assert set(table.loc[table["target"] == "gm", "status"]) == {"ok"}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_diverged_prediction_is_a_row_that_says_so(run, bad):
    p = run.maps["s3"]["predictions"].copy()
    p[0, 0, 0, 0] = bad
    run.replace("s3", "predictions", p)
    table = run.evaluate()
    rows = table[table["case"] == "s3"]
    assert set(rows.loc[rows["metric"] != "entropy_reference", "status"]) == {"prediction not finite"}
    assert set(table.loc[table["case"] == "s1", "status"]) == {"ok"}
    assert _value(table, "*", "image", "ece")["status"] == "prediction not finite in 1 cases"


def test_all_predictions_diverged(run):
    for case in run.cases:
        run.replace(case, "predictions", np.full((2, *SHAPE), np.nan, np.float32))
    table = run.evaluate()
    searched = table["metric"].str.startswith("threshold_dice")
    assert set(table.loc[(table["scope"] == "run") & ~searched, "status"]) == {"prediction not finite in 3 cases"}
    assert set(table.loc[searched, "status"]) == {"ok"}


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda run: (run.folder / "predictions" / "s2.nii.gz").unlink(), "no prediction of a test case"),
        (lambda run: (run.folder / "hard" / "s2.nii.gz").unlink(), "no hard reference of a test case"),
        (lambda run: run.replace("s2", "soft", np.full((2, *SHAPE), 3, np.float32)), "outside"),
        (lambda run: run.replace("s2", "soft", np.full((2, *SHAPE), np.nan, np.float32)), "not finite"),
        (lambda run: run.replace("s2", "predictions", np.zeros((1, *SHAPE), np.float32)), "expected"),
        (lambda run: run.replace("s2", "predictions", np.zeros((2, 3, 3, 3), np.float32)), "shapes"),
    ],
)
def test_faults_name_case_and_cure(run, break_it, words):
    break_it(run)
    with pytest.raises(PenumbraError, match=words) as fault:
        run.evaluate()
    assert fault.value.case == "s2"
    assert fault.value.cure
    assert not (run.folder / "metrics.parquet").exists()


def test_faults_of_the_run_itself(run):
    run.thresholds([0.5, 0.5])
    (run.folder / "split.json").write_text('{"train": ["t"], "validation": [], "test": []}')
    with pytest.raises(PenumbraError, match="no test case"):
        run.evaluate()
    (run.folder / "threshold.csv").write_text("class,threshold,dice\ngm,0.5,0.5\n")
    with pytest.raises(PenumbraError, match="no thresholds can be read"):
        run.evaluate()
    run.thresholds([0.5, 0.5])
    for curve in ("class,threshold,dice\ngm,0.5,0.5\n", "class,threshold,dice\n" + "gm,0.5,0.5\nwm,0.5,0.5\n" * 2):
        (run.folder / "threshold-curve.csv").write_text(curve)
        with pytest.raises(PenumbraError, match="no Dice by threshold can be read for gm, wm"):
            run.evaluate()


# ---------------------------------------------------------------- squared error, values above 0, thresholds


def test_squared_errors_agree_with_loops(run):
    table = run.evaluate()
    for case, maps in run.maps.items():
        p, hard = maps["predictions"].astype(float), maps["hard"]
        for k, name in enumerate(CLASSES):
            soft = binary = 0.0
            for at in np.ndindex(SHAPE):
                soft += (p[k][at] - hard[k][at]) ** 2
                binary += float(p[k][at] >= 0.35) != float(hard[k][at])
            assert _value(table, case, name, "mse")["value"] == pytest.approx(binary / np.prod(SHAPE))
            assert _value(table, case, name, "mse_depthless")["value"] == pytest.approx(binary / (10 * 9))
            assert _value(table, case, name, "mse_soft")["value"] == pytest.approx(soft / np.prod(SHAPE))
            assert _value(table, case, name, "mse_soft_depthless")["value"] == pytest.approx(soft / (10 * 9))


def test_values_above_zero_are_counted(run):
    p = run.maps["s1"]["predictions"].copy()
    p[0] = 0
    p[0].flat[:6] = [0.05, 0.06, 0.5, 0.94, 0.96, 1.0]
    run.replace("s1", "predictions", p)
    p = run.maps["s2"]["predictions"].copy()
    p[1] = 0
    run.replace("s2", "predictions", p)
    table = run.evaluate()
    assert _value(table, "s1", "gm", "nonzero_share")["value"] == 6 / np.prod(SHAPE)
    within = _value(table, "s1", "gm", "nonzero_intermediate")
    # float32 stores 0.05 as a little more than it
    assert (within["value"], within["n"]) == (4 / 6, 6)
    nothing = _value(table, "s2", "wm", "nonzero_intermediate")
    assert (nothing["status"], nothing["n"]) == ("no voxel above 0", 0)
    assert _value(table, "s2", "wm", "nonzero_share")["value"] == 0
    for k, name in enumerate(CLASSES):
        rows = table[(table["metric"] == "nonzero_count") & (table["target"] == name)].sort_values("bin")
        values = np.concatenate([m["predictions"][k].ravel() for m in run.maps.values()]).astype(float)
        expected = np.histogram(-values[values > 0], -(np.arange(101) / 100)[::-1])[0][::-1]
        np.testing.assert_array_equal(rows["value"], expected)
        assert rows["bin"].tolist() == list(range(100))
        assert set(rows["case"]) == {"*"} and set(rows["scope"]) == {"run"}


def test_the_dice_of_every_threshold_is_kept(run):
    run.curve([[0.2, np.nan, 0.9], [np.nan] * 3])
    table = run.evaluate()
    rows = table[(table["metric"] == "threshold_dice") & (table["target"] == "gm")].sort_values("bin")
    np.testing.assert_array_equal(rows["value"], [0.2, np.nan, 0.9])
    assert rows["bin"].tolist() == [0, 1, 2]
    assert rows["status"].tolist() == ["ok", "no case with a Dice score", "ok"]
    assert set(rows["n"]) == {3}  # training and validation cases
    assert _value(table, "*", "gm", "threshold_dice_range")["value"] == pytest.approx(0.7)
    assert _value(table, "*", "wm", "threshold_dice_range")["status"] == "no case with a Dice score"


# ---------------------------------------------------------------- lesions and small components

NEIGHBOURS = ndimage.generate_binary_structure(3, 2)


def _lesions(mask):
    labels, count = ndimage.label(mask, NEIGHBOURS)
    return [labels == k for k in range(1, count + 1)]


def _without_small(mask, minimum):
    kept = [lesion for lesion in _lesions(mask) if lesion.sum() >= minimum]
    return np.any(kept, axis=0) if kept else np.zeros_like(mask)


@pytest.fixture
def lesions(tmp_path, rng):
    """A run on two cases of many small lesions."""
    run = Run(tmp_path, rng, cases=("s1", "s2"), classes=["lesion"])
    for case in run.cases:
        shape = (24, 20, 12)
        field = ndimage.gaussian_filter(rng.normal(size=shape), 1.1)
        hard = (field > np.quantile(field, 0.95)).astype(np.uint8)[None]
        p = np.clip(np.roll(hard[0], 1, axis=0) * rng.uniform(size=shape) + (rng.uniform(size=shape) > 0.99), 0, 1)
        for name, array in (("hard", hard), ("soft", hard.astype(np.float32)), ("predictions", p[None])):
            run.replace(case, name, array.astype(np.float32))
    return run


@pytest.mark.parametrize("small", [0, 3])
def test_lesions_agree_with_a_loop_over_components(lesions, small):
    lesions.evaluation = Evaluation(
        remove_small=small, lesions={"convention": "released", "overlap": 2, "size_edges": [4, 9]}
    )
    table = lesions.evaluate()
    assert _value(table, "*", "lesion", "threshold_dice_range")["status"] == "ok"
    removed = 0
    for case, maps in lesions.maps.items():
        prediction, reference = maps["predictions"][0] >= 0.35, maps["hard"][0] > 0
        p, r = (_without_small(m, small) for m in (prediction, reference))
        removed += (prediction.sum() - p.sum()) * (reference.sum() - r.sum())
        found = [(p & lesion).sum() >= 2 for lesion in _lesions(r)]
        false = [(r & lesion).sum() < 2 for lesion in _lesions(p)]
        assert 0 < sum(found) < len(found) and sum(false) > 0
        rate = _value(table, case, "lesion", "ltpr")
        assert (rate["value"], rate["n"]) == (sum(found) / len(found), len(found))
        rate = _value(table, case, "lesion", "lfdr")
        assert (rate["value"], rate["n"]) == (sum(false) / (sum(found) + sum(false)), sum(found) + sum(false))
        assert _value(table, case, "lesion", "lesion_count")["value"] == len(found)
        assert _value(table, case, "lesion", "lesion_count_predicted")["value"] == len(false)
        assert _value(table, case, "lesion", "dice")["value"] == pytest.approx(f1_score(r.ravel(), p.ravel()))
        assert _value(table, case, "lesion", "mse")["value"] == (p != r).mean()
        assert _value(table, case, "lesion", "rvd")["value"] == (r.sum() - p.sum()) / r.sum()
        soft = np.mean((maps["predictions"][0].astype(float) - reference) ** 2)
        assert _value(table, case, "lesion", "mse_soft")["value"] == pytest.approx(soft)
        rows = table[(table["case"] == case) & (table["metric"] == "ltpr_by_size")].sort_values("bin")
        assert rows["bin"].tolist() == [0, 1, 2]
        for row, (low, high) in zip(rows.itertuples(), ((1, 4), (5, 9), (10, np.inf)), strict=True):
            own = [f for f, lesion in zip(found, _lesions(r), strict=True) if low <= lesion.sum() <= high]
            assert row.n == len(own)
            assert row.value == (pytest.approx(np.mean(own)) if own else row.status == "no reference lesion")
    assert (removed > 0) == (small > 0)


def test_settings_of_lesions_are_passed_on(lesions):
    tables = {}
    for name, settings in {
        "usual": {}, "text": {"convention": "text"}, "faces": {"connectivity": 6}, "overlap": {"overlap": 1}
    }.items():  # fmt: skip
        lesions.evaluation = Evaluation(lesions=settings)
        table = lesions.evaluate()
        tables[name] = table[table["metric"].str.startswith(("ltpr", "lfdr", "lesion_count"))]["value"].tolist()
    assert len({tuple(map(str, values)) for values in tables.values()}) == 4
    lesions.evaluation = Evaluation()
    assert not lesions.evaluate()["metric"].str.contains("ltpr|lfdr|lesion_count").any()


def test_small_components_are_taken_out_before_dice_and_volumes():
    """Prediction: one component of 3 on the reference's 4, and one of 2; the reference has another of 1."""
    prediction, reference = np.zeros((2, 20, 1, 1), bool)
    prediction[0:3] = prediction[10:12] = True
    reference[0:4] = reference[15] = True
    maps = CaseMaps(prediction[None].astype(float), reference[None], reference[None].astype(float))
    values = {}
    for small in (0, 2, 3):
        rows = measure_case(maps, np.array([0.5]), Evaluation(remove_small=small))
        values[small] = {row.metric: row.measurement.value for row in rows if row.target == 0}
    assert [values[s]["dice"] for s in (0, 2, 3)] == [2 * 3 / (5 + 5), 2 * 3 / (5 + 4), 2 * 3 / (3 + 4)]
    assert [values[s]["precision"] for s in (0, 2, 3)] == [3 / 5, 3 / 5, 1]
    assert [values[s]["recall"] for s in (0, 2, 3)] == [3 / 5, 3 / 4, 3 / 4]
    assert [values[s]["rvd"] for s in (0, 2, 3)] == [0, -1 / 4, 1 / 4]
    assert [values[s]["mse"] for s in (0, 2, 3)] == [4 / 20, 3 / 20, 1 / 20]
    for metric in ("mse_soft", "brier", "entropy", "nonzero_share"):
        assert len({v[metric] for v in values.values()}) == 1


def test_a_diverged_or_unbinarised_prediction_has_no_lesions(lesions):
    lesions.evaluation = Evaluation(lesions={})
    p = lesions.maps["s1"]["predictions"].copy()
    p[0, 0, 0, 0] = np.nan
    lesions.replace("s1", "predictions", p)
    names = ["ltpr", "lfdr", "lesion_count_predicted"]
    table = lesions.evaluate()
    rows = table[(table["case"] == "s1") & (table["metric"].isin([*names, "ltpr_by_size", "lfdr_by_size"]))]
    assert len(rows) == 9 and set(rows["status"]) == {"prediction not finite"}
    count = len(_lesions(lesions.maps["s1"]["hard"][0] > 0))
    assert _value(table, "s1", "lesion", "lesion_count")["value"] == count
    lesions.thresholds([np.nan])
    table = lesions.evaluate()
    assert {_value(table, "s2", "lesion", name)["status"] for name in names} == {"no threshold"}


def test_a_case_without_lesions(lesions):
    lesions.evaluation = Evaluation(lesions={})
    lesions.replace("s1", "hard", np.zeros((1, 24, 20, 12), np.uint8))
    table = lesions.evaluate()
    for name in ("ltpr", "lfdr"):
        assert _value(table, "s1", "lesion", name)["status"] == "no reference lesion"
    assert _value(table, "s1", "lesion", "lesion_count")["value"] == 0


# ---------------------------------------------------------------- known truth


def mixed(truth):
    """Voxels of which neither nothing nor all is true."""
    return (truth >= 0.001) & (truth <= 0.999)


def test_known_truth_is_measured_where_it_lies_beside_the_case(run, rng):
    fraction, rater = (rng.uniform(size=(2, *SHAPE)).astype(np.float32) for _ in range(2))
    assert not run.evaluate()["metric"].str.startswith(("truth", "rater", "volume_error")).any()
    run.truth("s2", "fraction", fraction)
    run.truth("s2", "rater-probability", rater)
    run.evaluation = Evaluation(remove_small=10**6)
    table = run.evaluate()
    p, f, q = run.maps["s2"]["predictions"].astype(float), fraction.astype(float), rater.astype(float)
    for k, name in enumerate(CLASSES):
        expected = {
            "truth_error": np.abs(p[k] - f[k])[mixed(f[k])].mean(),
            "truth_squared_error": np.square(p[k] - f[k]).mean(),
            "rater_probability_error": np.abs(p[k] - q[k])[mixed(q[k])].mean(),
            "volume_error_soft": p[k].sum() / f[k].sum() - 1,
            "volume_error_binary": (p[k] >= 0.35).sum() / f[k].sum() - 1,
        }
        for metric, value in expected.items():
            assert _value(table, "s2", name, metric)["value"] == pytest.approx(value)
            assert metric in METRICS
    pooled = table[table["scope"] == "run"]
    counts = pooled[pooled["metric"] == "truth_curve_count"].groupby("target")["value"].sum()
    assert counts.tolist() == [np.prod(SHAPE)] * 2
    assert len(pooled[pooled["metric"] == "rater_calibration_error"]) == 2
    assert not (table["case"].eq("s1") & table["metric"].str.startswith("truth")).any()
    run.truth("s2", "fraction", np.zeros((1, *SHAPE), np.float32))
    with pytest.raises(PenumbraError, match="true fraction has shape"):
        run.evaluate()
    run.truth("s2", "fraction", np.zeros((2, 3, 3, 3), np.float32))
    with pytest.raises(PenumbraError, match=r"true fraction \(2, 3, 3, 3\)"):
        run.evaluate()


# ---------------------------------------------------------------- which convention is shown, and what is tested


@pytest.mark.parametrize(
    ("metric", "open_depthless", "closed_voxels"),
    [
        ("ece", "ece", "ece_closed"),
        ("reliability_accuracy", "reliability_accuracy", "reliability_accuracy_closed"),
        ("mse", "mse_depthless", "mse"),
        ("mse_soft", "mse_soft_depthless", "mse_soft"),
        ("brier", "brier", "brier"),
        ("dice", "dice", "dice"),
        ("ece_closed", "ece_closed", "ece_closed"),
    ],
)
def test_the_convention_that_is_shown_first(metric, open_depthless, closed_voxels):
    usual, other = Evaluation(), Evaluation(last_bin="closed", squared_error="voxels")
    for form in (usual, usual.model_dump(), {}):
        assert headline(metric, form) == open_depthless
    for form in (other, other.model_dump()):
        assert headline(metric, form) == closed_voxels
    assert {open_depthless, closed_voxels} <= set(METRICS)


def test_what_describes_and_what_has_bins_is_not_tested(lesions):
    lesions.evaluation = Evaluation(lesions={})
    table = lesions.evaluate()
    binned = set(table.loc[table["bin"].notna(), "metric"])
    assert set(table["metric"]) <= set(METRICS)
    assert not any(map(judges, binned))
    for name in ("entropy", "entropy_reference", "ece_dropped", "lesion_count", "nonzero_share", "unheard of"):
        assert not judges(name)
    for name in ("dice", "rvd", "ltpr", "mse_soft", "ece", "threshold_dice_range", "truth_error", "composite"):
        assert judges(name)


def test_same_bytes_twice(run):
    run.evaluate()
    first = (run.folder / "metrics.parquet").read_bytes()
    run.evaluate()
    assert (run.folder / "metrics.parquet").read_bytes() == first


def test_does_not_import_torch():
    code = "import sys, penumbra.metrics.evaluate; assert not {'torch', 'monai'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def files(run, tmp_path):
    paths = []
    for candidate in ("conv", "soft"):
        for split in (0, 1):
            out = tmp_path / f"{candidate}-{split}.parquet"
            run.evaluate(candidate_name=candidate, split_index=split, out=out)
            paths.append(out)
    return paths


def test_collect_names_rows_and_ignores_the_order_of_files(files, tmp_path):
    forward, backward = tmp_path / "a.parquet", tmp_path / "b.parquet"
    collect(files, forward)
    collect(files[::-1], backward)
    assert forward.read_bytes() == backward.read_bytes()
    table = pd.read_parquet(forward)
    assert table["row"].is_unique
    assert {
        "phantom/conv/0/s1/gm/dice",
        "phantom/soft/1/*/image/reliability_count/9",
        "phantom/soft/1/*/image/ece",
    } <= set(table["row"])
    assert len(table) == sum(len(pd.read_parquet(f)) for f in files)


def test_collect_shows_missing_empty_and_repeated_runs(files, tmp_path):
    out = tmp_path / "all.parquet"
    with pytest.raises(PenumbraError, match="missing"):
        collect([*files, tmp_path / "gone.parquet"], out)
    with pytest.raises(PenumbraError, match="also in"):
        collect([*files, files[0]], out)
    with pytest.raises(PenumbraError, match="no runs"):
        collect([], out)
    empty = tmp_path / "empty.parquet"
    pd.read_parquet(files[0]).iloc[:0].to_parquet(empty)
    with pytest.raises(PenumbraError, match="holds 0"):
        collect([*files[1:], empty], out)
    empty.write_bytes(b"")
    with pytest.raises(PenumbraError, match="cannot be read"):
        collect([*files[1:], empty], out)
    twice = pd.read_parquet(files[0])
    pd.concat([twice, twice.iloc[:1]]).to_parquet(empty)
    with pytest.raises(PenumbraError, match="occur twice"):
        collect([*files[1:], empty], out)
    assert not out.exists()
