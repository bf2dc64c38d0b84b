"""Copies of videos on a disk of the computing node itself (`decoding.staging`). Reads the videos; writes a temporary
folder there, which is gone when the job ends, and in it one file a decoding process at a time. What a killed job has
left is deleted by the next job on the same node.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from config.cli import UserError
from pipeline.readers import MediaError
from pipeline.readers.source import Source, Span

PREFIX, LOCK = "staged-", "lock"
"""What the folders' names begin with, and the file in each that its job keeps locked."""


@contextmanager
def staging(setting: str | None, results: Path) -> Iterator[str | None]:
    """Yield a job's folder in `decoding.staging`, with `$NAMES` from the environment; None where it is not set.

    UserError if there is no such folder, or if it lies in the results.
    """
    if setting is None:
        yield None
        return
    base = Path(os.path.expandvars(setting)).expanduser()
    if not base.is_dir():
        raise UserError(f"decoding.staging: there is no folder {base} on this machine; create it, or remove the key")
    if base.resolve().is_relative_to(results.resolve()):
        raise UserError(f"decoding.staging: {base} lies in the results; give a folder on a disk of the node itself")
    with own_folder(base, PREFIX) as folder:
        yield folder


@contextmanager
def own_folder(base: Path, prefix: str) -> Iterator[str]:
    """Yield a new folder in `base`, whose name begins with `prefix`; it is gone at the end of the block.

    First deletes such folders of processes that were killed: those whose lock nobody holds. A killed one holds none.
    """
    for folder in base.glob(f"{prefix}*"):
        try:
            with open(folder / LOCK, "r+b") as lock:  # some file systems lock only what may be written
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # another process works there, or it is somebody else's
            continue
    with tempfile.TemporaryDirectory(prefix=prefix, dir=base) as name, open(Path(name, "new"), "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        Path(name, "new").rename(Path(name, LOCK))  # under this name it is never there unlocked
        yield name


@contextmanager
def staged(source: Source, folder: str | None, suffix: str | None = None) -> Iterator[Source]:
    """Yield the path of a copy of what the readers would open; `source` itself without a folder.

    The copy has the `suffix`, by default that of the file. Of a Span only its own bytes are copied. What is not there,
    is no regular file or may not be read is not copied: the reader reports what is wrong with it. Raises MediaError
    `unreadable` if reading fails, UserError if the copy cannot be written, as in a full `folder`.
    """
    path = source.path if isinstance(source, Span) else source
    if folder is None or not os.access(path, os.R_OK) or not os.path.isfile(path):
        yield source
        return
    suffix = os.path.splitext(path)[1] if suffix is None else suffix
    with _writing(folder):
        descriptor, copy = tempfile.mkstemp(suffix=suffix, dir=folder)
    try:
        with open(descriptor, "wb", buffering=0) as target:
            begin, size = (source.begin, source.size) if isinstance(source, Span) else (0, None)
            for data in _pieces(path, begin, size):
                with _writing(folder):
                    _write(target, data)
            with _writing(folder):
                target.close()
        yield copy
    finally:
        os.unlink(copy)


@contextmanager
def _writing(folder: str) -> Iterator[None]:
    """Turn an OSError of writing into a UserError that names the folder."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"decoding.staging: a copy cannot be written to {folder}: {error.strerror}; free space there, give another "
            "folder, or remove the key"
        ) from None


def _write(target: FileIO, data: bytes) -> None:
    """Write all of the data: without a buffer, a call may write a part of it."""
    view = memoryview(data)
    while view:
        view = view[target.write(view) :]


def _pieces(path: str, begin: int, size: int | None) -> Iterator[bytes]:
    """Yield `size` bytes of a file from `begin` on in pieces of up to 1 MiB; all without a size, less where the file
    ends. Raises MediaError `unreadable`."""
    left = sys.maxsize if size is None else size
    try:
        with open(path, "rb", buffering=0) as file:
            file.seek(begin)
            while left and (data := file.read(min(left, 1 << 20))):
                yield data
                left -= len(data)
    except OSError as error:
        raise MediaError("unreadable", f"the file cannot be read: {error.strerror}") from None
