"""The scorecard: its marks against claims.csv and against what is drawn, nothing cut off, no claims at all."""

from __future__ import annotations

import importlib.util
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgba

from penumbra import parts
from penumbra.claims.judge import judge
from penumbra.claims.models import read_claims
from penumbra.figures import _style
from penumbra.figures._inputs import FigureInputs
from penumbra.figures._write import write
from penumbra.figures.scorecard import SYMBOLS
from penumbra.reporting.verdicts import COLUMNS
from tests.conftest import ROOT
from tests.unit.claimed_metrics import long, study

_SPEC = importlib.util.spec_from_file_location("synthetic_study", Path(__file__).with_name("synthetic_study.py"))
assert _SPEC is not None and _SPEC.loader is not None
synthetic = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(synthetic)

THESIS = ROOT / "config" / "claims" / "softseg_thesis.yaml"
CHAPTER_4 = ("hard-sig-dice", "hard-relu-wing", "soft-sig-wing", "soft-relu-dice", "soft-relu-wing")


def draw(path: Path, context):
    with _style.house_style():
        figure, marks = parts.build("figure", "scorecard", {}).draw(FigureInputs(claims=path), context)
        figure.canvas.draw()
    return figure, marks


@pytest.fixture
def judged(tmp_path, rng):
    context = study(6, CHAPTER_4, ("core", "rim"))
    values = {}
    for metric in ("dice", "recall", "precision", "avd", "rvd", "mse_depthless", "nonzero_share"):
        for target in ("core", "rim"):
            shift = dict(zip(CHAPTER_4, rng.normal(0, 0.5, 5), strict=True))
            values |= {(metric, target, n): rng.normal(shift[n], 0.1, (6, 4)) for n in CHAPTER_4}
    values |= {("ece", "image", n): rng.uniform(size=6) for n in CHAPTER_4}
    judge(read_claims(THESIS), long(values), context, 1).to_csv(tmp_path / "claims.csv", index=False)
    return tmp_path / "claims.csv", context


def test_marks_are_the_verdicts_of_the_file(judged):
    path, context = judged
    frame = pd.read_csv(path, dtype={"section": str})
    figure, marks = draw(path, context)
    verdicts = marks[marks["mark"] == "verdict"].reset_index(drop=True)
    assert len(verdicts) == len(frame)
    for column, other in (("displayed", "verdict"), ("name", "claim"), ("dataset", "dataset"), ("panel", "target")):
        assert verdicts[column].tolist() == frame[other].tolist()
    np.testing.assert_allclose(verdicts["value"].astype(float), frame["effect"], equal_nan=True)
    assert (verdicts["n_rows"] == 1).all()
    measured = frame[frame["standardised"].notna()]
    effects = marks[marks["mark"] == "effect"]
    np.testing.assert_allclose(effects["value"].astype(float), measured["standardised"])
    intervals = marks[marks["mark"] == "interval"]["value"].to_numpy(dtype=float).reshape(-1, 2)
    np.testing.assert_allclose(intervals, measured[["standardised_low", "standardised_high"]])
    drawn = [a for axes in figure.axes for a in axes.get_children() if isinstance(a, PathCollection)]
    points = [a for a in drawn if str(a.get_gid()).startswith("effect")]
    np.testing.assert_allclose([p.get_offsets()[0][0] for p in points], measured["standardised"])
    colours = {word: colour for word, (_, colour) in SYMBOLS.items()}
    for point, word in zip(points, measured["verdict"], strict=True):
        np.testing.assert_allclose(point.get_edgecolor()[0], to_rgba(colours[word]), atol=1e-6)


def test_every_verdict_is_told_in_words_and_nothing_leaves_the_page(judged):
    path, context = judged
    frame = pd.read_csv(path)
    figure, _ = draw(path, context)
    page = figure.axes[0]
    texts = [t for t in page.texts if t.get_text()]
    words = [t.get_text() for t in texts if t.get_text() in SYMBOLS]
    assert sorted(words) == sorted(frame["verdict"])
    bounds = figure.bbox
    for text in texts:
        box = text.get_window_extent()
        assert box.x0 >= bounds.x0 - 1 and box.x1 <= bounds.x1 + 1, text.get_text()
        assert box.y0 >= bounds.y0 - 1 and box.y1 <= bounds.y1 + 1, text.get_text()
    together = " ".join(t.get_text().replace("\n", " ").replace("\u00a0", " ") for t in texts)
    for row in frame.to_dict("records"):
        assert row["statement"] in together and row["published"] in together


def test_a_long_title_of_a_data_set_is_shown_whole_above_the_claims(judged):
    path, context = judged
    (name, dataset), *_ = context.datasets.items()
    title = "Nodules of the lung in computed tomography outlined by four radiologists in turn and unaware of each other"
    classes = ("core_of_the_nodule_as_seen_by_all_four", *dataset.classes[1:])
    frame = pd.read_csv(path, dtype={"section": str}).replace({"target": {dataset.classes[0]: classes[0]}})
    frame.to_csv(path, index=False)
    named = replace(context, datasets={name: replace(dataset, title=title, classes=classes)})
    figure, _ = draw(path, named)
    (found,) = [t for t in figure.axes[0].texts if t.get_text().replace("\n", " ") == title]
    box = found.get_window_extent()
    assert box.y1 <= figure.bbox.y1
    for other in figure.axes[0].texts:
        if other is not found and other.get_text():
            assert not box.overlaps(other.get_window_extent()), other.get_text()


def test_rows_do_not_run_into_each_other(judged):
    path, context = judged
    figure, _ = draw(path, context)
    boxes = sorted((t.get_window_extent() for t in figure.axes[0].texts if "(4." in t.get_text()), key=lambda b: b.y0)
    assert len(boxes) > 10
    assert all(below.y1 < above.y0 for below, above in itertools.pairwise(boxes))


def test_files_are_written_and_equal_claims_give_equal_bytes(judged, tmp_path):
    path, context = judged
    told = synthetic.told(context, "scorecard", "figure")
    first = write(told=told, exhibit="scorecard", prefix=tmp_path / "one", claims=path)
    second = write(told=told, exhibit="scorecard", prefix=tmp_path / "two", claims=path)
    assert [a.read_bytes() for a in first] == [b.read_bytes() for b in second]
    assert (pd.read_csv(first[2])["exhibit"] == "scorecard").all()


def test_some_of_the_data_sets_are_shown_without_the_verdict_over_all(tmp_path):
    context = synthetic.context(6, 6)
    frame = judge(read_claims(THESIS), synthetic.long_metrics(context, 1), context, 1)
    frame.to_csv(tmp_path / "claims.csv", index=False)
    _, marks = draw(tmp_path / "claims.csv", context.only(["ms_brain"]))
    assert set(marks["dataset"]) == {"ms_brain"}
    _, marks = draw(tmp_path / "claims.csv", context)
    assert set(marks["dataset"]) == {"scgm", "ms_brain", "all"}


def test_no_claims(tmp_path):
    pd.DataFrame(columns=list(COLUMNS)).to_csv(tmp_path / "claims.csv", index=False)
    figure, marks = draw(tmp_path / "claims.csv", study())
    assert marks.empty and any("None of the paper's claims" in t.get_text() for t in figure.axes[0].texts)
    with pytest.raises(TypeError, match="NEEDS"):
        parts.build("figure", "scorecard", {}).draw(FigureInputs(), study())


def test_the_caption_explains_every_symbol():
    text = parts.build("figure", "scorecard", {}).caption(study())
    assert all(word in text.lower() for word in SYMBOLS) and "0.05" in text and "rank-biserial" in text
