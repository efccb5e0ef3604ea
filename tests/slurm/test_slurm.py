"""The profile on a real SLURM: a study as its users submit it, held to what the accounting says; and what happens to jobs
on a cluster, where each fault ends as if it had not been, or in a message that names it.

All in one file, which one process of a test run takes alone: there is one cluster, and its daemons fail in turn.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.slurm.accounting import Job, finished_jobs
from tests.slurm.cluster import GPUS, Cluster
from tests.slurm.conftest import typed
from tests.smoke.conftest import commit_all, tiny_checkout
from tests.smoke.test_pipeline import nothing_to_do, results
from tests.workflow.conftest import run_snakemake

GPU_RULES = {"train", "infer"}
MEMBER = Path("results/runs/phantom_cord/conv-staple/split-0/member-0")
WEIGHTS = str(MEMBER / "weights.safetensors")
RECIPE = ("--config", "candidates={conv-staple: {training: {epochs: 100}}}")

# ---------------------------------------------------------------- a study


@pytest.fixture(scope="module")
def study(slurm: Cluster, root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Job]]:
    """The folder of the finished study, and its jobs."""
    place = tiny_checkout(root, tmp_path_factory.mktemp("slurm") / "penumbra")
    commit_all(place)
    before = {job.number for job in finished_jobs(slurm)}
    run = typed(slurm, place)
    output, _ = run.communicate(timeout=900)
    assert run.returncode == 0, output[-5000:] + slurm.logs()
    return place, [job for job in finished_jobs(slurm) if job.number not in before]


def test_every_result_is_the_same_bytes_as_of_a_local_run(study, tiny_tree):
    here, there = results(study[0]), results(tiny_tree)
    assert set(here) == set(there) and len(here) > 100
    assert [name for name in here if here[name] != there[name]] == []
    assert nothing_to_do(study[0])


def test_each_gpu_job_asked_for_one_gpu_and_no_other_for_any(study):
    asked = {(job.rule in GPU_RULES, job.gpus) for job in study[1]}
    assert asked == {(True, 1), (False, 0)}


def test_every_job_is_accounted_for(study):
    jobs = Counter(job.rule for job in study[1])
    assert jobs["train"] == jobs["infer"] == jobs["evaluate"] == 6  # three candidates, two splits
    assert jobs["split_split"] == 1, "both splits wait in the queue once, as a group"
    assert {job.state for job in study[1]} == {"COMPLETED"}


def test_never_more_gpu_jobs_at_once_than_gpus(study):
    changes = [change for job in study[1] if job.gpus for change in ((job.start, 1), (job.end, -1))]
    running, most = 0, 0
    for _, change in sorted(changes):  # at one second, what ends is counted before what starts
        running += change
        most = max(most, running)
    assert most == len(GPUS)


def test_every_job_states_memory_and_time_and_stays_below(study):
    for job in study[1]:
        assert job.memory >= 1000 and job.minutes >= 5, job
        assert 50 < job.peak < job.memory, job
        assert (job.end - job.start).total_seconds() < 60 * job.minutes, job


def test_logs_of_the_cluster_are_kept(study):
    logs = list((study[0] / "logs" / "slurm").rglob("*.log"))
    assert len(logs) == len(study[1])


# ---------------------------------------------------------------- other spellings


def test_a_site_that_knows_gpus_by_gres_alone(slurm, place):
    """The lines that docs/cluster.md has for it."""
    profile = place / "slurm" / "config.yaml"
    text = profile.read_text()
    profile.write_text(text.replace("    gpu: 1", "    gpu: 0\n    gres: \"'gpu:1'\""))
    assert profile.read_text() != text
    before = {job.number for job in finished_jobs(slurm)}
    run = typed(slurm, place, "--", WEIGHTS)
    output, _ = run.communicate(timeout=300)
    assert run.returncode == 0, output[-5000:] + slurm.report()
    (job,) = [job for job in finished_jobs(slurm) if job.number not in before and job.rule == "train"]
    line = slurm.run("sacct", "-n", "-P", "-X", "-j", job.number, "-o", "SubmitLine")
    assert job.gpus == 1 and "--gres=gpu:1" in line and "--gpus" not in line


# ---------------------------------------------------------------- faults


@pytest.fixture(scope="module")
def prepared(tiny_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose data are ready, whose trainings save their state at each step, and in which one is wanted."""
    place = tmp_path_factory.mktemp("prepared") / "penumbra"
    shutil.copytree(tiny_tree, place, symlinks=True)
    shutil.rmtree(place / "results" / "runs")
    script = place / "workflow/scripts/train.py"
    text = script.read_text()
    script.write_text(text.replace("    train(\n", "    train(\n        checkpoint_seconds=0,\n"))
    assert script.read_text() != text
    return place


@pytest.fixture(scope="module")
def unharmed(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the training gives that nothing happens to, on this machine without SLURM."""
    place = tmp_path_factory.mktemp("unharmed") / "penumbra"
    shutil.copytree(prepared, place, symlinks=True)
    done = run_snakemake(place, "--cores", "1", *RECIPE, "--", WEIGHTS)
    assert done.returncode == 0, done.stdout[-5000:]
    return results(place)


@pytest.fixture
def place(slurm: Cluster, prepared: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder for one test, of which nothing is left running when the test fails."""
    here = tmp_path / "penumbra"
    shutil.copytree(prepared, here, symlinks=True)
    yield here
    left = [process for process in psutil.process_iter(["cwd"]) if process.info["cwd"] == str(here)]
    if left or not slurm.whole() or not slurm.empties():
        print(slurm.report())
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        slurm.clear()


def start(slurm: Cluster, place: Path, *arguments: str) -> subprocess.Popen[str]:
    """Have the training made on the cluster, which is asked for news every two seconds."""
    often = "--slurm-init-seconds-before-status-checks=2"
    return typed(slurm, place, often, *RECIPE, *arguments, "--", WEIGHTS)


def wait(run: subprocess.Popen[str], what: str, ready: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s"
        assert run.poll() is None, f"{what}: the run had ended\n{run.communicate()[0][-5000:]}"
        time.sleep(0.05)


def trainings(place: Path) -> list[psutil.Process]:
    """The processes that train in a folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words = process.info["cmdline"] or []
        if process.info["cwd"] == str(place) and len(words) > 1 and words[-1].endswith("train.py"):
            found.append(process)
    return found


def training_under_way(slurm: Cluster, place: Path, run: subprocess.Popen[str]) -> str:
    """Wait for the middle of the training; the number of its job."""
    wait(run, "a checkpoint", lambda: list((place / MEMBER).glob("resume/*/checkpoint.pt")))
    return slurm.run("squeue", "-h", "-t", "RUNNING", "-o", "%A").split()[-1]


def start_now(slurm: Cluster, job: str) -> None:
    """Spare the test the two minutes that SLURM lets a requeued job wait."""
    end = time.monotonic() + 60
    while "PENDING" not in slurm.run("squeue", "-h", "-j", job, "-o", "%T"):
        assert time.monotonic() < end
        time.sleep(0.5)
    slurm.run("scontrol", "update", f"JobId={job}", "StartTime=now")


def state(slurm: Cluster, job: str) -> str:
    return slurm.run("sacct", "-n", "-P", "-X", "-D", "-j", job, "-o", "State").strip()


def ends_well(run: subprocess.Popen[str], place: Path, unharmed: dict[str, str]) -> str:
    output, _ = run.communicate(timeout=300)
    assert run.returncode == 0, output[-5000:]
    assert results(place) == unharmed
    assert not list((place / MEMBER).glob("resume"))
    return output


def resumed(place: Path) -> bool:
    """Whether the log of SLURM's last job of the training says that it went on from a saved state."""
    logs = sorted((place / "logs" / "slurm").rglob("*.log"), key=lambda log: log.stat().st_mtime)
    return "resumed in epoch" in logs[-1].read_text()


@contextmanager
def frozen(place: Path) -> Iterator[None]:
    """The training's processes stand still, as on a file system that hangs."""
    for process in trainings(place):
        process.send_signal(signal.SIGSTOP)
    yield


def test_a_training_that_has_used_up_its_time_goes_on_in_a_second_job(slurm, place, unharmed):
    run = start(slurm, place, "--set-resources", "train:runtime=1")
    job = training_under_way(slurm, place, run)
    with frozen(place):
        wait(run, "the end of its time", lambda: "TIMEOUT" in state(slurm, job), 150)
    output = ends_well(run, place, unharmed)
    assert "TIMEOUT" in output and resumed(place)


def test_a_training_that_is_requeued_goes_on(slurm, place, unharmed):
    run = start(slurm, place)
    job = training_under_way(slurm, place, run)
    slurm.run("scontrol", "requeue", job)
    wait(run, "the training's end", lambda: not trainings(place))
    start_now(slurm, job)
    output = ends_well(run, place, unharmed)
    assert "REQUEUED" in state(slurm, job) and "COMPLETED" in state(slurm, job)
    assert "Trying to restart" not in output, "SLURM itself starts it again"
    assert resumed(place)


def test_a_job_whose_node_fails_is_run_again(slurm, place, unharmed):
    run = start(slurm, place)
    job = training_under_way(slurm, place, run)
    slurm.node_fails()
    wait(run, "the node's failure", lambda: "NODE_FAIL" in state(slurm, job) or "REQUEUED" in state(slurm, job), 300)
    slurm.start_node()
    start_now(slurm, job)
    ends_well(run, place, unharmed)
    assert resumed(place)


def test_a_job_that_is_lost_is_submitted_again(slurm, place, unharmed):
    run = start(slurm, place)
    job = training_under_way(slurm, place, run)
    slurm.run("scancel", "--signal=KILL", "--full", job)
    output = ends_well(run, place, unharmed)
    assert "Trying to restart" in output and resumed(place)


def test_a_job_that_somebody_cancels_is_submitted_again(slurm, place, unharmed):
    run = start(slurm, place)
    job = training_under_way(slurm, place, run)
    slurm.run("scancel", job)
    output = ends_well(run, place, unharmed)
    assert "CANCELLED" in output and "Trying to restart" in output and resumed(place)


def test_accounting_that_does_not_answer_is_not_missed(slurm, place, unharmed):
    run = start(slurm, place)
    training_under_way(slurm, place, run)
    slurm.stop_daemon("slurmdbd")
    try:
        ends_well(run, place, unharmed)
    finally:
        slurm.start_accounting()


def test_a_controller_that_does_not_answer_is_waited_for(slurm, place, unharmed):
    run = start(slurm, place)
    slurm.save(training_under_way(slurm, place, run))
    slurm.stop_daemon("slurmctld")
    wait(run, "the weights", lambda: (place / WEIGHTS).exists())
    time.sleep(10)
    assert run.poll() is None, "what became of the job cannot be known yet"
    slurm.start_controller()
    ends_well(run, place, unharmed)


def test_a_submission_that_is_rejected_says_why_and_the_same_command_heals(slurm, place, unharmed):
    slurm.run("scontrol", "update", "partition=main", "State=DRAIN")
    try:
        run = start(slurm, place)
        output, _ = run.communicate(timeout=120)
    finally:
        slurm.run("scontrol", "update", "partition=main", "State=UP")
    assert run.returncode != 0
    assert "sbatch failed" in output and "partition" in output.lower()
    assert "Traceback" not in output and not (place / MEMBER).exists()
    ends_well(start(slurm, place), place, unharmed)


def test_ctrl_c_cancels_the_jobs_and_the_same_command_goes_on(slurm, place, unharmed):
    run = start(slurm, place)
    job = training_under_way(slurm, place, run)
    with frozen(place):  # or it may have ended before it is cancelled
        run.send_signal(signal.SIGINT)
        output, _ = run.communicate(timeout=120)
    assert run.returncode != 0 and "Traceback" not in output
    end = time.monotonic() + 60
    while "CANCELLED" not in state(slurm, job):
        assert time.monotonic() < end, state(slurm, job)
        time.sleep(0.5)
    ends_well(start(slurm, place), place, unharmed)
    assert resumed(place)
