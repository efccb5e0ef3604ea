"""The sides that a comparison has: a results folder as it is, or what it showed at a commit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from penumbra.audit.dependence import Dependence
from penumbra.audit.dependents import index_of
from penumbra.audit.ledger import Ledger, Record
from penumbra.audit.numbers import Exhibit
from penumbra.errors import PenumbraError
from penumbra.files import sha256
from penumbra.provenance.jobs import NUMBERS
from penumbra.reporting.sources import Reader


@dataclass
class Side:
    """One side: its exhibits' records by job, all records by their hash, and how its tables can be read."""

    name: str
    ledger: Ledger
    exhibits: dict[str, Record]
    by_hash: dict[str, Record]
    historical: bool
    _trails: dict[str, tuple[dict[str, Record], Dependence]] = field(default_factory=dict)

    def exhibit(self, job: str) -> Exhibit:
        """An exhibit whose index is the one that its record names, kept if need be.

        Raises
        ------
        PenumbraError : neither the index nor its kept copy is what the record says.
        """
        record, index = self.exhibits[job], index_of(job)
        assert index is not None
        rule, study, *name = job.split("/")
        said = next((output.sha256 for output in record.outputs if output.path == index), "")
        for place in (index, NUMBERS.format(sha256=said)):
            file = self.ledger.results / place
            if file.is_file() and sha256(file) == said:
                return Exhibit(study, rule, name[0] if name else "report", job, place, self.ledger.results)
        raise PenumbraError(
            f"the numbers that {job} displayed are neither in place nor kept",
            file=self.ledger.results / NUMBERS.format(sha256=said),
            cure="restore them from a copy, or make the exhibit again at that commit",
        )

    def trail(self, job: str) -> tuple[dict[str, Record], Dependence]:
        """The records behind an exhibit as they were when it was made, and what its numbers depend on by these."""
        if job not in self._trails:
            found: dict[str, Record] = {}
            waiting = [self.exhibits[job]]
            while waiting:
                record = waiting.pop()
                if record.job in found:
                    continue
                found[record.job] = record
                for given in record.inputs:
                    maker = self.by_hash.get(given.record_sha256 or "") or self.ledger.maker(given.path)
                    if maker is not None:
                        waiting.append(maker)
            ledger = Ledger(self.ledger.results, found)
            reader = Reader(self.ledger.results / "records" / ".none") if self.historical else None
            self._trails[job] = found, Dependence(ledger, reader)
        return self._trails[job]


def _superseded(ledger: Ledger) -> Iterator[Record]:
    for file in sorted((ledger.results / "records" / "superseded").glob("*.json")):
        try:
            yield Record.parse(file.read_bytes(), file)
        except PenumbraError:
            continue


def side_of_folder(results: Path) -> Side:
    """A results folder as it is.

    Raises
    ------
    PenumbraError : it has no records.
    """
    ledger = Ledger.read(results)
    by_hash = {record.sha256: record for record in (*_superseded(ledger), *ledger.jobs.values())}
    shown = {job: record for job, record in ledger.jobs.items() if index_of(job) is not None}
    return Side(str(results), ledger, shown, by_hash, historical=False)


def side_of_commit(results: Path, commit: str) -> Side:
    """What a results folder showed at a commit: of each exhibit the newest record of it.

    Raises
    ------
    PenumbraError : no exhibit was made at the commit, or there are no records.
    """
    ledger = Ledger.read(results)
    every = [*_superseded(ledger), *ledger.jobs.values()]
    shown: dict[str, Record] = {}
    commits: Counter[str] = Counter()
    for record in every:
        checkout = record.content.get("checkout")
        of = str(checkout.get("commit")) if isinstance(checkout, dict) else ""
        if index_of(record.job) is None:
            continue
        commits[of] += 1
        newest = shown.get(record.job)
        if of.startswith(commit) and (newest is None or _ended(newest) <= _ended(record)):
            shown[record.job] = record
    if not shown or not commit:
        raise PenumbraError(
            f"no table, figure or report was made at the commit {commit!r}",
            file=ledger.results / "records",
            cure=f"choose among {', '.join(f'{c[:12]} ({n})' for c, n in commits.most_common(8))}",
        )
    return Side(commit, ledger, shown, {record.sha256: record for record in every}, historical=True)


def _ended(record: Record) -> str:
    return str(record.content.get("ended"))
