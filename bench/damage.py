"""Damaged media files made from good ones, the same for the same seed. Reads and writes nothing.

Each function of DAMAGES takes the bytes of a good file and a random generator, and gives damaged bytes. Those that know
boxes (ISO/IEC 14496-12) fall back to flipped bytes for other containers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

Rng = np.random.Generator
PARENTS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf"}
EXTREME = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1_000_000_000)


def boxes(data: bytes, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, int, bytes]]:
    """Yield (offset, size, type) of the boxes in data[start:stop] and, depth first, of those inside them."""
    stop = len(data) if stop is None else stop
    while start + 8 <= stop:
        size, kind = int.from_bytes(data[start : start + 4]), data[start + 4 : start + 8]
        if size < 8 or start + size > stop:
            return
        yield start, size, kind
        if kind in PARENTS:
            yield from boxes(data, start + 8, start + size)
        start += size


def truncated(data: bytes, rng: Rng) -> bytes:
    """Return the beginning only."""
    return data[: int(rng.integers(1, len(data)))]


def flipped(data: bytes, rng: Rng) -> bytes:
    """Change 1 to 1,000 bytes, anywhere."""
    out = np.frombuffer(data, np.uint8).copy()
    where = rng.integers(0, len(out), int(10 ** rng.uniform(0, 3)))
    out[where] ^= rng.integers(1, 256, len(where), np.uint8)
    return out.tobytes()


def flipped_header(data: bytes, rng: Rng) -> bytes:
    """Change 1 to 30 bytes where the header is: in `moov`, or in the first kilobytes."""
    first, size = next(
        ((start, length) for start, length, kind in boxes(data) if kind == b"moov"), (0, min(len(data), 4096))
    )
    out = np.frombuffer(data, np.uint8).copy()
    where = first + rng.integers(0, size, int(rng.integers(1, 31)))
    out[where] ^= rng.integers(1, 256, len(where), np.uint8)
    return out.tobytes()


def _any_box(data: bytes, rng: Rng) -> tuple[int, int] | None:
    spans = [(start, size) for start, size, _ in boxes(data)]
    return spans[int(rng.integers(len(spans)))] if len(spans) > 3 else None


def removed_atom(data: bytes, rng: Rng) -> bytes:
    """Leave one box out; the sizes of the boxes around it stay as they were."""
    box = _any_box(data, rng)
    return flipped(data, rng) if box is None else data[: box[0]] + data[sum(box) :]


def doubled_atom(data: bytes, rng: Rng) -> bytes:
    """Repeat one box."""
    box = _any_box(data, rng)
    return flipped(data, rng) if box is None else data[: sum(box)] + data[box[0] :]


def swapped_atoms(data: bytes, rng: Rng) -> bytes:
    """Exchange two boxes."""
    (first, size), (second, other_size) = sorted((_any_box(data, rng) or (0, 0), _any_box(data, rng) or (0, 0)))
    first_end, second_end = first + size, second + other_size
    if size == 0 or second < first_end:  # not boxes, or one inside the other
        return flipped(data, rng)
    return data[:first] + data[second:second_end] + data[first_end:second] + data[first:first_end] + data[second_end:]


def wrong_length(data: bytes, rng: Rng) -> bytes:
    """Give a box a size that is not its own."""
    box = _any_box(data, rng)
    if box is None:
        return flipped_header(data, rng)
    size = int(rng.choice([*EXTREME, box[1] - 1, box[1] + 1, box[1] * 2, 8]))
    return data[: box[0]] + size.to_bytes(4) + data[box[0] + 4 :]


def extreme_number(data: bytes, rng: Rng) -> bytes:
    """Replace a number in one of the header's tables by an extreme one: counts, offsets, durations, dimensions."""
    leaves = [
        (start, size) for start, size, kind in boxes(data) if kind not in PARENTS | {b"mdat", b"ftyp"} and size >= 16
    ]
    start, size = leaves[int(rng.integers(len(leaves)))] if leaves else (0, min(len(data), 1024))
    where = start + 8 + 4 * int(rng.integers((size - 8) // 4))
    return data[:where] + int(rng.choice(EXTREME)).to_bytes(4) + data[where + 4 :]


def garbage(data: bytes, rng: Rng) -> bytes:
    """Return random bytes, half of the time behind the good file's first kilobyte."""
    return data[: int(rng.choice([0, 1024]))] + rng.bytes(int(rng.integers(1, 100_000)))


def zeros(data: bytes, rng: Rng) -> bytes:
    """Write up to 64 KiB of zeros somewhere, as a download that was preallocated and never finished has."""
    start, length = int(rng.integers(len(data))), int(2 ** rng.uniform(4, 16))
    return data[:start] + bytes(min(length, len(data) - start)) + data[start + length :]


def cut_out(data: bytes, rng: Rng) -> bytes:
    """Leave a piece from the middle out."""
    first, stop = sorted(map(int, rng.integers(0, len(data), 2)))
    return data[:first] + data[stop:]


def inserted(data: bytes, rng: Rng) -> bytes:
    """Insert random bytes somewhere."""
    start = int(rng.integers(len(data)))
    return data[:start] + rng.bytes(int(2 ** rng.uniform(0, 14))) + data[start:]


def all_zero(data: bytes, rng: Rng) -> bytes:
    """Return nothing but zeros, or nothing at all."""
    return bytes(int(rng.choice([0, 1, 1000, len(data)])))


DAMAGES: dict[str, Callable[[bytes, Rng], bytes]] = {
    function.__name__: function
    for function in (
        truncated, flipped, flipped_header, removed_atom, doubled_atom, swapped_atoms, wrong_length,
        extreme_number, garbage, zeros, cut_out, inserted, all_zero,
    )
}  # fmt: skip


def damaged(good: list[bytes], count: int, seed: int) -> Iterator[tuple[str, int, bytes]]:
    """Yield `count` times (kind, number of the good file, damaged bytes), the kinds and files in turn."""
    kinds = list(DAMAGES)
    for number in range(count):
        kind, index = kinds[number % len(kinds)], number // len(kinds) % len(good)
        yield kind, index, DAMAGES[kind](good[index], np.random.default_rng([seed, number]))
