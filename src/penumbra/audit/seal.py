"""Sealing a study: its numbers are those of a clean commit, and nothing behind them was changed since."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from penumbra.audit.commits import modules, stale_code
from penumbra.audit.ledger import Ledger, Record
from penumbra.audit.numbers import exhibits
from penumbra.audit.verify import Fault, verify
from penumbra.errors import PenumbraError
from penumbra.files import write_json
from penumbra.provenance import checkout
from penumbra.provenance.code_digest import SOURCE

MOST_NAMED = 5


def unclean(records: Iterable[Record], modules: dict[str, str]) -> list[Record]:
    """The records that are not of committed code.

    A record of a dirty or unknown checkout counts as clean where every module that its job loaded is, byte for byte,
    the one in ``modules`` (name -> first 16 digits of its file's SHA-256): what was changed then did not run in it.
    """
    return [
        record
        for record in records
        if record.content["checkout"]["dirty"] is not False
        and any(modules.get(name) != digest for name, digest in record.content["checkout"]["modules"].items())
    ]


def seal(*, study: str, results: str | Path, commit: str, out: str | Path) -> dict[str, Any]:
    """Verify everything that a study displays, and write ``out``: the commit, and one hash over all records.

    Parameters
    ----------
    commit : of the clean checkout that this runs in.

    Raises
    ------
    PenumbraError : a job ran with code that no commit holds, or something was changed since it was made.
    """
    ledger = Ledger.read(results)
    shown = [exhibit for exhibit in exhibits(ledger) if exhibit.study == study]
    jobs = sorted(ledger.ancestors(exhibit.job for exhibit in shown))
    records = [ledger.jobs[job] for job in jobs]
    loose = unclean(records, checkout.file_hashes())
    odd = _other_code(ledger, {record.job for record in records if record.content["checkout"]["dirty"] is not False})
    loose += [record for record in records if record.job in odd and record not in loose]
    if loose:
        raise PenumbraError(
            f"{len(loose)} of the {len(jobs)} jobs behind the study {study} ran with code that no commit holds: "
            + _some([record.job for record in loose]),
            file=ledger.results / "records",
            cure="make what they made again from the clean checkout: snakemake --forcerun "
            + " ".join(sorted({record.rule for record in loose})),
        )
    verdict = verify(results)
    faults = [fault for fault in verdict.faults if _concerns(fault, study)]
    if faults:
        raise PenumbraError(
            f"{len(faults)} faults in what the study {study} rests on: "
            + _some([f"{fault.path}: {fault.problem}" for fault in faults]),
            file=results,
            cure="`penumbra audit verify` names them all, and every number that depends on each",
        )
    content = {
        "study": study,
        "commit": commit,
        "commits": sorted({str(record.content["checkout"]["commit"]) for record in records}),
        "jobs": len(jobs),
        "numbers": sum(len(exhibit.numbers) for exhibit in shown),
        "records": {record.job: record.sha256 for record in records},
    }
    write_json(out, content)
    return content


def _other_code(ledger: Ledger, dirty: set[str]) -> set[str]:
    """Jobs that ran another module than the commit holds that they name; of ``dirty``, those of another script, too."""
    root = SOURCE.parent
    wrong = {job for finding in modules(ledger, root) if finding.kind == "module" for job in finding.jobs}
    return wrong | {job for finding in stale_code(ledger, root) for job in finding.jobs if job in dirty}


def _concerns(fault: Fault, study: str) -> bool:
    return any(number.exhibit.startswith(f"{study}/") for number in fault.numbers)


def _some(names: list[str]) -> str:
    more = len(names) - MOST_NAMED
    return "; ".join(names[:MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")
