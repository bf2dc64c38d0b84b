"""A pool of decoding processes that survives what native decoders do: hang, crash, eat memory. Writes nothing.

FFmpeg and decord can loop for ever or kill their process on a broken file (dmlc/decord#373, #375, #229), where neither
a thread's timeout nor an exception handler helps. So each task has a deadline, after which its process is killed; a
process that dies costs its task one more try in a new process, and nobody else anything.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Generic, TypeVar

from config.cli import UserError
from config.pipeline import Decoding
from data.places import ADDRESSES
from pipeline.access import Access
from pipeline.readers import MediaError

K = TypeVar("K")
ROOT = Path(__file__).resolve().parents[1]
NOTICE = 0.5
"""The longest wait (s) between two looks at whether the pool should stop."""


@dataclass
class Task(Generic[K]):
    """Call `function` ("module:name") with `arguments` in a worker; `key` comes back with the answer.

    The arguments `path` and `audio_path` are texts of places of any kind (data/places.py); `sha256` is the digest of
    an address. An argument `decoder` names the decoder that is to blame if the process hangs or dies. If the call
    fails, whatever the reason, `parts` are run instead, each as a task of its own; the answer is then the list of their
    answers.
    """

    key: K
    function: str
    arguments: dict[str, Any]
    tries: int = 0
    parts: list[Task[K]] = field(default_factory=list)


class Worker:
    """One process and the task that it is working on."""

    def __init__(self, memory_mb: int, access: Access) -> None:
        parent_end, child_end = socket.socketpair()
        path = os.pathsep.join(entry for entry in (str(ROOT), os.environ.get("PYTHONPATH")) if entry)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.worker", str(child_end.fileno()), str(memory_mb), str(os.getpid())],
            pass_fds=[child_end.fileno()],
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # FFmpeg and decord print by the hundred; what matters comes through the pipe
        )
        child_end.close()
        self.connection = Connection(parent_end.detach())
        with suppress(OSError):  # it is dead already; `Pool` sees the closed pipe
            self.connection.send(access)
        self.task: Task[Any] | None = None
        self.deadline = 0.0
        self.served = 0

    def give(self, task: Task[Any], deadline_seconds: float) -> None:
        """Send a task to the process, to be answered within `deadline_seconds`."""
        task.tries += 1
        self.task, self.deadline = task, time.monotonic() + deadline_seconds
        self.served += 1
        with suppress(OSError):
            self.connection.send((task.function, task.arguments))

    def kill(self) -> int:
        """Kill the process; return its exit status."""
        self.process.kill()
        self.connection.close()
        return self.process.wait()


class Pool:
    """Run tasks in `size` worker processes. Use as a context manager: on leaving, every process is gone.

    When `stop` returns True, no more results come, and what is being decoded is dropped. `indexes` is the folder for
    the indexes of tar shards, `staging` the job's folder in `decoding.staging` (see `pipeline.access`).
    """

    def __init__(
        self,
        size: int,
        settings: Decoding,
        stop: Callable[[], bool] = lambda: False,
        indexes: Path | None = None,
        staging: str | None = None,
    ) -> None:
        self._settings, self._stop = settings, stop
        self._access = Access.of(settings, indexes, staging)
        self._idle: list[Worker] = []
        self._busy: list[Worker] = []
        self._size = size

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in self._idle + self._busy:
            worker.kill()
        self._idle, self._busy = [], []

    def results(self, tasks: Iterable[Task[K]], ahead: int) -> Iterator[tuple[K, Any]]:
        """Yield (key, value or MediaError) in the order of the tasks; a list of such answers where parts were run.

        At most `ahead` tasks beyond the one that is yielded next are started or wait with their answer: this bounds
        memory. With `ahead=0` a worker never works while the caller does. RuntimeError for a bug in a reader, UserError
        for what stops the job, such as a full disk.
        """
        source = iter(tasks)
        order: deque[Task[K]] = deque()
        again: deque[Task[K]] = deque()
        answers: dict[int, Any] = {}
        wholes: dict[int, Task[K]] = {}
        exhausted = False
        while not self._stop():
            while not exhausted and len(order) <= ahead:
                task = next(source, None)
                if task is None:
                    exhausted = True
                else:
                    order.append(task)
                    again.append(task)
            if not order:
                return
            while again and len(self._busy) < self._size:
                worker = self._idle.pop() if self._idle else Worker(self._settings.memory_mb, self._access)
                task = again.popleft()
                worker.give(task, self._limit(task))
                self._busy.append(worker)
            if id(order[0]) in answers:
                task = order.popleft()
                yield task.key, answers.pop(id(task))
                continue
            for task, answer in self._collect():
                if answer is None:
                    again.appendleft(task)
                    continue
                if isinstance(answer, MediaError):
                    if task.parts and not answer.not_fetched:
                        again.extendleft(reversed(task.parts))
                        wholes |= {id(part): task for part in task.parts}
                        continue
                    answer.attempts += task.tries - 1
                answers[id(task)] = answer
                whole = wholes.pop(id(task), None)
                if whole is not None and all(id(part) in answers for part in whole.parts):
                    answers[id(whole)] = [answers.pop(id(part)) for part in whole.parts]

    def _collect(self) -> Iterator[tuple[Task[Any], Any]]:
        """Wait for something to happen; yield (task, answer), the answer None where the task must be tried again."""
        now = time.monotonic()
        patience = min(max(0.0, min(worker.deadline for worker in self._busy) - now), NOTICE)
        ready = wait([worker.connection for worker in self._busy], timeout=patience)
        for worker in list(self._busy):
            task = worker.task
            assert task is not None
            if worker.connection in ready:
                try:
                    kind, value = worker.connection.recv()
                except (EOFError, OSError):
                    self._busy.remove(worker)
                    yield task, self._died(worker.kill(), task)
                    continue
                self._busy.remove(worker)
                if kind == "user":
                    worker.kill()
                    raise UserError(value)
                if kind == "bug":
                    worker.kill()
                    raise RuntimeError(f"{task.function} failed on {task.arguments.get('path')!r}:\n{value}")
                if worker.served < self._settings.recycle:
                    self._idle.append(worker)
                else:
                    worker.kill()
                yield task, value
            elif time.monotonic() >= worker.deadline:
                self._busy.remove(worker)
                worker.kill()
                message = f"decoding took longer than {self._limit(task):g} s and was stopped"
                yield task, MediaError("timeout", message, decoder=task.arguments.get("decoder", ""))

    def _limit(self, task: Task[Any]) -> float:
        """Return the longest time (s) for a task; a file that is fetched first has that time besides."""
        files = (str(task.arguments.get(name)) for name in ("path", "audio_path"))
        fetched = any(file.startswith(ADDRESSES) for file in files)
        return self._settings.longest_seconds if fetched else self._settings.deadline_seconds

    @staticmethod
    def _died(status: int, task: Task[Any]) -> MediaError | None:
        if task.tries < 2:
            return None
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        message = f"the decoder killed its process twice ({how})"
        return MediaError("crashed", message, decoder=task.arguments.get("decoder", ""))
