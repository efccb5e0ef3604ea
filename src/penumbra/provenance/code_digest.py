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
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

from penumbra.errors import PenumbraError
from penumbra.files import write_text

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


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Every node that holds statements, and every statement; expressions hold none."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        for name in ("body", "orelse", "finalbody", "handlers", "cases"):
            inside = getattr(node, name, ())
            waiting.extend(inside if isinstance(inside, list) else ())


def _strip_docstrings(tree: ast.Module) -> ast.Module:
    for node in _statements(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                node.body = body[1:] or [ast.Pass()]
    return tree


def _facts(content: bytes, path: Path) -> tuple[str, tuple[str, ...]]:
    """The hash of a file's code and every name of the package that it imports, modules or what is in them."""
    tree = ast.parse(content.decode("utf-8"))
    imported: set[str] = set()
    type_checking = {
        id(child)
        for node in _statements(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in _statements(tree):
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
    code = ast.dump(_strip_docstrings(tree), annotate_fields=False, include_attributes=False)
    ours = sorted(name for name in imported if name.split(".")[0] == PACKAGE)
    return hashlib.sha256(code.encode()).hexdigest(), tuple(ours)


class _Noted:
    """What is known of files by the hash of their bytes, so that each process need not parse them all again."""

    def __init__(self) -> None:
        self.file: Path | None = None
        self.known: dict[str, tuple[str, tuple[str, ...]]] = {}
        self.new = 0

    def facts(self, path: Path) -> tuple[str, tuple[str, ...]]:
        content = path.read_bytes()
        # ast.dump differs between versions of Python, and so do the hashes of the same code.
        key = hashlib.sha256(_FORM + content).hexdigest()
        if key not in self.known:
            self.known[key] = _facts(content, path)
            self.new += 1
        return self.known[key]


_FORM = f"1 {sys.version_info.major}.{sys.version_info.minor}\n".encode()
"""Goes into the keys of what is noted: another form makes everything noted before void."""
_noted = _Noted()


def read_notes(file: str | Path) -> None:
    """Take up what an earlier process has found out about files of code; a missing or damaged file tells nothing."""
    _noted.file = Path(file)
    with suppress(OSError, ValueError, TypeError, AttributeError):
        told = json.loads(_noted.file.read_text(encoding="utf-8"))
        _noted.known |= {
            key: (code, tuple(names))
            for key, (code, names) in told.items()
            if isinstance(code, str) and all(isinstance(name, str) for name in names)
        }


def write_notes() -> None:
    """Keep what was found out since :func:`read_notes`, if anything; where that fails, the work is done again."""
    if _noted.file is not None and _noted.new:
        with suppress(PenumbraError):
            write_text(_noted.file, json.dumps(_noted.known, separators=(",", ":")))
        _noted.new = 0


@cache
def _parsed(path: Path) -> tuple[str, tuple[str, ...]]:
    """The hash of a file's code and the package's modules that it imports."""
    code, imported = _noted.facts(path)
    return code, tuple(name for name in imported if _file(name) is not None)


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
