"""Processes of one module's own, for work that one core does best a piece at a time. Reads and writes nothing."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from typing import Any


def pool(processes: int, initializer: Callable[..., object] | None = None, *arguments: Any) -> ProcessPoolExecutor:
    """New processes that share nothing with this one, each of which first calls `initializer(*arguments)`.

    They end with their parent: those of `concurrent.futures` alone outlive one that was killed, waiting for work.
    Ctrl-C is for the parent alone: it stops handing out work.
    """
    return ProcessPoolExecutor(processes, get_context("spawn"), initializer=_begin, initargs=(initializer, *arguments))


def _begin(initializer: Callable[..., object] | None, *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if initializer is not None:
        initializer(*arguments)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
