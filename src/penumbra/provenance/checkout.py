"""Which code runs: the commit, what is changed since, and whether it moved while a workflow was running.

The head process of a workflow notes this once, when it starts (:func:`begin`), and hands it to its jobs in their
environment; a job that was not given it looks for itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath

from penumbra.errors import PenumbraError
from penumbra.files import atomic_path
from penumbra.provenance.code_digest import PACKAGE, SOURCE, code_hash
from penumbra.provenance.jobs import DIFF

VARIABLE = "PENUMBRA_CHECKOUT"
CODE = ("Snakefile", "workflow", "src", "config", "envs", "profiles", "pyproject.toml", "requirements.lock")
"""What of a checkout can change a result."""
CODE_SUFFIXES = (".py", ".smk", ".yaml", ".yml", ".csv", ".json", ".toml", ".so")
"""How what can change a result ends, of files that an ignore file names."""
SCRIPTS = ("workflow", "scripts")
MOST_NAMED = 8


@dataclass(frozen=True)
class Checkout:
    """A checkout at one moment.

    ``commit`` : None where there is no git or no repository. ``dirty`` : whether :data:`CODE` differs from the commit.
    ``diff_sha256`` : of the differences, untracked files included. ``modules`` : for each module of the package the
    first 16 digits of the SHA-256 of its file, and of its code without comments (:func:`code_hash`); for each script of
    the workflow, by its file name, too.
    """

    commit: str | None
    dirty: bool | None
    diff_sha256: str | None = None
    modules: dict[str, tuple[str, str]] = field(default_factory=dict)


def _git(root: Path, *arguments: str | bytes) -> bytes | None:
    try:
        found = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout


def difference(root: str | Path) -> bytes | None:
    """How a checkout's code differs from its commit, as a patch, untracked files included; None without git.

    Included is, too, what git was told not to look at: code that an ignore file names, and files that are marked as
    unchanged.
    """
    root = Path(root)
    patch = _git(root, "diff", "HEAD", "--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--", *CODE)
    others = ("ls-files", "--others", "--exclude-standard", "-z")
    new, ignored = (_git(root, *others, *more, "--", *CODE) for more in ((), ("--ignored",)))
    marked = _git(root, "ls-files", "-v", "-z", "--", *CODE)
    if patch is None or new is None or ignored is None or marked is None:
        return None
    names = {*new.split(b"\0"), *filter(_hides_code, ignored.split(b"\0"))} - {b""}
    for name in sorted(names):
        patch += b"untracked " + name + b"\n" + _content(root / os.fsdecode(name)) + b"\n"
    for line in marked.split(b"\0"):
        tag, name = line[:1], line[2:]
        if not tag or (tag != b"S" and not tag.islower()) or not (root / os.fsdecode(name)).exists():
            continue
        content = _content(root / os.fsdecode(name))
        if content != _git(root, "cat-file", "--filters", b"HEAD:" + name):
            patch += b"marked as unchanged " + name + b"\n" + content + b"\n"
    return patch


def _hides_code(name: bytes) -> bool:
    """Whether an ignored file may change a result: no cache, and nothing that an editor leaves."""
    path = PurePosixPath(os.fsdecode(name))
    return path.suffix in CODE_SUFFIXES and not any(part.startswith((".", "__pycache__")) for part in path.parts)


def _content(place: Path) -> bytes:
    """What an untracked name holds: a file's bytes, where a link leads to besides, all files of a folder.

    A folder is told where it is a repository of its own. What is gone meanwhile, or no file, holds nothing.
    """
    link = b""
    try:
        if place.is_symlink():
            link = b"link to " + os.fsencode(os.readlink(place)) + b"\n"
        if place.is_dir() and not link:
            inside = sorted(p for p in place.rglob("*") if ".git" not in p.parts and not p.is_dir())
            return b"".join(os.fsencode(p.relative_to(place)) + b"\n" + _content(p) + b"\n" for p in inside)
        return link + (place.read_bytes() if place.is_file() else b"")
    except OSError as error:
        return link + f"cannot be read: {error.strerror}".encode()


def look(root: str | Path) -> tuple[Checkout, bytes]:
    """The checkout at ``root`` without its modules, and how it differs from its commit."""
    root = Path(root)
    commit = _git(root, "rev-parse", "HEAD")
    patch = difference(root) if commit else None
    if commit is None or patch is None:
        return Checkout(None, None), b""
    digest = hashlib.sha256(patch).hexdigest() if patch else None
    return Checkout(commit.decode().strip(), bool(patch), digest), patch


def _file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _modules() -> dict[str, Path]:
    """Every module of the package, and its file."""
    files = sorted((SOURCE / PACKAGE).rglob("*.py"))
    return {".".join(f.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): f for f in files}


def file_hashes() -> dict[str, str]:
    """For each module of the package the first 16 digits of the SHA-256 of its file, as records give it."""
    return {name: _file_hash(file) for name, file in _modules().items()}


def _hidden_names(patch: bytes) -> list[str]:
    """The files that git was told not to look at, of a difference."""
    return [
        f"{os.fsdecode(line.removeprefix(start))} (hidden from git)"
        for line in patch.splitlines()
        for start in (b"untracked ", b"marked as unchanged ")
        if line.startswith(start)
    ]


def clean_commit(root: str | Path) -> str:
    """The commit of a checkout whose code is exactly that commit's.

    Raises
    ------
    PenumbraError : it is not, or there is no telling.
    """
    here, patch = look(root)
    if here.commit is None:
        raise PenumbraError(
            "final results need code of a known commit, and this folder is no git checkout that can be read",
            file=root,
            cure="clone the repository; or make development results: `snakemake` without `final`",
        )
    if here.dirty:
        listed = _git(Path(root), "status", "--porcelain", "--untracked-files=all", "--", *CODE) or b""
        names = [line[3:] for line in os.fsdecode(listed).splitlines()] or _hidden_names(patch)
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        raise PenumbraError(
            f"final results need a clean checkout; changed since the commit: {', '.join(names[:MOST_NAMED])}{more}",
            file=root,
            cure="commit the changes or take them back; or make development results: `snakemake` without `final`",
        )
    return here.commit


def begin(root: str | Path, results: str | Path) -> Checkout:
    """Note the checkout for all jobs of a workflow that starts now; keep its differences under ``results``."""
    checkout, patch = look(root)
    if checkout.diff_sha256 is not None:
        kept = Path(results) / DIFF.format(sha256=checkout.diff_sha256)
        if not kept.exists():
            with atomic_path(kept) as temporary:
                temporary.write_bytes(patch)
    files = {**_modules(), **{file.name: file for file in sorted(Path(root, *SCRIPTS).glob("*.py"))}}
    modules = {name: (_file_hash(file), code_hash(file)[:16]) for name, file in files.items()}
    checkout = Checkout(checkout.commit, checkout.dirty, checkout.diff_sha256, modules)
    os.environ[VARIABLE] = json.dumps(asdict(checkout), separators=(",", ":"))
    return checkout


def at_start() -> Checkout | None:
    """What the workflow's head noted; None in a process that it did not start.

    Raises
    ------
    PenumbraError : the variable holds something else.
    """
    content = os.environ.get(VARIABLE)
    if not content:
        return None
    try:
        told = json.loads(content)
        told["modules"] = {name: (file, code) for name, (file, code) in told["modules"].items()}
        return Checkout(**told)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PenumbraError(
            f"the variable {VARIABLE} of the environment holds no checkout: {type(error).__name__}: {error}",
            cure=f"unset {VARIABLE}; the workflow sets it for its jobs itself",
        ) from error


def loaded_modules() -> dict[str, Path]:
    """The package's modules that this process has imported, and their files."""
    own = {n: getattr(m, "__file__", None) for n, m in list(sys.modules.items()) if n.partition(".")[0] == PACKAGE}
    return {name: Path(file) for name, file in sorted(own.items()) if file}


def ran(started: Checkout | None, script: Path | None = None) -> dict[str, str]:
    """The hash of each imported module's file, as it lies on this machine now.

    Parameters
    ----------
    started : what the workflow's head noted. script : what the job runs.

    Raises
    ------
    PenumbraError : the code of one, or of the script, is not what it was when the workflow started.
    """
    files = loaded_modules()
    found = {name: _file_hash(file) for name, file in files.items()}
    if started is not None:
        if script is not None and script.is_file():
            files = {**files, script.name: script}
        for name, file in files.items():
            then = started.modules.get(name)
            if then is None or then[0] == _file_hash(file):
                continue
            if code_hash(file)[:16] != then[1]:
                raise PenumbraError(
                    "the code changed while the workflow was running: this job would not be of the code that it "
                    "records",
                    file=file,
                    cure="run the same command again; to work on the code meanwhile, use a second checkout",
                )
    return found
