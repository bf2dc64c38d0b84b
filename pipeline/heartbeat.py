"""Signs of life of the shard jobs: who works, and why a job has ended early. Appends to and reads the JSON lines in
`logs/progress/<part>/<shard>.jsonl`, where `config.cli.progress` also writes how far a job is. Nothing else knows what
runs on other machines, so `pipeline.status` can say it from any of them.

A job that gives none for too long has been caught by native code, which no exception and no signal handler of Python
gets out of; it says where it hangs and ends itself, so that the next attempt goes on after what it has finished.
"""

from __future__ import annotations

import faulthandler
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PATIENCE = 1800.0
"""Seconds without a finished video after which a job hangs. Slow disks and first steps on a GPU take minutes."""
TAIL = 4096
"""Bytes from the end of a file that hold its last lines."""


def beat(path: Path, state: str, **facts: Any) -> None:
    """Append one line: `state` is `started`, `stopped` (by a signal) or `failed`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stamp = datetime.now(UTC).isoformat(timespec="seconds")
    known = {"time": stamp, "state": state, "host": socket.gethostname(), "job": os.environ.get("SLURM_JOB_ID")}
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(known | facts) + "\n")


def alive(patience: float) -> None:
    """Say that the job works. If this is not said again within so many seconds, the process prints on stderr where each
    of its threads is and ends with status 1; a thread outside of Python sees to that."""
    faulthandler.dump_traceback_later(patience, exit=True, file=2)


@contextmanager
def watched(path: Path, patience: float) -> Iterator[None]:
    """Around a job's work: say that it has begun, and if it ends early, that and why; end it if it hangs (`alive`)."""
    beat(path, "started")
    alive(patience)
    try:
        yield
    except BaseException as error:
        state = "stopped" if isinstance(error, (SystemExit, KeyboardInterrupt)) else "failed"
        with suppress(OSError):  # the disk may be what is wrong; the error itself goes on its way
            beat(path, state, why=str(error).splitlines()[0] if str(error) else type(error).__name__)
        raise
    finally:
        faulthandler.cancel_dump_traceback_later()


def last(path: Path) -> dict[str, Any] | None:
    """The last whole line; None if there is none. A line that a kill has torn is no sign of life."""
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - TAIL))
            lines = file.read().splitlines()
    except FileNotFoundError:
        return None
    for line in reversed(lines):
        with suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict):
                return found
    return None
