"""One writer a shard: a file that says who is at work, so that a second job refuses instead of repeating its work.

Reads and writes `work/<part>/<shard>.claim`: JSON with host, boot, process and the process's start.

What the store holds does not depend on it: objects are renamed into place whole, and equal work gives equal bytes. The
journal does: two jobs that append to one would tear each other's records. Locks of the kernel are not used, because
shared file systems often do not carry them to other hosts; a hard link that fails where its name exists works on all.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.cli import UserError

BEAT, STALE = 30.0, 600.0
"""Seconds between signs of life, and without one after which a job on another host counts as dead."""


class Claim:
    """A claim, held from its making to `release`. UserError if another job holds it that may be alive.

    A claim on this host is stale if its process has ended or the host has restarted; one on another host, if its file
    was not touched for ten minutes by the file server's clock. A thread touches the file twice a minute.
    """

    def __init__(self, path: Path, what: str = "this shard") -> None:
        """Take the claim; `what` says in words what the owner works on."""
        self._path, self._what, self._over = path, what, threading.Event()
        path.parent.mkdir(parents=True, exist_ok=True)
        mine = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
        try:
            mine.write_text(json.dumps(_myself()), encoding="utf-8")
            self._inode = mine.stat().st_ino
            while not _link(mine, path):
                self._remove_stale(mine)
        finally:
            mine.unlink(missing_ok=True)
        threading.Thread(target=self._live, name="claim", daemon=True).start()

    def _remove_stale(self, mine: Path) -> None:
        """Take a stale claim away; UserError if it is not stale. `mine` is a file made just now."""
        try:
            text, seen = self._path.read_text(encoding="utf-8"), self._path.stat()
        except FileNotFoundError:
            return  # released in between
        if not _stale(text, mine.stat().st_mtime - seen.st_mtime):
            who = _parsed(text)
            raise UserError(
                f"{self._path}: process {who.get('process')} on {who.get('host')} is at work on {self._what}. Wait "
                "for it, or stop it and run again. If it is certainly gone, delete this file and run again."
            )
        aside = self._path.with_name(f"{mine.name}.stale")
        try:
            os.rename(self._path, aside)
        except FileNotFoundError:
            return
        if aside.stat().st_ino != seen.st_ino:  # somebody was faster: this is the new claim
            _link(aside, self._path)
        aside.unlink()

    def _live(self) -> None:
        while not self._over.wait(BEAT):
            with suppress(OSError):  # a file server that is away for a moment; `check` asks again
                if self._held():
                    os.utime(self._path)

    def _held(self) -> bool:
        try:
            return self._path.stat().st_ino == self._inode
        except FileNotFoundError:
            return False

    def check(self) -> None:
        """Raise UserError if another job has taken the claim, as from a job on a host that slept."""
        if not self._held():
            raise UserError(f"{self._path}: another job has taken {self._what} over; what it has done stands")

    def release(self) -> None:
        """Delete the claim, if it is still held."""
        self._over.set()
        if self._held():
            self._path.unlink()


def _link(source: Path, target: Path) -> bool:
    """Give a file a second name; False if the name is taken."""
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    return True


def _myself() -> dict[str, Any]:
    process = os.getpid()
    return {"host": socket.gethostname(), "boot": _boot(), "process": process, "started": _started(process)}


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()


def _started(process: int) -> str | None:
    """Return when a process of this host started, in clock ticks since the boot; None if it has ended."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # From the third field on; the command's name, the second, may hold anything, also blanks and brackets.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]  # a killed process stays in the table until its parent asks


@dataclass(frozen=True)
class Holder:
    """Who holds a claim: host, process, and the seconds since the last sign of life."""

    host: str | None
    process: int | None
    silent: float
    alive: bool
    """As far as one can know from here: on this host the process is there; on another it has shown signs of life."""
    here: bool
    """Whether it is on this host, so that one can know."""


def holder(path: Path, now: float) -> Holder | None:
    """Return who holds a claim, None if nobody does; `now` is the file server's time (s since 1970)."""
    try:
        text, silent = path.read_text(encoding="utf-8"), now - path.stat().st_mtime
    except FileNotFoundError:
        return None
    who = _parsed(text)
    alive = who.get("process") == os.getpid() or not _stale(text, silent)
    return Holder(who.get("host"), who.get("process"), silent, alive, who.get("host") == socket.gethostname())


def _stale(text: str, silent: float) -> bool:
    """Return whether the owner of a claim is gone; `silent`: seconds since the last sign of life."""
    who = _parsed(text)
    if who.get("host") != socket.gethostname():
        return silent > STALE
    if who["boot"] != _boot():
        return True
    return bool(who["process"] == os.getpid() or _started(who["process"]) != who["started"])


def _parsed(text: str) -> dict[str, Any]:
    """Return what a claim says; nothing if a crash of its host has torn it."""
    try:
        who = json.loads(text)
    except ValueError:
        return {}
    return who if isinstance(who, dict) and set(who) == set(_myself()) else {}
