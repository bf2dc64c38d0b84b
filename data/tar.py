"""The members of a tar shard and where their bytes lie. Reads the headers of a tar file, never its members.

Headers of ustar, GNU and pax tars are followed (POSIX.1-2017, pax; GNU tar manual, "Basic Tar Format"). A member can be
read in place if it is a regular file that the shard holds as a whole; of the others the index says why not. Nothing is
unpacked, and no name is taken for a path.

A shard that is cut off or damaged, or goes on after its end mark, has the members before that place, and
`Index.problem` says what is wrong after it. A shard that cannot be read at the moment has no index (`ReadError`).
data/tar_index.py keeps indexes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from data.places import stripped

BLOCK = 512
LONGEST = 1 << 20
"""Bytes of the longest extended header that is read."""
AFTER_END = 1 << 20
"""Bytes after the end mark in which another header is looked for; archivers fill some KiB with zeros."""
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
REGULAR = (b"0", b"\0", b"7")
KINDS = {b"1": "a hard link", b"2": "a link", b"3": "a device", b"4": "a device", b"5": "a folder", b"6": "a pipe"}
GNU_NAME, GNU_LINK, GNU_SPARSE = b"L", b"K", b"S"
PAX, PAX_GLOBAL = b"x", b"g"


class ShardError(Exception):
    """What is wrong with a shard or a member. `missing`: there is none; otherwise it is there and cannot be read."""

    def __init__(self, message: str, missing: bool = False) -> None:
        super().__init__(message)
        self.missing = missing


class ReadError(ShardError):
    """Reading failed (a disk or network error). It may succeed later, so nothing is concluded about the content."""


@dataclass(frozen=True)
class Entry:
    """A member: its content is `size` bytes from `begin` on, its first header stands at `header`.

    `problem` says why it cannot be read; it is empty for a regular file that the shard holds as a whole.
    """

    name: str
    header: int
    begin: int
    size: int
    problem: str = ""


@dataclass(frozen=True)
class Index:
    """The members of a shard in their order, and what is wrong with the rest of it (empty if nothing is)."""

    entries: list[Entry]
    problem: str = ""
    by_name: dict[str, list[Entry]] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        for entry in self.entries:
            self.by_name.setdefault(entry.name, []).append(entry)


def walk(descriptor: int, size: int) -> Index:
    """Return the index of an open tar file of `size` bytes. Raises ReadError."""
    entries: list[Entry] = []
    position = 0
    try:
        while position < size:
            member = member_at(descriptor, position, size)
            if member is None:
                return Index(entries, _after_end(descriptor, position))
            entry, position = member
            entries.append(entry)
    except ReadError:
        raise
    except ShardError as error:
        return Index(entries, str(error))
    return Index(entries, "the shard has no end mark: it may be cut off" if size else "the shard is empty")


def read_at(descriptor: int, count: int, position: int) -> bytes:
    """Return up to `count` bytes of an open file from `position` on. Raises ReadError."""
    try:
        return os.pread(descriptor, count, position)
    except OSError as error:
        raise ReadError(f"the shard cannot be read: {error.strerror}") from None


def _after_end(descriptor: int, end: int) -> str:
    """Return what is wrong after the end mark at `end`: "" unless the first block that is not zero is a header."""
    rest = read_at(descriptor, AFTER_END, end)
    start = (len(rest) - len(rest.lstrip(b"\0"))) // BLOCK * BLOCK
    block = rest[start : start + BLOCK]
    if len(block) < BLOCK or not _is_whole(block):
        return ""
    return (
        f"the shard goes on after its end mark, at byte {end + start:,}, as if shards were joined; join with `tar -A`"
    )


@dataclass
class _Header:
    """A header block, and what extended headers before it say."""

    name: str
    size: int
    kind: bytes
    sparse: bool


def member_at(descriptor: int, first: int, size: int) -> tuple[Entry, int] | None:
    """Return the member whose first header is at `first`, and where the next one begins; None at the end mark."""
    position, extended = first, {}
    while True:
        block = read_at(descriptor, BLOCK, position)
        if not any(block) and len(block) == BLOCK:
            return None
        header = _header(block, position)
        begin = position + BLOCK
        if header.kind not in (GNU_NAME, GNU_LINK, PAX, PAX_GLOBAL):
            break
        if header.size > LONGEST:
            raise ShardError(f"the extended header at byte {position:,} is longer than {LONGEST:,} bytes")
        data = read_at(descriptor, header.size, begin)
        if len(data) < header.size:
            raise ShardError(f"the shard ends within the header at byte {position:,}")
        if header.kind == GNU_NAME:
            extended["path"] = data.rstrip(b"\0")
        elif header.kind == PAX:
            extended |= dict(_records(data, position))
        position = begin + _padded(header.size)
    name = header.name
    if "path" in extended:
        name = _text(extended["path"])
    if "size" in extended:
        header.size = _decimal(extended["size"], position)
    problem = KINDS.get(header.kind, "")
    stored = header.size if header.kind not in KINDS else 0
    if header.kind == GNU_SPARSE or any(key.startswith("GNU.sparse.") for key in extended):
        problem = "a sparse file"
        while header.kind == GNU_SPARSE and header.sparse:  # further blocks of its map come before its content
            map_block = read_at(descriptor, BLOCK, begin)
            begin += BLOCK
            header.sparse = len(map_block) == BLOCK and map_block[504] != 0
    elif header.kind in REGULAR and name.endswith("/"):
        problem = "a folder"  # as the oldest tars mark one
    elif header.kind not in REGULAR and not problem:
        problem = f"of the unknown kind {ascii(_text(header.kind))}"
    if problem:
        problem = f"the member is {problem}, not a regular file"
    elif _leaves(name):
        problem = "the member's name is absolute, or has `..` in it"
    elif begin + header.size > size:
        problem = "the shard ends inside the member: it is cut off"
    return Entry(stripped(name), first, begin, header.size, problem), begin + _padded(stored)


def _leaves(name: str) -> bool:
    """Return whether a name, taken for a path, would leave the folder that it is in."""
    return name.startswith("/") or ".." in name.split("/")


def _header(block: bytes, position: int) -> _Header:
    """Return what a header block says. ShardError if it is none."""
    if position == 0:
        for magic, how in COMPRESSED.items():
            if block.startswith(magic):
                raise ShardError(f"the shard is compressed ({how}); only uncompressed tar files are read in place")
    if len(block) < BLOCK:
        raise ShardError(f"the shard ends within the header at byte {position:,}: it is cut off")
    if not _is_whole(block):
        what = "this is not a tar file" if position == 0 else f"the header at byte {position:,} is damaged"
        raise ShardError(f"{what}: a wrong checksum")
    name = block[:100].partition(b"\0")[0]
    prefix = block[345:500].partition(b"\0")[0]
    if prefix and block[257:263] == b"ustar\0":  # GNU tar keeps times there
        name = prefix + b"/" + name
    return _Header(_text(name), _number(block[124:136], position), block[156:157], block[482] != 0)


def _is_whole(block: bytes) -> bool:
    """Return whether a header has its own checksum: the sum of its bytes, which some old tars took for signed."""
    stated = block[148:156].replace(b"\0", b" ").strip()
    if not stated or not set(stated) <= set(b"01234567"):
        return False
    spaced = block[:148] + b" " * 8 + block[156:]
    total, checksum = sum(spaced), int(stated, 8)
    return checksum == total or checksum == total - 256 * sum(byte > 127 for byte in spaced)


def _number(raw: bytes, position: int) -> int:
    """Return a size, octal digits or (GNU) 11 bytes after 0x80."""
    if raw[0] == 0x80:
        return int.from_bytes(raw[1:])
    digits = raw.replace(b"\0", b" ").strip()
    if not set(digits) <= set(b"01234567"):
        raise ShardError(f"the header at byte {position:,} is damaged: its size is no number")
    return int(digits or b"0", 8)


def _decimal(raw: bytes, position: int) -> int:
    if not raw.isdigit() or len(raw) > 19:
        raise ShardError(f"the header at byte {position:,} is damaged: its size is no number")
    return int(raw)


def _records(data: bytes, position: int) -> Iterator[tuple[str, bytes]]:
    """Yield (key, value) of an extended pax header, `LENGTH KEY=VALUE\\n` each."""
    begin = 0
    while begin < len(data) and data[begin]:
        length, blank, _ = data[begin : begin + 20].partition(b" ")
        end = begin + int(length) if blank and length.isdigit() else 0
        key, equals, value = data[begin + len(length) + 1 : end - 1].partition(b"=")
        if not begin < end <= len(data) or not equals or data[end - 1 : end] != b"\n":
            raise ShardError(f"the extended header at byte {position:,} is damaged")
        yield _text(key), value
        begin = end


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
