"""The process that opens files: reads tasks from a pipe, runs a reader, answers with arrays or a MediaError.

Started by `pipeline.workers` as `python -m pipeline.worker FD MEMORY_MB`. Opens the media files it is told to; writes
nothing. It holds no torch and no essentia, so decord may be imported here, and nothing is lost when it dies.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import resource
import signal
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any

from pipeline.readers import MediaError
from pipeline.staging import staged

PR_SET_PDEATHSIG = 1
READS = 2
"""How often a file is read that changes while it is read."""


def call(function: str, arguments: dict[str, Any]) -> tuple[str, Any]:
    """Run `module:function` of a reader. Return ("ok", value), ("media", MediaError) or ("bug", traceback text).

    A file that changed while it was read, and so may be half old and half new, is read once more; a second change is
    a `decode_error`.
    """
    staging = arguments.pop("staging", None)
    for _ in range(READS):
        before = _state(arguments["path"])
        answer = _call(function, arguments, staging)
        if _state(arguments["path"]) == before:
            break
    else:
        message, decoder = "the file changed while it was read", arguments.get("decoder", "")
        answer = "media", MediaError("decode_error", message, attempts=READS, decoder=decoder)
    return answer


def _state(path: str) -> tuple[int, int] | None:
    """Return size and time of the last change (ns); None for a missing file, which the reader reports."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns


def _call(function: str, arguments: dict[str, Any], staging: str | None) -> tuple[str, Any]:
    module, _, name = function.partition(":")
    try:
        with staged(arguments["path"], staging) as path:
            return "ok", getattr(importlib.import_module(module), name)(**arguments | {"path": path})
    except MediaError as error:
        return "media", error
    except MemoryError:
        message = "decoding needed more memory than decoding.memory_mb allows"
        return "media", MediaError("out_of_memory", message, decoder=arguments.get("decoder", ""))
    except Exception:
        return "bug", traceback.format_exc()


def serve(connection: Connection) -> None:
    """Answer tasks until the other end closes."""
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        connection.send(call(*task))


def main() -> None:
    """Command line, for `pipeline.workers` only."""
    # Die with the parent, however it dies: a decoder must never outlive the job that started it.
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    fd, memory_mb, parent = (int(value) for value in sys.argv[1:])
    if os.getppid() != parent:
        return
    for number in (signal.SIGINT, signal.SIGTERM):  # these are for the parent, which then ends this process
        signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    serve(Connection(fd))


if __name__ == "__main__":
    main()
