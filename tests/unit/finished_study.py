"""A results folder as a made-up study leaves it, with a table and a figure of every part; and the same study again with
other values everywhere, but of the same structure."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from penumbra import parts
from penumbra.claims.judge import judge
from penumbra.claims.models import read_claims
from penumbra.figures import _style
from penumbra.figures import _write as figures
from penumbra.reporting.context import StudyContext
from penumbra.reporting.study_report import write_report
from penumbra.tables import _write as tables
from tests.conftest import ROOT

_SPEC = importlib.util.spec_from_file_location("synthetic_study", Path(__file__).with_name("synthetic_study.py"))
assert _SPEC is not None and _SPEC.loader is not None
synthetic = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(synthetic)

TABLES = {name: {} for name in parts.names("table")} | {
    "segmentation_performance": {"metrics": ("dice", "avd", "mse")},
    "uncertainty_preservation": {"brier": "both"},
}
"""A table of every part there is, with options; parts that are added come by themselves."""
FIGURES = {name: {} for name in parts.names("figure")} | {
    "segmentations": {"close_up": 10.0},
    "entropy_correspondence": {"dots": "prediction"},
}
REASONS = ("undefined: nothing predicted", "undefined: empty reference", "undefined: both empty")


@dataclass
class Finished:
    """One finished study: its results folder, and the texts of its figures as they were drawn."""

    results: Path
    figure_texts: dict[str, list[str]] = field(default_factory=dict)

    @property
    def study(self) -> Path:
        return self.results / "studies" / "fusion"

    def exhibits(self) -> dict[str, Path]:
        """The index file of every exhibit, by name."""
        found = {f"table {p.name.removesuffix('.cells.csv')}": p for p in sorted(self.study.glob("tables/*.cells.csv"))}
        found |= {f"figure {p.stem}": p for p in sorted(self.study.glob("figures/*.csv"))}
        return found | {"report": self.study / "report.cells.csv"}


def context() -> StudyContext:
    """Two data sets, the first under two presets."""
    plain = synthetic.context(splits=6, other_splits=3)
    closed = {"last_bin": "closed", "squared_error": "voxels", "binarisation": "threshold", "readers": True}
    sound = replace(plain.datasets["scgm"], name="scgm.sound", preset="sound", evaluation=closed)
    first = replace(plain.datasets["scgm"], evaluation={"binarisation": "threshold", "readers": True})
    return replace(plain, datasets={**plain.datasets, "scgm": first, "scgm.sound": sound})


def _told(study: StudyContext, part: str, kind: str, datasets: list[str] | None, **options: Any) -> dict[str, Any]:
    told = synthetic.told(study if datasets is None else study.only(datasets), part, kind, **options)
    told["study"]["datasets"] = [
        {"name": d.base, "splits": d.splits, "preset": d.preset} for d in study.datasets.values()
    ]
    return told


def _metrics(study: StudyContext, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    table = pd.concat(
        [synthetic.long_metrics(study, seed, cases=3), synthetic.truth_metrics(study, seed)], ignore_index=True
    )
    undefined = (table["candidate"] == "conv-average") & (table["metric"] == "dice") & (table["split"] == 1)
    for dataset, target in (("ms_brain", "lesion"), ("scgm", "gray_matter"), ("scgm.sound", "gray_matter")):
        rows = table.index[undefined & (table["dataset"] == dataset) & (table["target"] == target)]
        rows = rows[: rng.integers(1, len(rows) + 1)]
        table.loc[rows, "value"] = np.nan
        table.loc[rows, "status"] = rng.choice(REASONS)
    never = (table["candidate"] == "softseg-random") & (table["metric"] == "avd") & (table["target"] == "lesion")
    table.loc[never, ["value", "status"]] = np.nan, REASONS[1]
    return table[~((table["candidate"] == "conv-random") & (table["dataset"] == "ms_brain") & (table["split"] == 2))]


def _shifted(p: pd.Series, level: float) -> pd.Series:
    """Other p-values in the same order and on the same side of the level."""
    lower = p * 0.97
    return lower.where((lower < level) == (p < level), p)


def finish(folder: Path, seed: int, like: Finished | None = None) -> Finished:
    """Write the study, every number from random values of ``seed``.

    ``like`` : another one, whose structure it takes over: which differences are told, which claims have numbers.
    """
    study, rng = context(), np.random.default_rng(seed)
    done = Finished(folder / "results")
    study_folder = done.study
    metrics = _metrics(study, seed)
    (study_folder / "metrics").mkdir(parents=True)
    paths = {}
    for dataset, rows in metrics.groupby("dataset"):
        paths[dataset] = study_folder / "metrics" / f"{dataset}.parquet"
        rows.to_parquet(paths[dataset])
    tests = synthetic.tests_of(study, metrics, seed)
    claims = judge(read_claims(ROOT / "config/claims/softseg_thesis.yaml"), metrics, study, 1, {
        d: f"studies/fusion/metrics/{d}.parquet" for d in study.datasets
    })  # fmt: skip
    if like is not None:
        theirs = pd.read_csv(like.study / "tests.csv", float_precision="round_trip")
        for key in ("p", "p_holm"):
            tests[key] = _shifted(theirs[key], study.level)
        tests["n"] = theirs["n"] + 1
        claims = _other_claims(like.study / "claims.csv", rng)
    tests.to_csv(study_folder / "tests.csv", index=False)
    claims.to_csv(study_folder / "claims.csv", index=False)
    _tables(study, study_folder, paths)
    _figures(study, done, paths, seed)
    told = synthetic.told(study, "calibration")
    kinds = {"tables": ("table", TABLES), "figures": ("figure", FIGURES)}
    for key, (_, names) in kinds.items():
        told["study"][key] = {name: {"part": name, "title": name, "options": names[name]} for name in names}
    write_report(
        told=told,
        tests=study_folder / "tests.csv",
        claims=study_folder / "claims.csv",
        tables=sorted((study_folder / "tables").iterdir()),
        figures=sorted((study_folder / "figures").iterdir()),
        out=study_folder / "report.md",
    )
    return done


def _other_claims(path: Path, rng: np.random.Generator) -> pd.DataFrame:
    """The claims of another study with other numbers, verdicts and reasons, where it has any."""
    from penumbra.claims.section import _whole
    from penumbra.reporting.verdicts import read_verdicts

    claims = read_verdicts(path)
    for column in ("mean_candidates", "mean_against", "effect", "low", "high", "p"):
        claims[column] = claims[column] * rng.uniform(0.91, 0.99, len(claims))
    for column in ("standardised", "standardised_low", "standardised_high"):
        claims[column] = claims[column] * 0.9
    claims["n"] = claims["n"].where(claims["n"] == 0, claims["n"] + 3)
    claims["verdict"] = claims["verdict"].map(
        {"supported": "undecided", "undecided": "contradicted", "contradicted": "supported"}
    )
    claims["reason"] = [r if r == "ok" else f"{rng.integers(9)} of 9 comparisons | hold" for r in claims["reason"]]
    claims["compared"] = [
        row["compared"] if row["compared"] in ("", _whole(row)) else f"x_{rng.integers(1000)}"
        for row in claims.to_dict("records")
    ]
    return claims


def _tables(study: StudyContext, folder: Path, paths: dict[str, Path]) -> None:
    for name, options in TABLES.items():
        needs = parts.constant("table", name, "NEEDS")
        tables.write(
            told=_told(study, name, "table", None, **options),
            exhibit=name,
            metrics=list(paths.values()),
            tests=folder / "tests.csv" if "tests" in needs else None,
            published=synthetic.PUBLISHED if "published" in needs else None,
            prefix=folder / "tables" / name,
        )


def _figures(study: StudyContext, done: Finished, paths: dict[str, Path], seed: int) -> None:
    rng = np.random.default_rng(seed)
    images = synthetic.images(done.results / "datasets", study, seed)
    for file in images["threshold"]:
        lines = [f"{name},{rng.integers(1, 20) / 20},0.8" for name in study.datasets["scgm"].classes]
        file.write_text("\n".join(["class,threshold,dice", *lines]) + "\n")
    progression = synthetic.progressions(done.results / "datasets", study, seed, last=40 + seed % 50)
    for name, options in FIGURES.items():
        needs = parts.constant("figure", name, "NEEDS")
        inputs: dict[str, Any] = {}
        if "metrics" in needs:
            inputs["metrics"] = list(paths.values())
        if "tests" in needs:
            inputs["tests"] = done.study / "tests.csv"
        if "claims" in needs:
            inputs["claims"] = done.study / "claims.csv"
        if "progression" in needs:
            inputs["progression"] = progression
        if "predictions" in needs:
            inputs |= images
        only = ["scgm"] if {"predictions", "progression"} & set(needs) else None
        done.figure_texts[name] = _drawn_texts(
            lambda name=name, inputs=inputs, only=only, options=options: figures.write(
                told=_told(study, name, "figure", only, **options),
                exhibit=name,
                prefix=done.study / "figures" / name,
                **inputs,
            )
        )


def _drawn_texts(write: Any) -> list[str]:
    """Write a figure, and return its texts but for the labels of ticks, which are scale."""
    from matplotlib.axis import Tick
    from matplotlib.text import Text

    kept: list[str] = []
    settle = _style.settle

    def look(figure: Any) -> None:
        settle(figure)
        ticks = {text for tick in figure.findobj(Tick) for text in tick.findobj(Text)}
        kept.extend(t.get_text() for t in figure.findobj(Text) if t not in ticks and t.get_text())

    _style.settle = look  # type: ignore[assignment]
    try:
        write()
    finally:
        _style.settle = settle  # type: ignore[assignment]
    return kept


def argument_of(entry: dict[str, Any]) -> dict[str, Any]:
    """The argument of an entry's estimator."""
    return json.loads(entry.get("argument") or "{}")
