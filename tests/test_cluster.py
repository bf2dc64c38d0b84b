"""What shard jobs need on clusters, without one: resources, several shards a job, staging, signs of life, refusals."""

import json
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import zarr

from bench.workflow import SHARD, Collection
from config.cli import UserError
from config.files import read_json, write_json
from config.model import load
from config.paths import Paths
from pipeline import heartbeat, resources
from pipeline.extract import device_of
from pipeline.plan import job_shards
from pipeline.records import Failure, Record, forget_done, write_job, write_record
from pipeline.staging import staged, staging
from pipeline.status import status, words
from pipeline.weights import prepare
from tests.commands import execute
from tests.simulate import simulate
from tests.workflow import snakemake

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def config(**settings):
    return load({"results": "r", "videos": "v.csv", **settings})


def test_the_time_asked_for_follows_the_measured_throughput():
    rows = json.loads(resources.RESULT.read_text())["rows"]
    seconds = next(
        r["core_seconds_a_video"]["median"] for r in rows if r["backbone"] == "r2plus1d" and r["cores"] == "1"
    )
    one = resources.minutes(config(), "r2plus1d", 1000)
    assert one == pytest.approx(10 + 3 * 1000 * seconds / 60, abs=1)
    assert resources.minutes(config(), "r2plus1d", 1000, attempt=2) - 10 == pytest.approx(2 * (one - 10), abs=1)
    four = {"backbones": {"musicnn": {"weights": "wheel"}, "r2plus1d": {"weights": "random", "threads": 4}}}
    assert resources.minutes(config(**four), "r2plus1d", 1000) - 10 == pytest.approx((one - 10) / 4, abs=1)
    four["backbones"]["r2plus1d"]["device"] = "cuda"
    assert resources.minutes(config(**four), "r2plus1d", 1000) < one / 4
    assert resources.gpus(config(**four), "r2plus1d") == 1 and resources.gpus(config(), "r2plus1d") == 0
    half = config(segments={"count": 3})
    assert resources.minutes(half, "r2plus1d", 1000) - 10 == pytest.approx((one - 10) / 2, abs=1)


def test_a_job_of_several_shards(tmp_path):
    paths = Paths(tmp_path)
    plan = {"videos": 50, "shard_videos": 10, "shards": 5}
    shards = job_shards(plan, 3, 3)
    assert list(shards) == [3, 4]
    with pytest.raises(UserError, match="no shard 5"):
        job_shards(plan, 5, 3)
    for shard in shards:
        write_record(paths, "musicnn", shard, Record("k" * 64, 10, 10, f"digest {shard}"))
    write_job(paths, "musicnn", shards, 3)
    job = paths.job_done("musicnn", 3, 3)
    assert read_json(job) == {"00003": "digest 3", "00004": "digest 4"}
    forget_done(paths, "musicnn", 2)
    assert job.exists()
    forget_done(paths, "musicnn", 4)
    assert not job.exists() and not paths.done("musicnn", 4).exists() and paths.done("musicnn", 3).exists()


def test_several_shards_a_job_make_fewer_jobs(tmp_path):
    made = Collection(tmp_path / "collection", 5 * SHARD)
    for module in ("data.manifest", "pipeline.plan"):
        made.module(module)
    settings = made.folder / "config.yaml"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"shards_a_job": 2}))
    found = made.dry()
    assert (found["jobs"]["probe"], found["jobs"]["extract_shard"]) == (3, 6) and found["shards"] == [0, 2, 4]


def test_copies_for_decoding_leave_nothing_behind(tmp_path, monkeypatch):
    scratch, results, video = tmp_path / "scratch", tmp_path / "results", tmp_path / "video.mp4"
    scratch.mkdir()
    results.mkdir()
    video.write_bytes(b"moving pictures")
    monkeypatch.setenv("SCRATCH", str(scratch))
    with staging("$SCRATCH", results) as folder, staged(str(video), folder) as path:
        assert path.startswith(str(scratch)) and path.endswith(".mp4")
        assert open(path, "rb").read() == b"moving pictures"
    assert not list(scratch.iterdir())
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
    assert printed.count("musicnn looks at shard") == 2  # of shards 0 and 1, and of 2
    results = folder / "results"
    mine, other = (zarr.open_group(r / "features.zarr", mode="r") for r in (results, demo[0] / "results"))
    for name in ("musicnn", "musicnn_valid", "start"):
        np.testing.assert_array_equal(mine[name][:], other[name][:])
    assert scratch.stat().st_mtime_ns > before and not list(scratch.iterdir())
    assert not list(results.rglob("*.mp4")) and not any(path.is_file() for path in (results / "work").rglob("*"))


def test_status_is_read_from_records_and_signs_of_life(tmp_path):
    simulate(tmp_path, videos=600, shard_videos=100)
    paths = Paths(tmp_path)
    plan = read_json(paths.plan)
    key = plan["backbones"]["musicnn"]["key"]
    for shard in range(1, plan["shards"]):
        forget_done(paths, "musicnn", shard)
    failures = [Failure(i, f"v{i}", "timeout", "too slow") for i in range(3)]
    write_record(paths, "musicnn", 0, Record(key, 100, 97, "d", failures))

    def says(shard, minutes_ago, **line):
        path = paths.progress("musicnn", shard)
        path.parent.mkdir(parents=True, exist_ok=True)
        stamp = (NOW - timedelta(minutes=minutes_ago)).isoformat(timespec="seconds")
        with open(path, "a") as file:
            file.write(json.dumps({"time": stamp, **line}) + "\n")

    says(1, 1, done=20, total=80, rate=2.0)  # 20 of the 100 were there when the job began
    says(2, 1, state="started")
    says(3, 60, done=5, total=100, rate=2.0)
    says(4, 60, state="failed", why="the disk is full")
    with open(paths.progress("musicnn", 1), "a") as file:
        file.write('{"time": "2026-01-01T1')  # torn by a kill, or just being written
    found = status(paths, NOW)
    part = found["musicnn"]
    assert (part.done, part.running, part.interrupted, part.failed, part.waiting) == (1, 2, 1, 1, 1)
    assert part.videos_done == 140 and part.rate == 2.0 and part.seconds_left == pytest.approx(230)
    assert part.reasons == Counter(timeout=3) and part.problems == {4: "the disk is full"}
    text = words(found)
    assert "140/600" in text and "3 min 50 s" in text and "shard 4 failed: the disk is full" in text
    assert "3 videos failed: timeout" in text


def test_a_job_says_why_it_ends(tmp_path):
    path = tmp_path / "progress" / "0.jsonl"
    assert heartbeat.last(path) is None
    with heartbeat.watched(path, 60):
        assert heartbeat.last(path)["state"] == "started"
    for error, state in ((UserError("the disk is full\nreally"), "failed"), (SystemExit(143), "stopped")):
        with pytest.raises(type(error)), heartbeat.watched(path, 60):
            raise error
        assert heartbeat.last(path)["state"] == state
    assert heartbeat.last(path)["why"] == "143"


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


HANGING = """
import ctypes, sys
from pathlib import Path
from pipeline.heartbeat import watched

def stuck():
    ctypes.PyDLL(None).sleep(60)  # with the interpreter's lock held: no other thread of Python runs, no signal handler

with watched(Path(sys.argv[1]), 1.0):
    stuck()
"""


def test_a_job_that_hangs_ends_itself_and_says_where(tmp_path):
    done = execute([sys.executable, "-c", HANGING, tmp_path / "0.jsonl"], seconds=30)
    assert done.returncode == 1 and "in stuck" in done.stderr and done.stderr.startswith("Timeout")
    fine = HANGING.replace("stuck()\n", "pass\n") + "import time\ntime.sleep(1.5)\n"
    done = execute([sys.executable, "-c", fine, tmp_path / "1.jsonl"], seconds=30, check=True)
    assert done.stderr == ""
    with pytest.raises(AssertionError, match=r"longer than 1 s(.|\n)*: S+\n(.|\n)*in stuck"):
        execute([sys.executable, "-c", HANGING.replace("1.0", "60.0"), tmp_path / "2.jsonl"], seconds=1)


SLOW = """
import sys, time
import numpy as np
from config.model import read
from pipeline.heartbeat import watched
from pipeline.shard import ShardJob

job = ShardJob(read(sys.argv[1]), "musicnn", 0, (3, 64), np.float16)
job.patience = 4.0
with watched(job.progress, job.patience), job.journal:
    job.note((row, np.zeros((3, 64), np.float16)) for row in range(4) if not time.sleep(1.2))
    print("all are there")
"""


def test_a_job_that_goes_on_is_left_alone_however_long_it_takes(tmp_path):
    config = simulate(tmp_path / "results", videos=4)
    file = Paths(tmp_path / "results").config
    write_json(file, config.model_dump(mode="json"))
    done = execute([sys.executable, "-c", SLOW, file])
    assert done.returncode == 0 and done.stdout == "all are there\n", done.stderr
