"""Tar shards for tests, written by Python's tarfile."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path


def write_shard(path: Path, members: Mapping[str, bytes], format: int = tarfile.USTAR_FORMAT) -> str:
    """Write regular members in this order; return the path as text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format, encoding="utf-8", errors="surrogateescape") as tar:
        for name, data in members.items():
            add(tar, name, data)
    return str(path)


def add(tar: tarfile.TarFile, name: str, data: bytes = b"", **header: object) -> None:
    """Add a member; `header` are attributes of TarInfo."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for key, value in header.items():
        setattr(member, key, value)
    tar.addfile(member, io.BytesIO(data))
