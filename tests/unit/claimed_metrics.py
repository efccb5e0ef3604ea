"""A made-up study of one data set, and long metrics with given values: what claims are tested on."""

from __future__ import annotations

import numpy as np
import pandas as pd

from penumbra.metrics.rows import row_names
from penumbra.reporting.context import DatasetInfo, StudyContext, candidate_infos

NAMES = ("a", "b", "c")
SPLITS = 8


def study(splits: int = SPLITS, names: tuple[str, ...] = NAMES, classes: tuple[str, ...] = ("tumor",), **evaluation):
    return StudyContext(
        study="s",
        title="S",
        paper="p",
        datasets={"organ": DatasetInfo("organ", "Organ", classes, tuple(range(splits)), evaluation=evaluation)},
        candidates=candidate_infos({n: n.upper() for n in names}),
        reference=names[0],
    )


def long(values: dict[tuple[str, str, str], np.ndarray], dataset: str = "organ") -> pd.DataFrame:
    """Rows from ``(metric, target, candidate) -> (splits, cases)``, or ``(splits,)`` for what is measured over a run."""
    rows = []
    for (metric, target, candidate), array in values.items():
        scope = "case" if array.ndim == 2 else "run"
        for index, value in np.ndenumerate(array):
            case = f"sub-{index[1]}" if scope == "case" else "*"
            rows.append(
                {"dataset": dataset, "candidate": candidate, "split": index[0], "case": case, "scope": scope}
                | {"target": target, "metric": metric, "bin": pd.NA, "value": value, "n": 9, "status": "ok"}
            )
    table = pd.DataFrame(rows).astype({"bin": "Int64", "value": "float64", "split": "int64"})
    table.insert(0, "row", row_names(table))
    return table
