"""Bad input and a bad world, through Snakemake: every fault is told in the output of the command itself, with file and
cure and without a stack trace; nothing is left half-written; once it is cured, the same command succeeds."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import psutil
import pytest
import yaml

from tests.workflow.conftest import copy_checkout, run_snakemake

Done = subprocess.CompletedProcess[str]
Run = Callable[..., Done]

DATASET: dict[str, Any] = {
    "title": "Discs",
    "licence": "CC0-1.0",
    "access": "embedded",
    "source": {"kind": "folder", "path": "data/discs"},
    "adapter": "folder",
    "contrasts": ["T1"],
    "classes": ["lesion"],
    "raters": {"count": 3},
    "geometry": {"crop": [16, 16]},
    "split": {"name": "fractions", "train": 0.4, "validation": 0.2},
    "recipe": {
        "network": {"unet2d": {"depth": 1, "base_filters": 2, "dropout": 0.0}},
        "training": {"epochs": 2, "batch_size": 4, "learning_rate": 0.01},
    },
}
STUDY: dict[str, Any] = {
    "title": "Discs",
    "paper": "none",
    "datasets": [{"name": "discs", "splits": 1}],
    "candidates": ["conv-staple", "softseg-average"],
    "reference": "conv-staple",
    "tables": {"calibration": {"part": "calibration", "title": "Calibration"}},
    "figures": {"slice": {"part": "visual", "title": "One slice"}},
}
SIZE, SLICES = 24, 2
AFFINE = np.diag([1.0, 1.0, 3.0, 1.0])

CASES = "results/datasets/discs/cases.tsv"
PREPARED = "results/datasets/discs/prepared"
RUN = "results/runs/discs/conv-staple/split-0"
METRICS = f"{RUN}/metrics.parquet"
COLLECTED = "results/studies/discs/metrics/discs.parquet"
# Trained by no fixture, so that a test can try.
OTHER = "results/runs/discs/{}/split-1/member-1/weights.safetensors"


# ---------------------------------------------------------------- making data


def write(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)


def read(path: Path) -> np.ndarray:
    return np.array(nib.load(path).dataobj)


def make_cases(folder: Path, names: list[str], *, empty_rater: bool = True) -> None:
    """Discs in noise, drawn alike by raters 1 and 2; rater 3 drew nothing anywhere, which is no fault."""
    rng = np.random.default_rng(1)
    x, y = np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="ij")
    for name in names:
        disc = (x - rng.integers(9, 14)) ** 2 + (y - rng.integers(9, 14)) ** 2 < 9
        labels = np.repeat(disc[..., None], SLICES, axis=2).astype(np.uint8)
        noise = rng.normal(50.0, 10.0, labels.shape)
        write(folder / name / "image_T1.nii.gz", (100.0 * labels + noise).astype(np.float32))
        for rater in (1, 2, 3):
            write(folder / name / f"rater-{rater}.nii.gz", labels * (rater < 3 or not empty_rater))


def make_place(root: Path, place: Path) -> Path:
    """A checkout whose default is a study of two candidates and one split on five small cases."""
    copy_checkout(root, place)
    make_cases(place / "data" / "discs", [f"case{k}" for k in range(5)])
    (place / "config/datasets/discs.yaml").write_text(yaml.safe_dump(DATASET))
    (place / "config/studies/discs.yaml").write_text(yaml.safe_dump(STUDY))
    (place / "config/config.yaml").write_text(yaml.safe_dump({"studies": ["discs"], "device": "cpu"}))
    return place


@pytest.fixture(scope="module")
def finished(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study; tests copy it, or run in it towards other results."""
    place = make_place(root, tmp_path_factory.mktemp("faults") / "penumbra")
    done = run_snakemake(place, "--cores", "2")
    assert done.returncode == 0, done.stdout[-5000:]
    return place


@pytest.fixture(scope="module")
def checkout(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout without results, for faults that are found before anything runs."""
    return make_place(root, tmp_path_factory.mktemp("faults") / "penumbra")


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    place = tmp_path / "penumbra"
    shutil.copytree(finished, place, symlinks=True)
    return place


@pytest.fixture
def fresh(finished: Path, tmp_path: Path) -> Path:
    """The checkout of ``finished`` without its results."""
    place = tmp_path / "penumbra"
    shutil.copytree(finished, place, symlinks=True, ignore=shutil.ignore_patterns("results", ".snakemake"))
    return place


@contextmanager
def edited(path: Path, change: Callable[[dict[str, Any]], Any] | str) -> Iterator[None]:
    """A YAML file with its content changed in place, or replaced by a text."""
    before = path.read_text()
    content = yaml.safe_load(before)
    if isinstance(change, str):
        path.write_text(change)
    else:
        change(content)
        path.write_text(yaml.safe_dump(content))
    try:
        yield
    finally:
        path.write_text(before)


# ---------------------------------------------------------------- what is expected


def told(done: Done, *words: str) -> None:
    """The command failed, and its own output says why."""
    assert done.returncode != 0, done.stdout[-3000:]
    for word in words:
        assert word in done.stdout, f"{word!r} is not in\n{done.stdout[-5000:]}"
    for word in ("Traceback (most recent call last)", "did not foresee", "Logging error"):
        assert word not in done.stdout, done.stdout[-5000:]


def worked(done: Done) -> None:
    assert done.returncode == 0, done.stdout[-5000:]


def nothing_half_written(place: Path, *absent: str) -> None:
    assert not [path for path in place.rglob(".writing-*") if ".snakemake" not in path.parts]
    assert not [path for path in absent if (place / path).exists()]


def digests(folder: Path) -> dict[str, str]:
    """Relative path -> hash of all files below a folder, but for logs, records and what tells of time."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not {"logs", "benchmarks", "records"} & set(path.relative_to(folder).parts)
        and path.name not in ("run.json", ".snakemake_timestamp")
    }


# ---------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("devise=cpu", ["devise: unknown key; did you mean 'device'?"]),
        ("seed=many", ["seed: ", "'many'", "right: a whole number >= 0"]),
        ("studies=[disks]", ["no study named 'disks'; did you mean 'discs'?"]),
        ("results=../out", ["results: name a folder of its own, without '..'"]),
        ("datasets={discs: {recipe: {network: {unet2d: 3}}}}", ["recipe.network.unet2d: right: a mapping of options"]),
        (
            "candidates={conv-staple: {loss: {name: dice, smoth: 1}}}",
            ["smoth: unknown key; did you mean 'smooth'?", "label_fusion.yaml", "or the command line"],
        ),
    ],
)
def test_a_wrong_setting_on_the_command_line(checkout, setting, words):
    told(run_snakemake(checkout, "--cores", "1", "--config", setting), *words, "config", "cure: ")
    nothing_half_written(checkout, "results")


def test_wrong_lines_of_a_data_set_are_told_all_at_once(checkout):
    def change(content: dict[str, Any]) -> None:
        content |= {"rater": 3, "raters": 3, "classes": ["image"], "adapter": {"name": "folder", "overlap": "frist"}}
        content["geometry"] = {"crop": [16, 4], "spacing": [float("inf"), 1.0]}

    with edited(checkout / "config/datasets/discs.yaml", change):
        done = run_snakemake(checkout, "--cores", "1")
    told(
        done,
        "6 faults",
        "rater: unknown key; did you mean 'raters'?",
        "raters: ",
        "a class cannot be named 'image'",
        "overlap: ",
        "one of 'fault', 'first', 'last'",
        "geometry.crop.1: ",
        "geometry.spacing.0: ",
        "config/datasets/discs.yaml",
        "cure: correct the lines above",
    )
    nothing_half_written(checkout, "results")


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        (
            "datasets/discs.yaml",
            lambda c: c.update(evaluation={"hard_reference": "random_rater"}),
            ["evaluation.hard_reference: random_rater gives several labels a case"],
        ),
        ("datasets/discs.yaml", lambda c: c.update(source={"kind": "folder"}), ["source: ", "needs the key 'path'"]),
        (
            "candidates/label_fusion.yaml",
            lambda c: c["candidates"]["conv-staple"].update(network=["unet2d"], training={"learning_rate": 0}, los=1),
            ["candidates.conv-staple.network: ", "candidates.conv-staple.los: unknown key; did you mean 'loss'?"],
        ),
        ("candidates/label_fusion.yaml", lambda c: c.update(common=["unet2d"]), ["common: right: a mapping"]),
        (
            "studies/discs.yaml",
            lambda c: c["figures"]["slice"].update(options={"slicez": 1}),
            ["figure 'slice'", "slicez: unknown key; did you mean 'slice'?"],
        ),
        ("studies/discs.yaml", lambda c: c.update(reference="staple"), ["reference 'staple' is not among"]),
        ("studies/discs.yaml", lambda c: c.update(candidates=["conv-staple", "conv-stapel"]), ["'conv-stapel'"]),
        ("studies/discs.yaml", lambda c: c.update(candidates=["conv-staple"] * 2), ["each may be named once"]),
        ("studies/discs.yaml", lambda c: c.update(published="thesis"), ["no file of config/published named 'thesis'"]),
        ("studies/discs.yaml", "title: [Discs\n", ["not valid YAML", "line 2"]),
    ],
)
def test_a_wrong_line_in_a_file(checkout, file, change, words):
    with edited(checkout / "config" / file, change):
        done = run_snakemake(checkout, "--cores", "1")
    told(done, *words, f"file: {checkout / 'config' / file}", "cure: ")
    nothing_half_written(checkout, "results")


# ---------------------------------------------------------------- raw files


def archive(place: Path, *, evil: bool = False) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for path in sorted((place / "data/discs").rglob("*.nii.gz")):
            tar.add(path, path.relative_to(place / "data/discs").as_posix())
        if evil:
            member = tarfile.TarInfo("../../evil.txt")
            member.size = 4
            tar.addfile(member, io.BytesIO(b"evil"))
    return content.getvalue()


@pytest.mark.parametrize("kind", ["missing", "truncated", "corrupt", "another thing", "path traversal"])
def test_a_bad_archive(checkout, tmp_path, kind):
    whole, path, out = archive(checkout), tmp_path / "discs.tar.gz", tmp_path / "out"
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    content, words = {
        "missing": (None, ["the data set discs is not there yet", "data: {discs: /path/to/it}"]),
        "truncated": (whole[: len(whole) // 2], ["truncated or corrupt", "fetch it again"]),
        "corrupt": (bytes(flipped), ["truncated or corrupt", "fetch it again"]),
        "another thing": (b"<html>404</html>", ["neither a tar nor a zip archive", "fetch it again"]),
        "path traversal": (archive(checkout, evil=True), ["unsafe name '../../evil.txt'", "do not use this archive"]),
    }[kind]
    if content is not None:
        path.write_bytes(content)
    source = f"datasets={{discs: {{source: {{kind: archive, path: {path}}}}}}}"
    command = ("--cores", "1", "--config", f"results={out}", source, "--", f"{out}/raw/discs")
    told(run_snakemake(checkout, *command), *words, str(path), "cure: ")
    nothing_half_written(tmp_path, "out/raw/discs", "evil.txt")
    assert not list(tmp_path.parent.glob("evil.txt"))
    path.write_bytes(whole)
    worked(run_snakemake(checkout, *command))
    assert (out / "raw/discs/manifest.tsv").read_text().count("\n") == 1 + 5 * 4


def spoil(folder: Path) -> dict[str, str]:
    """One fault of each kind that ingest tells; case -> words of its fault."""
    odd = "a b'\"<script>é"
    make_cases(folder, [f"k{n:02d}" for n in range(22)], empty_rater=False)
    image = {name: folder / name / "image_T1.nii.gz" for name in os.listdir(folder)}
    mask = {name: folder / name / "rater-1.nii.gz" for name in os.listdir(folder)}

    (folder / "k00/rater-2.nii.gz").unlink()
    image["k01"].unlink()
    image["k02"].write_bytes(image["k02"].read_bytes()[:200])
    mask["k03"].write_bytes(b"no NIfTI at all")
    write(image["k04"], np.full((SIZE, SIZE, SLICES), 7.0, np.float32))
    values = read(image["k05"])
    values[0, 0, 0] = np.nan
    write(image["k05"], values)
    write(mask["k06"], np.zeros((SIZE - 1, SIZE, SLICES), np.uint8))
    write(mask["k07"], read(mask["k07"]), np.diag([1.0, 1.0, 5.0, 1.0]))
    values = read(mask["k08"])
    values[0, 0, 0] = 9
    write(mask["k08"], values)
    shutil.copy(image["k10"], image["k09"])
    write(image["k11"], np.zeros((SIZE, SIZE, SLICES, 2), np.float32))
    write(image["k12"], read(image["k12"]).astype(np.complex64))
    write(image["k13"], read(image["k13"]).astype(np.float64) * 1e300)
    write(folder / "k14/rater-1_oedema.nii.gz", np.zeros((SIZE, SIZE, SLICES), np.uint8))
    write(folder / "k15/rater-1_lesion.nii.gz", np.zeros((SIZE, SIZE, SLICES), np.uint8))
    mask["k16"].rename(folder / "k16/rater-anna.nii.gz")
    write(folder / "k17/true-fraction.nii.gz", np.full((SIZE, SIZE, SLICES, 1), 2.0, np.float32))
    mask["k18"].unlink()
    write(folder / "k18/rater-1_lesion.nii.gz", np.full((SIZE, SIZE, SLICES), 3, np.uint8))
    (folder / "k19").rename(folder / odd)
    (folder / "k20").rename(folder / "K00")
    (folder / "participants.tsv").write_text("case\tcentre\nghost\tnorth\nk21\tnorth\nk21\tsouth\n")
    return {
        "k00": "2 raters (1, 3), the data set has 3",
        "k01": "the contrast 'T1' has no image",
        "k02": "cannot read it as NIfTI",
        "k03": "cannot read it as NIfTI",
        "k04": "the image is empty",
        "k05": "1 voxels are NaN or infinite",
        "k06": "the shape (23, 24, 2) is not (24, 24, 2)",
        "k07": "the affine is not that of",
        "k08": "unknown labels: 9",
        "k10": "its image is the same as that of 'k09'",
        "k11": "the array has the shape (24, 24, 2, 2)",
        "k12": "the voxels are of type complex64",
        "k13": "intensities are beyond what float32 holds",
        "k14": "there is no class 'oedema'",
        "k15": "has a label map and also masks by class",
        "k16": "its raters are 2, 3, anna; most cases have 1, 2, 3",
        "k17": "sum to more than 1",
        "k18": "the mask holds the values 3",
        odd: "is not safe in a path",
        # The one of the pair that comes later in the alphabet.
        "ghost": "listed but has no folder",
        "k21": "2 cases have this name",
    }


def test_every_kind_of_fault_of_a_data_set_is_told_at_once(checkout, tmp_path):
    data, out = tmp_path / "discs", tmp_path / "out"
    expected = spoil(data)
    command = ("--cores", "1", "--config", f"results={out}", f"data={{discs: {data}}}", "--", f"{out}/datasets/discs/cases.tsv")  # fmt: skip
    # What a run that was killed had left behind.
    (out / "datasets/discs/.writing-cases-abcd_123/k00").mkdir(parents=True)
    (out / "datasets/discs/.writing-99-faults.tsv").touch()
    done = run_snakemake(checkout, *command)
    told(done, "faults in ", "k00", "the contrast 'T1' has no image", str(out / "datasets/discs/faults.tsv"), "correct them at the source")  # fmt: skip
    nothing_half_written(tmp_path, "out/datasets/discs/cases", "out/datasets/discs/cases.tsv")
    with open(out / "datasets/discs/faults.tsv", newline="") as stream:
        faults = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert all(fault["fault"] and fault["cure"] for fault in faults)
    for case, words in expected.items():
        assert any(fault["case"] == case and words in fault["fault"] for fault in faults), (case, words, faults)
    assert any("upper and lower case only" in fault["fault"] and fault["case"] == "k00" for fault in faults)
    assert {fault["case"] for fault in faults} == set(expected)

    shutil.rmtree(data)
    make_cases(data, ["k00", "k01", "k02"])
    worked(run_snakemake(checkout, *command))
    assert (out / "datasets/discs/faults.tsv").read_text() == "case\tfile\tfault\tcure\n"


def test_a_file_that_is_added_or_corrected_is_noticed(copied):
    assert "Nothing to be done" in run_snakemake(copied, "-n", "--cores", "1").stdout
    path = copied / "data/discs/case3/rater-2.nii.gz"
    content = path.read_bytes()
    path.unlink()
    told(run_snakemake(copied, "--cores", "1", CASES), "2 raters (1, 3), the data set has 3", "case3")
    path.write_bytes(content)
    worked(run_snakemake(copied, "--cores", "1", CASES))


# ---------------------------------------------------------------- data that are odd but right, and that cannot train


def test_a_rater_without_any_annotation_is_no_fault(finished):
    metrics = pd.read_parquet(finished / COLLECTED)
    assert set(metrics["candidate"]) == {"conv-staple", "softseg-average"}
    assert (metrics.loc[metrics["metric"] == "brier", "status"] == "ok").all()
    for case in ("case0", "case4"):
        average = read(finished / f"results/datasets/discs/labels/average/{case}.nii.gz")
        assert average.max() == pytest.approx(2 / 3)


def test_a_class_that_no_training_case_has(checkout, tmp_path):
    out = tmp_path / "out"
    weights = f"{out}/runs/discs/conv-staple/split-0/member-1/weights.safetensors"
    classes = "datasets={discs: {classes: [lesion, oedema]}}"
    done = run_snakemake(checkout, "--cores", "2", "--config", f"results={out}", classes, "--", weights)
    told(done, "WARNING no case has any voxel of class 'oedema'", "class 'oedema' appears in no training slice", "case", "labels/staple/prepared.npy", "drop the class")  # fmt: skip
    nothing_half_written(tmp_path, weights)


def test_images_that_are_constant_within_the_crop(checkout, tmp_path):
    data, out = tmp_path / "discs", tmp_path / "out"
    make_cases(data, ["a", "b", "c"])
    for number, name in enumerate("abc"):
        flat = np.full((SIZE, SIZE, SLICES), 5.0, np.float32)
        flat[0, 0] = number
        write(data / name / "image_T1.nii.gz", flat)
    weights = f"{out}/runs/discs/conv-staple/split-0/member-1/weights.safetensors"
    done = run_snakemake(checkout, "--cores", "2", "--config", f"results={out}", f"data={{discs: {data}}}", "--", weights)  # fmt: skip
    told(done, "WARNING a: every slice is constant within the crop", "all of its slices are constant", "split-0.json", "enlarge geometry.crop")  # fmt: skip
    nothing_half_written(tmp_path, weights)


# ---------------------------------------------------------------- training


def test_a_loss_that_is_not_finite_stops_the_training(copied):
    candidates = ("conv-staple", "softseg-average")
    weights = [OTHER.format(candidate) for candidate in candidates]
    wild = ", ".join(f"{candidate}: {{training: {{learning_rate: 1.0e+30}}}}" for candidate in candidates)
    done = run_snakemake(copied, "--cores", "2", "--keep-going", "--config", f"candidates={{{wild}}}", "--", *weights)
    for candidate in candidates:
        told(done, f"(discs / {candidate} / split 1 / member 1); the batch: case")
    told(done, "loss became nan in epoch ", ", step ", "z=", "cure: lower training.learning_rate (now 1e+30)")
    nothing_half_written(copied, *weights, *(str(Path(file).with_name("history.csv")) for file in weights))
    worked(run_snakemake(copied, "--cores", "1", weights[0]))


def test_a_training_killed_halfway_ends_with_the_same_bytes(copied, tmp_path):
    script = copied / "workflow/scripts/train.py"
    text = script.read_text()
    script.write_text(text.replace("    train(\n", "    train(\n        checkpoint_seconds=0,\n"))
    assert script.read_text() != text
    other = tmp_path / "other"
    shutil.copytree(copied, other, symlinks=True)
    weights = OTHER.format("conv-staple")
    member = Path(weights).parent
    command = ("--cores", "1", "--config", "candidates={conv-staple: {training: {epochs: 100}}}", "--", weights)
    worked(run_snakemake(copied, *command))

    run = subprocess.Popen([sys.executable, "-m", "snakemake", *command], cwd=other, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    deadline = time.monotonic() + 60
    while not list((other / member).glob("resume/*/checkpoint.pt")):
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    for process in psutil.Process(run.pid).children(recursive=True):
        if process.name().startswith("python"):
            os.kill(process.pid, signal.SIGKILL)
    output, _ = run.communicate(timeout=60)
    assert run.returncode != 0 and "SIGKILL" in output and "Traceback" not in output
    assert not (other / weights).exists() and not (other / member / "history.csv").exists()

    done = run_snakemake(other, *command)
    worked(done)
    assert "resumed in epoch" in done.stdout
    assert digests(other / member) == digests(copied / member) != {}
    assert not list((other / "results").rglob("resume"))


def test_cuda_that_is_not_there(copied, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    weights = OTHER.format("conv-staple")
    command = ("--cores", "1", "--config", "device=cuda", "--", weights)
    told(run_snakemake(copied, *command), "`device: cuda` is asked for, but", "cure: set `device: auto`")
    nothing_half_written(copied, weights)


# ---------------------------------------------------------------- the disk


@pytest.fixture(scope="module")
def obedient() -> list[str]:
    """What to put before a command so that file permissions hold for it: nothing, or for the superuser ``setpriv``."""
    if os.geteuid() != 0:
        return []
    caps = "-dac_override,-dac_read_search"
    prefix = ["setpriv", f"--bounding-set={caps}", f"--inh-caps={caps}"]
    if shutil.which("setpriv") is None or subprocess.run([*prefix, "true"], check=False).returncode != 0:
        pytest.skip("the superuser may write anywhere, and setpriv cannot take that away here")
    return prefix


def run_with(prefix: list[str], place: Path, *arguments: str, **more: Any) -> Done:
    return subprocess.run([*prefix, sys.executable, "-m", "snakemake", *arguments], cwd=place, text=True, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more)  # fmt: skip


def test_folders_that_may_not_be_written_to(fresh, obedient):
    command = ("--cores", "1", CASES)
    fresh.chmod(0o555)
    done = run_with(obedient, fresh, *command)
    fresh.chmod(0o755)
    told(done, "may not write there", f"file: {fresh}", "cure: give yourself write permission on that folder")

    (fresh / "results").mkdir(mode=0o555)
    told(run_with(obedient, fresh, *command), "Permission denied: 'results/")
    (fresh / "results").chmod(0o755)

    (fresh / "results/raw").mkdir(mode=0o555)
    words = ["cannot write: Permission denied", "file: results/raw/discs", "cure: give yourself write permission"]
    told(run_with(obedient, fresh, *command), *words)
    nothing_half_written(fresh, "results/raw/discs")

    shutil.rmtree(fresh / "results/raw", ignore_errors=True)
    worked(run_with(obedient, fresh, *command))


def test_a_limit_on_the_size_of_a_file(fresh):
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))

    command = ("--cores", "1", "--config", "datasets={discs: {geometry: {crop: [96, 96]}}}", "--", PREPARED)
    done = run_with([], fresh, *command, preexec_fn=limit)
    told(done, "cannot write: File too large", f"file: {PREPARED}", "cure: a limit (ulimit -f)")
    nothing_half_written(fresh, PREPARED)
    worked(run_snakemake(fresh, *command))


def test_a_full_disk_leaves_nothing_truncated(fresh, finished, tmp_path):
    """A disk that grows a little after each failure, until all fits: what stands on it is right at every moment."""
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", small], stderr=subprocess.PIPE, check=False).returncode != 0:  # fmt: skip
        pytest.skip("a small file system cannot be mounted here")
    try:
        (fresh / "results").symlink_to(small)
        right = digests(finished / "results")
        by_penumbra = 0
        for size in (32, 128, 176, 200, 1024):
            subprocess.run(["mount", "-o", f"remount,size={size}k", small], check=True)
            done = run_snakemake(fresh, "--cores", "1", f"{RUN}/member-1/weights.safetensors")
            assert {path: right.get(path) for path in digests(small)} == digests(small)
            nothing_half_written(fresh)
            assert ".writing-" not in done.stdout
            if done.returncode != 0:
                # Where not even Snakemake's own notes fit, the message is Snakemake's.
                told(done, "No space left on device")
                by_penumbra += "cure: free some space on that disk" in done.stdout
        assert done.returncode == 0 and by_penumbra >= 2
    finally:
        subprocess.run(["umount", small], check=True)


# ---------------------------------------------------------------- results that were touched by hand

TAMPERED = {
    "a prediction is missing": (f"{RUN}/predictions/{{test}}.nii.gz", None, "evaluate", METRICS, ["there is no prediction of a test case", "case: {test}", "remove the run's predictions"]),
    "a prediction is truncated": (f"{RUN}/predictions/{{test}}.nii.gz", b"\x1f\x8b\x08", "evaluate", METRICS, ["cannot read it as NIfTI", "--forcerun"]),
    "a case is unreadable": ("results/datasets/discs/cases/case1/image.nii.gz", b"", "preprocess", PREPARED, ["cannot read it as NIfTI", "--forcerun"]),
    "a table of cases is another": (CASES, b"a\tb\n1\t2\n", "preprocess", PREPARED, ["cannot read the table of cases"]),
    "prepared slices are another": (f"{PREPARED}/slices.csv", b"a,b\n1,2\n", "fuse", "results/datasets/discs/labels/staple", ["cannot read the prepared slices", "remove the prepared folder"]),
    "a prepared array is truncated": (f"{PREPARED}/images.npy", b"\x93NUMPY", "train", f"{RUN}/member-1/weights.safetensors", ["cannot read the prepared array", "remove the folder"]),
    "weights are garbage": (f"{RUN}/member-1/weights.safetensors", b"xx", "infer", f"{RUN}/threshold.csv", ["cannot read the weights", "train this member again"]),
    "a run's metrics are empty": (METRICS, b"", "collect", COLLECTED, ["the metrics cannot be read", "remove the file"]),
    "collected metrics are empty": (COLLECTED, b"", "test", "results/studies/discs/tests.csv", ["the metrics cannot be read", "remove the file"]),
    "tests are another table": ("results/studies/discs/tests.csv", b"a,b\n1,2\n", "table", "results/studies/discs/tables/calibration.md", ["cannot read the tests", "remove the file"]),
    "a split is empty": ("results/datasets/discs/splits/split-0.json", b"", "figure", "results/studies/discs/figures/slice.pdf", ["cannot read the split", "remove the file"]),
}  # fmt: skip


@pytest.mark.parametrize("what", TAMPERED)
def test_tampered_results(copied, what):
    file, content, rule, target, words = TAMPERED[what]
    split = yaml.safe_load((copied / "results/datasets/discs/splits/split-0.json").read_text())
    path = copied / file.format(test=split["test"][0])
    right = digests(copied / "results")
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    # That rule alone: nothing before it may repair what was broken.
    done = run_snakemake(copied, "--cores", "1", "--allowed-rules", rule, "--forcerun", rule, "--", target)
    told(done, *(word.format(test=split["test"][0]) for word in words), f"file: {path.relative_to(copied)}", "cure: ")
    nothing_half_written(copied, target)

    if what in ("a prediction is missing", "a run's metrics are empty", "tests are another table"):
        shutil.rmtree(path.parent) if content is None else path.unlink()
        worked(run_snakemake(copied, "--cores", "1", "--", target))
        now = digests(copied / "results")
        assert now == {name: right[name] for name in now} and str(Path(target).relative_to("results")) in now


def test_after_a_kill_the_lock_heals_and_nothing_is_lost(fresh):
    run = subprocess.Popen([sys.executable, "-m", "snakemake", "--cores", "1", PREPARED], cwd=fresh, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    deadline = time.monotonic() + 60
    while not (fresh / "results/raw/discs").exists():
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert list((fresh / ".snakemake/locks").iterdir())
    done = run_snakemake(fresh, "--cores", "1", PREPARED)
    worked(done)
    assert "Removed the lock" in done.stdout
    nothing_half_written(fresh)


def test_files_of_a_machine_whose_clock_is_ahead_are_told(copied):
    right, raw = digests(copied / "results"), copied / "results/raw/discs"
    times = {path: path.lstat().st_mtime for path in [raw, *raw.rglob("*")]}
    ahead = time.time() + 7200
    for path in times:
        os.utime(path, (ahead, ahead), follow_symlinks=False)
    told(run_snakemake(copied, "--cores", "1"), "clock skew", "results/raw/discs", "System time")
    nothing_half_written(copied, "results/datasets/discs/cases")
    for path, then in times.items():
        os.utime(path, (then, then), follow_symlinks=False)
    worked(run_snakemake(copied, "--cores", "1", "all", "results/datasets/discs/cases.tsv"))
    now = digests(copied / "results")
    page = {name for name in right if name.startswith("report/")}  # shows when jobs ran
    assert {n: h for n, h in now.items() if n not in page} == {n: h for n, h in right.items() if n not in page}
