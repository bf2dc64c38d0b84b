"""Processes of one module's own, for work that one core does best a piece at a time. Reads and writes nothing."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import Any, TypeVar

from config.cli import UserError

T = TypeVar("T")
R = TypeVar("R")


def each(
    work: Callable[[T], R], items: Sequence[T], processes: int, begin: Callable[..., object] | None = None, *given: Any
) -> Iterator[tuple[T, R]]:
    """Every item with what `work` makes of it, as they come, by so many processes; with one of either, by this one.

    Whoever works calls `begin(*given)` first. New processes share nothing with this one: what they are given, items
    and results pickle. They end with their parent: those of `concurrent.futures` alone outlive one that was killed,
    waiting for work. Ctrl-C is for the parent alone, which stops handing out work. UserError where one is killed.
    """
    if processes == 1 or len(items) < 2:
        if items and begin is not None:
            begin(*given)
        yield from ((item, work(item)) for item in items)
        return
    with ProcessPoolExecutor(processes, get_context("spawn"), initializer=_begin, initargs=(begin, *given)) as pool:
        jobs = {pool.submit(work, item): item for item in items}
        try:
            for job in as_completed(jobs):
                yield jobs[job], job.result()
        except BrokenProcessPool:
            raise UserError(
                "a process was killed, perhaps for want of memory. Run again with fewer --threads: what was finished "
                "is kept."
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _begin(begin: Callable[..., object] | None, *given: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if begin is not None:
        begin(*given)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
