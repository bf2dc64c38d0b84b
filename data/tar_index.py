"""Indexes of tar shards (data/tar.py), and members found with them. Reads shards and the folder in which indexes are
kept, by the path, size and time of change of their shard; writes that folder. `located` compares what it finds with the
member's own header before it is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import asdict
from pathlib import Path

from config.cli import UserError
from config.files import read_json, replacing
from data.tar import Entry, Index, ReadError, ShardError, member_at, walk

VERSION = 2
"""Of the files in which indexes are kept."""
_RECENT: dict[tuple[str, int, int], Index] = {}
_MOST = 8
"""Indexes that a process keeps in memory."""


def index_of(shard: str, folder: Path | None = None) -> Index:
    """Return the index of the shard at a path, which `folder` keeps, or else by walking through the shard.

    Raises ShardError if there is no such file, or it cannot be opened or read, or is no file.
    """
    descriptor, status = _open(shard)
    try:
        return _kept(shard, descriptor, status, folder)
    finally:
        os.close(descriptor)


def located(shard: str, name: str, folder: Path | None = None) -> Entry:
    """Return the member of this name. Its header is read again, whatever the index says.

    Indexes of the latest shards are kept in memory. Raises ShardError if the shard has no such member, or several, or
    it cannot be read.
    """
    descriptor, status = _open(shard)
    try:
        key = (shard, status.st_size, status.st_mtime_ns)
        if key not in _RECENT:
            index = _kept(shard, descriptor, status, folder)
            while len(_RECENT) >= _MOST:
                del _RECENT[next(iter(_RECENT))]
            _RECENT[key] = index
        entry = _only(_RECENT[key], name)
        member = member_at(descriptor, entry.header, status.st_size)
        if member is None or member[0] != entry:
            raise ShardError("the member is not where its shard's index says: the shard changed, but not its time")
    finally:
        os.close(descriptor)
    if entry.problem:
        raise ShardError(entry.problem)
    return entry


def _only(index: Index, name: str) -> Entry:
    """Return the one member of this name. Raises ShardError."""
    entries = index.by_name.get(name, [])
    if len(entries) == 1:
        return entries[0]
    if entries:
        raise ShardError(f"the shard has {len(entries)} members of this name")
    if not index.problem:
        raise ShardError("the shard has no such member", missing=True)
    if index.entries:
        raise ShardError(f"no such member in the part of the shard that can be read: {index.problem}")
    raise ShardError(index.problem)


def _open(shard: str) -> tuple[int, os.stat_result]:
    try:
        descriptor = os.open(shard, os.O_RDONLY | os.O_NONBLOCK)  # a named pipe would block for ever
    except FileNotFoundError:
        raise ShardError("there is no such shard", missing=True) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ShardError(f"the shard cannot be opened: {reason}", missing=True) from None
    try:
        status = os.fstat(descriptor)
    except OSError as error:
        os.close(descriptor)
        raise ReadError(f"the shard cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise ShardError("the shard is not a regular file")
    return descriptor, status


def _kept(shard: str, descriptor: int, status: os.stat_result, folder: Path | None) -> Index:
    """Return the index of an open shard, of `folder` or by walking through it, and keep it there."""
    if folder is None:
        return walk(descriptor, status.st_size)
    key = (shard, status.st_size, status.st_mtime_ns)
    path = folder / f"{hashlib.sha256(os.fsencode(shard)).hexdigest()[:32]}.json"
    index = _stored(path, key)
    if index is None:
        index = walk(descriptor, status.st_size)
        _store(path, key, index)
    return index


def _stored(path: Path, key: tuple[str, int, int]) -> Index | None:
    """Return the index that a file holds; None if it is of another state of the shard, or damaged."""
    try:
        stored = read_json(path)
    except (UserError, OSError):
        return None
    if not isinstance(stored, dict) or stored.get("of") != [VERSION, *key]:
        return None
    return Index([Entry(*values) for values in stored["entries"]], stored["problem"])


def _store(path: Path, key: tuple[str, int, int], index: Index) -> None:
    """Keep an index. It only saves time: where nothing can be written, as in others' results, it is not kept."""
    entries = [list(asdict(entry).values()) for entry in index.entries]
    try:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps({"of": [VERSION, *key], "problem": index.problem, "entries": entries}))
    except OSError:
        return
