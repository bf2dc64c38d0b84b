"""Where a video is, read from the text that a table's `path` has: a file, a member of a tar shard, or an address.

    clips/a.mp4                      a file
    shards/000012.tar::a/b.mp4       the member `a/b.mp4` of a tar file (a shard of WebDataset's layout)
    https://host:8443/a.mp4?x=1      an address; also http:// and s3://bucket/key

Asks the system only whether there is a file whose whole name looks like a member's; opens nothing. Which addresses may
be read is not decided here: that is `decoding.remote`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from config.hosts import check_bucket, host_and_port

INSIDE = ".tar::"
"""The end of a shard's name and what separates it from the member's; the first one counts."""
SCHEMES = ("https", "http", "s3")
ADDRESSES = tuple(f"{scheme}://" for scheme in SCHEMES)
"""How the text of an address begins, as the manifest has it."""
_INSIDE = re.compile(re.escape(INSIDE), re.IGNORECASE)  # `lower` would move places: it makes two letters of `İ`
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_ESCAPES = re.compile(r"([^%]|%[0-9A-Fa-f]{2})*")


@dataclass(frozen=True)
class File:
    """A file of its own."""

    path: str

    @property
    def local(self) -> str:
        """The file of this machine that has the bytes."""
        return self.path

    @property
    def name(self) -> str:
        """What the video's file is called; its suffix says which kind it is."""
        return self.path

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True)
class Member:
    """A member of a tar file: `name` as its header has it, without `./` at the beginning."""

    shard: str
    name: str

    @property
    def local(self) -> str:
        """The file of this machine that has the bytes."""
        return self.shard

    def __str__(self) -> str:
        return f"{self.shard}::{self.name}"


@dataclass(frozen=True)
class Address:
    """An address. The parts are as written, but scheme and host are in lower case."""

    scheme: str
    host: str
    """Host name, IPv4 address, IPv6 address without brackets, or the bucket of s3."""
    port: int | None
    target: str
    """https: path and query, from the slash on, escaped as written. s3: the key, without a slash before it."""

    @property
    def local(self) -> None:
        """No file of this machine has the bytes."""
        return None

    @property
    def name(self) -> str:
        """What the video's file is called; its suffix says which kind it is."""
        return self.target if self.scheme == "s3" else self.target.partition("?")[0]

    def __str__(self) -> str:
        if self.scheme == "s3":
            return f"s3://{self.host}/{self.target}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}{'' if self.port is None else f':{self.port}'}{self.target}"


Place = File | Member | Address


def parse(text: str, exists: Callable[[str], bool] = os.path.lexists) -> Place:
    """Return the place that a text means. `exists` says whether there is a file of exactly this name.

    Raises ValueError, saying what is wrong, for an address that is malformed or of another scheme than SCHEMES.
    """
    if (match := _SCHEME.match(text)) is not None:
        return _address(match[1].lower(), text[match.end() :])
    inside = _INSIDE.search(text)
    if inside is None or exists(text):
        return File(text)
    return Member(text[: inside.end() - len("::")], stripped(text[inside.end() :]))


def shown(text: str) -> str:
    """Return a text for an error; of an address without what may be secret: user name, password, parameters."""
    if (match := _SCHEME.match(text)) is None:
        return text[:200]
    address = re.split(r"[?#]", text, maxsplit=1)[0]
    return f"{match[0]}…" if "@" in address else address[:200] + ("…" if address != text else "")


def stripped(name: str) -> str:
    """Return a member's name without `./` at the beginning, which some archivers write and others do not."""
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return name


def joined(base: str, text: str, exists: Callable[[str], bool] = os.path.lexists) -> str:
    """Return the text of a place whose relative path begins at the folder `base`, without `.` and doubled slashes.

    `..` stays: behind a link it is another folder. An address is returned in one spelling. ValueError as in `parse`.
    """
    if _SCHEME.match(text):
        return str(parse(text))
    place = parse(os.path.join(base, text), exists)
    if isinstance(place, Member):
        return f"{_plain(place.shard)}::{place.name}"
    return _plain(str(place))


def _plain(path: str) -> str:
    return str(Path(path)) if "/." in path or "//" in path or path.endswith("/") else path


def _address(scheme: str, rest: str) -> Address:
    if scheme not in SCHEMES:
        raise ValueError(f"the protocol '{scheme}' is not one of {', '.join(SCHEMES)}")
    if INSIDE in rest.lower():
        raise ValueError("a member of a tar file is only read from a local shard")
    if any(ord(character) < 32 or ord(character) == 127 for character in rest):
        raise ValueError("the address has control characters")
    if scheme == "s3":
        bucket, _, key = rest.partition("/")
        if "@" in bucket:
            raise ValueError("the address has a user name or a key before the bucket")
        check_bucket(bucket)
        if not key:
            raise ValueError("the address names no object in the bucket")
        return Address(scheme, bucket, None, key)
    if not rest.isascii():
        raise ValueError("the address is not ASCII; write the host as xn--… and escape other letters of the path")
    if any(character in rest for character in '\\ "<>^`{|}'):
        raise ValueError("the address has a blank, a backslash or another character that has to be escaped")
    if "#" in rest:
        raise ValueError("the address has a fragment (#…); a # in a path is written %23")
    end = min((position for mark in "/?" if (position := rest.find(mark)) >= 0), default=len(rest))
    authority, target = rest[:end], rest[end:]
    if "@" in authority:
        raise ValueError("the address has a user name or a password")
    host, port = host_and_port(authority)
    if not target.startswith("/") or target == "/":
        raise ValueError("the address names no file on the host")
    if not _ESCAPES.fullmatch(target):
        raise ValueError("the address has a % without two hexadecimal digits after it")
    return Address(scheme, host, port, target)
