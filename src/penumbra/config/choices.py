"""Presets: what each named choice of ``config/choices.yaml`` says of a data set or a candidate.

A preset is the lowest layer: files of data sets and candidates, recipes and the user may say otherwise. Where they do,
the choice is a deviation, which the run's record and the study's report state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from penumbra.config.models import Choice, Choices

PART_KEYS = ("network", "head", "activation", "loss", "predictor", "split", "adapter")
"""Keys of candidates and data sets that hold a part."""

Of = Literal["dataset", "candidate"]


class Decision(TypedDict):
    """One choice as it fell for one data set or candidate."""

    choice: str
    preset: str
    expected: Any
    used: Any
    deviates: bool


def spelled_out(content: dict[str, Any]) -> dict[str, Any]:
    """A recipe or data set in which every part is a mapping: ``loss: dice`` becomes ``loss: {name: dice}``."""
    return {k: {"name": v} if k in PART_KEYS and isinstance(v, str) else v for k, v in content.items()}


def _part_names(content: dict[str, Any]) -> dict[str, Any]:
    given = {key: part for key, part in spelled_out(content).items() if key in PART_KEYS and isinstance(part, dict)}
    return {key: part["name"] for key, part in given.items() if "name" in part}


def _value(content: dict[str, Any], way: list[str]) -> Any:
    at: Any = content
    for key in way:
        at = at.get(key) if isinstance(at, dict) else None
    return at


def _way(choice: Choice, of: Of, content: dict[str, Any]) -> list[str] | None:
    """Where a choice's value stands in a content; None where the choice bears not on it."""
    if choice.of != of or (choice.needs is not None and _value(content, choice.needs.split(".")) is None):
        return None
    for key in choice.keys:
        way = key.split(".")
        if way[0] not in PART_KEYS:
            return way
        if _part_names(content).get(way[0]) == way[1]:
            return [way[0], *way[2:]]
    return None


def chosen_layer(choices: Choices, of: Of, preset: str, content: dict[str, Any]) -> dict[str, Any]:
    """What a preset says of a data set or candidate, to be laid under ``content``."""
    layer: dict[str, Any] = {}
    names = _part_names(content)
    for choice in choices.choices.values():
        if (way := _way(choice, of, content)) is None:
            continue
        at = layer
        for key in way[:-1]:
            at = at.setdefault(key, {"name": names[key]} if key in names else {})
        at[way[-1]] = choice.values[preset]
    return layer


def decisions(choices: Choices, of: Of, preset: str, content: dict[str, Any]) -> list[Decision]:
    """How each choice that bears on a resolved content fell, and whether that is what the preset takes."""
    found: list[Decision] = []
    for name, choice in choices.choices.items():
        if (way := _way(choice, of, content)) is not None:
            used, expected = _value(content, way), choice.values[preset]
            found.append(Decision(choice=name, preset=preset, expected=expected, used=used, deviates=used != expected))
    return found
