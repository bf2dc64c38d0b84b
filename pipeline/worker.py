"""The process that opens files: reads tasks from a pipe, runs a reader, answers with arrays or a MediaError.

Started by `pipeline.workers` as `python -m pipeline.worker FD MEMORY_MB PARENT`; the first message through the pipe is
an Access. Opens the media files it is told to; writes nothing but what `pipeline.access` does to get at them. It holds
no torch and no essentia, so decord may be imported here, and nothing is lost when it dies.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import resource
import signal
import sys
import traceback
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any

from config.cli import UserError
from data.places import Place, parse
from pipeline.access import Access, opened
from pipeline.readers import MediaError

PR_SET_PDEATHSIG = 1
PLACES = ("path", "audio_path")
"""Arguments of readers that are files."""
READS = 2
"""How often a file is read that changes while it is read."""


def call(function: str, arguments: dict[str, Any], access: Access) -> tuple[str, Any]:
    """Run `module:function` of a reader. Return ("ok", value), ("media", MediaError), ("user", text of a UserError) or
    ("bug", traceback text).

    Arguments in PLACES are texts of places (data/places.py), or None; the reader gets what `pipeline.access` makes of
    them. `sha256` (hex), if given, is that of the address at `path`. A file that changed while it was read, and so may
    be half old and half new, is read once more; a second change is a `decode_error`.
    """
    digest = arguments.pop("sha256", None)
    try:
        places = {name: parse(arguments[name]) for name in PLACES if arguments.get(name) is not None}
    except ValueError as error:
        return "media", MediaError("missing", str(error))
    for _ in range(READS):
        before = [_state(place) for place in places.values()]
        answer = _call(function, arguments, places, access, digest)
        if [_state(place) for place in places.values()] == before:
            break
    else:
        message, decoder = "the file changed while it was read", arguments.get("decoder", "")
        answer = "media", MediaError("decode_error", message, attempts=READS, decoder=decoder)
    return answer


def _state(place: Place) -> tuple[int, int] | None:
    """Return size and time of the last change (ns) of the file that has the bytes; None for a missing file, which the
    reader reports, and for an address."""
    try:
        status = os.stat(place.local) if place.local is not None else None
    except (OSError, ValueError):
        return None
    return None if status is None else (status.st_size, status.st_mtime_ns)


def _call(
    function: str, arguments: dict[str, Any], places: dict[str, Place], access: Access, digest: str | None
) -> tuple[str, Any]:
    module, _, name = function.partition(":")
    try:
        with ExitStack() as stack:
            sources = {
                argument: stack.enter_context(opened(place, access, digest if argument == "path" else None))
                for argument, place in places.items()
            }
            return "ok", getattr(importlib.import_module(module), name)(**arguments | sources)
    except MediaError as error:
        return "media", error
    except UserError as error:
        return "user", str(error)
    except MemoryError:
        message = "decoding needed more memory than decoding.memory_mb allows"
        return "media", MediaError("out_of_memory", message, decoder=arguments.get("decoder", ""))
    except Exception:
        return "bug", traceback.format_exc()


def serve(connection: Connection) -> None:
    """Answer tasks until the other end closes. The first message is the Access for all of them."""
    try:
        access: Access = connection.recv()
        while True:
            function, arguments = connection.recv()
            connection.send(call(function, arguments, access))
    except EOFError:
        return


def main() -> None:
    """Run the command line, which is for `pipeline.workers` only."""
    # Die with the parent, however it dies: a decoder must never outlive the job that started it.
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    descriptor, memory_mb, parent = (int(value) for value in sys.argv[1:])
    if os.getppid() != parent:
        return
    for number in (signal.SIGINT, signal.SIGTERM):  # these are for the parent, which then ends this process
        signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    serve(Connection(descriptor))


if __name__ == "__main__":
    main()
