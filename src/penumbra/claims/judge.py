"""Holding a paper's claims against a study's numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from penumbra.claims.evidence import CONTRADICTED, SUPPORTED, UNDECIDED, Evidence, smallest_p, together, weigh
from penumbra.claims.kinds import KINDS
from penumbra.claims.models import OUTCOMES, Claim, Claims
from penumbra.claims.quantities import UNITS, Origin, Quantities, Unit
from penumbra.files import write_table
from penumbra.reporting.context import StudyContext
from penumbra.reporting.data import read_metrics
from penumbra.reporting.sources import results_folder
from penumbra.reporting.verdicts import COLUMNS, EVERYWHERE
from penumbra.seeds import generator


def judged_here(claims: Claims, context: StudyContext) -> dict[str, Claim]:
    """The claims of which a study has every candidate and at least one data set."""
    return {
        name: claim
        for name, claim in claims.claims.items()
        if claim.names <= set(context.candidates) and datasets_of(claim, context)
    }


def datasets_of(claim: Claim, context: StudyContext) -> list[str]:
    """The study's data sets that a claim speaks of, by id; one under several presets counts under each."""
    return [d.name for d in context.datasets.values() if claim.datasets is None or d.base in claim.datasets]


def _evidence(
    claim: Claim, quantities: Quantities, dataset: str, target: str, level: float, draw: np.random.Generator
) -> tuple[Evidence, Unit]:
    """By split where the splits suffice for the level, else by case, else by whichever has more pairs."""
    kind, test = KINDS[claim.test.kind], claim.test

    def take(metric: str, unit: Unit, candidates: Any) -> pd.DataFrame:
        return quantities.values(dataset, metric, target, unit, candidates)

    arms = {unit: kind.arms(test, take, unit) for unit in kind.units}
    pairs = {unit: min(len(arm.pairs) for arm in found) for unit, found in arms.items()}
    enough = [unit for unit in kind.units if smallest_p(pairs[unit]) < level]
    unit = enough[0] if enough else max(kind.units, key=lambda u: pairs[u])
    return together([weigh(arm, level, UNITS[unit], draw) for arm in arms[unit]], level), unit


def _numbers(found: Evidence, unit: Unit, level: float, origin: Origin) -> dict[str, Any]:
    return {
        "compared": found.arm.name,
        "verdict": found.verdict,
        "reason": found.reason,
        "mean_candidates": found.mean,
        "mean_against": found.mean_against,
        "effect": found.effect,
        "low": found.low,
        "high": found.high,
        "standardised": found.standardised,
        "standardised_low": found.standardised_low,
        "standardised_high": found.standardised_high,
        "p": found.p,
        "n": found.n,
        "unit_of_n": UNITS[unit],
        "n_undefined": found.n_undefined,
        "level": level,
        **vars(origin),
    }


def _everywhere(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """One verdict over data sets and targets, where a claim was tested on at least two.

    The claim as an intersection-union test: supported where it is supported everywhere, with the largest p;
    contradicted where it is contradicted somewhere and supported nowhere; undecided otherwise. Effects of different
    data sets are not averaged.
    """
    tested = [row for row in rows if row["n"] > 0]
    if len(tested) < 2:
        return None
    count = {v: sum(row["verdict"] == v for row in tested) for v in (SUPPORTED, CONTRADICTED, UNDECIDED)}
    verdict = UNDECIDED
    if count[SUPPORTED] == len(tested):
        verdict = SUPPORTED
    elif count[CONTRADICTED] and not count[SUPPORTED]:
        verdict = CONTRADICTED
    told = ", ".join(f"{word} in {number}" for word, number in count.items() if number)
    blank = dict.fromkeys(("mean_candidates", "mean_against", "effect", "low", "high"), math.nan)
    blank |= dict.fromkeys(("standardised", "standardised_low", "standardised_high"), math.nan)
    return {
        **tested[0],
        **blank,
        "dataset": EVERYWHERE,
        "target": EVERYWHERE,
        "compared": "",
        "verdict": verdict,
        "reason": f"{told} of {len(tested)}",
        "p": max(row["p"] for row in tested) if verdict == SUPPORTED else math.nan,
        "n": len(tested),
        "unit_of_n": "data sets and classes",
        "n_undefined": 0,
        "source": "; ".join(dict.fromkeys(row["source"] for row in tested)),
        "filter": "",
        "n_rows": 0,
        "rows_sha256": None,
    }


def judge(
    claims: Claims, metrics: pd.DataFrame, context: StudyContext, seed: int, sources: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Test every claim that bears on a study, on each of its data sets and targets.

    Parameters
    ----------
    claims : a paper's claims. metrics : the long metrics of the study's data sets.
    context : the study; its level holds where a claim states none.
    seed : the study's seed, for the bootstrap.
    sources : the file that holds the metrics of each data set, as the cell index names it.

    Returns
    -------
    The columns :data:`COLUMNS`; for each claim a row a data set and target, then, where two or more of these could be
    tested, a row over :data:`EVERYWHERE` (see :func:`_everywhere`). ``effect`` is in the metric's own ``unit``, with
    its interval ``low`` to ``high``, of the comparison ``compared``; ``standardised`` is the rank-biserial correlation
    towards the claim. Claims whose candidates the study lacks have no row.
    """
    quantities = Quantities(metrics, context, dict(sources or {}))
    table: list[dict[str, Any]] = []
    for name, claim in judged_here(claims, context).items():
        kind, test = KINDS[claim.test.kind], claim.test
        level = claim.level or context.level
        common = {
            "claim": name,
            "section": claim.section,
            "statement": claim.statement,
            "kind": test.kind,
            "candidates": ", ".join(test.candidates),
            "against": ", ".join(test.against),
            "direction": kind.direction(test),
            "published": claim.published.words,
            "published_outcome": OUTCOMES[claim.published.outcome],
            "effect_kind": kind.effect(test),
            "unit": kind.effect_unit(test),
        }
        rows = []
        over = getattr(test, "over", None)
        for dataset in datasets_of(claim, context):
            for target in quantities.targets(dataset, test.target):
                draw = generator(seed, "claim", name, dataset, target)
                found, unit = _evidence(claim, quantities, dataset, target, level, draw)
                origin = quantities.origin(dataset, [m for m in (test.metric, over) if m], target, sorted(claim.names))
                numbers = _numbers(found, unit, level, origin)
                if origin.n_rows == 0:
                    numbers["reason"] = f"no rows of {quantities.plain(dataset, test.metric)}"
                metric = quantities.plain(dataset, test.metric) + (f" / {over}" if over else "")
                rows.append(common | {"dataset": dataset, "target": target, "metric": metric} | numbers)
        overall = _everywhere(rows)
        table += rows + ([overall] if overall else [])
    return pd.DataFrame(table, columns=list(COLUMNS))


def write_claims(
    *,
    told: Mapping[str, Any],
    claims: Mapping[str, Any],
    metrics: Iterable[str | Path],
    seed: int,
    out: str | Path,
) -> None:
    """Read a study's collected metrics, :func:`judge` a paper's claims on them, and write the result as csv.

    Parameters
    ----------
    told : the study as plain data: ``name``, ``study``, ``datasets``, ``candidates``.
    claims : a file of ``config/claims`` as plain data.
    """
    context = StudyContext.from_told(told)
    table, sources = read_metrics(metrics, results_folder(out))
    write_table(out, judge(Claims.model_validate(claims), table, context, seed, sources))
