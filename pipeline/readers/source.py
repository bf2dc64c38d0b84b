"""What the readers open: a file, or a stretch of a file that is a media file of its own. Reads files; writes nothing.

A member of a tar shard is such a stretch. FFmpeg's `subfile` protocol reads it in place; the modules that look at a
file's bytes themselves do so through a Content, whose positions count from the stretch's beginning as FFmpeg's do.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from pipeline.readers import MediaError


@dataclass(frozen=True)
class Span:
    """`size` bytes of the file at `path`, from the byte `begin` on."""

    path: str
    begin: int
    size: int


Source = str | Span
"""A path, or a stretch of the file at a path."""


@dataclass(frozen=True)
class Content:
    """The bytes of an open source; positions count from its beginning."""

    descriptor: int
    """The file descriptor under it."""
    begin: int
    """Where the source begins in the file (bytes)."""
    size: int
    whole: bool
    """Whether it is all of the file."""

    def read(self, count: int, position: int) -> bytes:
        """Return up to `count` bytes from `position` on; fewer where the source ends, none outside of it.

        Raises MediaError `unreadable` where the file system reports an error.
        """
        if not 0 <= position < self.size:
            return b""
        try:
            return os.pread(self.descriptor, min(count, self.size - position), self.begin + position)
        except OSError as error:
            raise MediaError("unreadable", f"the file cannot be read: {error.strerror}") from None
