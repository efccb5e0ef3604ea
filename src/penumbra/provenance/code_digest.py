"""A content hash of exactly the library code that a stage uses.

Snakemake's own ``code`` trigger compares a script's modification time, so it retrains everything after a fresh clone
and misses an edit in the library. Penumbra gives each rule the parameter ``code`` instead: a hash over the script,
every module of the package that it imports, directly or through others, and the parts that its configuration names.
Touching a file then reruns nothing, editing a plot never retrains, and editing a loss retrains what used it.
Docstrings, comments and formatting are left out of the hash, and so are the modules that only note what a job does.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parents[2]
PACKAGE = "penumbra"
BOOKKEEPING = ("penumbra.workflow", "penumbra.provenance")
"""What notes a job's doings and changes nothing in them: no part of any digest."""


def _file(module: str) -> Path | None:
    base = SOURCE.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _strip_docstrings(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                node.body = body[1:] or [ast.Pass()]
    return tree


@cache
def _parsed(path: Path) -> tuple[str, tuple[str, ...]]:
    """The hash of a file's code and the package's modules that it imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported: set[str] = set()
    type_checking = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in type_checking:
            continue
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise SyntaxError(f"{path}: write imports from {PACKAGE} in full, the code digest follows them by name")
            imported.add(str(node.module))
            imported.update(f"{node.module}.{alias.name}" for alias in node.names)
    for module in list(imported):
        pieces = module.split(".")
        imported.update(".".join(pieces[:n]) for n in range(1, len(pieces)))
    ours = sorted(m for m in imported if m.split(".")[0] == PACKAGE and _file(m) is not None)
    code = ast.dump(_strip_docstrings(tree), annotate_fields=False, include_attributes=False)
    return hashlib.sha256(code.encode()).hexdigest(), tuple(ours)


@cache
def modules_used(entry: str) -> frozenset[str]:
    """All modules of the package that ``entry`` (a dotted module name, or a script's path) imports, itself included."""
    found: set[str] = set()
    waiting = [entry]
    while waiting:
        name = waiting.pop()
        path = Path(name) if name.endswith(".py") else _file(name)
        if name in found or path is None or name.startswith(BOOKKEEPING):
            continue
        found.add(name)
        waiting.extend(_parsed(path)[1])
    return frozenset(found)


def code_hash(path: Path) -> str:
    """The hash of a Python file's code, whatever its docstrings, comments and layout."""
    return _parsed(path)[0]


def code_digest(entries: Iterable[str]) -> str:
    """A hexadecimal digest (16 characters) of all code that the entries use, scripts and parts alike."""
    modules = sorted(set().union(*(modules_used(entry) for entry in entries)))
    digest = hashlib.sha256()
    for module in modules:
        path = Path(module) if module.endswith(".py") else _file(module)
        assert path is not None
        label = path.name if module.endswith(".py") else module
        digest.update(f"{label} {_parsed(path)[0]}\n".encode())
    return digest.hexdigest()[:16]
