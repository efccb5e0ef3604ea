"""From rows a case to one value a run."""

from __future__ import annotations

import pandas as pd

RUN = ["dataset", "candidate", "split", "target", "metric"]


def run_means(metrics: pd.DataFrame) -> pd.DataFrame:
    """One value for each run, target and metric: the mean over the cases where the metric is defined.

    What is measured over a whole run already (scope ``"run"``, e.g. the expected calibration error) is taken as it is;
    rows of bins (of a reliability diagram, a histogram, a size of lesions) are left out.

    Returns
    -------
    Columns ``dataset``, ``candidate``, ``split``, ``target``, ``metric``, ``value`` (NaN when no case is defined),
    ``n_defined`` and ``n_undefined`` (numbers of cases; of runs, 1 or 0, for scope ``"run"``), sorted.
    """
    groups = metrics[metrics["bin"].isna()].groupby(RUN, sort=True)["value"]
    table = groups.agg(value="mean", n_defined="count", n="size").reset_index()
    table["n_undefined"] = table["n"] - table["n_defined"]
    return table.drop(columns="n")
