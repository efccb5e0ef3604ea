"""Parts: the small pieces, picked by name in YAML, of which candidates and datasets are composed.

A part is a module of one of the packages in :data:`PACKAGES`; its module name is its name in YAML, and its function
``build(*, option: type = default, ...)`` makes it. Adding a part is adding that one file. Names and options are read
from the source text with :mod:`ast`, so a configuration is checked without importing torch.
"""

from __future__ import annotations

import ast
import importlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, get_args

if TYPE_CHECKING:
    import pydantic

Kind = Literal[
    "adapter", "phantom", "fusion", "split", "network", "head", "activation", "loss", "predictor", "table", "figure"
]

PACKAGES: dict[str, str] = {
    "adapter": "penumbra.data.adapters",
    "phantom": "penumbra.data.phantoms",
    "fusion": "penumbra.fusion",
    "split": "penumbra.splits",
    "network": "penumbra.networks",
    "head": "penumbra.heads",
    "activation": "penumbra.activations",
    "loss": "penumbra.losses",
    "predictor": "penumbra.inference.predictors",
    "table": "penumbra.tables",
    "figure": "penumbra.figures",
}
assert set(PACKAGES) == set(get_args(Kind))

_NAMESPACE = {
    "Annotated": Annotated,
    "Any": Any,
    "Literal": Literal,
    **{kind.__name__: kind for kind in (bool, int, float, str, list, tuple, dict)},
}


class Named(Protocol):
    """A part by name, and its options."""

    @property
    def name(self) -> str: ...

    @property
    def options(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Chosen:
    """A part as a job is told it: a name and options that were checked when the plan was made."""

    name: str
    options: dict[str, Any]

    @classmethod
    def told(cls, content: dict[str, Any]) -> Chosen:
        """From the plain mapping of a rule's parameter: ``name``, and every option beside it."""
        return cls(content["name"], {key: value for key, value in content.items() if key != "name"})


def _folder(kind: str) -> Path:
    return Path(__file__).parent.joinpath(*PACKAGES[kind].split(".")[1:])


@cache
def _parsed(path: Path, modified_ns: int, size: int) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _tree(path: Path) -> ast.Module:
    """The syntax tree of a part's file; not to be changed."""
    status = path.stat()
    return _parsed(path, status.st_mtime_ns, status.st_size)


def _build_function(path: Path) -> ast.FunctionDef | None:
    return next((n for n in _tree(path).body if isinstance(n, ast.FunctionDef) and n.name == "build"), None)


@cache
def names(kind: Kind) -> tuple[str, ...]:
    """The names of all parts of one kind, sorted."""
    files = sorted(_folder(kind).glob("*.py"))
    return tuple(f.stem for f in files if not f.stem.startswith("_") and _build_function(f) is not None)


@cache
def options_model(kind: Kind, name: str) -> type[pydantic.BaseModel]:
    """A pydantic model of a part's options, from the keyword-only arguments of its ``build``.

    Raises
    ------
    KeyError : there is no part of that name.
    """
    # Here and not above: a small job that builds a part checks nothing, and pydantic is half of its time.
    import pydantic

    if name not in names(kind):
        raise KeyError(name)
    function = _build_function(_folder(kind) / f"{name}.py")
    assert function is not None
    fields: dict[str, Any] = {}
    for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        annotation: Any = Any
        if argument.annotation is not None:
            annotation = eval(ast.unparse(argument.annotation), _NAMESPACE | {"Field": pydantic.Field})
        fields[argument.arg] = (annotation, ... if default is None else ast.literal_eval(default))
    config = pydantic.ConfigDict(extra="forbid", title=f"{kind} {name}", allow_inf_nan=False)
    return pydantic.create_model(f"{kind}_{name}", __config__=config, **fields)


def module_name(kind: Kind, name: str) -> str:
    """The dotted name of the module that holds a part."""
    return f"{PACKAGES[kind]}.{name}"


def build(kind: Kind, name: str, options: dict[str, Any] | None = None, **context: Any) -> Any:
    """Import a part's module and call its ``build`` with the configured options.

    ``context`` are positional-or-keyword arguments that the caller knows and YAML does not (number of classes, ...).
    """
    return importlib.import_module(module_name(kind, name)).build(**context, **(options or {}))


@cache
def constant(kind: Kind, name: str, constant: str, *default: Any) -> Any:
    """A module-level constant of a part (a literal), read without importing it; ``default`` where it states none."""
    tree = _tree(_folder(kind) / f"{name}.py")
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == constant for t in node.targets):
            return ast.literal_eval(node.value)
    if default:
        return default[0]
    raise KeyError(f"the {kind} {name} does not state {constant}")


@cache
def description(kind: Kind, name: str) -> str:
    """What a part says of itself: its module's docstring, read without importing it."""
    tree = _tree(_folder(kind) / f"{name}.py")
    return ast.get_docstring(tree) or name
