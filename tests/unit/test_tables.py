"""Tables: numbers against plain pandas, marks, undefined and missing cells, and the three formats."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from penumbra import parts
from penumbra.reporting.context import StudyData, candidate_infos
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


def cells(table, **equal):
    frame = table.index.frame()
    for key, value in equal.items():
        frame = frame[frame[key] == value]
    return frame


@pytest.mark.parametrize("part", PARTS)
def test_every_number_is_recomputed_from_the_long_metrics(part, study, metrics, tests):
    table = build(part, metrics, study, tests)
    frame = table.index.frame()
    assert len(frame) == len(table.tidy) > 0
    for cell in frame.to_dict("records"):
        rows = metrics[metrics["dataset"] == cell["dataset"]].query(cell["filter"])
        per_split = [group["value"].mean() for _, group in rows.groupby("split")]
        assert cell["value"] == pytest.approx(np.mean(per_split))
        assert cell["std"] == pytest.approx(np.std(per_split, ddof=1))
        assert cell["n"] == len(per_split)
        decimals = cell["decimals"]
        mean, std = np.mean(per_split) * cell["scale"], np.std(per_split, ddof=1) * cell["scale"]
        expected = f"{mean:.{decimals}f} ± {std:.{decimals}f}"
        assert cell["displayed"] == expected
        assert (cell["n_rows"], cell["rows_sha256"]) == rows_digest(rows["row"])


@pytest.mark.parametrize("part", PARTS)
def test_all_displayed_numbers_are_in_markdown_latex_and_index(part, study, metrics, tests):
    table = build(part, metrics, study, tests)
    text = markdown(table).replace("**", "")
    tex = re.sub(r"\\textbf\{([^}]*)\}|\$\\mathbf\{([^}]*)\}\$", lambda m: m.group(1) or m.group(2), latex(table))
    tex = tex.replace(r"$\pm$", "±").replace("$", "")
    shown = [str(c.shown) for b in table.blocks for r in b.rows for c in r.cells]
    assert sorted(shown) == sorted(table.index.frame()["displayed"])
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
    marks = dict(zip(study.candidates, (row.cells[at].marks for row in block.rows), strict=True))
    assert marks["conv-staple"] == ()
    assert marks["conv-average"] == ("**",)
    assert marks["conv-random"] == ("**", "†")
    assert marks["softseg-staple"] == ()
    assert marks["softseg-average"] == ()
    assert r"\*\*†" in markdown(table)


def test_case_view_never_marks(study, metrics, tests):
    edited = tests.copy()
    edited["p"] = np.where(edited["view"] == "case", 1e-9, 0.9)
    assert not build("segmentation_performance", metrics, study, edited).index.frame()["significant"].any()


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
    assert table.index.frame()["std"].isna().all()
    assert table.index.frame()["displayed"].str.endswith(" ± n/a").all()
    assert "cannot give less than p = 1," in markdown(table)


def test_no_metrics_at_all(study, metrics):
    table = build("calibration", metrics.iloc[:0], study)
    assert (table.index.frame()["status"] == "missing").all()


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


def test_other_data_sets_have_no_published_line(study, metrics):
    from dataclasses import replace

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
        CellIndex("x").number(1.0, row="r", column="c", estimator="e", n=1, colour="red")


def test_latex_escapes_special_characters(study, metrics):
    assert latex_escape("50% & a_b {c} $x$ #1 ~ ^ \\") == (
        r"50\% \& a\_b \{c\} \$x\$ \#1 \textasciitilde{} \textasciicircum{} \textbackslash{}"
    )
    from dataclasses import replace

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
            prefix=tmp_path / run / "table-5-3",
        )
        assert [p.name for p in paths] == [f"table-5-3{s}" for s in SUFFIXES]
        content.append([p.read_bytes() for p in paths])
    assert content[0] == content[1]
    tidy = pd.read_csv(tmp_path / "a" / "table-5-3.csv")
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
