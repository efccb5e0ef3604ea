"""What a results folder holds that no record vouches for, and records that vouch for less than they should.

Nothing here says that a byte was changed: :mod:`penumbra.audit.verify` does. Here are results that nobody could make
again for certain: files without a record, code that no commit holds or that the checkout has no longer, records that
Snakemake's own notes contradict.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from penumbra import paths
from penumbra.audit.commits import modules, stale_code, trails, unclean
from penumbra.audit.finding import KINDS, Finding
from penumbra.audit.ledger import Ledger
from penumbra.audit.snakemake_metadata import Metadata
from penumbra.provenance.hashing import folder_files
from penumbra.provenance.jobs import RECORD

ASIDE = ("logs", "benchmarks", "records", ".snakemake")
"""What lies in a results folder besides artefacts."""
LEFTOVER = ".writing-"


def check(results: str | Path, root: str | Path = ".") -> list[Finding]:
    """Look a results folder through.

    Parameters
    ----------
    root : the checkout that the workflow ran in: its commits, its code, and Snakemake's notes.

    Raises
    ------
    PenumbraError : there are no records at all.
    """
    ledger, root = Ledger.read(results), Path(root)
    return [
        *_stray(ledger),
        *unclean(ledger),
        *trails(ledger),
        *modules(ledger, root),
        *stale_code(ledger, root),
        *_snakemake(ledger, root),
    ]


# ---------------------------------------------------------------- files


def _stray(ledger: Ledger) -> Iterator[Finding]:
    """Files that no record names; of a whole folder that no record names, the folder alone."""
    files, folders = set[str](), dict[str, set[str]]()
    for record in ledger.jobs.values():
        for output in record.outputs:
            if output.kind == "folder":
                folders[output.path] = {name for name, *_ in output.files}
            else:
                files.add(output.path)
    above = {"/".join(path.split("/")[:k]) for path in (*files, *folders) for k in range(1, path.count("/") + 1)}
    cure = "remove it, or make it by the workflow"
    waiting = [""]
    while waiting:
        place = waiting.pop(0)
        for entry in sorted(os.scandir(ledger.results / place), key=lambda e: e.name):
            path = f"{place}/{entry.name}".lstrip("/")
            if entry.name.startswith("."):
                if entry.name.startswith(LEFTOVER):
                    yield Finding("leftover", path, "a job that was killed left it half-written", "remove it")
            elif path in folders:
                for name in sorted(folder_files(entry.path).keys() - folders[path]):
                    yield Finding("stray", f"{path}/{name}", "the record of its folder does not name it", cure)
            elif path in files or (not place and entry.name in ASIDE) or _known(path):
                continue
            elif path in above and entry.is_dir():
                waiting.append(path)
            elif not _unfinished(ledger.results, path):
                what = "nor anything in it" if entry.is_dir() else ""
                yield Finding("stray", path, f"no record names it{', ' if what else ''}{what}", cure)


def _known(path: str) -> bool:
    """What jobs leave beside their artefacts: the list of faulty cases, and the state of an unfinished training."""
    parts = path.split("/")
    if parts[0] == "datasets" and len(parts) == 3:
        return path == paths.FAULTS.format(dataset=parts[1])
    return parts[0] == "runs" and len(parts) == 6 and parts[5] == "resume"


def _unfinished(results: Path, path: str) -> bool:
    """Whether a folder of runs holds nothing but the state of trainings that are not finished."""
    if not path.startswith("runs/") or not (results / path).is_dir():
        return False
    inside = [f"{path}/{name}" for name in folder_files(results / path)]
    return all("resume" in name.split("/")[5:6] for name in inside)


# ---------------------------------------------------------------- Snakemake


def _snakemake(ledger: Ledger, root: Path) -> Iterator[Finding]:
    metadata = Metadata(root, ledger.results)
    made = (output.path for record in ledger.jobs.values() for output in record.outputs)
    if not metadata.there or not any(metadata.of(path) for path in made):
        return  # There are none, or they are of results elsewhere: these were moved or copied.
    for job, record in ledger.jobs.items():
        problems = list(metadata.disagreements(record))
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            cure = "make its outputs again; Snakemake and the record then tell the same"
            path = RECORD.format(job=job)
            yield Finding("snakemake", path, f"of {problems[0]}{more}", cure, (job,))


__all__ = ["KINDS", "Finding", "check"]
