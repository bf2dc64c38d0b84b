"""Processes of a module's own do its work, and end with it, however it ends."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from threadpoolctl import threadpool_info

from config.cli import UserError
from config.processes import parallel, usual_scheduling
from tests.support.commands import ROOT

PARENT = """
import os, time
from config.processes import parallel

def main():
    pids = set()
    for _, pid in parallel(slow, range(1000), 2, time.sleep, 0):
        if pid not in pids:
            pids.add(pid)
            print(pid, flush=True)

def slow(_):
    time.sleep(0.1)
    return os.getpid()

if __name__ == "__main__":
    main()
"""


def begin() -> None:
    """Stands in a module that imports numpy, as those of the real work do."""
    assert np.ones(1).sum() == 1


def blas_threads(_: int) -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_every_process_has_one_thread_of_blas() -> None:
    """With more they wait for each other: a small singular value decomposition took minutes."""
    counts = [threads for _, threads in parallel(blas_threads, range(4), 2, begin)]
    assert all(threads and set(threads) == {1} for threads in counts), counts


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nobody_is_left(tmp_path: Path, number: signal.Signals) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    env = {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=env)
    assert parent.stdout is not None
    children = [int(parent.stdout.readline()) for _ in range(2)]
    parent.send_signal(number)
    parent.wait(10)
    end = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in children):
        assert time.monotonic() < end, "a process has outlived its parent"
        time.sleep(0.05)


@pytest.mark.parametrize("processes", [1, 2])
def test_every_item_comes_with_its_result(processes: int) -> None:
    assert dict(parallel(abs, [-3, 2, 0], processes)) == {-3: 3, 2: 2, 0: 0}
    assert dict(parallel(abs, [], processes, os._exit, 1)) == {}  # nothing to do, nobody to begin
    with pytest.raises(TypeError, match="bad operand"):
        list(parallel(abs, ["text", 1], processes))


def test_what_others_had_begun_when_one_raised_is_there(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    done = []
    with pytest.raises(ValueError, match="raised first"):
        for item, _ in parallel(partial(_meet, tmp_path / "fifo"), ["raise", "r", "w", *"." * 10_000], 2):
            done.append(item)
    assert {"r", "w"} <= set(done) and len(done) < 10_000, "items that nobody had begun were not taken back"


def _meet(fifo: Path, how: str) -> None:
    if how == "raise":
        raise ValueError("raised first")
    if how in "rw":
        open(fifo, how).close()  # returns when the other has opened it, too: after the exception was sent


def test_a_killed_process_is_said_and_what_was_done_is_there() -> None:
    done = []
    with pytest.raises(UserError, match="a process was killed.*fewer --threads"):
        for item, _ in parallel(_kill_at_seven, [1, 2, 3, 4, 5, 6, 7], 2):
            done.append(item)
    assert 1 in done and 7 not in done


def _kill_at_seven(number: int) -> None:
    if number == 7:
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGKILL)


def test_an_encoder_of_av1_leaves_nothing_real_time(tmp_path: Path) -> None:
    """SVT-AV1 does so as root: processes that tests started then took all cores, and CI stood still."""

    def policies() -> set[int]:
        return {os.sched_getscheduler(int(thread)) for thread in os.listdir("/proc/self/task")}

    before = policies()
    with usual_scheduling(), av.open(str(tmp_path / "a.mp4"), "w") as out:
        stream: Any = out.add_stream("libsvtav1", rate=25, options={"preset": "12"})
        stream.width = stream.height = 64
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))  # shows something where SVT-AV1 may not do it
    assert policies() == before
