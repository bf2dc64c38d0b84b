"""Signs of life of the shard jobs: which are at work, and why one ended early. Appends to and reads the JSON lines in
`logs/progress/<part>/<shard>.jsonl`, where `config.cli.Progress` also writes how far a job is. `pipeline.status`
reads them on any machine that sees the results.

A job without progress for too long hangs in native code, which no exception or signal handler of Python interrupts. It
dumps its stacks to `logs/hung/<part>/<shard>.txt` and exits; the next attempt resumes.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PATIENCE = 1800.0
"""Seconds without a finished video after which a job hangs. Slow disks and first steps on a GPU take minutes."""
TAIL = 4096
"""Bytes from the end of a file that hold its last lines."""
TITLE = "== "
"""How the line begins that a job writes at its start; stacks that follow it are its own."""

log = logging.getLogger("watch")


def beat(path: Path, state: str, **facts: Any) -> None:
    """Append one line: `state` is `started`, `stopped` (by a signal) or `failed`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    known = {"time": _stamp(), "state": state, **myself()}
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(known | facts) + "\n")


def myself() -> dict[str, Any]:
    """Return host, process and Slurm job (None outside Slurm) of this process."""
    return {"host": socket.gethostname(), "process": os.getpid(), "job": os.environ.get("SLURM_JOB_ID")}


def _stamp() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class Watch:
    """Context manager around a job: record its start, and why it ended early; exit with status 1 if it hangs.

    A job hangs if `alive` is not called for `patience` seconds. `progress` is the file of the signs of life. `hung`
    gets a title line at the start, and the stacks of all threads if the job hangs; a thread outside of Python writes
    them, which works while native code holds the interpreter's lock. The title line is removed when the job ends,
    unless it is killed; stacks of earlier attempts stay.

    One process has one watch. Where it computes several parts in one pass, `others` has the files of the signs of life
    of the other parts; their `started` names the part in whose file a dump stands (`with`).
    """

    def __init__(self, progress: Path, hung: Path, patience: float) -> None:
        self.patience = patience
        self.others: list[Path] = []
        self._progress, self._hung = progress, hung
        self._file = 2  # stderr, until the file is open

    def __enter__(self) -> Watch:
        beat(self._progress, "started", patience=self.patience)
        for other in self.others:
            beat(other, "started", patience=self.patience, **{"with": self._progress.parent.name})
        minutes = f"{self.patience / 60:g} minutes"
        who = myself()
        job = f", Slurm job {who['job']}" if who["job"] else ""
        title = (
            f"{TITLE}{_stamp()} process {who['process']} on {who['host']}{job} has begun. If it finishes no video for "
            f"{minutes}, it hangs and ends with status 1, and below stands where each of its threads was. Nothing "
            "below: it works, or was killed.\n"
        )
        try:
            self._open(title)
            log.info(
                "if no video is finished for %s, this job hangs: it says where in %s, and ends", minutes, self._hung
            )
        except OSError as error:
            log.warning(
                "%s. If no video is finished for %s, this job says here where it hangs, and ends", error, minutes
            )
        self.alive()
        return self

    def _open(self, title: str) -> None:
        self._hung.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._hung, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        known = self._hung.read_bytes()
        begin = max(known.rfind(f"\n{TITLE}".encode()) + 1, 0)
        if known.count(b"\n", begin) <= 1:  # the line of a job that was killed, or a part of it
            os.ftruncate(file, begin)
        self._before = os.fstat(file).st_size
        os.write(file, title.encode())
        self._file = file

    def alive(self) -> None:
        """Restart the countdown: the job has made progress."""
        faulthandler.dump_traceback_later(self.patience, exit=True, file=self._file)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        faulthandler.cancel_dump_traceback_later()
        if self._file != 2:
            with suppress(OSError):  # the disk may be what is wrong; an error of the job goes on its way
                os.ftruncate(self._file, self._before)
                os.close(self._file)
                if self._before == 0:
                    self._hung.unlink()
            self._file = 2
        if error is not None:
            state = "stopped" if isinstance(error, (SystemExit, KeyboardInterrupt)) else "failed"
            why = str(error).splitlines()[0] if str(error) else type(error).__name__
            for path in (self._progress, *self.others):
                with suppress(OSError):  # as above
                    beat(path, state, why=why)


@dataclass(frozen=True)
class Dump:
    """Where a job hung: its own first line, and the stacks of its threads as Python printed them."""

    title: str
    stacks: str
    latest: bool
    """Whether no job has begun on the shard since."""


def last_dump(path: Path) -> Dump | None:
    """Return the dump of the last job that hung on a shard; None if none did."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    attempts = [attempt.partition("\n") for attempt in ("\n" + text).split(f"\n{TITLE}")[1:]]
    for number, (title, _, stacks) in reversed(list(enumerate(attempts))):
        if stacks.strip():
            return Dump(title, stacks.strip(), number == len(attempts) - 1)
    return None


def last(path: Path, state: str | None = None) -> dict[str, Any] | None:
    """Return the last whole line, or the last one of that state; None if there is none. Torn lines are skipped."""
    try:
        with open(path, "rb") as file:
            if state is None:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - TAIL))
            lines = file.read().splitlines()
    except FileNotFoundError:
        return None
    for line in reversed(lines):
        with suppress(ValueError):
            sign = json.loads(line)
            if isinstance(sign, dict) and state in (None, sign.get("state")):
                return sign
    return None
