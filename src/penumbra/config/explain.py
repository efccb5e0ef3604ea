"""Saying what is wrong with a configuration, where, and what a right value looks like."""

from __future__ import annotations

import difflib
from typing import Any

import pydantic


def _field(model: type[pydantic.BaseModel], location: tuple[Any, ...]) -> dict[str, Any]:
    """The JSON schema of the field at ``location``, as far as it can be followed."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})

    def resolve(node: dict[str, Any]) -> dict[str, Any]:
        while True:
            if "$ref" in node:
                node = {**definitions[node["$ref"].rsplit("/", 1)[1]], **{k: v for k, v in node.items() if k != "$ref"}}
            elif "anyOf" in node:
                options = [n for n in node["anyOf"] if n.get("type") != "null"]
                node = {**options[0], **{k: v for k, v in node.items() if k != "anyOf"}}
            else:
                return node

    node = resolve(schema)
    for step in location:
        if isinstance(step, int):
            places = node.get("prefixItems", [])
            node = places[step] if step < len(places) else node.get("items", {})
        elif step in (tags := node.get("discriminator", {}).get("mapping", {})):
            node = {"$ref": tags[step]}
        else:
            others = [node.get("additionalProperties"), *node.get("patternProperties", {}).values()]
            node = node.get("properties", {}).get(step) or next((o for o in others if isinstance(o, dict)), {})
        node = resolve(node)
    return node


def _right_value(node: dict[str, Any]) -> str:
    """What a right value looks like, in words, from a field's JSON schema."""
    if "enum" in node:
        return "one of " + ", ".join(map(repr, node["enum"]))
    if "properties" in node:
        return "a mapping with the keys " + ", ".join(node["properties"])
    words = {
        "integer": "a whole number",
        "number": "a number",
        "string": "a text",
        "boolean": "true or false",
        "array": "a list",
        "object": "a mapping",
    }.get(node.get("type", ""), "")
    bounds = [
        f"{sign} {node[key]}"
        for key, sign in (("exclusiveMinimum", ">"), ("minimum", ">="), ("exclusiveMaximum", "<"), ("maximum", "<="))
        if key in node
    ]
    if "pattern" in node:
        bounds.append(f"matching {node['pattern']}")
    text = " ".join([words, " and ".join(bounds)]).strip()
    if "default" in node:
        text += f", for instance {node['default']!r} (the default)"
    return text or "see docs/configuration.md"


def explain(error: pydantic.ValidationError, model: type[pydantic.BaseModel], where: tuple[Any, ...] = ()) -> list[str]:
    """One readable line or two for each fault: where it is, what is wrong, and what a right value looks like."""
    lines = []
    for fault in error.errors(include_url=False):
        location = tuple(step for step in fault["loc"] if step != "function-after")
        dotted = ".".join(map(str, where + location)) or "(top level)"
        if fault["type"] == "extra_forbidden":
            known = list(_field(model, location[:-1]).get("properties", {})) or list(model.model_fields)
            close = difflib.get_close_matches(str(location[-1]), known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(known)}"
            lines.append(f"{dotted}: unknown key; {hint}")
        elif fault["type"] == "missing":
            lines.append(f"{dotted}: missing; right: {_right_value(_field(model, location))}")
        else:
            message = fault["msg"].removeprefix("Value error, ")
            right = "" if fault["type"] == "value_error" else f"; right: {_right_value(_field(model, location))}"
            given = f", got {fault['input']!r}" if isinstance(fault["input"], str | int | float | bool | None) else ""
            lines.append(f"{dotted}: {message}{given}{right}")
    return lines
