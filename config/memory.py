"""What glibc does with freed memory. Changes this process, nothing else."""

from __future__ import annotations

import ctypes

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
"""mallopt's parameters in malloc.h."""
LARGEST = 32 << 20
"""The largest block (bytes) that glibc can be told to keep, on 64 bits."""


def keep_freed_memory(largest: int, total: int = 256 << 20) -> None:
    """Have glibc keep freed blocks of up to `largest` bytes, `total` in all, for the next equal tensors.

    By default it returns megabytes to the system, which maps and clears them anew, several times a batch or frame. Does
    nothing with other C libraries.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, min(largest, LARGEST))
        mallopt(TRIM_THRESHOLD, total)
