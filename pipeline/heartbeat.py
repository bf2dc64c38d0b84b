"""Signs of life of the shard jobs: who works, and why a job has ended early. Appends to and reads the JSON lines in
`logs/progress/<part>/<shard>.jsonl`, where `config.cli.progress` also writes how far a job is. Nothing else knows what
runs on other machines, so `pipeline.status` can say it from any of them.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

TAIL = 4096
"""Bytes from the end of a file that hold its last lines."""


def beat(path: Path, state: str, **facts: Any) -> None:
    """Append one line: `state` is `started`, `stopped` (by a signal) or `failed`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stamp = datetime.now(UTC).isoformat(timespec="seconds")
    known = {"time": stamp, "state": state, "host": socket.gethostname(), "job": os.environ.get("SLURM_JOB_ID")}
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(known | facts) + "\n")


@contextmanager
def watched(path: Path) -> Iterator[None]:
    """Around a job's work: say that it has begun, and if it ends early, that and why."""
    beat(path, "started")
    try:
        yield
    except BaseException as error:
        state = "stopped" if isinstance(error, (SystemExit, KeyboardInterrupt)) else "failed"
        with suppress(OSError):  # the disk may be what is wrong; the error itself goes on its way
            beat(path, state, why=str(error).splitlines()[0] if str(error) else type(error).__name__)
        raise


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
