"""Running commands from tests: one that hangs is a failure that says where, and not a test run without an end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
SECONDS = 600.0
"""Several times what the slowest command of a test takes on two cores."""


def execute(
    command: Sequence[str | Path], seconds: float = SECONDS, check: bool = False, input: str | None = None, **named: Any
) -> subprocess.CompletedProcess[str]:
    """`subprocess.run` in the project's folder, with text and both outputs captured, unless `named` says otherwise.

    AssertionError if it takes too long, as `finish` says. With `check`, also if it fails.
    """
    with start(command, **{"stdin": subprocess.PIPE} if input is not None else {}, **named) as process:
        out, err = finish(process, seconds, input)
    done = subprocess.CompletedProcess(command, process.returncode, out, err)
    assert done.returncode == 0 or not check, f"{command} ended with {done.returncode}:\n{out or ''}\n{err or ''}"
    return done


def start(command: Sequence[str | Path], **named: Any) -> subprocess.Popen[str]:
    """`subprocess.Popen` with the same defaults. For commands that a test stops, kills or waits for."""
    usual: dict[str, Any] = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    named["env"] = {**(named.get("env") or os.environ), "PYTHONFAULTHANDLER": "1"}
    return subprocess.Popen(command, **usual | named)


def wait_until(process: subprocess.Popen[str], ready: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Wait until `ready()`. AssertionError if the process ends before, or if it takes too long, as `finish` says."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert process.poll() is None, f"{process.args!r} ended with {process.returncode} before what was waited for"
        if time.monotonic() > deadline:
            raise AssertionError(_ended(process, seconds))
        time.sleep(0.002)


def finish(
    process: subprocess.Popen[str], seconds: float = SECONDS, input: str | None = None
) -> tuple[str | None, str | None]:
    """Wait for the end of a process and return its outputs.

    AssertionError if it takes too long: with where each Python thread of it and of the processes that it started is,
    and with what all their threads do (R runs, S sleeps, D waits for a disk).
    """
    try:
        return process.communicate(input, seconds)
    except subprocess.TimeoutExpired:
        raise AssertionError(_ended(process, seconds)) from None


def _ended(process: subprocess.Popen[str], seconds: float) -> str:
    """End a process that hangs, and return what is known of it."""
    parent = psutil.Process(process.pid)
    family = [parent, *parent.children(recursive=True)]
    threads = "\n".join(f"{p.pid} {' '.join(p.cmdline())[:200]}: {_states(p.pid)}" for p in family)
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.send_signal(signal.SIGABRT)  # Python's faulthandler then prints the stacks
    out, err = process.communicate()
    return f"{process.args!r} took longer than {seconds:g} s.\n{threads}\n{out or ''}\n{err or ''}"


def _states(pid: int) -> str:
    """Return the states of a process's threads, a letter each."""
    with suppress(OSError):
        stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
        return "".join(stat.rpartition(")")[2].split()[0] for stat in stats)
    return "gone"
