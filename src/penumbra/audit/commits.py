"""Of what code results are: which commit, whether that is what ran, and whether the checkout still has it."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from penumbra.audit.dependents import every_exhibit
from penumbra.audit.finding import Finding
from penumbra.audit.ledger import Ledger, Record
from penumbra.parts import PACKAGES
from penumbra.provenance.code_digest import SOURCE, code_digest
from penumbra.provenance.jobs import DIFF, RECORD


def _checkout(record: Record) -> dict[str, Any]:
    found = record.content.get("checkout")
    return found if isinstance(found, dict) else {}


def _some(jobs: Iterable[str]) -> str:
    first, *rest = sorted(jobs)
    return first if not rest else f"{first} and {len(rest)} more"


def unclean(ledger: Ledger) -> Iterator[Finding]:
    """Jobs of a dirty or unknown checkout, together by commit and difference."""
    dirty: dict[tuple[str, str], list[str]] = {}
    unknown: list[str] = []
    for job, record in ledger.jobs.items():
        told = _checkout(record)
        if told.get("commit") is None:
            unknown.append(job)
        elif told.get("dirty") is not False:
            dirty.setdefault((str(told["commit"]), str(told.get("diff_sha256"))), []).append(job)
    for (commit, patch), jobs in sorted(dirty.items()):
        kept = DIFF.format(sha256=patch)
        there = f"; the difference is in {kept}" if (ledger.results / kept).exists() else ""
        problem = f"the checkout of {_some(jobs)} differed from its commit {commit[:12]}{there}"
        cure = "commit the code, then make their outputs again from the clean checkout"
        yield Finding("dirty", RECORD.format(job=min(jobs)), problem, cure, tuple(sorted(jobs)))
    if unknown:
        cure = "make their outputs again from a clone with git at hand"
        problem = f"no commit is known of {_some(unknown)}"
        yield Finding("unknown", RECORD.format(job=min(unknown)), problem, cure, tuple(sorted(unknown)))


def trails(ledger: Ledger) -> Iterator[Finding]:
    """Exhibits whose jobs ran at several commits."""
    for exhibit in every_exhibit(ledger):
        commits: dict[str, list[str]] = {}
        for job in ledger.ancestors([exhibit.job]):
            commits.setdefault(str(_checkout(ledger.jobs[job]).get("commit")), []).append(job)
        if len(commits) > 1:
            told = ", ".join(
                f"{c[:12]} ({_some(jobs)})" for c, jobs in sorted(commits.items(), key=lambda i: -len(i[1]))
            )
            problem = f"the trail of {exhibit.title} runs through {len(commits)} commits: {told}"
            cure = "harmless where the code that they used is the same; to be certain, make all of it from one commit"
            yield Finding("commits", exhibit.index, problem, cure, (exhibit.job,))


def _git_files(root: Path, commit: str) -> dict[str, str] | None:
    """The blob of each Python file of the package in a commit; None where git does not know the commit."""
    command = ["git", "-C", str(root), "ls-tree", "-r", "-z", commit, "--", "src/penumbra"]
    try:
        told = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    blobs = {}
    for line in filter(None, told.split(b"\0")):
        about, _, name = line.partition(b"\t")
        blobs[os.fsdecode(name)] = about.split()[2].decode()
    return blobs


def _git_hashes(root: Path, blobs: Iterable[str]) -> dict[str, str]:
    """The first 16 digits of the SHA-256 of each blob's content."""
    wanted = sorted(set(blobs))
    command = ["git", "-C", str(root), "cat-file", "--batch"]
    told = subprocess.run(command, input="\n".join(wanted).encode(), capture_output=True, check=True, timeout=60).stdout
    found, at = {}, 0
    for blob in wanted:
        end = told.index(b"\n", at)
        size = int(told[at:end].split()[2])
        found[blob] = hashlib.sha256(told[end + 1 : end + 1 + size]).hexdigest()[:16]
        at = end + size + 2
    return found


def modules(ledger: Ledger, root: Path) -> Iterator[Finding]:
    """What ran in jobs of clean commits, against what those commits hold."""
    by_commit: dict[str, list[Record]] = {}
    for record in ledger.jobs.values():
        told = _checkout(record)
        if told.get("commit") and told.get("dirty") is False:
            by_commit.setdefault(str(told["commit"]), []).append(record)
    for commit, records in sorted(by_commit.items()):
        jobs = tuple(sorted(record.job for record in records))
        files = _git_files(root, commit)
        if not files:
            problem = f"this checkout does not know the commit {commit[:12]} of {_some(jobs)}"
            yield Finding("unknown", RECORD.format(job=jobs[0]), problem, "fetch it: git fetch", jobs)
            continue
        hashes = _git_hashes(root, files.values())
        held = {_module(path): hashes[blob] for path, blob in files.items() if path.endswith(".py")}
        wrong: dict[str, list[str]] = {}
        for record in records:
            for module, digest in (_checkout(record).get("modules") or {}).items():
                if held.get(module) != digest:
                    wrong.setdefault(module, []).append(record.job)
        for module, of in sorted(wrong.items()):
            what = "holds another" if module in held else "does not hold it"
            problem = f"{_some(of)} ran the module {module}; the commit {commit[:12]} {what}"
            cure = "make their outputs again from a clean checkout"
            yield Finding("module", RECORD.format(job=min(of)), problem, cure, tuple(sorted(of)))


def _module(path: str) -> str:
    return path.removeprefix("src/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def stale_code(ledger: Ledger, root: Path) -> Iterator[Finding]:
    """Jobs whose code digest is not what the checkout gives for their script and the parts that they loaded."""
    if (root / "src").resolve() != SOURCE.resolve():
        return
    packages = set(PACKAGES.values())
    known: dict[tuple[str, ...], str | None] = {}
    stale: dict[str, list[str]] = {}
    for job, record in ledger.jobs.items():
        told = _checkout(record)
        modules = told.get("modules") or {}
        loaded = [m for m in modules if m.rpartition(".")[0] in packages and not m.rpartition(".")[2].startswith("_")]
        entries = (str(root / "workflow" / "scripts" / f"{record.rule}.py"), *sorted(loaded))
        if entries not in known:
            try:
                known[entries] = code_digest(entries)
            except (OSError, SyntaxError, AssertionError):
                known[entries] = None
        if told.get("code") is not None and known[entries] != told["code"]:
            stale.setdefault(record.rule, []).append(job)
    for rule, jobs in stale.items():
        problem = f"the code of the rule {rule} is no longer that which made the outputs of {_some(jobs)}"
        cure = "snakemake makes them again; or check out the commit that their records name"
        yield Finding("code", RECORD.format(job=min(jobs)), problem, cure, tuple(sorted(jobs)))
