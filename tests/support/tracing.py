"""What a command opens below a folder, whoever opens it: Python, or a library in C++ or Rust. Linux's inotify tells.

And what Snakemake's rules declare.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.workflow import snakemake

CLOSE_WRITE, CLOSE_NOWRITE, MOVED_TO, CREATE, OVERFLOW, IS_DIR = 0x8, 0x10, 0x80, 0x100, 0x4000, 0x40000000


class Opened:
    """While it is open: `read` are the files below `root` that were opened to be read, and were there before.

    Files that a command makes and reads again, and those that it only writes, are not in it.
    """

    def __init__(self, root: Path) -> None:
        self.read: set[Path] = set()
        self._root, self._made = root, set[Path]()
        self._folders: dict[int, Path] = {}
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._over = threading.Event()
        self._lost = False

    def __enter__(self) -> Opened:
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._watch(self._root)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()
        os.close(self._fd)
        assert not self._lost, "more was opened than the kernel keeps in its list"

    def _watch(self, folder: Path) -> None:
        for path, _, _ in os.walk(folder):
            mask = CLOSE_WRITE | CLOSE_NOWRITE | MOVED_TO | CREATE
            number = self._libc.inotify_add_watch(self._fd, os.fsencode(path), mask)
            if number >= 0:  # not of a folder that has gone again
                self._folders[number] = Path(path)

    def _listen(self) -> None:
        while True:
            last = self._over.is_set()
            if select.select([self._fd], [], [], 0 if last else 0.1)[0]:
                with suppress(BlockingIOError):
                    self._take(os.read(self._fd, 1 << 20))
            elif last:
                return

    def _take(self, events: bytes) -> None:
        start = 0
        while start < len(events):
            number, mask, _, length = struct.unpack_from("iIII", events, start)
            name = os.fsdecode(events[start + 16 : start + 16 + length].rstrip(b"\0"))
            start += 16 + length
            self._lost |= bool(mask & OVERFLOW)
            if number not in self._folders or not name:
                continue
            path = self._folders[number] / name
            if mask & (CREATE | MOVED_TO):
                self._made.add(path)
                if mask & IS_DIR:
                    self._watch(path)
            elif mask & CLOSE_NOWRITE and not mask & IS_DIR and path not in self._made:
                self.read.add(path)


JOBS = """
import json, sys
import snakemake.cli, snakemake.dag
dags, build = [], snakemake.dag.DAG.__init__
snakemake.dag.DAG.__init__ = lambda dag, *given, **named: (dags.append(dag), build(dag, *given, **named))[1]
try:
    snakemake.cli.main(sys.argv[2:])
except SystemExit as end:
    assert end.code == 0, end.code
jobs = [job for level in dags[-1].toposorted() for job in level if job.is_shell]
listed = [[job.rule.name, job.shellcmd, [*map(str, job.input)], [*map(str, job.output)]] for job in jobs]
open(sys.argv[1], "w").write(json.dumps(listed))
"""


@dataclass(frozen=True)
class Job:
    """One of Snakemake's jobs: its rule, the command that it runs, and which files it declares."""

    rule: str
    command: str
    inputs: frozenset[Path]
    outputs: frozenset[Path]


def jobs_of(folder: Path, config: dict[str, Any], *targets: str) -> list[Job]:
    """Return all jobs of these targets, also finished ones, sorted so that inputs are made first. Runs none of them."""
    listed = folder / "jobs.json"
    snakemake(folder, config, *targets, "--dry-run", program=["-c", JOBS, str(listed)])
    return [
        Job(rule, command, frozenset(map(Path, inputs)), frozenset(map(Path, outputs)))
        for rule, command, inputs, outputs in json.loads(listed.read_text())
    ]
