"""Readers that misbehave the way native decoders do, for the worker pool's tests. Run inside `pipeline.worker`."""

import ctypes
import os
import time
from pathlib import Path

import numpy as np

from pipeline.readers import MediaError


def good(path: str, value: float = 0.0) -> np.ndarray:
    return np.full((2, 500_000), value, np.float32)  # larger than a pipe's buffer


def broken(path: str) -> None:
    raise MediaError("decode_error", "damaged on purpose")


def bug(path: str) -> None:
    raise KeyError("a mistake in the reader")


def hang(path: str) -> None:
    """Never return, with the GIL held, deaf to every signal but SIGKILL."""
    ctypes.PyDLL(None).sleep(3600)


def segfault(path: str) -> None:
    ctypes.string_at(0)


def segfault_once(path: str) -> str:
    marker = Path(path)
    if not marker.exists():
        marker.touch()
        ctypes.string_at(0)
    return "second try"


def eat_memory(path: str) -> None:
    pieces = []
    while True:
        pieces.append(np.empty(8 << 20))  # address space is what is limited; touching it would only take time


def whoami(path: str) -> int:
    return os.getpid()


def modules(path: str) -> list[str]:
    import sys

    return sorted(sys.modules)


def slow(path: str) -> float:
    began = time.monotonic()
    time.sleep(0.3)
    return began


def append(path: str, times: int) -> int:
    """Read a file that somebody appends to, during the first `times` reads of it; returns its size after that."""
    file = Path(path)
    size = file.stat().st_size
    if size < times:
        file.write_bytes(bytes(size + 1))
    return file.stat().st_size


def touch(path: str, decoder: str) -> None:
    """Read a damaged file that is written anew, at the same size, during every read."""
    os.utime(path, ns=(0, Path(path).stat().st_mtime_ns + 1))
    raise MediaError("unreadable", "half a file")
