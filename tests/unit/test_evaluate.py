import json
import subprocess
import sys
from types import SimpleNamespace

import nibabel
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from penumbra.errors import PenumbraError
from penumbra.metrics.binarisation import by_argmax, by_threshold, most_probable_class, with_background
from penumbra.metrics.calibration import Reliability
from penumbra.metrics.evaluate import BINARY, collect, evaluate
from penumbra.metrics.rows import METRICS

CLASSES = ["gm", "wm"]
SHAPE = (10, 9, 4)


def _save(folder, case, array):
    folder.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.moveaxis(array, 0, -1), np.eye(4)), folder / f"{case}.nii.gz")


class Run:
    """A run's files in a folder, and how to evaluate them."""

    def __init__(self, folder, rng, cases=("s1", "s2", "s3"), classes=CLASSES, binarisation="threshold"):
        self.folder, self.cases, self.classes, self.binarisation = folder, cases, classes, binarisation
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
        (folder / "split.json").write_text(json.dumps({"train": ["t"], "validation": [], "test": list(cases)}))

    def thresholds(self, values):
        table = pd.DataFrame({"class": self.classes, "threshold": values, "dice": 0.5})
        table.to_csv(self.folder / "threshold.csv", index=False)

    def replace(self, case, name, array):
        self.maps[case][name] = array
        _save(self.folder / name, case, array)

    def evaluate(self, **names):
        f = self.folder
        arguments = {
            "predictions": f / "predictions", "threshold": f / "threshold.csv", "hard_labels": f / "hard",
            "soft_labels": f / "soft", "split": f / "split.json", "dataset_name": "phantom", "candidate_name": "conv",
            "split_index": 0, "out": f / "metrics.parquet",
            "dataset": SimpleNamespace(
                classes=self.classes, evaluation=SimpleNamespace(binarisation=self.binarisation)
            ),
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
    per_class = ["dice", "precision", "recall", "avd", "rvd", "brier", "brier_depthless"]
    entropies = ["entropy", "entropy_reference", "entropy_error", "entropy_error_per_voxel"]
    for case in run.cases:
        for target in CLASSES:
            rows = case_rows[(case_rows["case"] == case) & (case_rows["target"] == target)]
            assert sorted(rows["metric"]) == sorted(per_class + entropies)
        rows = case_rows[(case_rows["case"] == case) & (case_rows["target"] == "image")]
        assert sorted(rows["metric"]) == sorted(entropies)
    pooled = table[table["scope"] == "run"]
    assert len(pooled) == 3 + 6 * 10
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
    assert set(rows.loc[rows["metric"].isin(list(BINARY)), "status"]) == {"no threshold"}
    assert set(rows.loc[~rows["metric"].isin(list(BINARY)), "status"]) == {"ok"}
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
    assert set(table.loc[table["scope"] == "run", "status"]) == {"prediction not finite in 3 cases"}


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
    (run.folder / "split.json").write_text('{"test": []}')
    with pytest.raises(PenumbraError, match="no test case"):
        run.evaluate()
    (run.folder / "threshold.csv").write_text("class,threshold,dice\ngm,0.5,0.5\n")
    with pytest.raises(PenumbraError, match="no thresholds can be read"):
        run.evaluate()


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
