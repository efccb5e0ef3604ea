"""Figures: marks against what is drawn and against plain pandas, stable bytes, empty and odd inputs."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import entropy as scipy_entropy
from sklearn.metrics import f1_score

from penumbra import parts
from penumbra.errors import PenumbraError
from penumbra.figures import _style
from penumbra.figures._inputs import FigureInputs, RunFiles, pick
from penumbra.figures._write import SUFFIXES, write
from penumbra.reporting.context import StudyData, candidate_infos
from penumbra.reporting.pictures import disagreement

_SPEC = importlib.util.spec_from_file_location("synthetic_study", Path(__file__).with_name("synthetic_study.py"))
assert _SPEC is not None and _SPEC.loader is not None
synthetic = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(synthetic)

STATISTICAL = (
    "entropy_correspondence",
    "reliability",
    "composite_violins",
    "threshold_optimisation",
    "prediction_distribution",
)
IMAGES = ("visual", "segmentations", "samples", "sample_scores", "learning_progression")
SEED = int(np.random.SeedSequence().entropy % 2**32)


@pytest.fixture(scope="module")
def study():
    print("seed", SEED)
    return synthetic.context(splits=6, other_splits=2)


@pytest.fixture(scope="module")
def metrics(study):
    return synthetic.long_metrics(study, SEED)


@pytest.fixture(scope="module")
def tests(study, metrics):
    return synthetic.tests_of(study, metrics, SEED)


@pytest.fixture(scope="module")
def image_files(study, tmp_path_factory):
    return synthetic.images(tmp_path_factory.mktemp("images"), study, SEED)


@pytest.fixture(scope="module")
def progression_files(study, tmp_path_factory):
    return synthetic.progressions(tmp_path_factory.mktemp("progression"), study, SEED)


def draw(part, study, long=None, tests=None, files=(), progression=None, **options):
    data = None if long is None else StudyData(long, tests)
    built = parts.build("figure", part, options)
    if progression is not None:
        progression = dict(zip(study.candidates, progression, strict=True))
    files = [files] if isinstance(files, RunFiles) else files
    with _style.house_style():
        figure, marks = built.draw(FigureInputs(data, files, progression), study)
        figure.canvas.draw()
    return figure, marks


def all_axes(figure):
    return [axes for axes in figure.axes if axes.get_visible()]


def artists(figure, gid):
    return [a for axes in all_axes(figure) for a in axes.get_children() if a.get_gid() == gid]


def run_files(image_files, study) -> RunFiles:
    return RunFiles(
        dict(zip(study.candidates, image_files["predictions"], strict=True)),
        image_files["cases"],
        image_files["hard_labels"],
        image_files["soft_labels"],
        image_files["split"][0],
        dict(zip(study.candidates, image_files["threshold"], strict=True)),
        image_files["cases_table"],
    )


def placed(volume: np.ndarray, mark) -> np.ndarray:
    """The part of a volume that a mark says is shown."""
    x0, x1, y0, y1, *z = json.loads(mark["argument"])["place"]
    return volume[..., x0:x1, y0:y1, z[0]] if z else volume[..., x0:x1, y0:y1]


def test_entropy_marks_are_the_dots_and_the_data(study, metrics):
    figure, marks = draw("entropy_correspondence", study, metrics)
    for dataset in study.datasets:
        for candidate in study.candidates:
            (dots,) = artists(figure, f"dots {dataset} {candidate}")
            own = marks.query("dataset == @dataset and candidate == @candidate and mark == 'dot'")
            np.testing.assert_allclose(np.asarray(dots.get_offsets()), own[["x", "y"]].to_numpy())
            rows = metrics.query(
                "dataset == @dataset and candidate == @candidate and target == 'image' and scope == 'case'"
            )
            for axis, metric in (("x", "entropy_reference"), ("y", "entropy")):
                expected = rows[rows["metric"] == metric].groupby("case")["value"].mean()
                np.testing.assert_allclose(own.set_index("name")[axis].loc[expected.index], expected)
            title = marks.query("dataset == @dataset and candidate == @candidate and mark == 'title'").iloc[0]
            error = rows[rows["metric"] == "entropy_error"].groupby("split")["value"].mean()
            assert title["value"] == pytest.approx(error.mean())
            assert any(title["displayed"] in a.get_title() for a in all_axes(figure))


def test_entropy_dot_of_every_prediction(study, metrics):
    _, marks = draw("entropy_correspondence", study, metrics, dots="prediction", scale="log")
    dots = marks[marks["mark"] == "dot"]
    assert len(dots) == (metrics["metric"] == "entropy").where(metrics["target"] == "image").eq(True).sum()
    row = dots.iloc[0]
    behind = metrics[metrics["dataset"] == row["dataset"]].query(row["filter"]).set_index("metric")["value"]
    assert (row["x"], row["y"]) == (behind["entropy_reference"], behind["entropy"])


def test_reliability_bars_are_the_means_over_runs(study, metrics):
    figure, marks = draw("reliability", study, metrics)
    bars = {"accuracy": {}, "gap": {}}
    for axes in all_axes(figure):
        for patch in axes.patches:
            kind, name, k = str(patch.get_gid()).split(" ")
            bars["accuracy" if kind == "bar" else "gap"].setdefault((name, int(k)), []).append(patch)
    for name in study.candidates:
        for k in range(10):
            drawn = {}
            for dataset in study.datasets:
                rows = metrics.query("dataset == @dataset and candidate == @name and bin == @k")
                means = rows.groupby("metric")["value"].mean()
                accuracy, confidence = means["reliability_accuracy"], means["reliability_confidence"]
                chosen = (marks["dataset"] == dataset) & (marks["candidate"] == name) & (marks["name"] == f"bin {k}")
                mark = marks[chosen].set_index("mark")["value"]
                if np.isnan(accuracy):
                    assert mark.isna().all()
                    continue
                assert mark["accuracy"] == pytest.approx(accuracy)
                assert mark["confidence"] == pytest.approx(confidence)
                drawn[dataset] = (accuracy, confidence)
            heights = sorted(p.get_height() for p in bars["accuracy"].get((name, k), []))
            np.testing.assert_allclose(heights, sorted(a for a, _ in drawn.values()))
            for patch in bars["gap"].get((name, k), []):
                over = patch.get_height() > 0
                colour = _style.OVERCONFIDENT if over else _style.UNDERCONFIDENT
                from matplotlib.colors import to_rgb

                assert patch.get_facecolor()[:3] == pytest.approx(to_rgb(colour))
                gaps = [c - a for a, c in drawn.values()]
                assert min(abs(patch.get_height() - g) for g in gaps) < 1e-12


def test_reliability_title_holds_the_ece_in_per_cent(study, metrics):
    figure, _ = draw("reliability", study, metrics, convention="closed")
    titles = {a.get_title() for a in all_axes(figure)}
    for dataset in study.datasets:
        values = metrics[metrics["dataset"] == dataset].query("candidate == 'conv-staple' and metric == 'ece_closed'")[
            "value"
        ]
        assert f"Conv-STAPLE\nECE {100 * values.mean():.1f} ± {100 * values.std(ddof=1):.1f} %" in titles


def test_violins_hold_every_case_and_are_sorted(study, metrics, tests):
    from penumbra.metrics.composite import composite

    figure, marks = draw("composite_violins", study, metrics, tests)
    scores = composite(metrics)
    axes_by_title = {a.get_title().replace("\n", " "): a for a in all_axes(figure)}
    for dataset in study.datasets.values():
        for target in dataset.classes:
            own = marks[(marks["dataset"] == dataset.name) & (marks["panel"] == target)]
            means = own[own["mark"] == "mean"].sort_values("x")["value"]
            assert list(means) == sorted(means, reverse=True)
            axes = axes_by_title[f"{dataset.short}: {target.replace('_', ' ')}"]
            for candidate in study.candidates:
                expected = scores.query("dataset == @dataset.name and target == @target and candidate == @candidate")
                cases = own[(own["mark"] == "case") & (own["candidate"] == candidate)]
                np.testing.assert_allclose(np.sort(cases["value"]), np.sort(expected["value"]))
                (points,) = [c for c in axes.get_children() if c.get_gid() == f"cases {candidate}"]
                np.testing.assert_allclose(np.asarray(points.get_offsets())[:, 1], cases["y"])
                (mean,) = [c for c in axes.get_children() if c.get_gid() == f"mean {candidate}"]
                at = own[(own["mark"] == "mean") & (own["candidate"] == candidate)].iloc[0]
                np.testing.assert_allclose(np.asarray(mean.get_offsets())[0], [at["x"], at["value"]])


def test_asterisks_of_violins_follow_the_split_view(study, metrics, tests):
    edited = tests.copy()
    edited[["p", "p_holm"]] = 0.5
    here = (edited["metric"] == "composite") & (edited["target"] == "lesion") & (edited["candidate"] == "conv-random")
    edited.loc[here & (edited["view"] == "split"), ["p", "p_holm"]] = 0.01, 0.2
    edited.loc[(edited["metric"] == "composite") & (edited["view"] == "case"), "p"] = 1e-9
    figure, marks = draw("composite_violins", study, metrics, edited)
    marked = marks[marks["mark"] == "asterisks"]
    assert list(marked["candidate"]) == ["conv-random"] and list(marked["displayed"]) == ["**"]
    assert [t.get_text() for a in all_axes(figure) for t in a.texts] == ["**"]


@pytest.mark.parametrize("part", STATISTICAL)
def test_nothing_defined_draws_a_figure_that_says_so(part, study, metrics, tests):
    empty = metrics.assign(value=np.nan, status="undefined")
    figure, marks = draw(part, study, empty, tests)
    assert any("undefined" in str(s) for s in marks["status"])
    texts = [t.get_text() for a in all_axes(figure) for t in a.texts] + [a.get_title() for a in all_axes(figure)]
    assert any("undefined" in t or "no defined" in t for t in texts)


@pytest.mark.parametrize("part", STATISTICAL)
def test_missing_candidate_one_split_and_one_case(part):
    one = synthetic.context(splits=1, other_splits=1)
    metrics = synthetic.long_metrics(one, SEED, cases=1)
    metrics = metrics[metrics["candidate"] != "softseg-random"]
    _, marks = draw(part, one, metrics)
    assert (marks[marks["candidate"] == "softseg-random"]["status"] != "ok").all()
    titles = marks[(marks["mark"] == "title") & (marks["candidate"] == "conv-staple")]
    assert titles["displayed"].astype(str).str.endswith("± n/a").all()


@pytest.mark.parametrize("part", STATISTICAL)
def test_texts_do_not_overlap(part, study, metrics, tests):
    figure, _ = draw(part, study, metrics, tests)
    renderer = figure.canvas.get_renderer()
    boxes = []
    for axes in all_axes(figure):
        labels = [axes.title, axes.xaxis.label, axes.yaxis.label]
        low, high = axes.get_xlim()
        if axes.xaxis.get_tick_params().get("labelbottom", True):
            labels += [t for t in axes.get_xticklabels() if low <= t.get_position()[0] <= high]
        boxes += [(t.get_text(), t.get_window_extent(renderer)) for t in labels if t.get_visible() and t.get_text()]
    for i, (first, a) in enumerate(boxes):
        assert a.x0 >= -1 and a.x1 <= figure.bbox.x1 + 1 and a.y0 >= -1 and a.y1 <= figure.bbox.y1 + 1, first
        for second, b in boxes[i + 1 :]:
            assert not (a.x0 < b.x1 and b.x0 < a.x1 and a.y0 < b.y1 and b.y0 < a.y1), (first, second)


def test_disagreement_is_the_sum_of_f_times_one_minus_f():
    rng = np.random.default_rng(SEED)
    raters = rng.integers(0, 3, (4, 5, 6, 3)).astype(np.uint8)
    expected = np.zeros(3)
    for z in range(3):
        for x in range(5):
            for y in range(6):
                for k in (1, 2):
                    f = sum(int(raters[r, x, y, z]) == k for r in range(4)) / 4
                    expected[z] += f * (1 - f)
    np.testing.assert_allclose(disagreement(raters, 2), expected)
    assert (disagreement(np.repeat(raters[:1], 3, axis=0), 2) == 0).all()


def test_visual_shows_the_slice_of_most_disagreement(study, image_files):
    from penumbra.data.case import read_case, read_class_map

    figure, marks = draw("visual", study, files=run_files(image_files, study))
    scores = {
        (case, z): score
        for case in json.loads(Path(image_files["split"][0]).read_text())["test"]
        for z, score in enumerate(disagreement(read_case(Path(image_files["cases"]) / case).raters, 2))
    }
    case, z = max(scores, key=lambda key: scores[key])
    choice = marks[marks["mark"] == "choice"].iloc[0]
    assert choice["name"] == f"{case}, slice {z}"
    assert choice["value"] == pytest.approx(scores[case, z])
    images = marks[marks["mark"] == "image"]
    assert len(images) == 3 + len(study.candidates) and (images["status"] == "ok").all()
    panels = {a.get_title(): a for a in all_axes(figure)}
    for mark in images[images["candidate"].notna()].to_dict("records"):
        path = Path(mark["source"])
        shown = np.moveaxis(placed(read_class_map(path), mark), 0, -1)
        assert mark["value"] == pytest.approx(shown.sum(dtype=float))
        drawn = np.asarray(panels[mark["panel"]].images[0].get_array())
        assert drawn.shape[:2] == shown.shape[:2][::-1]
        from matplotlib.colors import to_rgb

        expected = sum(shown[..., k, None] * np.array(to_rgb(_style.CLASS_COLOURS[k])) for k in range(2))
        np.testing.assert_allclose(drawn, np.clip(expected, 0, 1).transpose(1, 0, 2), atol=1e-6)
        assert mark["rows_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_visual_takes_a_named_case_and_slice_and_refuses_others(study, image_files):
    files = run_files(image_files, study)
    _, marks = draw("visual", study, files=files, case="sub-01", slice=2)
    assert set(marks["name"]) == {"sub-01, slice 2"}
    with pytest.raises(PenumbraError, match="not a test case"):
        draw("visual", study, files=files, case="sub-77")
    with pytest.raises(PenumbraError, match="no slice"):
        draw("visual", study, files=files, case="sub-01", slice=9)
    with pytest.raises(PenumbraError, match="contrast"):
        draw("visual", study, files=files, contrast="FLAIR")


def test_visual_says_which_prediction_is_missing(study, image_files, tmp_path):
    files = run_files(image_files, study)
    files = replace(files, predictions={**files.predictions, "conv-average": tmp_path})
    _, marks = draw("visual", study, files=files)
    assert marks[marks["candidate"] == "conv-average"]["status"].tolist() == ["missing"]


def test_samples_are_shown_beside_raters_and_prediction(study, image_files):
    from penumbra.data.case import read_case, read_class_map

    name = synthetic.SAMPLED[-1]
    files = run_files(image_files, study)
    figure, marks = draw("samples", study, files=files, candidates=[name], rows=2)
    images = marks[marks["mark"] == "image"]
    assert len(images) == 2 * (1 + 4 + 1 + 4) and (images["status"] == "ok").all()
    choices = marks[marks["mark"] == "choice"]
    assert choices["value"].is_monotonic_decreasing
    for case, z in (text.split(", slice ") for text in choices["name"]):
        content = read_case(files.cases / case)
        scores = disagreement(content.raters, 2)
        assert scores[int(z)] == scores.max()
        mine = images[images["name"] == f"{case}, slice {z}"].set_index("panel")
        for k in range(4):
            mark = mine.loc[f"Rater {k + 1}"].to_dict()
            assert mark["value"] == placed(content.raters[k], mark).sum()
            mark = mine.loc[f"Sample {k + 1}"].to_dict()
            drawn = read_class_map(files.predictions[name] / "samples" / f"{case}.nii.gz")[k]
            assert mark["value"] == placed(drawn, mark).sum() and mark["candidate"] == name
    # Each voxel of a sample has the colour of its class.
    top = {a.get_title(): a for a in all_axes(figure) if a.get_title()}
    mark = images[images["panel"] == "Sample 2"].iloc[0].to_dict()
    shown = placed(read_class_map(Path(mark["source"]))[1], mark).astype(int).T
    from matplotlib.colors import to_rgb

    colours = np.array([(0, 0, 0), *(to_rgb(c) for c in _style.CLASS_COLOURS[:2])])
    np.testing.assert_allclose(np.asarray(top["Sample 2"].images[0].get_array()), colours[shown])


def test_a_candidate_without_samples_is_told(study, image_files):
    files = run_files(image_files, study)
    without = next(c for c in study.candidates if c not in synthetic.SAMPLED)
    _, marks = draw("samples", study, files=files, candidates=[without], rows=1)
    assert marks[marks["status"] != "ok"]["panel"].tolist() == ["Sample 1"]
    with pytest.raises(PenumbraError, match="no candidate 'unheard'"):
        draw("samples", study, files=files, candidates=["unheard"])


def test_candidates_stand_below_each_other_with_the_entropy_of_their_samples(study, image_files):
    from penumbra.data.case import read_class_map

    files = run_files(image_files, study)
    figure, marks = draw("samples", study, files=files, candidates=list(synthetic.SAMPLED), rows=2, entropy=True)
    images = marks[marks["mark"] == "image"]
    # Once a case: image and raters; for each candidate: prediction, entropy, samples.
    assert len(images) == 2 * (1 + 4 + len(synthetic.SAMPLED) * (1 + 1 + 4))
    labels = {t.get_text() for a in all_axes(figure) for t in a.texts}
    assert {study.candidates[c].label for c in synthetic.SAMPLED} <= labels
    for mark in images[images["panel"] == "Entropy"].to_dict("records"):
        drawn = placed(read_class_map(Path(mark["source"])), mark)
        shares = np.stack([(drawn == k).mean(axis=0) for k in range(3)])
        expected = scipy_entropy(shares, axis=0) / np.log(3)
        assert mark["value"] == pytest.approx(expected.sum()) and mark["value"] > 0


def test_without_disagreement_the_slice_of_most_foreground_is_shown(study, tmp_path):
    """One rater, who disagrees with nobody."""
    from penumbra.data.case import read_case

    files = run_files(synthetic.images(tmp_path, study, SEED), study)
    for rater in files.cases.glob("*/rater-[234].nii.gz"):
        rater.unlink()
    _, marks = draw("samples", study, files=files, candidates=[synthetic.SAMPLED[0]], rows=1)
    (name,) = set(marks["name"])
    case, z = name.split(", slice ")
    counts = {c.name: np.count_nonzero(read_case(c).raters[0], axis=(0, 1)) for c in files.cases.iterdir()}
    assert counts[case][int(z)] == max(count.max() for count in counts.values()) > 0


def test_scores_of_samples_are_those_of_a_library(study, image_files):
    from penumbra.data.case import read_case, read_class_map

    name = synthetic.SAMPLED[0]
    files = run_files(image_files, study)
    figure, marks = draw("sample_scores", study, files=files, candidate=name)
    (axes,) = all_axes(figure)
    crosses = marks[marks["mark"] == "cross"]
    assert crosses["value"].is_monotonic_increasing and len(crosses) > 1
    for mark in crosses.to_dict("records"):
        readers = read_case(files.cases / mark["name"]).raters
        maps = read_class_map(files.predictions[name] / f"{mark['name']}.nii.gz").astype(float)
        prediction = np.concatenate([1 - maps.sum(axis=0, keepdims=True), maps]).argmax(axis=0)
        samples = read_class_map(files.predictions[name] / "samples" / f"{mark['name']}.nii.gz").astype(int)
        scores = [
            np.mean([f1_score(r.ravel(), one.ravel(), labels=[1, 2], average="macro") for r in readers])
            for one in (prediction, *samples)
        ]
        assert mark["value"] == pytest.approx(scores[0])
        mine = marks[(marks["name"] == mark["name"])]
        better = float(np.mean(np.array(scores[1:]) > scores[0]))
        assert mine[mine["mark"] == "bar"]["value"].tolist() == [pytest.approx(better)]
        quantiles = mine[mine["mark"] == "quantile"]["value"].to_numpy()
        np.testing.assert_allclose(quantiles, np.quantile(scores[1:], [0.05, 0.25, 0.5, 0.75, 0.95]))
    heights = [patch.get_height() for patch in axes.patches]
    np.testing.assert_allclose(heights, marks[marks["mark"] == "bar"]["value"])
    (line,) = marks[marks["mark"] == "line"].to_dict("records")
    assert line["value"] == pytest.approx(np.mean(heights))


def test_cases_without_samples_have_no_scores(study, image_files):
    files = run_files(image_files, study)
    without = next(c for c in study.candidates if c not in synthetic.SAMPLED)
    figure, marks = draw("sample_scores", study, files=files, candidate=without)
    assert set(marks["status"]) == {"missing"}
    assert "no samples" in {t.get_text() for a in all_axes(figure) for t in a.texts}
    with pytest.raises(PenumbraError, match="no candidate 'unheard'"):
        draw("sample_scores", study, files=files, candidate="unheard")


# ---------------------------------------------------------------- chapter 4


def test_reliability_follows_the_convention_of_each_data_set(study, metrics):
    closed = replace(study.datasets["ms_brain"], evaluation={"last_bin": "closed"})
    mixed = replace(study, datasets={**study.datasets, "ms_brain": closed})
    _, marks = draw("reliability", mixed, metrics)
    for dataset, metric in (("scgm", "ece"), ("ms_brain", "ece_closed")):
        expected = pick(metrics, dataset=dataset, candidate="conv-random", metric=metric)["value"]
        title = pick(marks, dataset=dataset, candidate="conv-random", mark="title").iloc[0]
        assert title["value"] == pytest.approx(expected.mean())
        bars = pick(marks, dataset=dataset, mark="accuracy")["filter"]
        assert bars.str.contains("accuracy_closed").eq(metric == "ece_closed").all()
    caption = parts.build("figure", "reliability").caption(mixed)
    assert "MS brain: the last bin is closed" in caption and "challenge: published convention" in caption


def test_threshold_curves_dots_and_ranges(study, metrics):
    figure, marks = draw("threshold_optimisation", study, metrics)
    for dataset in study.datasets.values():
        for target in dataset.classes:
            for candidate in study.candidates:
                rows = pick(metrics, dataset=dataset.name, target=target, candidate=candidate)
                curve = rows[rows["metric"] == "threshold_dice"]
                own = pick(marks, dataset=dataset.name, panel=target, candidate=candidate)
                dots = own[own["mark"] == "optimum"]
                assert len(dots) == dataset.splits
                for split, one in curve.groupby("split"):
                    best = one.sort_values("bin").iloc[::-1]["value"].astype(float).idxmax()
                    dot = dots[dots["name"] == f"split {split}"].iloc[0]
                    assert dot["x"] == pytest.approx(0.05 * (one.loc[best, "bin"] + 1))
                    assert dot["y"] == pytest.approx(100 * one["value"].max())
                means = curve.groupby("bin")["value"].agg(["mean", "min", "max"])
                for mark, column in (("mean", "mean"), ("minimum", "min"), ("maximum", "max")):
                    np.testing.assert_allclose(own[own["mark"] == mark]["y"], 100 * means[column])
                title = own[own["mark"] == "title"].iloc[0]
                assert title["value"] == pytest.approx(rows[rows["metric"] == "threshold_dice_range"]["value"].mean())
    (line,) = {tuple(a.get_ydata()) for a in artists(figure, "mean conv-staple") if a.axes is all_axes(figure)[0]}
    own = marks.query("dataset == 'scgm' and panel == 'gray_matter' and candidate == 'conv-staple' and mark == 'mean'")
    np.testing.assert_allclose(line, own["y"])


def test_of_several_best_thresholds_the_largest_is_dotted(study, metrics):
    flat = metrics.copy()
    flat.loc[flat["metric"] == "threshold_dice", "value"] = 0.7
    _, marks = draw("threshold_optimisation", study, flat)
    assert marks[marks["mark"] == "optimum"]["x"].to_numpy() == pytest.approx(0.95)


def test_densities_are_those_of_scipy_and_their_areas_the_shares(study, metrics):
    from scipy.stats import gaussian_kde

    from penumbra.reporting.densities import scott

    figure, marks = draw("prediction_distribution", study, metrics)
    here = metrics.query("dataset == 'ms_brain' and metric == 'nonzero_count'")
    totals = here.groupby("candidate")["value"].sum()
    areas = {}
    for candidate in study.candidates:
        counts = here[here["candidate"] == candidate].groupby("bin")["value"].sum().to_numpy().astype(int)
        values = np.repeat((np.arange(100) + 0.5) / 100, counts)
        own = marks.query("dataset == 'ms_brain' and candidate == @candidate and mark == 'density'")
        share = totals[candidate] / totals.sum()
        kernel = gaussian_kde(values, bw_method="scott")
        assert np.sqrt(kernel.covariance[0, 0]) == pytest.approx(max(scott(counts), 0), rel=1e-9)
        np.testing.assert_allclose(own["y"], share * kernel(own["x"].to_numpy(dtype=float)), rtol=1e-6, atol=1e-12)
        number = marks.query("dataset == 'ms_brain' and candidate == @candidate and mark == 'number'").iloc[0]
        assert number["value"] == pytest.approx(counts.sum() / study.datasets["ms_brain"].splits)
        (line,) = [a for a in artists(figure, f"density {candidate}") if a.axes is all_axes(figure)[-1]]
        np.testing.assert_allclose(line.get_ydata(), own["y"].to_numpy(dtype=float))
        areas[candidate] = np.trapezoid(own["y"].to_numpy(dtype=float), own["x"].to_numpy(dtype=float))
    assert sum(areas.values()) == pytest.approx(1, abs=0.02)


def test_bandwidth_is_never_less_than_a_bin():
    from penumbra.reporting.densities import BINS, scott

    counts = np.zeros(BINS)
    counts[40] = 1e6
    assert scott(counts) == 1 / BINS
    assert scott(np.zeros(BINS)) == 1 / BINS


def test_progression_shows_every_epoch_reached(study, progression_files):
    figure, marks = draw("learning_progression", study, progression=progression_files, target="white_matter")
    heads = [a.get_title() for a in figure.axes if a.get_title()][:6]
    assert heads == ["label", "epoch 1", "epoch 5", "epoch 10", "epoch 20", "last epoch"]
    for name, path in zip(study.candidates, progression_files, strict=True):
        with np.load(path) as content:
            own = marks[(marks["candidate"] == name) & (marks["mark"] == "image")].set_index("panel")
            for panel in heads:
                if own.loc[panel, "status"] != "ok":
                    assert (panel, name) == ("epoch 20", "conv-average")
                    assert own.loc[panel, "status"] == "not reached"
                    continue
                told = json.loads(own.loc[panel, "argument"])
                array = content["label"] if told["array"] == "label" else content["predictions"][told["at"]]
                shown = placed(array[told["k"]], own.loc[panel])
                assert own.loc[panel, "value"] == pytest.approx(shown.sum(dtype=float))
                assert shown.ndim == 2 and told["k"] == 1
            last = marks[(marks["candidate"] == name) & (marks["mark"] == "last")].iloc[0]
            assert last["value"] == content["epochs"][-1]
            final = content["predictions"][-1, 1]
            assert own.loc["last epoch", "value"] <= final.sum(dtype=float) * (1 + 1e-6)


def test_unreadable_progression_is_told(study, progression_files, tmp_path):
    (tmp_path / "broken.npz").write_bytes(b"PK not a zip")
    with pytest.raises(PenumbraError, match="by epoch cannot be read"):
        draw("learning_progression", study, progression=[*progression_files[:-1], tmp_path / "broken.npz"])


def binary(volume: np.ndarray, dataset, threshold: float | None) -> np.ndarray:
    """The binary prediction by brute force: thresholded, or the most probable class; of the first class."""
    if threshold is not None:
        return volume[0] >= threshold
    background = 1 - volume.sum(axis=0)
    return (volume[0] > background) & (volume[0] >= volume[1:].max(axis=0, initial=-1))


@pytest.mark.parametrize("rule", ["argmax", "threshold"])
def test_segmentations_raw_and_binary(rule, study, image_files):
    from penumbra.data.case import read_class_map

    dataset = replace(study.datasets["scgm"], evaluation={"binarisation": rule})
    own = replace(study, datasets={"scgm": dataset})
    _, marks = draw("segmentations", own, files=run_files(image_files, own), close_up=10.0)
    references = {
        case: read_class_map(image_files["hard_labels"] / f"{case}.nii.gz")[0] for case in ("sub-01", "sub-02")
    }
    case = min(references, key=lambda c: (references[c].sum(), c))
    z = int(references[case].sum(axis=(0, 1)).argmax())
    images = marks[marks["mark"] == "image"]
    assert set(images["name"]) == {f"{case}, slice {z}"}
    assert len(images) == 4 + 4 * len(study.candidates) and (images["status"] == "ok").all()
    for mark in images[images["candidate"].notna()].to_dict("records"):
        volume = read_class_map(mark["source"].split("; ")[0])
        array = (
            volume[0]
            if mark["panel"].startswith("raw")
            else binary(volume, dataset, 0.3 if rule == "threshold" else None)
        )
        assert mark["value"] == pytest.approx(placed(array, mark).sum(dtype=float))
    close = images[images["panel"] == "reference, close-up"].iloc[0]
    whole = images[images["panel"] == "reference"].iloc[0]
    assert close["n"] < whole["n"] and close["value"] <= whole["value"]
    thresholds = marks[marks["mark"] == "threshold"]
    assert len(thresholds) == (0 if rule == "argmax" else 2 * len(study.candidates))
    if rule == "threshold":
        assert set(thresholds["displayed"]) == {"t = 0.3"}


def test_close_up_holds_the_object(study, image_files):
    from penumbra.figures._images import densest_square

    marked = np.zeros((50, 70), bool)
    marked[5:9, 50:55] = True
    marked[40, 3] = True
    x, y = densest_square(marked, (1.0, 1.0), 20.0)
    assert marked[x, y].sum() == 20 and (x.stop - x.start, y.stop - y.start) == (20, 20)
    assert x.start == 0
    x, y = densest_square(marked, (2.0, 1.0), 20.0)
    assert (x.stop - x.start, y.stop - y.start) == (10, 20)


def test_segmentations_by_centre_take_a_case_of_each(study, image_files, tmp_path):
    """Two splits, each with one centre's case in its test set: predictions come candidates first, then splits."""
    splits = []
    for number, case in enumerate(("sub-02", "sub-01")):
        splits.append(tmp_path / f"split-{number}.json")
        splits[-1].write_text(json.dumps({"test": [case]}))
    thresholds = []
    for position, candidate in enumerate(study.candidates):
        for split in (0, 1):
            thresholds.append(tmp_path / f"{candidate}-{split}.csv")
            value = 0.1 + 0.1 * position + 0.05 * split
            thresholds[-1].write_text(f"class,threshold,dice\ngray_matter,{value},1\nwhite_matter,0.5,1\n")
    told = synthetic.told(study, "segmentations", "figure", columns="centres", splits=[0, 1])
    told["datasets"]["scgm"]["evaluation"]["binarisation"] = "threshold"
    write(
        told=told,
        exhibit="figure-4-5",
        prefix=tmp_path / "f",
        predictions=[p for p in image_files["predictions"] for _ in splits],
        threshold=thresholds,
        split=splits,
        **{k: image_files[k] for k in ("cases", "cases_table", "hard_labels", "soft_labels")},
    )
    marks = pd.read_csv(tmp_path / "f.csv")
    images = marks[(marks["mark"] == "image") & marks["candidate"].notna()]
    assert set(images["panel"]) == {"centre site1", "centre site2"}
    assert images[images["panel"] == "centre site1"]["name"].str.startswith("sub-01").all()
    for position, candidate in enumerate(study.candidates):
        own = marks[(marks["mark"] == "threshold") & (marks["candidate"] == candidate)].set_index("panel")["value"]
        assert own["centre site2"] == pytest.approx(0.1 + 0.1 * position)
        assert own["centre site1"] == pytest.approx(0.15 + 0.1 * position)


def test_without_centres_there_is_a_column_a_split(study, image_files, tmp_path):
    files = replace(run_files(image_files, study), cases_table=None)
    (tmp_path / "other.json").write_text(json.dumps({"test": ["sub-01"]}))
    _, marks = draw(
        "segmentations", study, files=[files, replace(files, split=tmp_path / "other.json")],
        columns="centres", splits=(3, 4),
    )  # fmt: skip
    assert set(marks[marks["candidate"].notna()]["panel"]) == {"split 3", "split 4"}
    with pytest.raises(PenumbraError, match="shows one split"):
        draw("segmentations", study, files=[files, files], splits=(0, 1))


def test_segmentations_name_their_case_and_say_what_is_missing(study, image_files, tmp_path):
    files = run_files(image_files, study)
    files = replace(files, predictions={**files.predictions, "conv-average": tmp_path})
    _, marks = draw("segmentations", study, files=files, case="sub-02", slice=1, margin=-1.0)
    assert set(marks["name"].dropna()) - {"split 0"} == {"sub-02, slice 1"}
    assert set(marks[marks["candidate"] == "conv-average"]["status"]) == {"missing"}
    assert marks.loc[marks["panel"] == "image", "n"].iloc[0] == 60 * 60
    with pytest.raises(PenumbraError, match="not a test case"):
        draw("segmentations", study, files=files, case="sub-77")
    with pytest.raises(PenumbraError, match="no slice"):
        draw("segmentations", study, files=files, slice=9)
    with pytest.raises(PenumbraError, match="no class"):
        draw("segmentations", study, files=files, target="tumour")


def test_overlay_is_transparent_at_zero_and_dark_red_at_one():
    from penumbra.figures._images import overlay

    background = np.random.default_rng(SEED).uniform(size=(4, 5))
    np.testing.assert_allclose(overlay(background, np.zeros((4, 5))), np.repeat(background[..., None], 3, axis=2))
    red, green, blue = overlay(background, np.ones((4, 5))).reshape(-1, 3).T
    assert (red > green + 0.4).all() and (red > blue + 0.3).all()
    ramp = overlay(np.full((256, 1), 0.5), np.linspace(0, 1, 256)[:, None])[:, 0]
    luminance = ramp @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance[64:]) < 0).all()


def test_outline_runs_along_the_pixels():
    from matplotlib.figure import Figure

    from penumbra.figures._images import outline

    marked = np.random.default_rng(SEED).uniform(size=(7, 9)) > 0.6
    axes = Figure().subplots()
    outline(axes, marked)
    drawn = {tuple(map(tuple, segment)) for segment in axes.collections[0].get_segments()}
    expected = set()
    for x in range(7):
        for y in range(9):
            if x < 6 and marked[x, y] != marked[x + 1, y]:
                expected.add(((x + 0.5, y - 0.5), (x + 0.5, y + 0.5)))
            if y < 8 and marked[x, y] != marked[x, y + 1]:
                expected.add(((x - 0.5, y + 0.5), (x + 0.5, y + 0.5)))
    assert drawn == expected


def test_looks_tell_candidates_apart_and_groups_by_hue(study):
    import colorsys

    from matplotlib.colors import to_rgb

    looks = _style.looks(study)
    assert len({(look.colour, look.marker) for look in looks.values()}) == len(looks)
    hue = {name: colorsys.rgb_to_hsv(*to_rgb(look.colour))[0] for name, look in looks.items()}
    conventional = [hue[n] for n in looks if n.startswith("conv")]
    soft = [hue[n] for n in looks if n.startswith("softseg")]
    assert min(conventional) > 0.5 and max(soft) < 0.15


def test_candidates_without_groups_share_rows():
    study = synthetic.context()
    alone = replace(study, candidates=candidate_infos({c: c for c in "abcdefg"}), reference="a")
    assert [len(row) for row in _style.grid_rows(alone)] == [3, 3, 1]


def test_house_style_leaves_the_users_settings_alone():
    import matplotlib

    with matplotlib.rc_context({"font.size": 31.0, "axes.grid": True}):
        with _style.house_style():
            assert matplotlib.rcParams["font.size"] == 7.0 and not matplotlib.rcParams["axes.grid"]
            assert matplotlib.rcParams["pdf.fonttype"] == 42
        assert matplotlib.rcParams["font.size"] == 31.0


def _write_all(folder: Path, study, metrics, tests, image_files) -> dict[str, bytes]:
    for dataset in study.datasets:
        metrics[metrics["dataset"] == dataset].to_parquet(folder / f"{dataset}.parquet")
    tests.to_csv(folder / "tests.csv", index=False)
    source = [str(folder / f"{d}.parquet") for d in study.datasets]
    calls = [
        {
            "told": synthetic.told(study, p, "figure"),
            "exhibit": p,
            "metrics": source,
            "tests": str(folder / "tests.csv"),
        }
        for p in STATISTICAL
    ]
    images = {k: [str(p) for p in v] if isinstance(v, list) else str(v) for k, v in image_files.items()}
    calls += [{"told": synthetic.told(study, p, "figure"), "exhibit": p, **images} for p in IMAGES[:-1]]
    progression = [str(p) for p in synthetic.progressions(folder, study, SEED)]
    last = IMAGES[-1]
    calls.append({"told": synthetic.told(study, last, "figure"), "exhibit": last, "progression": progression})
    (folder / "calls.json").write_text(json.dumps(calls))


def test_bytes_are_equal_in_two_processes(study, metrics, tests, image_files, tmp_path):
    _write_all(tmp_path, study, metrics, tests, image_files)
    program = (
        "import json, sys\nfrom penumbra.figures._write import write\n"
        "for call in json.load(open(sys.argv[1])): write(prefix=f\"{sys.argv[2]}/{call['exhibit']}\", **call)\n"
    )
    contents = []
    for run, zone in (("a", "UTC"), ("b", "Asia/Tokyo")):
        environment = os.environ | {"PYTHONHASHSEED": str(len(contents)), "TZ": zone, "OMP_NUM_THREADS": "1"}
        subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "calls.json"), str(tmp_path / run)],
            check=True,
            env=environment,
        )
        contents.append({p.name: p.read_bytes() for p in sorted((tmp_path / run).iterdir())})
        time.sleep(1.1)
    assert set(contents[0]) == {f"{p}{s}" for p in (*STATISTICAL, *IMAGES) for s in SUFFIXES}
    assert [n for n in contents[0] if contents[0][n] != contents[1][n]] == []
    pdf = contents[0]["reliability.pdf"]
    assert b"/Type3" not in pdf and b"CreationDate" not in pdf
    assert pd.read_csv(tmp_path / "a" / "reliability.csv")["exhibit"].eq("reliability").all()


def test_settled_figures_stand_on_round_positions_and_stay_there(study, metrics):
    """The solver of the layout differs in its last bits from run to run; a settled figure does not."""
    figure, _ = draw("reliability", study, metrics)
    before = [axes.get_position().bounds for axes in all_axes(figure)]
    for axes in figure.axes:
        x, y, width, height = axes.get_position(original=True).bounds
        axes.set_position((x + 1e-13, y - 1e-13, width, height), which="original")
    with _style.house_style():
        _style.settle(figure)
        figure.set_dpi(100)
        figure.canvas.draw()
    after = [axes.get_position().bounds for axes in all_axes(figure)]
    np.testing.assert_allclose(after, before, atol=0.02)
    places = [axes.get_position(original=True).get_points() for axes in figure.axes]
    places += [piece.bbox_relative.get_points() for piece in figure.subfigs]
    places += [np.array(text.get_position()) for piece in figure.subfigs for text in piece.texts]
    assert len(places) == 12 + 2 + 6
    for place in places:
        np.testing.assert_array_equal(place, np.round(place, 9))


def test_predictions_need_what_belongs_to_them(study, image_files, tmp_path):
    with pytest.raises(TypeError, match="hard_labels"):
        write(
            told=synthetic.told(study, "visual", "figure"),
            exhibit="v",
            prefix=tmp_path / "v",
            predictions=image_files["predictions"],
        )


def test_needs_are_readable_without_importing():
    needs = {name: parts.constant("figure", name, "NEEDS") for name in parts.names("figure")}
    assert needs["visual"] == ("predictions",)
    assert needs["segmentations"] == ("predictions",) and needs["learning_progression"] == ("progression",)
    assert all(set(n) <= {"metrics", "tests", "predictions", "progression", "claims"} for n in needs.values())
    code = (
        "import sys; from penumbra import parts; parts.constant('figure', 'visual', 'NEEDS'); "
        "assert not {'matplotlib', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)
