"""A made-up study: random long metrics in the form of `penumbra.metrics.evaluate.collect`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter

from penumbra.data.case import CaseRow, write_cases_table, write_class_map, write_nifti
from penumbra.metrics.agreement import READERS, SAMPLED, SPREAD
from penumbra.metrics.rows import METRICS, row_names
from penumbra.reporting.context import DatasetInfo, StudyContext, candidate_infos

PUBLISHED = Path(__file__).parents[2] / "config" / "published" / "softseg_thesis.csv"
LABELS = {
    "conv-staple": "Conv-STAPLE",
    "conv-average": "Conv-Average",
    "conv-random": "Conv-RandomSampling",
    "softseg-staple": "SoftSeg-STAPLE",
    "softseg-average": "SoftSeg-Average",
    "softseg-random": "SoftSeg-RandomSampling",
}
LESIONS = {"convention": "released", "overlap": 3, "size_edges": [20, 100], "connectivity": 18, "wrap_labels": False}
AGREEMENT = [*SAMPLED, *SPREAD, *READERS]
SHARPNESS = {
    "conv-staple": 0.9,
    "conv-average": 0.8,
    "conv-random": 0.6,
    "softseg-staple": 0.1,
    "softseg-average": -0.4,
    "softseg-random": 0.0,
}
SAMPLED = ("conv-staple", "softseg-random")
"""Candidates that keep samples."""


def context(splits: int = 8, other_splits: int = 5) -> StudyContext:
    """Two data sets: one of two classes, one of one class."""
    return StudyContext(
        study="fusion",
        title="Label fusion",
        paper="softseg_thesis",
        datasets={
            "scgm": DatasetInfo(
                "scgm",
                "Spinal cord grey matter segmentation challenge (four raters)",
                ("gray_matter", "white_matter"),
                tuple(range(splits)),
                contrasts=("T2star",),
                evaluation={"binarisation": "argmax", "readers": True},
            ),
            "ms_brain": DatasetInfo(
                "ms_brain",
                "MS brain",
                ("lesion",),
                tuple(range(other_splits)),
                contrasts=("T2star",),
                evaluation={"binarisation": "threshold", "remove_small": 3, "lesions": LESIONS, "readers": True},
            ),
        },
        candidates=candidate_infos(LABELS),
        reference="conv-staple",
    )


def _rows(rng: np.random.Generator, dataset: DatasetInfo, candidate: str, split: int, cases: int) -> list[dict]:
    sharp = SHARPNESS[candidate]
    base = {"dataset": dataset.name, "candidate": candidate, "split": split, "status": "ok", "n": 4000}
    rows = []
    for c in range(cases):
        case = f"sub-{(split * cases + c) % (2 * cases):02d}"
        entropy = 400 * rng.uniform(0.3, 1.0) * (1 + c % 3)
        for k, target in enumerate([*dataset.classes, "image"]):
            case_rows = {}
            if target != "image":
                quality = 0.88 + 0.05 * k + 0.02 * (sharp < 0.5)
                rvd = rng.normal(0.05 + 0.1 * sharp, 0.08)
                case_rows = {
                    "dice": rng.normal(quality, 0.02),
                    "precision": rng.normal(quality + 0.02, 0.02),
                    "recall": rng.normal(quality - 0.02, 0.02),
                    "rvd": rvd,
                    "avd": abs(rvd),
                    "brier": rng.gamma(4, 4e-4 * (1 + sharp**2)),
                }
                case_rows["brier_depthless"] = case_rows["brier"] * 12
                case_rows["mse"] = rng.gamma(4, 6e-4 * (1 + sharp**2))
                case_rows["mse_depthless"] = case_rows["mse"] * 12
                case_rows["ltpr"], case_rows["lfdr"] = rng.uniform(0.2, 0.6, 2)
                rows += [
                    base | {"case": case, "scope": "case", "target": target, "metric": m, "bin": b, "value": v}
                    for m in ("ltpr_by_size", "lfdr_by_size")
                    for b, v in enumerate(rng.uniform(0.1, 0.9, 3))
                ]
            predicted = entropy * (1 - 0.6 * sharp) * rng.uniform(0.9, 1.1)
            case_rows |= {
                "entropy": predicted,
                "entropy_reference": entropy,
                "entropy_error": abs(predicted - entropy),
                "entropy_error_per_voxel": abs(predicted - entropy) / 4000,
            }
            if target == "image":
                case_rows |= dict(zip(AGREEMENT, rng.uniform(0.1, 0.9, len(AGREEMENT)), strict=True))
            rows += [
                base | {"case": case, "scope": "case", "target": target, "metric": m, "value": v}
                for m, v in case_rows.items()
            ]
    for target in dataset.classes:
        run = base | {"case": "*", "scope": "run", "target": target}
        levels = np.arange(1, 20) / 20
        curve = 0.85 - (0.1 + 0.5 * (sharp < 0.5)) * (levels - 0.4 - 0.1 * rng.normal()) ** 2 + rng.normal(0, 0.004, 19)
        rows += [run | {"metric": "threshold_dice", "bin": b, "value": v} for b, v in enumerate(curve)]
        rows.append(run | {"metric": "threshold_dice_range", "value": float(np.ptp(curve))})
        middles = (np.arange(100) + 0.5) / 100
        expected = 400 * np.exp(-(1 - middles) / 0.03) + 900 * (0.6 - 0.5 * sharp) * (0.02 + np.exp(-middles / 0.2))
        counts = rng.poisson(expected)
        rows += [run | {"metric": "nonzero_count", "bin": b, "value": float(v)} for b, v in enumerate(counts)]
    run = base | {"case": "*", "scope": "run", "target": "image"}
    for suffix in ("", "_closed"):
        first = 3 if len(dataset.classes) > 1 else 5
        confidence = np.arange(10) / 10 + rng.uniform(0.03, 0.07, 10)
        accuracy = np.clip(confidence - 0.22 * sharp * np.sin(np.linspace(0.3, 3, 10)) + rng.normal(0, 0.01, 10), 0, 1)
        count = rng.integers(50, 500, 10) * (np.arange(10) >= first)
        for k in range(10):
            empty = count[k] == 0
            for m, v in (("count", count[k]), ("confidence", confidence[k]), ("accuracy", accuracy[k])):
                undefined = empty and m != "count"
                rows.append(
                    run
                    | {
                        "metric": f"reliability_{m}{suffix}",
                        "bin": k,
                        "value": np.nan if undefined else float(v),
                        "status": "undefined: empty bin" if undefined else "ok",
                        "n": int(count[k]),
                    }
                )
        ece = float(np.sum(count * np.abs(accuracy - confidence)) / count.sum())
        rows.append(run | {"metric": f"ece{suffix}", "value": ece * (0.1 if suffix else 1.0)})
    rows.append(run | {"metric": "ece_dropped", "value": rng.uniform(0.9, 0.99)})
    return rows


def long_metrics(study: StudyContext, seed: int, cases: int = 4) -> pd.DataFrame:
    """Random metrics of every run of a study."""
    rng = np.random.default_rng(seed)
    rows = [
        row
        for dataset in study.datasets.values()
        for candidate in study.candidates
        for split in dataset.split_numbers
        for row in _rows(rng, dataset, candidate, split, cases)
    ]
    table = pd.DataFrame(rows).astype({"bin": "Int64", "value": "float64", "split": "int64"})
    table.insert(0, "row", row_names(table))
    return table


def told(study: StudyContext, part: str, kind: str = "table", **options: object) -> dict:
    """The study as plain data, in the form of `penumbra.workflow.plan.Plan.exhibit_params`."""
    recipe = {"network": {"name": "unet2d", "depth": 3}, "training": {"epochs": 20}, "members": {"count": 1}}
    return {
        "name": study.study,
        "study": {
            "title": study.title,
            "paper": study.paper,
            "datasets": [{"name": d.base, "splits": d.splits, "preset": d.preset} for d in study.datasets.values()],
            "candidates": list(study.candidates),
            "reference": study.reference,
            "level": study.level,
        },
        "exhibit": {"part": part, "title": f"A {kind}: {part.replace('_', ' ')}", "options": options, "datasets": None},
        "datasets": {
            d.name: {
                "title": d.title,
                "classes": list(d.classes),
                "contrasts": ["T2star"],
                "evaluation": {"hard_reference": d.hard_reference, "soft_reference": d.soft_reference, **d.evaluation},
            }
            for d in study.datasets.values()
        },
        "candidates": {
            d: {c: {"label": i.label, "loss": {"name": c.split("-")[0]}, **recipe} for c, i in study.candidates.items()}
            for d in study.datasets
        },
    }


def images(folder: Path, study: StudyContext, seed: int, cases: tuple[str, ...] = ("sub-01", "sub-02")) -> dict:
    """Ingested cases, reference labels and predictions of every candidate for the first data set: figure inputs."""
    rng = np.random.default_rng(seed)
    classes = len(next(iter(study.datasets.values())).classes)
    affine = np.diag([0.5, 0.5, 5.0, 1.0])
    x, y = np.meshgrid(np.arange(60) - 29.5, np.arange(60) - 29.5, indexing="ij")
    for number, case in enumerate(cases):
        centres = rng.normal(0, 2, (3, 2))
        raters = np.zeros((4, 60, 60, 3), np.uint8)
        for z, (cx, cy) in enumerate(centres):
            radius = np.hypot((x - cx) * (0.7 + 0.5 * (np.abs(y - cy) < 4)), y - cy)
            for r in range(4):
                spread = (r - 1.5) * (0.3 + 0.7 * (number == len(cases) - 1) * (z == 1))
                raters[r, ..., z][radius < 13 + spread] = classes
                raters[r, ..., z][radius < 6 + spread] = 1
        image = rng.normal(100, 8, (60, 60, 3)) + 40 * (raters[0] > 0) + 30 * (raters[0] == 1)
        write_nifti(folder / "cases" / case / "image.nii.gz", image.astype(np.float32), affine)
        for r in range(4):
            write_nifti(folder / "cases" / case / f"rater-{r + 1}.nii.gz", raters[r], affine)
        average = np.stack([(raters == k).mean(axis=0) for k in range(1, classes + 1)]).astype(np.float32)
        write_class_map(folder / "staple" / f"{case}.nii.gz", (average > 0.5).astype(np.uint8), affine)
        write_class_map(folder / "average" / f"{case}.nii.gz", average, affine)
        for candidate, sharp in SHARPNESS.items():
            blurred = gaussian_filter(average, (0, 2.2 * (1 - sharp), 2.2 * (1 - sharp), 0))
            prediction = np.clip((blurred - 0.5) * (1 + 6 * max(sharp, 0)) + 0.5, 0, 1)
            write_class_map(folder / candidate / f"{case}.nii.gz", prediction.astype(np.float32), affine)
            if candidate in SAMPLED:
                drawn = np.stack([np.roll(raters[r], rng.integers(-3, 4, 2), (0, 1)) for r in (0, 1, 3, 0, 2)])
                write_class_map(folder / candidate / "samples" / f"{case}.nii.gz", drawn, affine)
    (folder / "split.json").write_text(json.dumps({"test": list(cases)}))
    targets = next(iter(study.datasets.values())).classes
    for candidate in study.candidates:
        lines = [f"{name},{0.3 + 0.05 * k},0.8" for k, name in enumerate(targets)]
        (folder / f"{candidate}.csv").write_text("\n".join(["class,threshold,dice", *lines]) + "\n")
    write_cases_table(folder / "cases.tsv", [CaseRow(c, f"site{c[-1]}", (60, 60, 3), (0.5, 0.5, 5.0)) for c in cases])
    return {
        "predictions": [folder / c for c in study.candidates],
        "threshold": [folder / f"{c}.csv" for c in study.candidates],
        "cases": folder / "cases",
        "cases_table": folder / "cases.tsv",
        "split": [folder / "split.json"],
        "hard_labels": folder / "staple",
        "soft_labels": folder / "average",
    }


def truth_metrics(study: StudyContext, seed: int, cases: int = 3) -> pd.DataFrame:
    """Random metrics against known truth of every run of a study; the first bin of every curve is empty."""
    rng = np.random.default_rng(seed)
    rows = []
    for dataset in study.datasets.values():
        for candidate in study.candidates:
            for split in dataset.split_numbers:
                for target in dataset.classes:
                    base = {"dataset": dataset.name, "candidate": candidate, "split": split, "target": target}
                    run = base | {"case": "*", "scope": "run", "n": 100, "status": "ok"}
                    rows.append(run | {"metric": "rater_calibration_error", "value": rng.uniform()})
                    for metric in ("truth_error", "volume_misplaced", "volume_error_soft", "volume_error_binary"):
                        rows += [
                            base | {"case": f"sub-{c}", "scope": "case", "metric": metric, "value": rng.normal()}
                            | {"n": 100, "status": "ok"}
                            for c in range(cases)
                        ]  # fmt: skip
                    for curve in ("truth_curve_fraction", "truth_curve_prediction", "rater_curve_prediction",
                                  "rater_curve_probability"):  # fmt: skip
                        for b in range(10):
                            told = {"value": np.nan, "status": "undefined: empty bin"} if b == 0 else {}
                            rows.append(run | {"metric": curve, "bin": b, "value": rng.uniform()} | told)
    table = pd.DataFrame(rows).astype({"bin": "Int64", "value": "float64", "split": "int64"})
    table.insert(0, "row", row_names(table))
    return table


def progressions(folder: Path, study: StudyContext, seed: int, last: int = 37) -> list[Path]:
    """``progression.npz`` of every candidate for the first data set; the second candidate stops early.

    ``last`` : the last epoch of the first candidate.
    """
    rng = np.random.default_rng(seed)
    classes = len(next(iter(study.datasets.values())).classes)
    x, y = np.meshgrid(np.arange(48) - 23.5, np.arange(40) - 19.5, indexing="ij")
    label = np.stack([np.clip(8 + 3 * k - np.hypot(0.8 * x, y), 0, 1) for k in range(classes)])
    image = rng.normal(0, 0.5, (1, 48, 40)) + 2 * label[0]
    paths = []
    for position, (candidate, sharp) in enumerate(SHARPNESS.items()):
        epochs = [1, 5, 10] if position == 1 else [1, 5, 10, 20, last + position]
        predictions = [
            np.clip(gaussian_filter(label, (0, s, s)) * (0.3 + 0.7 * e / epochs[-1]) + (0.02 if sharp < 0 else 0), 0, 1)
            for e in epochs
            for s in [6 / e + 2 * (1 - sharp)]
        ]
        paths.append(folder / f"{candidate}.npz")
        np.savez(
            paths[-1],
            epochs=np.array(epochs, np.int64),
            predictions=np.array(predictions, np.float32),
            image=image.astype(np.float32),
            label=label.astype(np.float32),
            case=np.asarray("sub-03"),
            z=np.int64(4),
        )
    return paths


def tests_of(study: StudyContext, metrics: pd.DataFrame, seed: int) -> pd.DataFrame:
    """A table like `tests.csv`: real means of the runs, made-up intervals and p-values."""
    rng = np.random.default_rng(seed)
    scored = metrics[metrics["bin"].isna() & metrics["metric"].map(lambda m: METRICS[m].better != "none")]
    runs = scored.groupby(["dataset", "target", "metric", "candidate"])["value"].mean().unstack("candidate")
    rows = []
    for keys, means in runs.iterrows():
        for view in ("split", "case"):
            for candidate in study.candidates:
                if candidate == study.reference:
                    continue
                difference = means[candidate] - means[study.reference]
                half, p = abs(difference) * rng.uniform(0.2, 1.5), rng.uniform() ** 3
                rows.append(
                    dict(zip(("dataset", "target", "metric"), keys, strict=True))
                    | {"view": view, "candidate": candidate, "reference": study.reference, "n": 6, "n_nonzero": 6}
                    | {"mean_candidate": means[candidate], "mean_reference": means[study.reference]}
                    | {"mean_difference": difference, "ci_low": difference - half, "ci_high": difference + half}
                    | {"effect_size": 0.0, "statistic": 0.0, "method": "exact", "p": p, "p_holm": min(1, 3 * p)}
                    | {"significant": 3 * p < study.level, "status": "ok"}
                )
    table = pd.DataFrame(rows)
    composite = table[table["metric"] == "dice"].assign(metric="composite")
    return pd.concat([table, composite], ignore_index=True)
