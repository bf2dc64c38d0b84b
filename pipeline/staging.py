"""Copies of videos on a disk of the computing node itself (`decoding.staging`). Reads the videos; writes a temporary
folder there, which is gone when the job ends, and in it one file a decoding process at a time.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from config.cli import UserError


@contextmanager
def staging(setting: str | None, results: Path) -> Iterator[str | None]:
    """A job's folder in `decoding.staging`, in which `$NAMES` stand for the environment's; None where it is not set.

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
    with tempfile.TemporaryDirectory(prefix="staged-", dir=base) as folder:
        yield folder


@contextmanager
def staged(path: str, folder: str | None) -> Iterator[str]:
    """The path of a copy of the file in `folder`, with the same suffix; the file itself without a folder.

    What cannot be opened is not copied: the reader knows how to say what is wrong with it. A full `folder` is an error.
    """
    if folder is None or not os.access(path, os.R_OK) or not os.path.isfile(path):
        yield path
        return
    descriptor, copy = tempfile.mkstemp(suffix=os.path.splitext(path)[1], dir=folder)
    try:
        with open(descriptor, "wb") as target, open(path, "rb") as source:
            shutil.copyfileobj(source, target, 1 << 20)
        yield copy
    finally:
        os.unlink(copy)
