"""Shard jobs that stand still end themselves, and `pipeline.status` says who they were and where they stood."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from config.cli import UserError
from config.files import write_json
from config.paths import Paths
from pipeline import heartbeat
from pipeline.claim import Claim
from pipeline.heartbeat import Watch, last_dump
from pipeline.records import Record, write_record
from pipeline.status import file_clock, status, words
from tests.support.commands import ROOT, execute
from tests.support.simulate import simulate

pytestmark = pytest.mark.workflow

PART, SHARD = "musicnn", 1
MINUTE = 60


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """Results of which one shard is still to be done."""
    config = simulate(tmp_path / "results", videos=40, shard_videos=20)
    paths = Paths(tmp_path / "results")
    write_json(paths.config, config.model_dump(mode="json"))
    for name in (paths.done(PART, SHARD), paths.ledger(PART, SHARD, "a" * 64)):
        name.unlink()
    return paths


def done(paths: Paths) -> None:
    """Let the shard be done."""
    write_record(paths, PART, SHARD, Record("a" * 64, 20, 20, "d"))


def test_a_job_says_why_it_ends(tmp_path: Path) -> None:
    path, hung = tmp_path / "progress" / "0.jsonl", tmp_path / "hung" / "0.txt"
    assert heartbeat.last(path) is None
    with Watch(path, hung, 60):
        begun = heartbeat.last(path)
        assert begun is not None and begun["state"] == "started" and begun["process"] == os.getpid()
        assert "has begun" in hung.read_text()
    assert not hung.exists()
    for error, state in ((UserError("the disk is full\nreally"), "failed"), (SystemExit(143), "stopped")):
        with pytest.raises(type(error)), Watch(path, hung, 60):
            raise error
        ended = heartbeat.last(path)
        assert ended is not None and ended["state"] == state and not hung.exists()
    assert ended["why"] == "143"


def test_where_it_would_say_that_it_hangs_is_no_reason_to_fail(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "hung").write_text("a file where a folder should be")
    with Watch(tmp_path / "0.jsonl", tmp_path / "hung" / "0.txt", 60) as watch:
        watch.alive()
    assert "says here where it hangs" in caplog.text


JOB = """
import ctypes, sys, time
import numpy as np
from config.model import read
from config.pipeline import Decoding
from pipeline.shard import ShardJob
from pipeline.workers import Pool, Task

def stuck():
    ctypes.PyDLL(None).sleep(60)  # with the interpreter's lock held: no other thread of Python runs, no signal handler

def worker():
    with Pool(1, Decoding(deadline_seconds=60)) as pool:
        for _ in pool.results([Task(0, "tests.support.stub_readers:hang", {"path": "x"})], 0):
            pass

def work():
    for row in job.rows:
        time.sleep(0.15)
        yield row, np.zeros((3, 64), np.float16)

job = ShardJob(read(sys.argv[1]), "musicnn", 1, (3, 64), np.float16)
job.watch.patience = float(sys.argv[3])
with job.watch, job.journal:
    print("begun", flush=True)
    job.note(work()) if sys.argv[2] == "work" else globals()[sys.argv[2]]()
    print("all are there")
"""


def command(paths: Paths, what: str, patience: float) -> list[str]:
    """A job on the shard that does `what`."""
    return [sys.executable, "-c", JOB, str(paths.config), what, str(patience)]


def test_a_job_that_hangs_ends_itself_and_status_says_where(paths: Paths) -> None:
    ended = execute(command(paths, "stuck", 1.0), seconds=30)
    assert ended.returncode == 1 and ended.stdout == "begun\n"
    (job,) = status(paths)[PART].lifeless
    assert (job.shard, job.state) == (SHARD, "hung") and job.process and job.host and job.begun
    assert job.file == str(paths.hung(PART, SHARD)) and job.stacks is not None
    assert job.stacks.startswith("Timeout (0:00:01") and "in stuck" in job.stacks
    text = execute([sys.executable, "-m", "pipeline.status", str(paths.results)], check=True).stdout
    assert f"musicnn shard 1 hung: process {job.process} on {job.host}, begun " in text and "in stuck" in text
    machines = execute([sys.executable, "-m", "pipeline.status", str(paths.results), "--json"], check=True).stdout
    assert "in stuck" in json.loads(machines)[PART]["lifeless"][0]["stacks"]
    # The next job works; the one that hung is history then, and still to be found.
    working = execute(command(paths, "work", 60), check=True)
    assert working.stdout == "begun\nall are there\n"
    done(paths)
    part = status(paths)[PART]
    assert part.done == 2 and not part.lifeless
    assert f"process {job.process}" in part.hung_before[SHARD] and "began and hung" in words({PART: part})
    dump = last_dump(paths.hung(PART, SHARD))
    assert dump is not None and "in stuck" in dump.stacks


def test_a_job_whose_worker_hangs_beyond_patience_ends_with_it(paths: Paths) -> None:
    ended = execute(command(paths, "worker", 3.0), seconds=60)
    assert ended.returncode == 1
    (job,) = status(paths)[PART].lifeless
    assert job.state == "hung" and job.stacks is not None and "in _collect" in job.stacks and "in worker" in job.stacks
    end = time.monotonic() + 10
    while any(line[-1] == str(job.process) for line in workers()):
        assert time.monotonic() < end, "the worker has outlived its job"
        time.sleep(0.05)


def workers() -> list[list[str]]:
    """The command lines of all decoding processes; each ends with the process of its job."""
    lines = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if "pipeline.worker" in line]


def begin(paths: Paths, what: str) -> subprocess.Popen[str]:
    """Start a job and wait until it has begun."""
    process = subprocess.Popen(command(paths, what, 1800), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    return process


def test_killed_is_told_from_hanging(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    later = file_clock(paths.results) + 20 * MINUTE
    process = begin(paths, "stuck")
    try:
        assert status(paths)[PART].running == 1  # a moment ago it said that it began
        part = status(paths, now=later)[PART]
        assert (part.running, part.silent, part.interrupted, part.waiting) == (0, 1, 0, 0)
        (job,) = part.lifeless
        assert (job.state, job.process, job.stacks) == ("silent", process.pid, None)
        assert "its process is there" in job.why and "ends itself and says where within" in job.why
        assert 19 * MINUTE < job.seconds <= 20 * MINUTE
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    part = status(paths, now=later)[PART]
    assert (part.silent, part.interrupted) == (0, 1)
    assert (part.lifeless[0].state, part.lifeless[0].process) == ("killed", process.pid)
    assert "process is gone" in part.lifeless[0].why
    assert "Nothing below: it works, or was killed" in paths.hung(PART, SHARD).read_text()
    # Seen from another host, that may be a hang, until it should have said so.
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    assert status(paths, now=later)[PART].lifeless[0].state == "silent"
    assert "killed, its machine is gone, or it hangs" in status(paths, now=later)[PART].lifeless[0].why
    assert status(paths, now=later + 20 * MINUTE)[PART].lifeless[0].state == "killed"
    monkeypatch.undo()
    # The line of a job that was killed goes with the next one's.
    execute(command(paths, "work", 60), check=True)
    assert not paths.hung(PART, SHARD).exists()


def test_a_job_on_another_host_that_beats_is_there(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = Claim(paths.shard_claim(PART, SHARD))
    with Watch(paths.progress(PART, SHARD), paths.hung(PART, SHARD), 1800):
        now = file_clock(paths.results)
        os.utime(paths.progress(PART, SHARD), (now - 20 * MINUTE,) * 2)
        monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
        (job,) = status(paths)[PART].lifeless
    assert job.state == "silent" and "it shows signs of holding the shard" in job.why and job.host != "elsewhere"
    monkeypatch.undo()
    claim.release()


def test_the_signs_of_older_versions_are_understood(paths: Paths) -> None:
    path = paths.progress(PART, SHARD)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"time": "2026-01-01T12:00:00+00:00", "state": "started", "host": "node7", "job": "17"}\n')
    part = status(paths, now=file_clock(paths.results) + 20 * MINUTE)[PART]
    assert (part.lifeless[0].state, part.interrupted) == ("killed", 1)
    assert "a job on node7, Slurm job 17, begun 2026-01-01T12:00:00+00:00" in words({PART: part})


def test_times_are_compared_by_the_file_servers_clock(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(paths.results.iterdir())
    assert abs(file_clock(paths.results) - time.time()) < MINUTE and set(paths.results.iterdir()) == before

    def refuse(**named: object) -> None:
        raise PermissionError("read only")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    assert abs(file_clock(paths.results) - time.time()) < MINUTE


def test_a_job_that_goes_on_is_left_alone_however_long_it_takes(paths: Paths) -> None:
    """20 videos of 0.15 s each, and 1.5 s of patience."""
    ended = execute(command(paths, "work", 1.5))
    assert ended.returncode == 0 and ended.stdout == "begun\nall are there\n", ended.stderr
    assert not paths.hung(PART, SHARD).exists()


def test_a_command_of_a_test_that_hangs_says_where(paths: Paths) -> None:
    with pytest.raises(AssertionError, match=r"longer than 10 s(.|\n)*: S+\n(.|\n)*in stuck"):
        execute(command(paths, "stuck", 60), seconds=10)
