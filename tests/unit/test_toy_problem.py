"""Section 5.1 of stochastic segmentation networks: what is known of it in closed form, and its published result."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest
import torch

from penumbra.errors import PenumbraError
from penumbra.networks.distribution import LowRankNormal
from penumbra.toy_problem import fit as toy_problem
from penumbra.toy_problem.outputs import write_fit, write_outputs


def test_the_two_maps():
    first, second = toy_problem.label_maps()
    assert first[:7].all() and second[:14].all() and first.sum() == 7 and second.sum() == 14


def certain(middle: float, factor: float) -> LowRankNormal:
    """Outer thirds beyond doubt, the middle third with one common direction."""
    mean = torch.cat([torch.full((7,), 100.0), torch.full((7,), middle), torch.full((7,), -100.0)]).double()
    direction = torch.zeros(21, dtype=torch.float64)
    direction[7:14] = factor
    return LowRankNormal(mean[None, None], direction[None, None, None], torch.full((1, 1, 21), 1e-12).double())


def test_the_best_log_likelihoods(rng):
    torch.manual_seed(int(rng.integers(2**62)))
    independent = toy_problem.log_likelihood(certain(0.0, 0.0), 1000)
    assert independent == pytest.approx(7 * math.log(0.5), abs=1e-9)
    together = certain(0.0, 1e4)
    assert toy_problem.log_likelihood(together) == pytest.approx(math.log(0.5), abs=0.02)
    shares = toy_problem.middle_third(together, 20_000)
    assert shares.on + shares.off == 1 and shares.on == pytest.approx(0.5, abs=0.02)


def test_blocks_and_draws_add_up(monkeypatch, rng):
    torch.manual_seed(int(rng.integers(2**62)))
    monkeypatch.setattr(toy_problem, "_BLOCK", 7)
    shares = toy_problem.middle_third(certain(0.0, 0.0).tempered(0), 100)
    assert (shares.on, shares.off) == (0.0, 1.0), "a logit of 0 is off"
    assert toy_problem.log_likelihood(certain(0.0, 0.0), 100) == pytest.approx(7 * math.log(0.5), abs=1e-9)


def test_a_fit_is_the_same_again_and_another_index_is_another():
    fits = [toy_problem.fit(2, 1, index, iterations=5) for index in (0, 0, 1)]
    assert torch.equal(fits[0].factor, fits[1].factor) and not torch.equal(fits[0].factor, fits[2].factor)
    for first, second in itertools.pairwise(fits[:2]):
        assert torch.equal(first.mean, second.mean)


def test_as_published():
    """The published -4.87 of the diagonal model, and of the low-rank one -0.93 or better, as its stopping rule is not ours."""
    independent, together = (toy_problem.fit(rank, 2022) for rank in (0, 2))
    low, high = toy_problem.log_likelihood(independent), toy_problem.log_likelihood(together)
    assert -4.95 <= low <= -4.82 and -1.05 <= high <= -0.69 and high - low >= 3.8
    shares, apart = toy_problem.middle_third(together), toy_problem.middle_third(independent)
    assert shares.on + shares.off >= 0.94 and abs(shares.on - shares.off) < 0.1
    assert 0.01 < apart.on + apart.off < 0.02


# ---------------------------------------------------------------- what is written


def written(folder, root, fits):
    out = {"table": folder / "t.csv", "page": folder / "page.md", "figure": folder / "figure-2"}
    write_outputs(fits=fits, paper=root / "config/published/stochastic_segmentation_networks.csv", **out)
    return out


def test_table_and_figure_are_those_of_the_fits(tmp_path, root, rng, monkeypatch):
    monkeypatch.setattr(toy_problem, "EVALUATION_DRAWS", 500)
    fits, seed = [], int(rng.integers(2**31))
    for rank, index in itertools.product((2, 0), (1, 0)):
        fits.append(tmp_path / f"{rank}-{index}.json")
        write_fit(fits[-1], rank=rank, index=index, seed=seed, iterations=5)
    out = written(tmp_path, root, fits)
    made = [json.loads(path.read_text()) for path in fits]
    table = pd.read_csv(out["table"]).set_index("model")
    assert table["published"].to_dict() == {"diagonal": -4.87, "low-rank": -0.93}
    for model, rows in (("low-rank", made[:2]), ("diagonal", made[2:])):
        values = [each["log_likelihood"] for each in rows]
        assert table.loc[model, "mean"] == pytest.approx(sum(values) / 2)
        assert table.loc[model, "std"] == pytest.approx(abs(values[0] - values[1]) / math.sqrt(2))
        assert table.loc[model, ["fits", "iterations"]].tolist() == [2, 10]
        assert f"{sum(values) / 2:.3f}" in out["page"].read_text()
    marks = pd.read_csv(f"{out['figure']}.csv")
    for fit in (made[1], made[3]):
        mine = marks[marks["model"] == fit["model"]]
        covariance = mine[mine["kind"] == "covariance"].pivot(index="pixel", columns="column", values="value")
        factor = np.array(fit["factor"]).reshape(-1, 21)
        np.testing.assert_allclose(covariance, np.einsum("ri,rj->ij", factor, factor) + np.diag(fit["diagonal"]))
        draws = mine[mine["kind"] == "draw"].pivot(index="column", columns="pixel", values="value")
        np.testing.assert_allclose(draws, fit["draws"])
    assert (tmp_path / "figure-2.png").stat().st_size > 5000


def test_a_damaged_fit_is_named(tmp_path, root):
    path = tmp_path / "fit.json"
    path.write_text("{")
    with pytest.raises(PenumbraError, match=r"fit\.json"):
        written(tmp_path, root, [path])
