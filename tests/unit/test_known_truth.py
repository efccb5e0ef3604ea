"""The table and the figure of known truth: numbers against plain pandas, empty and odd inputs, stable bytes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from penumbra import parts
from penumbra.errors import PenumbraError
from penumbra.figures import _style
from penumbra.figures._inputs import FigureInputs
from penumbra.metrics.rows import row_names
from penumbra.metrics.truth import TruthCurves, measure_case
from penumbra.reporting.context import DatasetInfo, StudyContext, StudyData, candidate_infos
from penumbra.tables._render import markdown

LABELS = {"hard": "Hard-Sig-Dice", "soft": "Soft-ReLU-Wing", "random": "SoftSeg-RandomSampling"}
SPLITS = 3
CASES = 2
ERRORS = ("truth_error", "volume_misplaced", "volume_error_soft", "volume_error_binary")


@pytest.fixture
def study() -> StudyContext:
    cords = {
        name: DatasetInfo(name, f"Cord, {mm} mm (phantom)", ("gray_matter", "white_matter"), tuple(range(SPLITS)))
        for name, mm in (("fine", "0.5"), ("coarse", "1.0"))
    }
    lesions = DatasetInfo("lesions", "Lesions, 1.5 mm", ("lesion",), (0,))
    return StudyContext("truth", "Truth", "paper", {**cords, "lesions": lesions}, candidate_infos(LABELS), "soft")


@pytest.fixture
def metrics(study: StudyContext, rng: np.random.Generator) -> pd.DataFrame:
    """Real measurements of made-up maps: sharper for one candidate, noisier for another."""
    rows = []
    for dataset in study.datasets.values():
        for c, candidate in enumerate(study.candidates):
            for split in dataset.split_numbers:
                base = {"dataset": dataset.name, "candidate": candidate, "split": split}
                curves = TruthCurves(len(dataset.classes))
                for case in range(CASES):
                    f, q = np.clip(rng.normal(0.3, 0.5, size=(2, len(dataset.classes), 8, 8, 3)), 0, 1)
                    p = np.clip((f - 0.5) * (3.0, 1.0, 0.7)[c] + 0.5 + rng.normal(0, 0.05, f.shape), 0, 1)
                    curves.add(p, f, q)
                    for k, metric, (value, status) in measure_case(p, p >= 0.5, f, q):
                        told = {"target": dataset.classes[k], "metric": metric, "value": value, "status": status}
                        rows.append(base | told | {"case": f"case-{case}", "scope": "case", "n": f[0].size})
                for k, metric, bin_, (value, status), n in curves.rows():
                    told = {"target": dataset.classes[k], "metric": metric, "value": value, "status": status}
                    rows.append(base | told | {"case": "*", "scope": "run", "bin": bin_, "n": n})
    table = pd.DataFrame(rows).astype({"bin": "Int64", "value": "float64", "split": "int64"})
    table.insert(0, "row", row_names(table))
    return table


def draw(study: StudyContext, metrics: pd.DataFrame, **options: str) -> tuple:
    part = parts.build("figure", "known_truth", options)
    with _style.house_style():
        figure, marks = part.draw(FigureInputs(StudyData(metrics)), study)
        figure.canvas.draw()
    assert len(part.caption(study)) > 200
    return figure, marks


def test_table_holds_the_means_over_splits(study: StudyContext, metrics: pd.DataFrame) -> None:
    table = parts.build("table", "known_truth")(StudyData(metrics), study, "known-truth", "Title")
    tidy = table.tidy
    assert set(tidy["metric"]) == {*ERRORS, "rater_calibration_error"}
    assert len(tidy) == 5 * 3 * (2 + 2 + 1)
    for row in tidy.to_dict("records"):
        own = metrics[metrics["bin"].isna()]
        for key in ("dataset", "candidate", "target", "metric"):
            own = own[own[key] == row[key]]
        runs = own.groupby("split")["value"].mean()
        assert row["mean"] == pytest.approx(runs.mean()) and row["n_splits"] == len(runs)
        assert row["std"] == pytest.approx(runs.std(ddof=1), nan_ok=True)
    assert tidy.groupby(["dataset", "target", "metric"])["best"].any().all()
    text = markdown(table)
    assert "Cord, 0.5 mm" in text and "Misplaced volume" in text


def test_table_says_where_there_is_no_known_truth(study: StudyContext, metrics: pd.DataFrame) -> None:
    real = metrics[metrics["dataset"] != "lesions"]
    table = parts.build("table", "known_truth")(StudyData(real), study, "known-truth", "Title")
    assert set(table.tidy.loc[table.tidy["dataset"] == "lesions", "status"]) == {"missing"}


def test_figure_marks_are_the_means_over_runs(study: StudyContext, metrics: pd.DataFrame) -> None:
    figure, marks = draw(study, metrics, target="white_matter")
    assert set(marks["dataset"]) == {"fine", "coarse"}
    own = metrics[metrics["target"] == "white_matter"]
    for mark in marks.to_dict("records"):
        rows = own[(own["dataset"] == mark["dataset"]) & (own["candidate"] == mark["candidate"])]
        if mark["mark"] == "dot":
            runs = rows[rows["metric"] == mark["panel"]].groupby("split")["value"].mean()
            assert mark["value"] == pytest.approx(runs.mean()) and mark["y"] == pytest.approx(100 * runs.mean())
        else:
            cell = rows[rows["bin"] == int(mark["name"].removeprefix("bin "))]
            curve, _, across = mark["mark"].partition(", ")
            x = {"truth_curve": "truth_curve_fraction", "rater_curve": "rater_curve_prediction"}[mark["panel"]]
            assert mark["y"] == pytest.approx(cell.loc[cell["metric"] == curve, "value"].mean(), nan_ok=True)
            assert mark["x"] == pytest.approx(cell.loc[cell["metric"] == x, "value"].mean(), nan_ok=True)
            assert mark["value"] == pytest.approx(mark["x" if across else "y"], nan_ok=True)
            assert len(metrics.query(mark["filter"]).query("dataset == @mark['dataset']")) >= mark["n_rows"]
    assert (marks["mark"] == "dot").sum() == 4 * 2 * 3
    drawn = {line.get_gid() for f in figure.subfigs for axes in f.axes for line in axes.lines}
    assert {f"truth_curve_prediction {c}" for c in LABELS} | {f"rater_curve_probability {c}" for c in LABELS} <= drawn


def test_figure_takes_the_first_class_and_refuses_one_that_is_not_there(
    study: StudyContext, metrics: pd.DataFrame
) -> None:
    _, marks = draw(study, metrics)
    pd.testing.assert_frame_equal(marks, draw(study, metrics, target="gray_matter")[1])
    assert set(draw(study, metrics, target="lesion")[1]["dataset"]) == {"lesions"}
    with pytest.raises(PenumbraError, match="no data set of the figure has a class 'tumour'"):
        draw(study, metrics, target="tumour")


def test_figure_of_nothing_says_so(study: StudyContext, metrics: pd.DataFrame) -> None:
    figure, marks = draw(study, metrics[metrics["dataset"] == "lesions"])
    texts = [t.get_text() for f in figure.subfigs for axes in f.axes for t in axes.texts]
    assert texts.count("no defined bin") == 4
    assert set(marks["status"]) == {"undefined"}
