"""Making the rows again: from the kept predictions the metrics, from these what is collected, tested and judged.

Everything is made anew in a temporary folder, with the parameters that the record holds and the code of this checkout,
and compared with what is kept. Texts and counts must be equal; numbers may differ by :data:`RELATIVE` of their size,
since another processor may add in another order.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penumbra import paths
from penumbra.audit.artefacts import MakeProgress, outputs
from penumbra.audit.faults import Found
from penumbra.audit.ledger import Ledger, Record
from penumbra.errors import PenumbraError
from penumbra.provenance.jobs import job_of

if TYPE_CHECKING:
    import pandas as pd

RELATIVE, ABSOLUTE = 1e-9, 1e-12
"""Largest difference of two numbers, relative to the larger one, or absolute, that is no fault."""
MOST_NAMED = 5
"""So many differing rows of one file are named."""
FEW = 4
"""So few jobs are made again in this process; starting others would take longer."""
CURE = "find out which of its files was changed, or make it again (snakemake --forcerun)"


def verify_rows(ledger: Ledger, *, progress: MakeProgress | None = None) -> list[Found]:
    """Make the rows of every evaluate, collect, test and claim job again, and name those that differ.

    Parameters
    ----------
    progress : makes a progress bar.
    """
    wanted = [
        (ledger.results, record, output.path)
        for job, output in outputs(ledger)
        for record in [ledger.jobs[job]]
        if record.rule in MAKERS and record.job == job and job_of(output.path) == job
    ]
    found: list[Found] = []
    bar = progress(len(wanted), "making rows again", unit="jobs") if progress else None
    try:
        with _workers(len(wanted)) as pool:
            for done, told in enumerate(pool.map(_verify, wanted), start=1):
                found += told
                if bar is not None:
                    bar.update(done)
    finally:
        if bar is not None:
            bar.close()
    return found


@contextmanager
def _workers(jobs: int) -> Iterator[Executor]:
    """One process a core, each of one thread, or this process alone for a few jobs."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if jobs <= FEW or cores < 2:
        with ThreadPoolExecutor(1) as pool:
            yield pool
        return
    kept = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    os.environ.update(dict.fromkeys(kept, "1"))
    try:
        with ProcessPoolExecutor(min(cores, jobs), multiprocessing.get_context("spawn")) as pool:
            yield pool
    finally:
        for name, value in kept.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _verify(given: tuple[Path, Record, str]) -> list[Found]:
    """What differs in the rows of one job."""
    results, record, path = given
    try:
        with tempfile.TemporaryDirectory(prefix="penumbra-audit-") as folder:
            again = Path(folder) / path
            again.parent.mkdir(parents=True)
            MAKERS[record.rule](results, record, again)
            problems = differences(_read(results / path), _read(again), KEYS[record.rule])
    except PenumbraError as error:
        problems = [f"it cannot be made again: {' '.join(str(error).split())}"]
    except Exception as error:  # whatever damaged files make a reader or a measure raise
        problems = [f"it cannot be made again: {type(error).__name__}: {error}"]
    if not problems:
        return []
    more = f"; and {len(problems) - MOST_NAMED} more" if len(problems) > MOST_NAMED else ""
    return [Found("rows", path, "; ".join(problems[:MOST_NAMED]) + more, CURE, (path,))]


# ---------------------------------------------------------------- making again


def _files(results: Path, record: Record) -> dict[str, list[Path]]:
    """The inputs of a job that lie in the results, by name."""
    named: dict[str, list[Path]] = {}
    for given in record.inputs:
        named.setdefault(given.name, []).append(results / given.path)
    return named


def _evaluate(results: Path, record: Record, out: Path) -> None:
    from penumbra.config.models import Dataset
    from penumbra.metrics.evaluate import evaluate

    files = {name: found[0] for name, found in _files(results, record).items()}
    wildcards, params = record.content["wildcards"], record.content["params"]
    evaluate(
        predictions=files["predictions"],
        threshold=files["threshold"],
        threshold_curve=files["threshold_curve"],
        hard_labels=files["hard_labels"],
        soft_labels=files["soft_labels"],
        cases_folder=files["cases"],
        split=files["split"],
        dataset=Dataset.model_validate(params["dataset"]),
        dataset_name=wildcards["dataset"],
        candidate_name=wildcards["candidate"],
        split_index=int(wildcards["split"]),
        out=out,
    )


def _collect(results: Path, record: Record, out: Path) -> None:
    from penumbra.metrics.collect import collect

    collect([results / given.path for given in record.inputs], out)


def _test(results: Path, record: Record, out: Path) -> None:
    from penumbra.statistics.study import write_tests

    params = record.content["params"]
    write_tests(
        metrics=[results / given.path for given in record.inputs],
        candidates=params["candidates"],
        reference=params["reference"],
        seed=params["seed"],
        level=params["level"],
        splits={dataset: range(count) for dataset, count in params["splits"].items()},
        out=out,
    )


def _claim(results: Path, record: Record, out: Path) -> None:
    from penumbra.claims.judge import write_claims

    params = record.content["params"]
    # Claims name their metrics relative to the results: the temporary folder has to look like one.
    linked = out.parent / "metrics"
    linked.symlink_to((results / paths.STUDY.format(**record.content["wildcards"]) / "metrics").resolve())
    write_claims(
        told=params["told"],
        claims=params["claims"],
        metrics=[linked / Path(given.path).name for given in record.inputs if given.name == "metrics"],
        seed=params["seed"],
        out=out,
    )


MAKERS: Mapping[str, Callable[[Path, Record, Path], None]] = {
    "evaluate": _evaluate,
    "collect": _collect,
    "test": _test,
    "claim": _claim,
}
"""How the rows of each rule's job are made again."""
KEYS = {
    "evaluate": ("dataset", "candidate", "split", "case", "target", "metric", "bin"),
    "collect": ("row",),
    "test": ("dataset", "target", "metric", "view", "candidate"),
    "claim": ("claim", "dataset", "target"),
}
"""What names a row of each rule's file."""


# ---------------------------------------------------------------- comparing


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    return pd.read_csv(path, float_precision="round_trip")


def differences(kept: pd.DataFrame, again: pd.DataFrame, key: tuple[str, ...]) -> list[str]:
    """In what rows two tables differ, in words: missing, added, or another value in a column.

    Parameters
    ----------
    kept, again : the table that is kept, and the one that was made again. key : the columns that name a row.
    """
    if list(kept.columns) != list(again.columns):
        lost = sorted(set(again.columns) ^ set(kept.columns))
        return [f"columns differ: {', '.join(lost) if lost else 'their order'}"]
    before, after = (dict(zip(_names(table, key), _rows(table), strict=True)) for table in (kept, again))
    problems = [f"the row {name} should not be there" for name in before.keys() - after.keys()]
    problems += [f"the row {name} is missing" for name in after.keys() - before.keys()]
    columns = list(kept.columns)
    for name, row in before.items():
        for column, old, new in zip(columns, row, after.get(name, row), strict=True):
            if not _equal(old, new):
                problems.append(f"{column} of {name} is {_told(old)}, made again {_told(new)}")
    if len(before) < len(kept):
        problems.append(f"{len(kept) - len(before)} rows stand twice")
    return problems


def _column(table: pd.DataFrame, name: str) -> list[Any]:
    """A column as plain values; None where there is none."""
    present = table[name].notna().tolist()
    return [value if there else None for value, there in zip(table[name].tolist(), present, strict=True)]


def _names(table: pd.DataFrame, key: tuple[str, ...]) -> list[str]:
    parts = zip(*(_column(table, name) for name in key), strict=True)
    return ["/".join(str(part) for part in row if part is not None) for row in parts]


def _rows(table: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    return zip(*(_column(table, name) for name in table.columns), strict=True)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, int | float):
        return math.isclose(a, b, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return bool(a == b)


def _told(value: Any) -> str:
    return "undefined" if value is None else repr(value)
