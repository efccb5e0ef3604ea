"""What is written of the toy problem: each fit, the log-likelihoods beside the published ones, and figure 2."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penumbra.errors import PenumbraError
from penumbra.files import write_json, write_table, write_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MODELS = {0: "diagonal", 2: "low-rank"}
"""Rank of the covariance's factor, and what the paper calls the model."""
FITS = 5
"""Of each model, from seeds of their own."""
SHOWN = 14
"""Draws that figure 2 shows of a model."""


def write_fit(path: str | Path, *, rank: int, index: int, seed: int, iterations: int | None = None) -> None:
    """Fit one model and write its parameters, log-likelihood, middle third and the draws for the figure as JSON."""
    import torch

    from penumbra.seeds import torch_seed
    from penumbra.toy_problem import fit as toy

    iterations = toy.ITERATIONS if iterations is None else iterations
    torch.set_num_threads(1)
    found = toy.fit(rank, seed, index, iterations=iterations)
    torch.manual_seed(torch_seed(seed, "toy-problem-evaluation", rank, index))
    shares = toy.middle_third(found)
    write_json(
        path,
        {
            "model": MODELS[rank],
            "rank": rank,
            "index": index,
            "seed": seed,
            "iterations": 2 * iterations,
            "evaluation_draws": toy.EVALUATION_DRAWS,
            "log_likelihood": toy.log_likelihood(found),
            "middle_third_on": shares.on,
            "middle_third_off": shares.off,
            "mean": found.mean.flatten().tolist(),
            "factor": found.factor[0, :, 0].tolist(),
            "diagonal": found.diagonal.flatten().tolist(),
            "draws": torch.sigmoid(found.sample(SHOWN))[:, 0, 0].tolist(),
        },
    )


def _read(fits: Sequence[str | Path]) -> list[dict[str, Any]]:
    found = []
    for path in fits:
        try:
            found.append(json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise PenumbraError(
                f"cannot read the fit: {error}", file=path, cure="delete it and make it anew"
            ) from error
    return sorted(found, key=lambda each: (each["rank"], each["index"]))


def published(path: str | Path) -> dict[str, float]:
    """The log-likelihoods that the paper prints, by model."""
    import pandas as pd

    table = pd.read_csv(path)
    rows = table[(table["dataset"] == "toy") & (table["metric"] == "log_likelihood")]
    return dict(zip(rows["method"], rows["mean"].astype(float), strict=True))


def log_likelihoods(fits: Sequence[Mapping[str, Any]], printed: Mapping[str, float]) -> pd.DataFrame:
    """A row a model: log-likelihood over its fits (mean, standard deviation with ddof = 1, range), and their draws.

    ``middle_third_on`` and ``_off`` are means over fits of the share of draws in which all of its pixels are so;
    ``middle_third_together`` is the smallest sum of both.
    """
    import pandas as pd

    rows = []
    for model in MODELS.values():
        chosen = pd.DataFrame([each for each in fits if each["model"] == model])
        values = chosen["log_likelihood"]
        together = chosen["middle_third_on"] + chosen["middle_third_off"]
        rows.append(
            {
                "model": model,
                "published": printed[model],
                "mean": values.mean(),
                "std": values.std(ddof=1),
                "lowest": values.min(),
                "highest": values.max(),
                "fits": len(values),
                "iterations": int(chosen["iterations"].iloc[0]),
                "evaluation_draws": int(chosen["evaluation_draws"].iloc[0]),
                "middle_third_on": chosen["middle_third_on"].mean(),
                "middle_third_off": chosen["middle_third_off"].mean(),
                "middle_third_together": together.min(),
            }
        )
    return pd.DataFrame(rows)


def _page(table: pd.DataFrame) -> str:
    lines = [
        "# Toy problem",
        "",
        "Monteiro et al. 2020, section 5.1: log-likelihood of two label maps of 21 pixels, in nats.",
        "",
        "| model | published | here, mean ± standard deviation | range | middle third all on | all off |",
        "|:---|---:|---:|---:|---:|---:|",
    ]
    for row in table.to_dict("records"):
        lines.append(
            f"| {row['model']} | {row['published']:.2f} | {row['mean']:.3f} ± {row['std']:.3f} "
            f"| {row['lowest']:.3f} to {row['highest']:.3f} "
            f"| {row['middle_third_on']:.1%} | {row['middle_third_off']:.1%} |"
        )
    first = table.iloc[0]
    lines += [
        "",
        f"{first['fits']} fits a model, each of {first['iterations']:,} iterations (half of them of the mean alone) "
        "with no early stopping: the logarithm of the sigmoid is computed stably, so nothing overflows. Read from "
        f"{first['evaluation_draws']:,} draws. The published numbers are those of the last model before an overflow, "
        "read from 1,000 draws: one such reading has a standard deviation of about 0.02 (diagonal), 0.03 (low-rank). "
        "No model of independent pixels can be above 7 log(1/2) = -4.852, and none at all above log(1/2) = -0.693.",
        "",
        "![Figure 2](figure-2.png)",
        "",
    ]
    return "\n".join(lines)


def write_outputs(
    *, fits: Sequence[str | Path], paper: str | Path, table: str | Path, page: str | Path, figure: str | Path
) -> None:
    """Write the table of log-likelihoods, its page, and figure 2 (``.pdf``, ``.png`` and the marks' ``.csv``).

    Parameters
    ----------
    fits : what :func:`write_fit` wrote. paper : the csv of published numbers. figure : path without a suffix.

    Raises
    ------
    PenumbraError : a fit cannot be read.
    """
    from penumbra.figures._style import house_style
    from penumbra.figures._write import write_figure_files

    found = _read(fits)
    numbers = log_likelihoods(found, published(paper))
    write_table(table, numbers)
    write_text(page, _page(numbers))
    with house_style():
        drawn, marks = draw([each for each in found if each["index"] == 0])
        write_figure_files(drawn, marks, figure)


def draw(fits: Sequence[Mapping[str, Any]]) -> tuple[Figure, pd.DataFrame]:
    """Figure 2: for each model mean, covariance and draws. Mean and draws are probabilities, one pixel a row."""
    import numpy as np
    import pandas as pd

    from penumbra.figures import _style

    figure = _style.new_figure(_style.DOUBLE_COLUMN, 1.75)
    marks = []
    halves = figure.subfigures(1, len(fits), squeeze=False, wspace=0.04).ravel()
    for half, each in zip(halves, fits, strict=True):
        half.suptitle(f"{each['model']}: log-likelihood {each['log_likelihood']:.2f}", fontsize=_style.TITLE)
        mean, factor, draws = (np.asarray(each[name], float) for name in ("mean", "factor", "draws"))
        factor = factor.reshape(each["rank"], len(mean))
        covariance = factor.T @ factor + np.diag(each["diagonal"])
        probabilities = 1 / (1 + np.exp(-mean))
        left, middle, right = half.subplots(1, 3, width_ratios=[1, 5, 5])
        _shown(left, np.repeat(probabilities[:, None], 4, axis=1), "mean")
        extent = float(np.abs(covariance).max())
        shown = middle.imshow(covariance, cmap="RdBu_r", vmin=-extent, vmax=extent, interpolation="nearest")
        _frame(middle, "covariance")
        bar = half.colorbar(shown, ax=middle, shrink=0.8, pad=0.03)
        bar.ax.tick_params(labelsize=_style.FONT - 1.5)
        _shown(right, draws.T, f"{len(draws)} draws")
        right.set_aspect("auto")
        for kind, values in (("mean", probabilities[:, None]), ("covariance", covariance), ("draw", draws.T)):
            marks += [
                {"model": each["model"], "kind": kind, "pixel": i, "column": j, "value": float(value)}
                for (i, j), value in np.ndenumerate(values)
            ]
    return figure, pd.DataFrame(marks)


def _shown(axes: Axes, probabilities: Any, title: str) -> None:
    axes.imshow(probabilities, cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="equal")
    _frame(axes, title)


def _frame(axes: Axes, title: str) -> None:
    axes.set(xticks=[], yticks=[], title=title)
    axes.spines[:].set_visible(True)
