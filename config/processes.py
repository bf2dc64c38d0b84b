"""Worker processes of a module, for items that one core each processes best. Reads and writes nothing."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing import get_context, parent_process
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

from config.cli import UserError

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def usual_scheduling() -> Iterator[None]:
    """Give all threads of this process the scheduling policy back that it has now.

    SVT-AV1's encoder makes the thread that opens it real-time (SCHED_FIFO, 99) where it may, as root, and leaves it so.
    Threads and processes that are started later inherit that: a few of them take all cores, and one that spins waits
    for ever.
    """
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        for thread in os.listdir("/proc/self/task"):
            with suppress(ProcessLookupError):  # it has ended
                os.sched_setscheduler(int(thread), policy, parameters)


def parallel(
    work: Callable[[T], R],
    items: Sequence[T],
    processes: int,
    start: Callable[..., object] | None = None,
    *arguments: Any,
) -> Iterator[tuple[T, R]]:
    """Yield `(item, work(item))` as they complete, in `processes` workers; in this process if there is one worker or
    item.

    Each worker calls `start(*arguments)` first. Workers are new interpreters, so arguments, items and results must
    pickle. They end with their parent, unlike those of `concurrent.futures`, which outlive a killed parent. Ctrl-C
    reaches the parent alone, which hands out no more items. When an item raises, those that the workers have already
    are yielded, then its exception is raised. UserError if a worker is killed.
    """
    if processes == 1 or len(items) < 2:
        if items and start is not None:
            start(*arguments)
        yield from ((item, work(item)) for item in items)
        return
    with ProcessPoolExecutor(processes, get_context("spawn"), initializer=_start, initargs=(start, *arguments)) as pool:
        left = iter(items)
        running: dict[Future[R], T] = {}
        first: BaseException | None = None
        try:
            while True:
                try:
                    # Two for each worker, so that none waits. All at once could not be taken back when one raises.
                    for item in islice(left, 2 * processes - len(running) if first is None else 0):
                        running[pool.submit(work, item)] = item
                except BrokenProcessPool as error:
                    first = error
                if not running:
                    break
                for job in wait(running, return_when=FIRST_COMPLETED).done:
                    item, raised = running.pop(job), job.exception()
                    first = first or raised
                    if raised is None:
                        yield item, job.result()
        finally:
            pool.shutdown(cancel_futures=True)
    if isinstance(first, BrokenProcessPool):
        raise UserError(
            "a process was killed, perhaps for want of memory. Run again with fewer --threads: what was finished "
            "is kept."
        )
    if first is not None:
        raise first


def _start(start: Callable[..., object] | None, *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # One core per worker. NumPy's threads wait for each other by spinning, on cores that the other workers need: the
    # singular values of a small matrix then take minutes.
    threadpool_limits(1)
    if start is not None:
        start(*arguments)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
