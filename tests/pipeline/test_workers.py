"""The pool survives readers that hang, crash or eat memory; everybody else's answers are untouched."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from config.pipeline import Decoding
from pipeline.readers import MediaError
from pipeline.workers import Pool, Task
from tests.support.commands import ROOT, finish, start

pytestmark = pytest.mark.workflow

SETTINGS = Decoding(deadline_seconds=3, memory_mb=1024)


def run(names, size=1, ahead=1, settings=SETTINGS, path="x"):
    tasks = [Task(i, f"tests.support.stub_readers:{name}", {"path": path}) for i, name in enumerate(names)]
    with Pool(size, settings) as pool:
        return list(pool.results(tasks, ahead))


@pytest.mark.parametrize("size", [1, 2])
def test_bad_neighbours_cost_nobody_else_anything(size):
    names = ["good", "hang", "good", "segfault", "good", "eat_memory", "broken", "good"]
    answers = run(names, size, ahead=3)
    assert [key for key, _ in answers] == list(range(len(names)))
    reasons = [a.reason if isinstance(a, MediaError) else a.shape for _, a in answers]
    good = (2, 500_000)
    assert reasons == [good, "timeout", good, "crashed", good, "out_of_memory", "decode_error", good]
    assert "3 s" in answers[1][1].message and "SIGSEGV" in answers[3][1].message


def test_a_crash_gets_a_second_try(tmp_path):
    assert run(["segfault_once"], path=str(tmp_path / "marker")) == [(0, "second try")]


def test_answers_are_in_order_and_complete():
    tasks = [Task(i, "tests.support.stub_readers:good", {"path": "x", "value": float(i)}) for i in range(12)]
    with Pool(3, SETTINGS) as pool:
        answers = list(pool.results(tasks, ahead=5))
    assert [key for key, _ in answers] == list(range(12))
    assert all((value == key).all() for key, value in answers)


def test_a_file_that_changes_while_it_is_read_gets_a_second_try(tmp_path):
    for name in ("once", "always", "touched"):
        (tmp_path / name).touch()
    tasks = [
        Task(0, "tests.support.stub_readers:append", {"path": str(tmp_path / "once"), "times": 1}),
        Task(1, "tests.support.stub_readers:append", {"path": str(tmp_path / "always"), "times": 9}),
        Task(2, "tests.support.stub_readers:touch", {"path": str(tmp_path / "touched"), "decoder": "pyav"}),
    ]
    with Pool(1, SETTINGS) as pool:
        (_, once), (_, always), (_, touched) = pool.results(tasks, ahead=0)
    assert once == 1
    for error in (always, touched):
        assert (error.reason, error.message) == ("decode_error", "the file changed while it was read")
        assert error.attempts == 2
    assert touched.decoder == "pyav"


def test_a_stopped_pool_takes_no_more_tasks():
    stopped = []
    tasks = [Task(i, "tests.support.stub_readers:good", {"path": "x"}) for i in range(9)]
    with Pool(2, SETTINGS, lambda: bool(stopped)) as pool:
        for key, _ in pool.results(tasks, ahead=3):
            if key == 2:
                stopped.append(True)
    assert key == 2


def test_a_bug_in_a_reader_is_not_blamed_on_the_video():
    with pytest.raises(RuntimeError, match="KeyError"):
        run(["bug"])


def test_workers_are_recycled():
    pids = [pid for _, pid in run(["whoami"] * 6, settings=Decoding(recycle=2))]
    assert len(set(pids)) == 3


def test_workers_hold_no_torch_and_no_essentia():
    ((_, loaded),) = run(["modules"])
    assert not {"torch", "essentia", "decord", "zarr"} & set(loaded)


def test_ahead_bounds_what_is_started():
    handed_out = []

    def tasks():
        for i in range(8):
            handed_out.append(i)
            yield Task(i, "tests.support.stub_readers:good", {"path": "x"})

    with Pool(2, SETTINGS) as pool:
        for key, _ in pool.results(tasks(), ahead=2):
            assert max(handed_out) <= key + 3


def test_with_nothing_ahead_the_worker_rests_while_the_caller_works():
    tasks = [Task(i, "tests.support.stub_readers:slow", {"path": "x"}) for i in range(3)]
    with Pool(1, SETTINGS) as pool:
        asked = time.monotonic()
        for _, began in pool.results(tasks, ahead=0):
            assert began > asked
            asked = time.monotonic()


PARENT = """
import sys
from config.pipeline import Decoding
from pipeline.workers import Pool, Task
tasks = [Task(i, "tests.support.stub_readers:" + name, {"path": "x"}) for i, name in enumerate(["whoami", "hang"])]
with Pool(1, Decoding()) as pool:
    for _, pid in pool.results(tasks, ahead=0):
        print(pid, flush=True)
"""


def test_a_killed_parent_leaves_no_orphan():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    time.sleep(0.3)  # the worker hangs in C by now
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 10
    while psutil.pid_exists(worker) and psutil.Process(worker).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the worker outlived its parent"
        time.sleep(0.05)


STOPPED = """
import sys
from config.cli import Stopping
from config.pipeline import Decoding
from pipeline.workers import Pool, Task
tasks = [Task(i, "tests.support.stub_readers:" + name, {"path": "x"}) for i, name in enumerate(["whoami", "hang"])]
with Stopping() as stop, Pool(1, Decoding(), stop) as pool:
    for _, pid in pool.results(tasks, ahead=0):
        print(pid, flush=True)
stop.leave("one is left")
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_wait_for_a_worker_that_hangs(number, status):
    parent = start([sys.executable, "-c", STOPPED])
    worker = int(parent.stdout.readline())
    parent.send_signal(number)
    printed = finish(parent, 60)[1]
    assert parent.returncode == status and printed.startswith(f"stopped by {number.name}: one is left"), printed
    assert not psutil.pid_exists(worker)


def test_answers_keep_their_bits():
    ((_, answer),) = run(["good"])
    assert answer.dtype == np.float32 and answer.nbytes == 4_000_000
