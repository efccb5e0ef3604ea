"""What a check finds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

KINDS = {
    "stray": "no record names it",
    "leftover": "a killed job left it half-written",
    "dirty": "made by code that no commit holds",
    "unknown": "made by code of an unknown commit",
    "commits": "the trail of an exhibit runs through several commits",
    "snakemake": "Snakemake's own notes contradict the record",
    "code": "made by code that this checkout has no longer",
    "module": "the code that ran is not that of the commit that the record names",
}
"""Every kind of finding, in words."""


@dataclass(frozen=True)
class Finding:
    """One finding: ``kind`` of :data:`KINDS`, ``path`` relative to the results, and the jobs that it concerns."""

    kind: str
    path: str
    problem: str
    cure: str
    jobs: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self) | {"jobs": list(self.jobs)}
