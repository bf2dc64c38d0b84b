"""SHA-256 digests of the user's files, by which rules tell whether an input has changed: by content, not by time.

Reads the files that it is given. Writes `work/NAME.sha256` under the results, which are inputs of rules, and
`work/digests.json`, a cache of the digests of large files and folders. A file with the same device, inode, size, mtime
and ctime is not read again; ctime cannot be set, so a file that was moved, copied or written into its place is noticed.
"""

from __future__ import annotations

import glob
import hashlib
import os
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NotRequired, TypedDict

from config.cli import UserError
from config.files import read_json, replacing, write_json
from config.place import is_path

LARGE = 16 << 20
"""Size in bytes from which a digest is cached; smaller files are read in less than 0.1 s."""
SETTLED = 2.0
"""Seconds since its last change after which a file's digest is cached: the resolution of some file systems' clocks."""


class Entry(TypedDict):
    """A cached digest. `stamp`: device, inode, size, mtime and ctime (ns) of the file, or the digest of those of all
    files of a folder; none for several files."""

    sha256: str
    stamp: NotRequired[list[int] | str]


@lru_cache(maxsize=64)
def digest(path: str, cache: Path) -> str:
    """Return the SHA-256 (hex) of a file, or of the relative paths and contents of all files in a folder.

    Computed once per process. `cache`: file with the digests of large files. OSError if `path` does not exist.
    """
    if not Path(path).is_dir():
        return _file(Path(path), cache)
    name, now = f"folder {Path(path).absolute()}", time.time()
    found = sorted(file for file in Path(path).rglob("*") if file.is_file())
    files = {file: file.stat() for file in found}
    stamp = hashlib.sha256(repr([(str(file), *_stamp(status)) for file, status in files.items()]).encode()).hexdigest()
    cached = _cached(cache).get(name)
    if cached is not None and cached["stamp"] == stamp:
        return cached["sha256"]
    total = hashlib.sha256()
    for file in files:
        total.update(f"{file.relative_to(path)}\0{_file(file, cache)}\0".encode("utf-8", "surrogateescape"))
    large = sum(status.st_size for status in files.values()) >= LARGE
    if large and now - max(max(status.st_mtime, status.st_ctime) for status in files.values()) > SETTLED:
        _store(cache, name, {"sha256": total.hexdigest(), "stamp": stamp})
    return total.hexdigest()


def weights_digest(source: str, cache: Path) -> str | None:
    """Return the digest of local weights: a file, a folder, or the common prefix of several files. None for names.

    If the files were deleted after they had been read, return the last digest in `cache`, or None.
    """
    if not is_path(source):
        return None
    path, name = Path(source).expanduser(), f"weights {source}"
    files = [path] if path.exists() else sorted(path.parent.glob(f"{glob.escape(path.name)}.*"))
    cached = _cached(cache).get(name)
    known = cached["sha256"] if cached else None
    if not files:
        return known
    sha256 = hashlib.sha256("".join(digest(str(file), cache) for file in files).encode()).hexdigest()
    if known != sha256:
        _store(cache, name, {"sha256": sha256})
    return sha256


def write_digest(path: Path, text: str) -> Path:
    """Write `text` to `path` unless the file has it already; return the path.

    As a rule's input, the file is then newer than the rule's output only if the digest has changed.
    """
    with suppress(OSError, ValueError):
        if path.read_text(encoding="utf-8") == text:
            return path
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _file(path: Path, cache: Path) -> str:
    now = time.time()
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        stamp = _stamp(status)
        cached = _cached(cache).get(str(path.absolute())) if status.st_size >= LARGE else None
        if cached is not None and cached["stamp"] == stamp:
            return cached["sha256"]
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if status.st_size >= LARGE and now - max(status.st_mtime, status.st_ctime) > SETTLED:
        _store(cache, str(path.absolute()), {"stamp": stamp, "sha256": sha256})
    return sha256


def _stamp(status: os.stat_result) -> list[int]:
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _store(cache: Path, name: str, entry: Entry) -> None:
    """Cache a digest in an existing results folder; one without write permission goes without the cache."""
    if cache.parents[1].is_dir():
        with suppress(OSError):
            write_json(cache, _cached(cache) | {name: entry})


def _cached(cache: Path) -> dict[str, Entry]:
    """Return the cached digests by name; none if the file is damaged, because all can be computed again."""
    try:
        return read_json(cache) or {}
    except (UserError, OSError):
        return {}
