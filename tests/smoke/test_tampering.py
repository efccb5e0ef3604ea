"""A finished study is tampered with in many random places: each is found, with exactly the numbers that depend on it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from penumbra.audit.check import check
from penumbra.audit.faults import Verdict
from penumbra.audit.verify import verify
from penumbra.data.case import read_nifti, write_nifti
from penumbra.provenance.record import sealed
from tests.smoke.oracle import Oracle

HOUR = 3600 * 10**9
STUDY = "studies/tiny"
KINDS = {
    "raw": "raw/**/*.nii.gz",
    "manifest": "raw/*/manifest.tsv",
    "ingested": "datasets/*/cases/**/*.nii.gz",
    "cases": "datasets/*/cases.tsv",
    "prepared": "datasets/*/prepared/*.npy",
    "label": "datasets/*/labels/*/*",
    "split": "datasets/*/splits/*.json",
    "weights": "runs/**/weights.safetensors",
    "history": "runs/**/history.csv",
    "prediction": "runs/**/predictions/*.nii.gz",
    "threshold": "runs/**/threshold.csv",
    "metrics": "runs/**/metrics.parquet",
    "collected": "studies/*/metrics/*.parquet",
    "tests": "studies/*/tests.csv",
    "claims": "studies/*/claims.csv",
    "table": "studies/*/tables/*.md",
    "tidy table": "studies/*/tables/*[!s].csv",
    "cell index": "studies/*/tables/*.cells.csv",
    "marks": "studies/*/figures/*.csv",
    "picture": "studies/*/figures/*.pdf",
    "report": "studies/*/report.md",
    "page": "report/**/*.html",
}
"""Every kind of artefact, and where its files lie."""
TEXTS = ("manifest", "cases", "split", "history", "threshold", "tests", "claims", "table", "tidy table", "cell index",
         "marks", "report")  # fmt: skip


@pytest.fixture(scope="module")
def results(tiny_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished study's results beside its configuration; tests put back what they change."""
    place = tmp_path_factory.mktemp("tampering") / "penumbra"
    shutil.copytree(tiny_tree / "config", place / "config")
    shutil.copytree(tiny_tree / "results", place / "results", symlinks=True)
    return place / "results"


@pytest.fixture(scope="module")
def oracle(tiny_tree: Path) -> Oracle:
    return Oracle(tiny_tree / "results")


@contextmanager
def restored(results: Path, *paths: str) -> Iterator[None]:
    """Put some files back as they were, times too."""
    kept = {path: (results / path, (results / path).read_bytes(), (results / path).stat()) for path in paths}
    try:
        yield
    finally:
        for file, content, status in kept.values():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def named(verdict: Verdict) -> set[tuple[str, str]]:
    return {(number.exhibit, number.id) for number in verdict.affected}


def some(rng: np.random.Generator, results: Path, kind: str) -> str:
    files = sorted(file for file in results.glob(KINDS[kind]) if not file.name.startswith("."))
    return files[rng.integers(len(files))].relative_to(results).as_posix()


def another(rng: np.random.Generator, results: Path, kind: str, path: str) -> str | None:
    """A file of the same kind and of another content; None where there is none."""
    files = [f for f in sorted(results.glob(KINDS[kind])) if f.read_bytes() != (results / path).read_bytes()]
    files = [f for f in files if not f.name.startswith(".")]
    return files[rng.integers(len(files))].relative_to(results).as_posix() if files else None


def flip(rng: np.random.Generator, file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    file.write_bytes(bytes(content))


def edit_number(rng: np.random.Generator, file: Path) -> None:
    """Change one digit of a text, or one value of a parquet file that stays readable."""
    if file.suffix == ".parquet":
        table = pd.read_parquet(file)
        defined = np.flatnonzero(table["value"].notna())
        table.loc[defined[rng.integers(len(defined))], "value"] += 0.01
        table.to_parquet(file, index=False, compression="zstd")
        return
    text = bytearray(file.read_bytes())
    digits = [k for k, byte in enumerate(text) if chr(byte).isdigit()]
    at = digits[rng.integers(len(digits))]
    text[at] = ord("0") + (text[at] - ord("0") + int(rng.integers(1, 10))) % 10
    file.write_bytes(bytes(text))


def test_the_untouched_study_is_sound(results, oracle):
    verdict = verify(results)
    assert verdict.faults == ()
    assert verdict.numbers == len(oracle.numbers) > 300
    assert verdict.records == len(oracle.records)
    assert len({name for name, rest in oracle.numbers.items() if rest.files}) == verdict.numbers


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_byte_an_old_time_and_swapped_files_are_found(results, oracle, rng, kind):
    path = some(rng, results, kind)
    with restored(results, path):
        flip(rng, results / path)
        verdict = verify(results)
        assert path in {fault.path for fault in verdict.faults if fault.kind == "changed"}
        assert named(verdict) == oracle.on_file(path), path
    with restored(results, path):
        status = (results / path).stat()
        os.utime(results / path, ns=(status.st_atime_ns, status.st_mtime_ns - HOUR))
        verdict = verify(results)
        assert [(fault.kind, fault.path) for fault in verdict.faults] == [("backdated", path)]
        assert named(verdict) == oracle.on_file(path), path
    other = another(rng, results, kind, path)
    if other is not None:
        with restored(results, path, other):
            content = (results / path).read_bytes()
            (results / path).write_bytes((results / other).read_bytes())
            (results / other).write_bytes(content)
            verdict = verify(results)
            assert {path, other} <= {fault.path for fault in verdict.faults if fault.kind == "changed"}
            assert named(verdict) == oracle.on_file(path, other), (path, other)
    assert verify(results).sound


@pytest.mark.parametrize("kind", [*TEXTS, "metrics", "collected"])
def test_an_edited_number_is_found(results, oracle, rng, kind):
    path = some(rng, results, kind)
    with restored(results, path):
        edit_number(rng, results / path)
        verdict = verify(results)
        assert path in {fault.path for fault in verdict.faults if fault.kind == "changed"}
        assert named(verdict) == oracle.on_file(path), path


@pytest.mark.parametrize(
    "kind", ["raw", "label", "weights", "prediction", "metrics", "collected", "cell index", "marks"]
)
def test_a_truncated_lost_or_added_file_is_found(results, oracle, rng, kind):
    path = some(rng, results, kind)
    with restored(results, path):
        content = (results / path).read_bytes()
        (results / path).write_bytes(content[: int(rng.integers(len(content)))])
        verdict = verify(results)
        assert ("changed", path) in {(fault.kind, fault.path) for fault in verdict.faults}
        assert named(verdict) == oracle.on_file(path), path
        (results / path).unlink()
        verdict = verify(results)
        assert ("missing", path) in {(fault.kind, fault.path) for fault in verdict.faults}
        assert named(verdict) == oracle.on_file(path), path
    if kind in ("raw", "label", "prediction"):
        added = f"{path.rpartition('/')[0]}/added.nii.gz"
        (results / added).write_bytes(b"added")
        try:
            verdict = verify(results)
        finally:
            (results / added).unlink()
        assert [(fault.kind, fault.path) for fault in verdict.faults] == [("added", added)]
        assert ("stray", added) not in {(f.kind, f.path) for f in check(results, results.parent)}


def test_a_lost_flipped_backdated_or_swapped_record_is_found(results, oracle, rng):
    rules = sorted({record["rule"] for record in oracle.records.values()})
    for rule in rules:
        jobs = sorted(job for job, record in oracle.records.items() if record["rule"] == rule)
        job = jobs[rng.integers(len(jobs))]
        path = f"records/{job}.json"
        with restored(results, path):
            (results / path).unlink()
            verdict = verify(results)
            assert ("unrecorded", path) in {(fault.kind, fault.path) for fault in verdict.faults}
            assert named(verdict) == oracle.on_job(job), job
        with restored(results, path):
            status = (results / path).stat()
            os.utime(results / path, ns=(status.st_atime_ns, status.st_mtime_ns - HOUR))
            verdict = verify(results)
            assert [(fault.kind, fault.path) for fault in verdict.faults] == [("backdated", path)]
            assert named(verdict) == oracle.on_job(job), job
        for _ in range(2):
            with restored(results, path):
                flip(rng, results / path)
                verdict = verify(results)
                assert path in {fault.path for fault in verdict.faults}, (job, verdict.faults)
                assert named(verdict) == oracle.on_job(job), (job, verdict.faults)
        others = [name for name in jobs if name != job]
        if others:
            other = others[rng.integers(len(others))]
            second = f"records/{other}.json"
            with restored(results, path, second):
                content = (results / path).read_bytes()
                (results / path).write_bytes((results / second).read_bytes())
                (results / second).write_bytes(content)
                verdict = verify(results)
                assert {path, second} <= {fault.path for fault in verdict.faults}
                assert named(verdict) == oracle.on_job(job, other), (job, other)
    assert verify(results).sound


def test_what_is_kept_besides_is_held_against_its_name(results, rng):
    kept = sorted((results / "records/numbers").glob("*.csv"))
    path = kept[rng.integers(len(kept))].relative_to(results).as_posix()
    with restored(results, path):
        flip(rng, results / path)
        assert [(fault.kind, fault.path, fault.numbers) for fault in verify(results).faults] == [("kept", path, ())]


def test_one_damage_does_not_hide_another(results, oracle, rng):
    kinds = ["raw", "prediction", "collected", "cell index", "marks"]
    files = [some(rng, results, kind) for kind in kinds]
    job = "evaluate/phantom_cord/conv-staple/split-0"
    with restored(results, *files, f"records/{job}.json"):
        for path in files[:2]:
            flip(rng, results / path)
        for path in files[2:]:
            (results / path).write_bytes((results / path).read_bytes()[:50])
        (results / f"records/{job}.json").write_bytes(b"{")
        found = {fault.path: fault for fault in verify(results).faults if fault.kind != "number"}
    assert {*files, f"records/{job}.json"} <= found.keys()
    for path in files[2:]:
        assert {(n.exhibit, n.id) for n in found[path].numbers} == oracle.on_file(path)


# ---------------------------------------------------------------- what a forger repairs


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def repair(results: Path, job: str) -> None:
    """Make a record say what is on the disk now, of inputs and outputs, in the form in which records are written."""
    file = results / "records" / f"{job}.json"
    record = json.loads(file.read_text())
    for output in record["outputs"]:
        place = results / output["path"]
        if output["kind"] == "folder":
            output["files"] = [
                [
                    name,
                    sha256((place / name).read_bytes()),
                    (place / name).stat().st_size,
                    (place / name).stat().st_mtime_ns,
                ]
                for name, *_ in output["files"]
            ]
            output["sha256"] = sha256("".join(f"{digest}  {name}\n" for name, digest, *_ in output["files"]).encode())
            output["bytes"] = sum(size for _, _, size, _ in output["files"])
        else:
            output |= {"sha256": sha256(place.read_bytes()), "bytes": place.stat().st_size}
            output["mtime_ns"] = place.stat().st_mtime_ns
        if output["path"].endswith(".cells.csv") or (record["rule"] == "figure" and output["path"].endswith(".csv")):
            shutil.copyfile(place, results / "records/numbers" / f"{output['sha256']}.csv")
    for given in record["inputs"]:
        for other in (results / "records").rglob("*.json"):
            made = json.loads(other.read_text())["outputs"] if "superseded" not in other.parts else []
            for output in made:
                if output["path"] == given["path"]:
                    given |= {"sha256": output["sha256"], "bytes": output["bytes"]}
                    given["record_sha256"] = sha256(other.read_bytes())
    file.write_text(sealed(record))


@pytest.fixture
def forged(results: Path, tmp_path: Path) -> Path:
    """A copy to forge in."""
    shutil.copytree(results.parent, tmp_path / "penumbra", symlinks=True)
    return tmp_path / "penumbra" / "results"


def test_an_edited_table_with_a_repaired_trail_is_found_by_its_rows(forged, rng):
    index = forged / STUDY / "tables/table-5-3a.cells.csv"
    cells = pd.read_csv(index, dtype=str, keep_default_na=False)
    page = index.with_name("table-5-3a.md")
    text = page.read_text()
    plain = [
        text[int(a) : int(b)] == told
        for a, b, told in zip(cells["start"], cells["end"], cells["displayed"], strict=True)
    ]
    at = int(rng.choice(np.flatnonzero((cells["estimator"] == "mean_over_splits") & np.array(plain))))
    was = cells.loc[at, "displayed"]
    now = ("2" if was[0] == "1" else "1") + was[1:]
    cells.loc[at, "displayed"] = now
    cells.to_csv(index, index=False)
    start = int(cells.loc[at, "start"])
    page.write_text(text[:start] + now + text[start + len(was) :])
    repair(forged, "table/tiny/table-5-3a")
    report = forged / STUDY / "report.md"
    report.write_text(report.read_text().replace(text, page.read_text()))
    repair(forged, "study_report/tiny")
    repair(forged, "page")
    verdict = verify(forged)
    assert [fault.kind for fault in verdict.faults] == ["number"]
    assert named(verdict) == {("tiny/table-5-3a", cells.loc[at, "id"])}
    assert was in verdict.faults[0].problem and now in verdict.faults[0].problem


def test_an_edited_prediction_with_a_repaired_record_is_found_by_the_chain(forged, oracle, rng):
    path = some(rng, forged, "prediction")
    maps, affine = read_nifti(forged / path)[:2]
    write_nifti(forged / path, (1 - maps).astype(np.float32), affine)
    job = oracle.maker[path.rpartition("/")[0]]
    repair(forged, job)
    verdict = verify(forged)
    assert [(fault.kind, fault.path) for fault in verdict.faults] == [("chain", f"records/{job}.json")]
    assert named(verdict) == oracle.on_job(job)


def test_an_edited_prediction_with_every_record_repaired_is_found_by_measuring_again(forged, oracle, rng):
    path = some(rng, forged, "prediction")
    maps, affine = read_nifti(forged / path)[:2]
    write_nifti(forged / path, (1 - maps).astype(np.float32), affine)
    order = ["download", "ingest", "preprocess", "split", "fuse", "train", "infer", "evaluate", "collect", "test", "claim",
             "table", "figure", "study_report", "seal", "page"]  # fmt: skip
    for job in sorted(oracle.records, key=lambda job: order.index(job.partition("/")[0])):
        repair(forged, job)
    marks = {("tiny/figure-5-2", name[1]) for name in oracle.on_file(path) if name[0] == "tiny/figure-5-2"}
    assert all(fault.kind == "number" for fault in verify(forged).faults)
    verdict = verify(forged, deep=True)
    run = path.removesuffix(path.partition("/predictions/")[2]).removesuffix("predictions/")
    (fault,) = [fault for fault in verdict.faults if fault.kind == "rows"]
    assert fault.path == f"{run}metrics.parquet" and "made again" in fault.problem
    assert {(n.exhibit, n.id) for n in fault.numbers} == oracle.on_file(fault.path)
    assert {name for name in named(verdict) if name[0] == "tiny/figure-5-2"} == marks


def test_measuring_again_finds_nothing_in_the_untouched_study(results):
    assert verify(results, deep=True).faults == ()


# ---------------------------------------------------------------- what is no tampering


def archive(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True)
    packed = target.parent / "packed.tar"
    subprocess.run(["tar", "-cf", packed, "-C", source.parent, source.name], check=True)
    subprocess.run(["tar", "-xf", packed, "-C", target.parent], check=True)


def plain(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True)
    subprocess.run(["cp", "-r", source, target], check=True)


def exact(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True)
    subprocess.run(["cp", "-a", source, target], check=True)


@pytest.mark.parametrize("way", [plain, exact, archive])
def test_copying_raises_no_alarm(results, tmp_path, way: Callable[[Path, Path], None]):
    before = verify(results)
    way(results, tmp_path / "copy" / "results")
    copied = verify(tmp_path / "copy" / "results", checkout=results.parent)
    assert copied.faults == () and copied.head == before.head
    (tmp_path / "copy" / "results").rename(tmp_path / "elsewhere")
    assert verify(tmp_path / "elsewhere", checkout=results.parent).faults == ()


def test_touching_everything_raises_no_alarm(forged):
    for file in forged.rglob("*"):
        os.utime(file)
    assert verify(forged).faults == ()


def test_a_study_of_a_clean_checkout_leaves_nothing_to_say(tiny_tree):
    assert check(tiny_tree / "results", tiny_tree) == []
