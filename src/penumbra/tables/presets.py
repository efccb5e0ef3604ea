"""The same candidates on the same data set under several presets, side by side.

One row for each candidate and preset, for every data set that the study trains under more than one; of metrics with two
conventions each row has the one that its preset shows. The caption lists the choices in which the presets differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from penumbra.config.choices import Decision
from penumbra.errors import PenumbraError
from penumbra.reporting.context import DatasetInfo, StudyContext, StudyData
from penumbra.tables._layout import Block, Builder, Row, Table, TableFunction
from penumbra.tables._quantities import quantities

NEEDS = ("metrics", "tests")
LEAST_PRESETS = 2
"""Under how many presets one data set must stand for there to be something to compare."""


def build(
    *,
    metrics: Annotated[
        tuple[
            Literal[
                "dice", "precision", "recall", "avd", "rvd", "mse", "lfdr", "ltpr", "brier", "entropy_error", "ece"
            ],
            ...,
        ],
        Field(min_length=1),
    ] = ("dice", "ece", "mse", "brier"),
) -> TableFunction:
    """A table of presets side by side; ``metrics`` picks and orders its columns."""

    def table(data: StudyData, context: StudyContext, exhibit: str, title: str) -> Table:
        compared = under_presets(context)
        if not compared:
            raise PenumbraError(
                "the table compares presets, and none of its data sets has more than one",
                cure="name a data set of the study twice, as `{name: ..., splits: ..., preset: sound}`",
            )
        builder = Builder(data, context.only([d.name for group in compared for d in group]), exhibit, ())
        blocks = [_side_by_side(builder, group, metrics) for group in compared]
        return builder.table(title, _caption(context, compared), blocks)

    return table


def under_presets(context: StudyContext) -> list[list[DatasetInfo]]:
    """The data sets that stand in the study under several presets, by their own name."""
    groups: dict[str, list[DatasetInfo]] = {}
    for dataset in context.datasets.values():
        groups.setdefault(dataset.base, []).append(dataset)
    return [group for group in groups.values() if len(group) > 1]


def _side_by_side(builder: Builder, group: Sequence[DatasetInfo], metrics: Sequence[str]) -> Block:
    """One block whose rows are candidates under each preset, out of one block a preset."""
    blocks = []
    for dataset in group:
        layout = [
            (dataset, quantity, target)
            for quantity in quantities(dataset, metrics)
            for target in (dataset.classes if quantity.per == "class" else ("image",))
        ]
        blocks.append(builder.block(layout))
    shared = replace(group[0], title=group[0].plain, preset=DatasetInfo.preset)
    rows = [
        Row(
            candidate.label + (" (ref)" if candidate.name == builder.context.reference else ""),
            dataset.preset,
            "ours",
            block.rows[at].cells,
        )
        for at, candidate in enumerate(c for members in builder.context.groups.values() for c in members)
        for dataset, block in zip(group, blocks, strict=True)
    ]
    columns = tuple(replace(column, dataset=shared) for column in blocks[0].columns)
    return Block(columns, tuple(rows), heads=("Candidate", "Preset"))


def _caption(context: StudyContext, compared: Sequence[Sequence[DatasetInfo]]) -> str:
    reference = context.candidates[context.reference].label
    sentences = [
        f"The same candidates under several presets; {reference} (ref) is tested against within each preset, and the "
        "best mean of each preset is bold. ECE and MSE are in the convention of the preset: the published one leaves "
        "voxels of confidence exactly 1 out of the ECE, and divides the MSE by the voxels of one slice."
    ]
    for group in compared:
        differing = _differing(context, group)
        if differing:
            sentences.append(f"{group[0].plain}, choices that differ: {'; '.join(differing)}.")
    return " ".join(sentences)


def _differing(context: StudyContext, group: Sequence[DatasetInfo]) -> list[str]:
    """Each choice that falls differently under the presets of a data set: its title and what was used."""
    used: dict[str, dict[str, list[Any]]] = {}
    for dataset in group:
        decisions: list[Decision] = context.decided(dataset.name)
        for candidate in context.candidates:
            decisions = [*decisions, *context.decided(dataset.name, candidate)]
        for decision in decisions:
            values = used.setdefault(decision["choice"], {}).setdefault(dataset.preset, [])
            if decision["used"] not in values:
                values.append(decision["used"])
    told = []
    for choice, by_preset in used.items():
        if len({repr(sorted(map(repr, values))) for values in by_preset.values()}) > 1:
            listed = ", ".join(f"{preset} {' or '.join(map(spelled, v))}" for preset, v in by_preset.items())
            told.append(f"{context.choices.get(choice, {}).get('title', choice)} ({listed})")
    return told


def spelled(value: Any) -> str:
    """A configured value as YAML spells it."""
    return (
        {True: "true", False: "false", None: "null"}[value] if value is None or isinstance(value, bool) else str(value)
    )
