"""The boxes of MP4 and QuickTime files (ISO/IEC 14496-12). Reads their headers; writes nothing.

All loops are bounded, because the file may be malicious.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.readers.source import Content

MOST = 2000
"""Most boxes, elements or tags that are read."""


def boxes(file: Content, position: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, start of the content, end) of each box from `position` on."""
    for _ in range(MOST):
        head = file.read(16, position)
        if position + 8 > stop or len(head) < 8:
            return
        size, begin = int.from_bytes(head[:4], "big"), position + 8
        if size == 1:
            size, begin = int.from_bytes(head[8:16], "big"), position + 16
        end = stop if size == 0 else position + size
        if end < begin:
            return
        yield head[4:8], begin, min(end, stop)
        position = end


def inside(file: Content, position: int, stop: int, kind: bytes) -> Iterator[tuple[int, int]]:
    """Yield (start of the content, end) of each box of a kind from `position` on."""
    return ((begin, end) for type_, begin, end in boxes(file, position, stop) if type_ == kind)


def first_box(file: Content, box: tuple[int, int] | None, *kinds: bytes) -> tuple[int, int] | None:
    """Return the first box at this path inside `box`, or None."""
    for kind in kinds:
        if box is not None:
            box = next(inside(file, *box, kind), None)
    return box


def is_fragmented(file: Content) -> bool:
    """Return whether the frames of an MP4 file are listed in fragments all over the file (a `mvex` box says so)."""
    return first_box(file, (0, file.size), b"moov", b"mvex") is not None
