"""The study report: its sections, its numbers and where they come from."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from penumbra.errors import PenumbraError
from penumbra.reporting.numbers import show
from penumbra.reporting.study_report import flatten, write_report

_SPEC = importlib.util.spec_from_file_location("synthetic_study", Path(__file__).with_name("synthetic_study.py"))
assert _SPEC is not None and _SPEC.loader is not None
synthetic = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(synthetic)

SEED = int(np.random.SeedSequence().entropy % 2**32)


def make(
    folder: Path, splits: int = 7, other_splits: int = 3, **edits: object
) -> tuple[str, pd.DataFrame, pd.DataFrame]:
    print("seed", SEED)
    study = synthetic.context(splits, other_splits)
    metrics = synthetic.long_metrics(study, SEED)
    tests = synthetic.tests_of(study, metrics, SEED)
    tests.to_csv(folder / "tests.csv", index=False)
    (folder / "tables").mkdir(exist_ok=True)
    (folder / "figures").mkdir(exist_ok=True)
    (folder / "tables" / "table-1.md").write_text("### Table one\n\n| a |\n|:---|\n| 1 |\n")
    (folder / "figures" / "figure-1.png").write_bytes(b"")
    told = synthetic.told(study, "calibration")
    told["study"] |= {
        "published": "softseg_thesis",
        "tables": {"table-1": {"part": "calibration", "title": "Table one", "options": {}, "datasets": None}},
        "figures": {"figure-1": {"part": "reliability", "title": "Figure one", "options": {}, "datasets": ["scgm"]}},
        **edits,
    }
    write_report(
        told=told,
        tests=folder / "tests.csv",
        tables=[folder / "tables" / "table-1.md", folder / "tables" / "table-1.csv"],
        figures=[folder / "figures" / "figure-1.png", folder / "figures" / "figure-1.pdf"],
        out=folder / "report.md",
    )
    return (
        (folder / "report.md").read_text(encoding="utf-8"),
        pd.read_csv(folder / "report.cells.csv", dtype={"displayed": str}),
        tests,
    )


def test_sections_tables_and_links(tmp_path):
    text, _, _ = make(tmp_path)
    heads = re.findall(r"^## (.*)$", text, flags=re.M)
    assert heads == ["Data sets", "Candidates", "How to read the numbers", "Tables", "Figures", "Tests"]
    assert "### Table one\n\n| a |" in text
    assert "[cells.csv](tables/table-1.cells.csv)" in text
    assert "![Figure one](figures/figure-1.png)" in text and "[pdf](figures/figure-1.pdf)" in text
    assert "| `loss` | conv | conv | conv | softseg | softseg | softseg |" in text
    assert "| `training.epochs` | 20 |" in text
    assert "Wilcoxon" in text and "ddof = 1" in text and "open on the right" in text


def decided(study, preset: str, used: dict[str, object], deviating: str) -> dict:
    """Decisions of a data set and its candidates; `deviating` is the one candidate that takes no dropout."""

    def one(choice: str, expected: object, value: object) -> dict:
        told = {"choice": choice, "preset": preset, "expected": expected, "used": value}
        return told | {"deviates": expected != value}

    return {
        "dataset": [one("normalisation", "joint", used["normalisation"])],
        "candidates": {
            c: [one("dropout", 0.4, 0.0 if c == deviating else 0.4), one("counter", False, False)]
            for c in study.candidates
        },
    }


def test_presets_and_every_deviation_are_listed(tmp_path):
    study = synthetic.context(7, 3)
    told = {
        "presets": {"published": "What the released code did.", "sound": "What one should do."},
        "choices": {
            c: {"title": f"About {c}", "note": f"Since {c}.", "source": "Thesis, 4"}
            for c in ("normalisation", "dropout", "counter")
        },
        "decisions": {
            "scgm": decided(study, "published", {"normalisation": "joint"}, "conv-random"),
            "ms_brain.sound": decided(study, "sound", {"normalisation": "per_contrast"}, ""),
        },
    }
    own = synthetic.told(study, "calibration") | told
    own["study"]["datasets"][1] |= {"preset": "sound"}
    for key in ("datasets", "candidates"):
        own[key]["ms_brain.sound"] = own[key].pop("ms_brain")
    write_report(told=own, tests=None, tables=[], figures=[], out=tmp_path / "report.md")
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    section = text.split("## Presets and deviations")[1].split("\n## ")[0]
    first, second = section.split("### ")[1:]
    assert first.startswith("Spinal cord grey matter segmentation challenge: preset `published`")
    assert "What the released code did." in first
    assert "| `dropout` | About dropout | Conv-RandomSampling | 0.4 | **0.0** |" in first
    others = ", ".join(i.label for c, i in study.candidates.items() if c != "conv-random")
    assert f"| `dropout` | About dropout | {others} | 0.4 | 0.4 |" in first
    assert "| `counter` | About counter | all candidates | false | false |" in first
    assert "| `normalisation` | About normalisation | data set | joint | joint |" in first
    assert (
        "Deviating from the preset, in what is bold: Conv-RandomSampling. Following it in everything: the data" in first
    )
    assert "- `dropout`: Since dropout. (Thesis, 4)" in first and "- `normalisation`" not in first
    assert second.startswith("MS brain \\[sound\\]: preset `sound`")
    assert "| data set | joint | **per\\_contrast** |" in second
    assert "in what is bold: the data set. Following it in everything: Conv-STAPLE" in second
    assert "| `ms_brain.sound` | MS brain | `sound` |" in text


def test_no_deviation_is_said(tmp_path):
    study = synthetic.context(2, 2)
    own = synthetic.told(study, "calibration")
    own["decisions"] = {d: decided(study, "published", {"normalisation": "joint"}, "") for d in study.datasets}
    write_report(told=own, tests=None, tables=[], figures=[], out=tmp_path / "report.md")
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert text.count("No deviation: the data set and every candidate follow the preset.") == 2
    assert "**" not in text.split("## Presets and deviations")[1].split("\n## ")[0].replace("**deviation**", "")


def test_tests_are_told_in_the_convention_of_the_data_set(tmp_path):
    """Of the calibration error in both conventions only the one that the data set shows is told in words."""
    study = synthetic.context(7, 3)
    metrics = synthetic.long_metrics(study, SEED)
    tests = synthetic.tests_of(study, metrics, SEED)
    tests.to_csv(tmp_path / "tests.csv", index=False)
    own = synthetic.told(study, "calibration")
    own["datasets"]["ms_brain"]["evaluation"] |= {"last_bin": "closed", "squared_error": "voxels"}
    write_report(told=own, tests=tmp_path / "tests.csv", tables=[], figures=[], out=tmp_path / "report.md")
    cells = pd.read_csv(tmp_path / "report.cells.csv")
    told = cells[cells["dataset"] == "ms_brain"]["metric"].dropna().unique()
    assert {"ece_closed", "mse"} <= set(told) and not {"ece", "mse_depthless"} & set(told)
    assert not {"ece_closed", "mse"} & set(cells[cells["dataset"] == "scgm"]["metric"].dropna())
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "; Expected calibration error, last bin closed; " in text.split("### MS brain")[-1]


def test_every_line_of_a_table_has_as_many_cells_as_its_head(tmp_path):
    text, _, _ = make(tmp_path, title="A | B *c* _d_")
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.M):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1
    assert text.startswith("# A \\| B \\*c\\* \\_d\\_\n")


def test_numbers_of_the_sentences_come_from_the_tests(tmp_path):
    text, cells, tests = make(tmp_path)
    view = tests[tests["view"] == "split"]
    for record in cells[cells["estimator"] == "column_of_tests"].to_dict("records"):
        (value,) = tests.query(record["filter"])[record["column"]]
        assert record["value"] == pytest.approx(value)
        assert float(record["displayed"]) == pytest.approx(
            value * record["scale"], abs=0.5001 * 10 ** -record["decimals"]
        )
        assert record["displayed"] == text[int(record["start"]) : int(record["end"])]
    scgm = view[view["dataset"] == "scgm"]
    counts = cells[(cells["dataset"] == "scgm") & cells["metric"].isna()].set_index("column")["value"]
    assert counts["comparisons"] == len(scgm)
    assert counts["below the level"] == (scgm["p"] < 0.05).sum() > 0
    assert counts["below after Holm"] == (scgm["p_holm"] < 0.05).sum()
    assert f"p < 0.05 in {int(counts['below the level'])}, of which" in text


def test_better_and_worse_follow_the_metric(tmp_path):
    text, _, _ = make(tmp_path)
    metrics = "Dice score|Brier score|Absolute volume difference|Expected calibration error"
    pattern = rf"^- ({metrics})[^\n]*? is (-?[\d.]+)[^\n]*? \((better|worse)\)"
    lines = re.findall(pattern, text, flags=re.M)
    assert lines
    for metric, difference, verdict in lines:
        higher_is_better = metric == "Dice score"
        if float(difference) != 0:
            assert (verdict == "better") == ((float(difference) > 0) == higher_is_better)


def test_too_few_splits_are_said_to_be_too_few(tmp_path):
    text, cells, _ = make(tmp_path)
    assert "With 3 splits the test cannot give less than p = 0.2500" in text
    assert cells[cells["column"] == "smallest p"]["value"].tolist() == [0.25]


def test_no_tests(tmp_path):
    make(tmp_path)
    study = synthetic.context(2, 2)
    told = synthetic.told(study, "calibration")
    write_report(told=told, tests=None, tables=[], figures=[], out=tmp_path / "other.md")
    assert "There are no tests" in (tmp_path / "other.md").read_text()


def test_missing_table_is_an_error_with_a_cure(tmp_path):
    make(tmp_path)
    told = synthetic.told(synthetic.context(2, 2), "calibration")
    told["study"]["tables"] = {"table-9": {"part": "calibration", "title": "t", "options": {}}}
    with pytest.raises(PenumbraError, match=r"table-9\.md"):
        write_report(told=told, tests=None, tables=[], figures=[], out=tmp_path / "other.md")


def test_same_inputs_same_bytes(tmp_path):
    first = make(tmp_path)[0]
    assert make(tmp_path)[0] == first


def test_flatten():
    nested = {"loss": {"name": "dice", "smooth": 1.0}, "a": {"b": {"c": [1, 2]}, "d": None}, "e": True, "f": {}}
    assert flatten(nested) == {
        "loss": "dice",
        "loss.smooth": "1.0",
        "a.b.c": "1, 2",
        "a.d": "null",
        "e": "true",
        "f": "{}",
    }


def test_captions_of_the_snakemake_report_render():
    jinja2 = pytest.importorskip("jinja2")
    docutils = pytest.importorskip("docutils.core")
    from types import SimpleNamespace

    from penumbra import parts

    folder = Path(__file__).parents[2] / "workflow" / "report"
    study = synthetic.context(2, 2)
    for kind in ("table", "figure"):
        for name in parts.names(kind):
            told = synthetic.told(study, name, kind) | {"description": parts.description(kind, name)}
            text = jinja2.Template((folder / f"{kind}.rst").read_text()).render(
                snakemake=SimpleNamespace(params=SimpleNamespace(told=told))
            )
            html = docutils.publish_parts(text, writer="html", settings_overrides={"halt_level": 2})["body"]
            assert len(re.sub(r"<[^>]+>", "", html)) > 280 + len(told["exhibit"]["title"]), name
    for name in ("study", "workflow"):
        text = jinja2.Template((folder / f"{name}.rst").read_text()).render(
            snakemake=SimpleNamespace(params=SimpleNamespace(told=synthetic.told(study, "calibration")))
        )
        docutils.publish_parts(text, writer="html", settings_overrides={"halt_level": 2})


def test_very_small_numbers_are_shown_as_powers_of_ten():
    assert str(show(2.94e-22, decimals=23)) == "2.9e-22"
    assert str(show(0.0000017, decimals=7)) == "1.7e-06"
    assert str(show(0.000017, decimals=6)) == "0.000017"
