"""Timing reads for the bench of the store: from a warm page cache, and from the disk alone.

Reads the files that it is given; writes nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

ROWS = 1000
"""Rows of a random gather."""


def fastest(work: Callable[[], Any], times: int = 2) -> float:
    """Return the seconds of the fastest run, after one that warms the page cache; `work`'s result is freed at once."""
    work()
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
        del result
    print([round(value, 4) for value in seconds], flush=True)
    return min(seconds)


def cold(files: list[Path], work: Callable[[], Any]) -> float:
    """Return the seconds of one run after the files have been dropped from the page cache."""
    for path in files:
        with open(path, "rb") as file:
            os.fsync(file.fileno())  # pages that are not written yet cannot be dropped
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def random_rows(videos: int, files: list[Path], read: Callable[[np.ndarray], Any]) -> dict[str, float]:
    """Time gathering ROWS random rows, others each time: with the files on disk alone, and in the page cache."""
    rng = np.random.default_rng(1)
    from_disk = min(cold(files, partial(read, rng.integers(videos, size=ROWS))) for _ in range(3))
    raw(files, 1)
    return {"disk": from_disk, "cached": fastest(lambda: read(rng.integers(videos, size=ROWS)), 5)}


def raw(files: list[Path], threads: int) -> np.ndarray:
    """Read the files' bytes, one after the other, into one new array: what the reading itself costs."""
    sizes = [file.stat().st_size for file in files]
    ends = np.cumsum(sizes).tolist()
    out = np.empty(ends[-1], np.uint8)

    def read(path: Path, size: int, end: int) -> None:
        position = end - size
        with open(path, "rb", buffering=0) as file:
            while position < end:  # the kernel gives 2 GiB at most at a time
                position += file.readinto(out[position:end].data)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(read, files, sizes, ends))
    return out
