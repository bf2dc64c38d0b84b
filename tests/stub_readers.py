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
        pieces.append(np.ones(8 << 20))


def whoami(path: str) -> int:
    return os.getpid()


def modules(path: str) -> list[str]:
    import sys

    return sorted(sys.modules)


def slow(path: str) -> float:
    began = time.monotonic()
    time.sleep(0.3)
    return began
