"""The workflow through a real Slurm: the same features as without, whatever happens to its jobs or to Snakemake."""

import os
import signal
from collections import Counter

import numpy as np
import pytest
import zarr

from config.paths import Paths
from pipeline.status import status
from tests.support.cluster import until
from tests.support.slurm import SHARD, VIDEOS
from tests.support.workflow import snakemake

SHARDS = VIDEOS // SHARD


def features(results):
    group = zarr.open_group(results / "features.zarr", mode="r")
    return group["musicnn"][:], group["musicnn_valid"][:]


@pytest.fixture(scope="module")
def local(tmp_path_factory, videos):
    """The features that a run without Slurm computes."""
    folder = tmp_path_factory.mktemp("local")
    config = {
        "results": str(folder / "results"),
        "videos": str(videos),
        "shard_videos": SHARD,
        "segments": {"count": 2, "seconds": 3.0, "window": 3.2},
        "backbones": {"musicnn": {"weights": "random"}},
        "heads": {"audio": "musicnn", "video": "musicnn"},
    }
    snakemake(folder, config, "extract")
    return features(folder / "results")


def assert_same(workflow, local):
    for mine, other in zip(features(workflow.results), local, strict=True):
        np.testing.assert_array_equal(mine, other)


def states(workflow, rule):
    return Counter(job["state"] for job in workflow.jobs(rule))


def read_of(workflow, shard):
    return sum(SHARD * shard <= int(name[4:9]) < SHARD * (shard + 1) for name in workflow.reads())


def test_from_a_table_to_the_report(workflow, local):
    workflow.run()
    assert (workflow.results / "report" / "index.html").exists()
    for rule, jobs in {"probe": SHARDS, "extract_shard": SHARDS, "write_report": 1}.items():
        assert states(workflow, rule) == {"COMPLETED": jobs}
    assert not workflow.jobs("index") and not workflow.jobs("plan")  # small rules are local
    assert_same(workflow, local)
    assert len(workflow.reads()) == VIDEOS


def test_several_backbones_of_a_modality_are_one_job_a_shard(workflow, local):
    workflow.config["backbones"]["other"] = {"kind": "musicnn", "weights": "random", "seed": 1}
    workflow.run("extract")
    assert states(workflow, "extract_musicnn_with_other") == {"COMPLETED": SHARDS}
    assert_same(workflow, local)
    other = zarr.open_group(workflow.results / "features.zarr", mode="r")["other"][:]
    assert np.isfinite(other).all() and not np.array_equal(other, features(workflow.results)[0])
    assert len(workflow.reads()) == VIDEOS


def test_jobs_that_are_cancelled_out_of_time_or_fail_once_go_on_and_hurt_nobody(workflow, local):
    # Shard 0 is cancelled, 1 reaches its time limit of a minute, 2 exits with status 1 before it does anything.
    slow = {f"song{i:05d}": 4.0 for i in range(SHARD)} | {f"song{i:05d}": 25.0 for i in range(SHARD, 2 * SHARD)}
    workflow.break_with(slow, exits=(2,))
    running = workflow.start("extract", "--set-resources", "extract_shard:runtime=1")
    until(lambda: read_of(workflow, 0) >= 2, 120, "the first shard to be half done")
    (job,) = (j for j in workflow.jobs("extract_shard") if "00000" in j["comment"])
    assert status(Paths(workflow.results))["musicnn"].running >= 1
    workflow.cluster.ask("scancel", job["id"])
    until(lambda: states(workflow, "extract_shard")["TIMEOUT"], 150, "the time limit")
    workflow.break_with()  # what is left need not be slow
    workflow.ended(running)
    assert states(workflow, "extract_shard") == {"CANCELLED": 1, "TIMEOUT": 1, "FAILED": 1, "COMPLETED": SHARDS}
    assert_same(workflow, local)
    # Of each interrupted job the video that was being decoded is decoded again, and no other.
    assert [read_of(workflow, shard) - SHARD for shard in range(SHARDS)] == [1, 1, 0]


def test_snakemake_killed_and_started_again(workflow, local):
    workflow.break_with({"song": 5.0})
    running = workflow.start("extract")
    until(lambda: len(workflow.reads()) > SHARDS, 120, "jobs that run")
    second = workflow.start("extract")
    assert second.wait(60) == 1 and "another Snakemake" in workflow.printed()
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert states(workflow, "extract_shard")["RUNNING"]  # nobody has told them
    workflow.break_with()  # what is left need not be slow
    assert "that a killed Snakemake has left" in workflow.run("extract")
    found = states(workflow, "extract_shard")
    assert found["COMPLETED"] == SHARDS and 1 <= found["CANCELLED"] <= SHARDS and len(found) == 2
    assert_same(workflow, local)
    assert len(workflow.reads()) <= VIDEOS + found["CANCELLED"]


def test_the_daemon_of_the_node_dies_and_comes_back(workflow, local):
    workflow.config["shards_a_job"] = SHARDS
    workflow.break_with({"song": 1.0})
    running = workflow.start("extract")
    until(lambda: len(workflow.reads()) >= 2, 120, "a job that runs")
    workflow.cluster.stop_node()
    known = len(workflow.reads())
    until(lambda: len(workflow.reads()) >= known + 2, 30, "the job to go on without the daemon")
    workflow.cluster.start_node()
    workflow.ended(running)
    assert states(workflow, "extract_shard") == {"COMPLETED": 1}
    assert_same(workflow, local)
    assert len(workflow.reads()) == VIDEOS


def test_a_node_that_is_given_up_comes_back(workflow, local):
    """Its job is lost to Slurm while its processes go on, as when a network is parted; the next job takes over."""
    workflow.config["shards_a_job"] = SHARDS
    workflow.break_with({"song": 8.0})
    running = workflow.start("extract")
    until(lambda: len(workflow.reads()) >= 2, 120, "a job that runs")
    workflow.cluster.stop_node()
    until(lambda: states(workflow, "extract_shard")["NODE_FAIL"], 90, "Slurm to give the node up")
    workflow.break_with()
    until(lambda: states(workflow, "extract_shard")["PENDING"], 60, "Snakemake to submit the job again")
    workflow.cluster.start_node()
    workflow.ended(running)
    found = states(workflow, "extract_shard")
    assert found["COMPLETED"] == 1 and found["NODE_FAIL"] == 1
    assert_same(workflow, local)
    # The processes that went on are ended with the node's return: the video that they were at is read again.
    assert len(workflow.reads()) <= VIDEOS + 1


def test_a_gpu_is_asked_for_and_its_absence_is_said(workflow):
    workflow.config["backbones"]["musicnn"]["device"] = "cuda"
    workflow.config["shard_videos"] = VIDEOS
    assert workflow.start("extract", "--retries", "0").wait(240) == 1
    (job,) = workflow.jobs("extract_shard")
    assert "gpu:1" in job["gpus"]
    log = (workflow.results / "logs" / "extract" / "musicnn" / "00000.log").read_text()
    assert "this job was given the GPU 0" in log and "PyTorch" in log
