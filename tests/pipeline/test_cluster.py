"""What shard jobs need on clusters, without one: resources, several shards a job, staging, signs of life, refusals."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import zarr

from bench.workflow import SHARD, Collection
from config.cli import UserError
from config.files import read_json, write_json
from config.model import load
from config.paths import Paths
from config.pipeline import Segments
from pipeline import resources
from pipeline.extract import device_of
from pipeline.records import Failure, Plan, Record, forget_done, read_plan, write_job, write_record
from pipeline.staging import staged, staging
from pipeline.status import status, words
from pipeline.weights import prepare
from tests.support.commands import ROOT
from tests.support.simulate import simulate
from tests.support.workflow import leftovers, snakemake

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()


def config(**settings):
    return load({"results": "r", "videos": "v.csv", **settings})


def test_the_time_asked_for_follows_the_measured_throughput():
    rows = json.loads(resources.RESULT.read_text())["rows"]
    seconds = next(
        r["core_seconds_a_video"]["median"] for r in rows if r["backbone"] == "r2plus1d" and r["cores"] == "1"
    )
    one = resources.minutes(config(), ["r2plus1d"], 1000)
    assert one == pytest.approx(10 + 3 * 1000 * seconds / 60, abs=1)
    assert resources.minutes(config(), ["r2plus1d"], 1000, attempt=2) - 10 == pytest.approx(2 * (one - 10), abs=1)
    four = {"backbones": {"musicnn": {"weights": "wheel"}, "r2plus1d": {"weights": "random", "threads": 4}}}
    assert resources.minutes(config(**four), ["r2plus1d"], 1000) - 10 == pytest.approx((one - 10) / 4, abs=1)
    four["backbones"]["r2plus1d"]["device"] = "cuda"
    assert resources.minutes(config(**four), ["r2plus1d"], 1000) < one / 4
    assert resources.gpus(config(**four), ["r2plus1d"]) == 1 and resources.gpus(config(), ["r2plus1d"]) == 0
    half = config(segments={"count": 3})
    assert resources.minutes(half, ["r2plus1d"], 1000) - 10 == pytest.approx((one - 10) / 2, abs=1)


def test_a_job_of_several_shards(tmp_path):
    paths = Paths(tmp_path)
    plan = Plan(format=1, videos=50, shard_videos=10, shards=5, segments=Segments(), segment_key="s" * 64, backbones={})
    shards = plan.job(3, 3)
    assert list(shards) == [3, 4]
    with pytest.raises(UserError, match="no shard 5"):
        plan.job(5, 3)
    for shard in shards:
        write_record(paths, "musicnn", shard, Record("k" * 64, 10, 10, f"digest {shard}"))
    write_job(paths, "musicnn", shards, 3)
    job = paths.job_done("musicnn", 3, 3)
    assert read_json(job) == {"00003": "digest 3", "00004": "digest 4"}
    forget_done(paths, "musicnn", 2)
    assert job.exists()
    write_json(paths.features_record, {})
    forget_done(paths, "musicnn", 4)
    assert not job.exists() and not paths.done("musicnn", 4).exists() and paths.done("musicnn", 3).exists()
    assert not paths.features_record.exists()
    with pytest.raises(UserError, match=r"00004\.json does not exist.*shards 3 to 4 of musicnn is not finished"):
        write_job(paths, "musicnn", shards, 3)
    assert not job.exists()


@pytest.mark.workflow
def test_several_shards_a_job_make_fewer_jobs(tmp_path):
    made = Collection(tmp_path / "collection", 5 * SHARD)
    for module in ("data.manifest", "pipeline.plan"):
        made.module(module)
    settings = made.folder / "config.yaml"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"shards_a_job": 2}))
    planned = made.dry()
    assert (planned["jobs"]["probe"], planned["jobs"]["extract_shard"]) == (3, 6) and planned["shards"] == [0, 2, 4]


KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.staging import staging
with staging(sys.argv[1], Path(sys.argv[2])) as folder:
    Path(folder, "copy.mp4").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_copies_for_decoding_leave_nothing_behind(tmp_path, monkeypatch):
    scratch, results, video = tmp_path / "scratch", tmp_path / "results", tmp_path / "video.mp4"
    scratch.mkdir()
    results.mkdir()
    video.write_bytes(b"a video")
    monkeypatch.setenv("SCRATCH", str(scratch))
    with staging("$SCRATCH", results) as folder, staged(str(video), folder) as path:
        assert path.startswith(str(scratch)) and path.endswith(".mp4")
        assert open(path, "rb").read() == b"a video"
    assert not list(scratch.iterdir())
    left = subprocess.Popen([sys.executable, "-c", KILLED, str(scratch), str(results)], cwd=ROOT)
    assert left.wait() == -signal.SIGKILL and len(list(scratch.iterdir())) == 1
    with staging("$SCRATCH", results) as folder, staging("$SCRATCH", results):
        assert len(list(scratch.iterdir())) == 2 and Path(folder).is_dir()  # the killed one's is gone, no other's
    with staging(None, results) as folder, staged(str(video), folder) as path:
        assert path == str(video)
    for wrong, message in (("$SCRATCH/none", "no folder"), (str(results), "lies in the results")):
        with pytest.raises(UserError, match=message), staging(wrong, results):
            pass


def test_staging_and_several_shards_a_job_change_no_feature(copied, demo, monkeypatch):
    folder, config = copied
    scratch = folder / "scratch"
    scratch.mkdir()
    before = scratch.stat().st_mtime_ns
    monkeypatch.setenv("SCRATCH", str(scratch))
    settings = config | {"shards_a_job": 2, "decoding": {"staging": "$SCRATCH"}}
    printed = snakemake(folder, settings, "extract")
    assert printed.count("musicnn extracts features of shard") == 2  # of shards 0 and 1, and of 2
    results = folder / "results"
    mine, other = (zarr.open_group(r / "features.zarr", mode="r") for r in (results, demo[0] / "results"))
    for name in ("musicnn", "musicnn_valid", "start"):
        np.testing.assert_array_equal(mine[name][:], other[name][:])
    assert scratch.stat().st_mtime_ns > before and not list(scratch.iterdir())
    assert not list(results.rglob("*.mp4"))
    assert not leftovers(results)


def test_status_is_read_from_records_and_signs_of_life(tmp_path):
    simulate(tmp_path, videos=600, shard_videos=100)
    paths = Paths(tmp_path)
    plan = read_plan(paths)
    key = plan.key("musicnn")
    for shard in range(1, plan.shards):
        forget_done(paths, "musicnn", shard)
    failures = [Failure(i, f"v{i}", "timeout", "too slow") for i in range(3)]
    write_record(paths, "musicnn", 0, Record(key, 100, 97, "d", failures))

    def says(shard, minutes_ago, **line):
        path = paths.progress("musicnn", shard)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a") as file:
            file.write(json.dumps({"time": "by a clock that is wrong", **line}) + "\n")
        os.utime(path, (NOW - 60 * minutes_ago,) * 2)

    says(1, 1, done=20, total=80, rate=2.0)  # 20 of the 100 were there when the job began
    says(2, 1, state="started")
    says(3, 60, done=5, total=100, rate=2.0)
    says(4, 60, state="failed", why="the disk is full")
    with open(paths.progress("musicnn", 1), "a") as file:
        file.write('{"time": "2026-01-01T1')  # torn by a kill, or just being written
    os.utime(paths.progress("musicnn", 1), (NOW - 60,) * 2)
    states = status(paths, now=NOW)
    part = states["musicnn"]
    assert (part.done, part.running, part.interrupted, part.failed, part.waiting) == (1, 2, 1, 1, 1)
    assert part.videos_done == 140 and part.rate == 2.0 and part.seconds_left == pytest.approx(230)
    assert part.reasons == Counter(timeout=3) and part.problems == {4: "the disk is full"}
    text = words(states)
    assert "140/600" in text and "3 min 50 s" in text and "shard 4 failed: the disk is full" in text
    assert "3 videos failed: timeout" in text


def test_a_gpu_that_was_given_and_cannot_be_seen_is_an_error(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with pytest.raises(UserError, match="given the GPU 3"):
        device_of(config(), "r2plus1d")
    for nothing in ("", "-1", "NoDevFiles"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", nothing)
        assert device_of(config(), "r2plus1d") == "cpu"


@pytest.mark.parametrize(("backbone", "source"), [("musicnn", "wheel"), ("r2plus1d", "kinetics400")])
def test_a_job_downloads_no_weights(tmp_path, monkeypatch, backbone, source):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    settings = config(results=str(tmp_path / "results"), backbones={backbone: {"weights": source}},
                      heads={"audio": backbone, "video": backbone})  # fmt: skip
    with pytest.raises(UserError, match=r"not tried inside a job .*17(.|\n)*--until weights"):
        prepare(settings, backbone)
