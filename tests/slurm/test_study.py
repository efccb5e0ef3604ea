"""A study on a real SLURM, submitted as its users do, and held to what the accounting says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.slurm.accounting import Job, finished_jobs
from tests.slurm.cluster import GPUS, Cluster
from tests.slurm.conftest import typed
from tests.smoke.conftest import commit_all, tiny_checkout
from tests.smoke.test_pipeline import nothing_to_do, results

pytestmark = pytest.mark.xdist_group("slurm")
GPU_RULES = {"train", "infer"}


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
    assert jobs["split"] == 1, "both splits wait in the queue once"
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
