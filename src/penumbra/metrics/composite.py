"""The composite score of segmentation accuracy (thesis section 5.3.3, figure 5.5)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from penumbra.metrics.rows import row_names

WEIGHTS: dict[str, float] = {"dice": 1.0, "precision": 1.0, "recall": 1.0, "avd": -1.0}


def standardise(values: np.ndarray) -> np.ndarray:
    """z-scores of ``(n,)`` values with the population's standard deviation (ddof = 0).

    NaN is left out of mean and standard deviation and stays NaN; where all defined values are equal every score is 0.
    """
    values = np.asarray(values, dtype=np.float64)
    defined = values[np.isfinite(values)]
    if defined.size == 0:
        return np.full(values.shape, np.nan)
    if np.ptp(defined) == 0:
        return np.where(np.isfinite(values), 0.0, np.nan)
    return (values - defined.mean()) / defined.std(ddof=0)


def composite(metrics: pd.DataFrame) -> pd.DataFrame:
    """Composite score z(Dice) + z(Precision) + z(Recall) - z(AVD) of every run, case and class.

    Each z-score is pooled over all candidates x splits x cases of ``metrics`` for one data set and one class. The
    score is therefore relative to the candidates in the table: keep those of the study before calling.

    Parameters
    ----------
    metrics : the long table of metrics; rows of scope ``"case"`` with the four metrics are used.

    Returns
    -------
    Rows like those of ``metrics`` with metric ``"composite"``, scope ``"case"``, value in units of standard deviations
    (a sum, not a mean), ``n`` the number of defined terms. Where a term is undefined so is the score (NaN), and
    ``status`` names the terms. Sorted by data set, candidate, split, case and class.
    """
    key = ["dataset", "candidate", "split", "case", "target"]
    parts = metrics[(metrics["scope"] == "case") & metrics["metric"].isin(list(WEIGHTS))]
    wide = parts.pivot(index=key, columns="metric", values="value").reindex(columns=list(WEIGHTS)).astype(float)
    scores = wide.groupby(level=["dataset", "target"]).transform(lambda column: standardise(column.to_numpy()))
    total = (scores * pd.Series(WEIGHTS)).sum(axis=1, skipna=False)
    defined = wide.notna()
    status = [
        "ok" if all(row) else "undefined: " + ", ".join(m for m, ok in zip(WEIGHTS, row, strict=True) if not ok)
        for row in defined.to_numpy()
    ]
    table = wide.index.to_frame(index=False).assign(
        scope="case",
        metric="composite",
        bin=pd.array([pd.NA] * len(wide), dtype="Int64"),
        value=total.to_numpy(),
        n=defined.sum(axis=1).to_numpy(),
        status=status,
    )
    if "row" in metrics:
        table["row"] = row_names(table)
    return table.reindex(columns=[c for c in metrics.columns if c in table])
