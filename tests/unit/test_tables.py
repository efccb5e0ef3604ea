"""Tables: numbers against plain pandas, marks, undefined and missing cells, and the three formats."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from penumbra import parts
from penumbra.errors import PenumbraError
from penumbra.metrics.rows import row_names
from penumbra.reporting.context import DatasetInfo, StudyContext, StudyData, candidate_infos
from penumbra.reporting.numbers import CellIndex, rows_digest, show
from penumbra.tables._render import latex, latex_escape, markdown
from penumbra.tables._write import SUFFIXES, write

_SPEC = importlib.util.spec_from_file_location("synthetic_study", Path(__file__).with_name("synthetic_study.py"))
assert _SPEC is not None and _SPEC.loader is not None
synthetic = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(synthetic)

PARTS = ("uncertainty_preservation", "segmentation_performance", "calibration")
SEED = int(np.random.SeedSequence().entropy % 2**32)


@pytest.fixture(scope="module")
def study():
    return synthetic.context()


@pytest.fixture(scope="module")
def metrics(study):
    print("seed", SEED)
    return synthetic.long_metrics(study, SEED)


@pytest.fixture(scope="module")
def tests(study, metrics):
    return synthetic.tests_of(study, metrics, SEED)


def build(part, long, study, tests=None, published=None, **options):
    data = StudyData(long, tests, published)
    return parts.build("table", part, options)(data, study, "table-x", "A title")


def numbers(table):
    """The cells of the table itself, without marks and notes."""
    frame = table.index.frame()
    return frame[frame["estimator"].isin(["mean_over_splits", "as_printed"])]


def cells(table, **equal):
    frame = numbers(table)
    for key, value in equal.items():
        frame = frame[frame[key] == value]
    return frame


@pytest.mark.parametrize("part", PARTS)
def test_every_number_is_recomputed_from_the_long_metrics(part, study, metrics, tests):
    table = build(part, metrics, study, tests)
    frame = numbers(table)
    assert len(frame) == len(table.tidy) > 0
    for cell in frame.to_dict("records"):
        rows = metrics[metrics["dataset"] == cell["dataset"]].query(cell["filter"])
        per_split = [group["value"].mean() for _, group in rows.groupby("split")]
        assert cell["value"] == pytest.approx(np.mean(per_split))
        assert cell["std"] == pytest.approx(np.std(per_split, ddof=1))
        assert cell["n"] == len(per_split)
        decimals = cell["decimals"]
        mean, std = np.mean(per_split) * cell["scale"], np.std(per_split, ddof=1) * cell["scale"]
        expected = f"{mean:z.{decimals}f} ± {std:.{decimals}f}"  # "-0.0" is shown as "0.0"
        assert cell["displayed"] == expected
        assert (cell["n_rows"], cell["rows_sha256"]) == rows_digest(rows["row"])


@pytest.mark.parametrize("part", PARTS)
def test_all_displayed_numbers_are_in_markdown_latex_and_index(part, study, metrics, tests):
    table = build(part, metrics, study, tests)
    text = markdown(table).replace("**", "")
    tex = re.sub(r"\\textbf\{([^}]*)\}|\$\\mathbf\{([^}]*)\}\$", lambda m: m.group(1) or m.group(2), latex(table))
    tex = tex.replace(r"$\pm$", "±").replace("$", "")
    shown = [c.shown.plain for b in table.blocks for r in b.rows for c in r.cells]
    assert sorted(shown) == sorted(numbers(table)["displayed"])
    for number in shown:
        assert number in text
        assert number in tex


def test_percent_and_three_significant_digits(study, metrics):
    dice = cells(build("segmentation_performance", metrics, study), metric="dice")
    assert (dice["scale"] == 100).all() and (dice["decimals"] == 1).all()
    brier = cells(build("uncertainty_preservation", metrics, study), metric="brier", target="gray_matter")
    assert (brier["scale"] * brier["value"]).max() < 10 and (brier["decimals"] == 2).all()


@pytest.mark.parametrize(("metric", "optimum"), [("dice", 1.0), ("avd", 0.0), ("rvd", 0.0)])
def test_best_is_nearest_to_the_optimum(metric, optimum, study, metrics):
    table = build("segmentation_performance", metrics, study)
    for _, column in cells(table, metric=metric).groupby(["dataset", "target"]):
        distance = [abs(float(d.split(" ±")[0]) - 100 * optimum) for d in column["displayed"]]
        assert list(column["best"]) == [d == min(distance) for d in distance]


def test_ties_as_displayed_are_all_bold(study, metrics):
    tied = metrics.copy()
    chosen = (tied["metric"] == "dice") & tied["candidate"].isin(["conv-staple", "softseg-staple"])
    tied.loc[chosen, "value"] = 0.99
    tied.loc[chosen & (tied["candidate"] == "conv-staple"), "value"] += 1e-6
    dice = cells(build("segmentation_performance", tied, study), metric="dice", target="lesion")
    assert set(dice[dice["best"]]["candidate"]) == {"conv-staple", "softseg-staple"}
    assert "**99.0** ± 0.0" in markdown(build("segmentation_performance", tied, study))


def test_negative_values_nearest_to_zero_are_bold_in_both_formats(study, metrics):
    signed = metrics.copy()
    rvd = signed["metric"] == "rvd"
    signed.loc[rvd, "value"] = -0.5
    signed.loc[rvd & (signed["candidate"] == "softseg-average"), "value"] = -0.02
    table = build("segmentation_performance", signed, study, metrics=["rvd"])
    assert "**-2.0** ± 0.0" in markdown(table)
    assert r"$\mathbf{-2.0}$ $\pm$ 0.0" in latex(table)


def test_asterisks_follow_the_raw_p_and_dagger_holm(study, metrics, tests):
    edited = tests.copy()
    here = (edited["view"] == "split") & (edited["metric"] == "dice") & (edited["target"] == "lesion")
    for candidate, p, p_holm in (
        ("conv-average", 0.049, 0.2),
        ("conv-random", 0.001, 0.01),
        ("softseg-staple", 0.05, 0.05),
        ("softseg-average", np.nan, np.nan),
    ):
        edited.loc[here & (edited["candidate"] == candidate), ["p", "p_holm"]] = p, p_holm
    table = build("segmentation_performance", metrics, study, edited)
    block = next(b for b in table.blocks if b.columns[0].dataset.name == "ms_brain")
    at = [c.quantity.metric for c in block.columns].index("dice")
    told = ("".join(mark.plain for mark in row.cells[at].marks) for row in block.rows)
    marks = dict(zip(study.candidates, told, strict=True))
    assert marks["conv-staple"] == ""
    assert marks["conv-average"] == "**"
    assert marks["conv-random"] == "**†"
    assert marks["softseg-staple"] == ""
    assert marks["softseg-average"] == ""
    assert r"\*\*†" in markdown(table)


def test_case_view_never_marks(study, metrics, tests):
    edited = tests.copy()
    edited["p"] = np.where(edited["view"] == "case", 1e-9, 0.9)
    assert not build("segmentation_performance", metrics, study, edited).index.frame()["significant"].eq(True).any()


def test_undefined_values_are_counted_and_said(study, metrics):
    holed = metrics.copy()
    lesion = (holed["candidate"] == "conv-average") & (holed["target"] == "lesion") & (holed["metric"] == "precision")
    some = lesion & (holed["split"] == 0) & (holed["case"] == holed.loc[lesion, "case"].iloc[0])
    holed.loc[some, ["value", "status"]] = np.nan, "undefined: nothing predicted"
    every = (holed["candidate"] == "softseg-random") & (holed["target"] == "lesion") & (holed["metric"] == "avd")
    holed.loc[every, ["value", "status"]] = np.nan, "undefined: empty reference"
    table = build("segmentation_performance", holed, study)
    part = cells(table, candidate="conv-average", target="lesion", metric="precision").iloc[0]
    rows = holed[lesion]
    assert part["n_undefined"] == some.sum() > 0
    assert part["value"] == pytest.approx(rows.groupby("split")["value"].mean().mean())
    none = cells(table, candidate="softseg-random", target="lesion", metric="avd").iloc[0]
    assert (none["displayed"], none["status"], none["n"]) == ("undefined (n=0)", "undefined", 0)
    text = markdown(table)
    assert "undefined (n=0) ‡" in text
    assert "undefined: nothing predicted" in text and "undefined: empty reference" in text


def test_missing_candidate_is_a_row_that_says_so(study, metrics):
    without = metrics[metrics["candidate"] != "conv-random"]
    table = build("segmentation_performance", without, study)
    assert all(len([r for r in b.rows if r.kind == "ours"]) == len(study.candidates) for b in table.blocks)
    missing = cells(table, candidate="conv-random")
    assert (missing["displayed"] == "missing (n=0)").all() and (missing["status"] == "missing").all()
    assert "the run is missing or failed" in markdown(table)
    assert not missing["best"].any()


def test_missing_split_is_told(study, metrics):
    lost = metrics[~((metrics["candidate"] == "conv-random") & (metrics["split"] == 2))]
    table = build("segmentation_performance", lost, study)
    assert (cells(table, candidate="conv-random", dataset="scgm")["n"] == 7).all()
    assert "7 of 8 splits used" in markdown(table)


def test_one_split_has_no_deviation():
    one = synthetic.context(splits=1, other_splits=1)
    metrics = synthetic.long_metrics(one, SEED)
    table = build("uncertainty_preservation", metrics, one, synthetic.tests_of(one, metrics, SEED))
    assert numbers(table)["std"].isna().all()
    assert numbers(table)["displayed"].str.endswith(" ± n/a").all()
    assert "cannot give less than p = 1," in markdown(table)


def test_no_metrics_at_all(study, metrics):
    table = build("calibration", metrics.iloc[:0], study)
    assert (numbers(table)["status"] == "missing").all()


def test_published_lines_stand_beside_the_papers_own_data_sets(study, metrics, tmp_path):
    published = pd.read_csv(synthetic.PUBLISHED, dtype=str)
    table = build("segmentation_performance", metrics, study, published=published)
    lines = [r for b in table.blocks for r in b.rows if r.kind == "published"]
    assert len(lines) == 12
    row = cells(table, row="published: SoftSeg-STAPLE", dataset="scgm", metric="dice", target="gray_matter").iloc[0]
    assert row["displayed"] == "87.1 ± 3.4" and row["significant"]
    tidy = table.tidy.query("candidate == 'softseg-staple' and target == 'gray_matter' and metric == 'dice'").iloc[0]
    assert tidy["published_mean"] == "87.1"
    brier = cells(
        build("uncertainty_preservation", metrics, study, published=published),
        row="published: Conv-Average",
        metric="brier",
    )
    assert "1.70 ± 1.05" in set(brier["displayed"])
    calibration = build("calibration", metrics, study, published=published)
    assert set(cells(calibration, row="published: Conv-* (mean of 3)")["displayed"]) == {"16.2", "20.4"}


def test_agreement_of_classes_stands_beside_the_paper():
    rng = np.random.default_rng(SEED)
    labels = {"deepmedic": "DeepMedic", "low-rank-30": "SSN low-rank 30 mm"}
    classes = ("net", "edema", "enhancing")
    brats = DatasetInfo("brats_2017", "BraTS 2017", classes, (0, 1), evaluation={"readers": True})
    wanted = [(c, "dice") for c in classes] + [("image", m) for m in ("dice_foreground", "ged", "sample_diversity")]
    rows = pd.DataFrame(
        [
            {"dataset": "brats_2017", "candidate": c, "split": s, "case": f"p{k}", "scope": "case", "target": target,
             "metric": m, "bin": pd.NA, "value": rng.uniform(), "n": 4, "status": "ok"}
            for c in labels for s in range(2) for k in range(4) for target, m in wanted
        ]
    )  # fmt: skip
    rows.insert(0, "row", row_names(rows))
    made = StudyContext("ssn", "SSN", "ssn", {"brats_2017": brats}, candidate_infos(labels), "deepmedic")
    published = pd.read_csv(synthetic.PUBLISHED.with_name("stochastic_segmentation_networks.csv"), dtype=str)
    table = build("sample_agreement", rows, made, published=published, columns="classes")
    theirs = cells(table, row="published: SSN low-rank 30 mm")
    assert dict(zip(theirs["target"] + " " + theirs["metric"], theirs["displayed"], strict=True)) == {
        "image dsc_whole_tumor": "88.0 ± 1.3", "net dsc_net": "59.3 ± 3.1", "edema dsc_edema": "71.7 ± 2.3",
        "enhancing dsc_enhancing": "68.7 ± 3.5", "image ged_squared": "0.635 ± 0.029",
        "image sample_diversity": "0.312 ± 0.014",
    }  # fmt: skip
    found = cells(table, row="DeepMedic", metric="dice", target="edema").iloc[0]
    per_split = rows.query("candidate == 'deepmedic' and target == 'edema'").groupby("split")["value"].mean()
    assert found["displayed"] == f"{100 * per_split.mean():.1f} ± {100 * per_split.std():.1f}"


def test_agreement_with_readers_stands_beside_the_paper():
    rng = np.random.default_rng(SEED)
    labels = {"low-rank-one": "SSN low-rank (set 0)", "low-rank-all": "SSN low-rank (all sets)"}
    lidc = DatasetInfo("lidc", "LIDC-IDRI", ("nodule",), (0, 1, 2), evaluation={"readers": True})
    names = (
        "reader_dice",
        "reader_dice_annotated",
        "ged",
        "sample_diversity",
        "reader_diversity",
        "matched_iou",
        "reader_entropy",
    )
    rows = pd.DataFrame(
        [
            {"dataset": "lidc", "candidate": c, "split": s, "case": f"p{k}", "scope": "case", "target": "image",
             "metric": m, "bin": pd.NA, "value": rng.uniform(), "n": 4, "status": "ok"}
            for c in labels for s in range(3) for k in range(4) for m in names
        ]
    )  # fmt: skip
    rows.insert(0, "row", row_names(rows))
    made = StudyContext("ssn", "SSN", "ssn", {"lidc": lidc}, candidate_infos(labels), "low-rank-one")
    published = pd.read_csv(synthetic.PUBLISHED.with_name("stochastic_segmentation_networks.csv"), dtype=str)
    table = build("sample_agreement", rows, made, published=published)
    found = cells(table, row="SSN low-rank (all sets)", metric="ged").iloc[0]
    theirs = cells(table, row="published: SSN low-rank (all sets)")
    per_split = rows.query("candidate == 'low-rank-all' and metric == 'ged'").groupby("split")["value"].mean()
    assert found["displayed"] == f"{per_split.mean():.3f} ± {per_split.std():.3f}"
    assert {"43.6 ± 0.4", "68.5 ± 0.3", "0.225 ± 0.002", "0.609 ± 0.002"} == set(theirs["displayed"])
    assert [row.label for block in table.blocks for row in block.rows if row.kind == "ours"] == [
        "SSN low-rank (set 0) (ref)",
        "SSN low-rank (all sets)",
    ]
    assert "standard error" in markdown(table)
    assert "matched_iou" in set(numbers(build("sample_agreement", rows, made, matched=True))["metric"])
    added = numbers(build("sample_agreement", rows, made, entropy=True)).query("metric == 'reader_entropy'")
    assert len(added) == 2 and (added["scale"] == 100).all()
    silent = replace(made, datasets={"lidc": replace(lidc, evaluation={})})
    with pytest.raises(PenumbraError, match="readers of lidc") as told:
        build("sample_agreement", rows, silent)
    assert "readers: true" in str(told.value) and "lidc.yaml" in str(told.value)


def test_other_data_sets_have_no_published_line(study, metrics):
    renamed = metrics.assign(dataset=metrics["dataset"].replace({"scgm": "phantom", "ms_brain": "other"}))
    datasets = {
        new: replace(study.datasets[old], name=new) for old, new in (("scgm", "phantom"), ("ms_brain", "other"))
    }
    published = pd.read_csv(synthetic.PUBLISHED, dtype=str)
    table = build("uncertainty_preservation", renamed, replace(study, datasets=datasets), published=published)
    assert all(row.kind == "ours" for block in table.blocks for row in block.rows)
    assert "published" not in markdown(table)


def test_layout_of_the_thesis(study, metrics):
    assert [len(b.columns) for b in build("uncertainty_preservation", metrics, study).blocks] == [7]
    assert [len(b.columns) for b in build("segmentation_performance", metrics, study).blocks] == [10, 5]


# ---------------------------------------------------------------- chapter 4 and presets


def lesion_study(study):

    return replace(study, datasets={"ms_brain": study.datasets["ms_brain"]})


@pytest.mark.parametrize("convention", ["depthless", "voxels"])
def test_mse_is_that_of_the_data_sets_convention(convention, study, metrics):

    dataset = replace(study.datasets["scgm"], evaluation={"squared_error": convention})
    own = replace(study, datasets={"scgm": dataset})
    published = pd.read_csv(synthetic.PUBLISHED, dtype=str)
    table = build("segmentation_performance", metrics, own, published=published, metrics=["dice", "mse"])
    name = "mse_depthless" if convention == "depthless" else "mse"
    cell = cells(table, candidate="softseg-staple", target="gray_matter", metric=name).iloc[0]
    rows = metrics.query("dataset == 'scgm' and candidate == 'softseg-staple' and target == 'gray_matter'")
    expected = rows[rows["metric"] == name].groupby("split")["value"].mean()
    assert cell["value"] == pytest.approx(expected.mean()) and cell["std"] == pytest.approx(expected.std(ddof=1))
    assert cells(table, metric="mse" if name != "mse" else "mse_depthless").empty
    assert ("by the voxels of one slice" in table.caption) == (convention == "depthless")


def chapter_4(study):
    """The study with the candidates of chapter 4 in place of its own."""

    labels = ("Hard-Sig-Dice", "Hard-ReLU-Wing", "Soft-ReLU-Dice", "Soft-Sig-Wing", "Soft-ReLU-Wing")
    infos = candidate_infos(dict(zip(synthetic.LABELS, labels, strict=False)))
    return replace(study, candidates=infos, reference="softseg-average")


def test_published_values_of_chapter_4_and_what_is_known_of_them(study, metrics):
    published = pd.read_csv(synthetic.PUBLISHED, dtype=str)
    names = ["dice", "precision", "recall", "avd", "rvd", "mse"]
    table = build("segmentation_performance", metrics, chapter_4(study), published=published, metrics=names)
    here = cells(table, row="published: Soft-Sig-Wing", dataset="scgm", target="gray_matter").set_index("metric")
    assert here.loc["dice", "displayed"] == "52.9 ± 36.7" and here.loc["mse", "displayed"] == "0.611 ± 0.306"
    assert "47.2 ± 36.6" in here.loc["dice", "status"] and "one slice" in here.loc["mse", "status"]
    text = "\n".join(table.notes)
    assert "47.2 ± 36.6." in text and "(table or section 4.3, 4.4)" in text
    other = cells(table, row="published: Soft-ReLU-Wing", dataset="scgm", metric="dice").iloc[0]
    assert (other["displayed"], other["status"]) == ("84.3 ± 4.7", "ok")
    row = next(r for b in table.blocks for r in b.rows if r.kind == "published" and r.group == "Soft labels")
    assert len({mark.plain for cell in row.cells for mark in cell.marks} & {"§", "¶"}) > 0


def test_a_data_set_under_a_preset_keeps_its_published_values_and_says_its_preset(study, metrics):

    text = replace(study.datasets["scgm"], name="scgm.text", preset="text")
    renamed = metrics.assign(dataset=metrics["dataset"].replace({"scgm": "scgm.text"}))
    own = replace(chapter_4(study), datasets={"scgm.text": text})
    published = pd.read_csv(synthetic.PUBLISHED, dtype=str)
    table = build("segmentation_performance", renamed, own, published=published)
    assert cells(table, row="published: Hard-Sig-Dice", metric="dice").iloc[0]["displayed"] == "82.3 ± 5.0"
    assert "segmentation challenge [text]" in markdown(table).replace("\\", "")


def test_lesion_rates_by_size(study, metrics):
    own = lesion_study(study)
    table = build("segmentation_performance", metrics, own, metrics=["lfdr", "ltpr"], sizes=True)
    (block,) = table.blocks
    assert [c.quantity.heading for c in block.columns] == [
        *("LFDR", "LFDR, up to 20 voxels", "LFDR, 21 to 100 voxels", "LFDR, over 100 voxels"),
        *("LTPR", "LTPR, up to 20 voxels", "LTPR, 21 to 100 voxels", "LTPR, over 100 voxels"),
    ]
    for cell in numbers(table).to_dict("records"):
        rows = metrics[metrics["dataset"] == "ms_brain"].query(cell["filter"])
        per_split = rows.groupby("split")["value"].mean()
        assert rows["bin"].nunique(dropna=False) == 1
        assert cell["value"] == pytest.approx(per_split.mean()) and cell["n"] == 5
        assert cell["std"] == pytest.approx(per_split.std(ddof=1))
    by_size = cells(table, metric="ltpr_by_size", candidate="conv-staple")
    expected = metrics.query("dataset == 'ms_brain' and candidate == 'conv-staple' and metric == 'ltpr_by_size'")
    means = expected.groupby(["bin", "split"])["value"].mean().groupby("bin").mean()
    np.testing.assert_allclose(by_size["value"], means)
    best = cells(table, metric="lfdr_by_size").groupby("column")
    assert all((g["best"] == (g["displayed"].str.split(" ").str[0].astype(float).pipe(lambda v: v == v.min()))).all()
               for _, g in best)  # fmt: skip
    assert list(table.tidy["bin"].dropna().unique()) == [0, 1, 2]
    compile_latex(latex(table))


def test_lesion_rates_of_a_data_set_without_lesions_are_refused(study, metrics):
    from penumbra.errors import PenumbraError

    with pytest.raises(PenumbraError, match="LTPR is to be shown of scgm, whose lesions are not counted"):
        build("segmentation_performance", metrics, study, metrics=["dice", "ltpr"])


def test_calibration_shows_the_data_sets_own_convention_first(study, metrics):

    closed = replace(study.datasets["ms_brain"], evaluation={"last_bin": "closed"})
    table = build("calibration", metrics, replace(study, datasets={**study.datasets, "ms_brain": closed}))
    order = [(c.dataset.name, c.quantity.metric) for b in table.blocks for c in b.columns]
    assert order == [
        *(("scgm", m) for m in ("ece", "ece_dropped", "ece_closed")),
        *(("ms_brain", m) for m in ("ece_closed", "ece", "ece_dropped")),
    ]


@pytest.fixture(scope="module")
def two_presets(study):
    """One data set under two presets that differ in a choice of the data set and one of the candidates."""

    sound = replace(
        study.datasets["scgm"], name="scgm.sound", preset="sound",
        evaluation={"last_bin": "closed", "squared_error": "voxels"},
    )  # fmt: skip

    def decided(preset, bin_, scope):
        def one(choice, used, deviates=False):
            return {"choice": choice, "preset": preset, "expected": used, "used": used, "deviates": deviates}

        return {"dataset": [one("last-bin", bin_)],
                "candidates": {c: [one("scope", scope), one("same", True)] for c in study.candidates}}  # fmt: skip

    return replace(
        study,
        datasets={"scgm": study.datasets["scgm"], "ms_brain": study.datasets["ms_brain"], "scgm.sound": sound},
        choices={"scope": {"title": "Scope of the maximum", "note": "n", "source": "s"}},
        decisions={"scgm": decided("published", "open", "batch"), "scgm.sound": decided("sound", "closed", "image")},
    )


def test_presets_stand_side_by_side(two_presets, metrics):
    renamed = metrics[metrics["dataset"] == "scgm"].assign(dataset="scgm.sound")
    renamed["value"] = renamed["value"] * 0.9
    both = pd.concat([metrics, renamed])
    table = build("presets", both, two_presets, synthetic.tests_of(two_presets, both, SEED))
    (block,) = table.blocks
    assert [(r.group, r.label) for r in block.rows[:3]] == [
        ("Conv-STAPLE (ref)", "published"), ("Conv-STAPLE (ref)", "sound"), ("Conv-Average", "published"),
    ]  # fmt: skip
    assert len(block.rows) == 12 and "| Candidate | Preset |" in markdown(table)
    at = [(c.quantity.heading, c.target) for c in block.columns]
    for row, (candidate, dataset) in zip(
        block.rows, [(c, d) for c in synthetic.LABELS for d in ("scgm", "scgm.sound")], strict=True
    ):
        own = both[(both["dataset"] == dataset) & (both["candidate"] == candidate)]
        closed = dataset.endswith("sound")
        for heading, target, metric, scale, decimals in (
            ("Dice", "white_matter", "dice", 100, 1),
            ("ECE", "image", "ece_closed" if closed else "ece", 100, 1),
        ):
            values = own[(own["metric"] == metric) & (own["target"] == target)].groupby("split")["value"].mean()
            shown = row.cells[at.index((heading, target))].shown
            assert shown.plain == f"{values.mean() * scale:.{decimals}f} ± {values.std() * scale:.{decimals}f}"
    mse = cells(table, candidate="conv-random", target="gray_matter")
    assert {m for m in mse["metric"] if m.startswith("mse")} == {"mse", "mse_depthless"}
    assert "Scope of the maximum (published batch, sound image)" in table.caption
    assert (
        "last-bin (published open, sound closed)" in table.caption and "same" not in table.caption.split("differ:")[1]
    )
    assert "MS brain" not in markdown(table)
    compile_latex(latex(table))


def test_presets_of_one_are_refused(study, metrics):
    from penumbra.errors import PenumbraError

    with pytest.raises(PenumbraError, match="none of its data sets has more than one"):
        build("presets", metrics, study)


def test_groups_come_from_the_labels():
    infos = candidate_infos({"a": "Conv-A", "b": "Conv-B-C", "c": "Lone-D", "d": "Plain"})
    assert [(i.group, i.short) for i in infos.values()] == [
        ("Conventional", "A"),
        ("Conventional", "B-C"),
        ("", "Lone-D"),
        ("", "Plain"),
    ]


@pytest.mark.parametrize(
    ("value", "std", "options", "text"),
    [
        (0.866, 0.028, {"scale": 100}, "86.6 ± 2.8"),
        (-0.0004, None, {"scale": 100}, "0.0"),
        (-0.04, 0.0, {"decimals": 1}, "0.0 ± 0.0"),
        (-0.05001, None, {}, "-0.1"),
        (1.0, float("nan"), {"decimals": 2}, "1.00 ± n/a"),
        (float("nan"), 0.1, {"n": 0}, "undefined (n=0)"),
        (float("inf"), None, {}, "undefined"),
    ],
)
def test_show(value, std, options, text):
    assert str(show(value, std, **options)) == text


def test_cell_index_refuses_unknown_columns():
    with pytest.raises(TypeError, match="colour"):
        CellIndex("x").number("smallest_p", None, row="r", column="c", argument={"pairs": 3}, colour="red")


def test_latex_escapes_special_characters(study, metrics):
    assert latex_escape("50% & a_b {c} $x$ #1 ~ ^ \\") == (
        r"50\% \& a\_b \{c\} \$x\$ \#1 \textasciitilde{} \textasciicircum{} \textbackslash{}"
    )

    nasty = replace(study.datasets["ms_brain"], title="R&D_50% #1 {x} $y$ ~^\\", classes=("lesion",))
    table = build("segmentation_performance", metrics, replace(study, datasets={"ms_brain": nasty}))
    compile_latex(latex(table))


def compile_latex(text: str) -> None:
    """Braces and environments balance; and LaTeX itself accepts it, where it is installed."""
    bare = re.sub(r"\\[{}\\]", "", text)
    assert bare.count("{") == bare.count("}")
    assert sorted(re.findall(r"\\begin\{(\w+)\}", text)) == sorted(re.findall(r"\\end\{(\w+)\}", text))
    for row in re.findall(r"^.*\\\\$", text, flags=re.M):
        assert not re.search(r"(?<!\\)[#]", row)
    if shutil.which("pdflatex") is None:
        return
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        source = (
            r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs,graphicx}\begin{document}"
            + text
            + r"\end{document}"
        )
        Path(folder, "t.tex").write_text(source, encoding="utf-8")
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-draftmode", "t.tex"],
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
        )
        assert done.returncode == 0, done.stdout[-2000:]


def test_files_are_written_and_stable(study, metrics, tests, tmp_path):
    for dataset in study.datasets:
        metrics[metrics["dataset"] == dataset].to_parquet(tmp_path / f"{dataset}.parquet")
    tests.to_csv(tmp_path / "tests.csv", index=False)
    content = []
    for run in ("a", "b"):
        paths = write(
            told=synthetic.told(study, "segmentation_performance"),
            exhibit="table-5-3",
            metrics=[tmp_path / f"{d}.parquet" for d in study.datasets],
            tests=tmp_path / "tests.csv",
            published=synthetic.PUBLISHED,
            prefix=tmp_path / run / "table-5-3",
        )
        assert [p.name for p in paths] == [f"table-5-3{s}" for s in SUFFIXES]
        content.append([p.read_bytes() for p in paths])
    assert content[0] == content[1]
    tidy = pd.read_csv(tmp_path / "a" / "table-5-3.csv")
    assert tidy["published_mean"].notna().any()
    expected = metrics.query("candidate == 'conv-staple' and metric == 'dice' and target == 'lesion'")
    value = tidy.query("candidate == 'conv-staple' and metric == 'dice' and target == 'lesion'")["mean"].iloc[0]
    assert value == pytest.approx(expected.groupby("split")["value"].mean().mean(), rel=1e-12)
    index = pd.read_csv(tmp_path / "a" / "table-5-3.cells.csv")
    assert index["source"].dropna().str.endswith(".parquet").any()
    compile_latex((tmp_path / "a" / "table-5-3.tex").read_text(encoding="utf-8"))


def test_rows_of_other_studies_are_left_out(study, metrics, tmp_path):
    stranger = metrics[metrics["candidate"] == "conv-staple"].assign(candidate="another", value=0.0)
    later = metrics.assign(split=metrics["split"] + 100, value=0.0)
    both = pd.concat([metrics, stranger, later])
    clean = []
    for name, table in (("all", both), ("own", metrics)):
        table.to_parquet(tmp_path / f"{name}.parquet")
        write(
            told=synthetic.told(study, "calibration"),
            exhibit="t",
            metrics=[tmp_path / f"{name}.parquet"],
            tests=None,
            prefix=tmp_path / name / "t",
        )
        clean.append((tmp_path / name / "t.csv").read_bytes())
    assert clean[0] == clean[1]


def test_needs_are_readable_without_importing():
    for name in PARTS:
        assert "metrics" in parts.constant("table", name, "NEEDS")
