"""Processes of a module's own end with it, however it ends."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.workflow import ROOT

PARENT = """
import os, time
from config.processes import pool

def main():
    with pool(2, time.sleep, 0) as processes:
        found = set()
        while len(found) < 2:
            found |= set(processes.map(pid, range(8)))
        print(*found, flush=True)
        time.sleep(60)

def pid(_):
    time.sleep(0.05)
    return os.getpid()

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nobody_is_left(tmp_path: Path, number: signal.Signals) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    env = {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=env)
    assert parent.stdout is not None
    children = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(children) == 2
    parent.send_signal(number)
    parent.wait(10)
    end = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in children):
        assert time.monotonic() < end, "a process has outlived its parent"
        time.sleep(0.05)
