"""Checks a container's time stamps at a few positions, to decide whether they are credible. Reads one file.

Reading all packets of all files would cost far more than a probe. So a few positions of the file are compared: the
clock has to advance evenly enough from one to the next, and index and header have to agree. If they do not,
`pipeline.readers.follow` reads all packets, which is slow but exact. What is checked:

- MPEG program and transport streams, FLV: the stamps at SPOTS positions, evenly spread over the bytes;
- Matroska and WebM: that the file is a single segment, and the times of its index;
- MP4: the clock of every fragment, or the index, also against the header and the size of the file; AVI: the index;
- Ogg and NUT: nothing, their packets are always read, as are those of MP3 and ADTS AAC, whose length FFmpeg guesses
  from the first packets' bit rate; the others (ASF, MXF, RealMedia, DV, other audio alone) are trusted.

Not detected: a recording shorter than 1/SPOTS of an MPEG or FLV file that was inserted in its middle; a leap
ahead that is short compared to the distance of two positions (see `uneven`); one Matroska segment whose clock goes back
between two entries of its index. If a reader then meets a step back, the file fails as `discontinuous`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pipeline.readers.opening import Kind, Media
from pipeline.readers.source import Content

SPOTS = 32
CHUNK = 1 << 14
"""Bytes that are searched for a stamp at a position; if there is none, WIDE bytes are."""
WIDE = 1 << 18
MOST = 64
"""Most entries of an index that are checked, evenly spread."""
ALLOWED = 10.0
"""Seconds that may always lie between two positions."""
USUAL = 4.0
"""Beyond ALLOWED, how many times its expected value the time between two positions may be: bit rates vary."""
BACK = 1.0
AGREEMENT = 1.0
"""By how much (s) an index may contradict a header."""
WRAP = 1 << 33
FLV_TAG = re.compile(rb"[\x08\x09](...)(...)(.)\0\0\0", re.DOTALL)
EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def looks_broken(media: Media, streams: dict[Kind, Any]) -> bool:
    """Return whether the file's bytes suggest a broken clock, so that all packets must be read. Does not seek."""
    size = media.content.size
    formats = media.formats
    if formats & {"mpegts", "mpeg"}:
        return _broken_spots(media.content, size, _mpeg_stamp, "video" in streams)
    if "flv" in formats:
        return _broken_spots(media.content, size, _flv_stamp, False)
    if "matroska" in formats:
        return not _one_segment(media.content, size)
    if "mov" in formats:
        return _broken_fragments(media.content, size, streams)
    return bool(formats & {"ogg", "nut", "mp3", "aac"})


def contradicts_index(media: Media, streams: dict[Kind, Any], ends: dict[Kind, float]) -> bool:
    """Return whether the index contradicts itself, the `ends` (container s) of the streams, or the size of the file."""
    formats = media.formats
    if not formats & {"mov", "avi", "matroska"}:
        return False
    size = media.content.size
    for kind, stream in streams.items():
        entries = stream.index_entries
        count = len(entries)
        if not count:
            if "avi" in formats:
                return True
            continue
        chosen = [entries[i] for i in np.unique(np.linspace(0, count - 1, min(count, MOST)).astype(int)).tolist()]
        times = np.array([entry.timestamp for entry in chosen]) * float(stream.time_base)
        if uneven(times, [entry.pos for entry in chosen]):
            return True
        if "matroska" in formats:
            continue
        if chosen[-1].pos + chosen[-1].size > size:
            return True
        # In fragmented files with an index of fragments FFmpeg knows the first entries only.
        whole = "avi" in formats or stream.frames == count
        step = (times[-1] - times[0]) / max(count - 1, 1)
        if whole and count > 1 and abs(times[-1] + step - ends[kind]) > AGREEMENT + 2 * step:
            return True
    return False


def uneven(times: Sequence[float] | np.ndarray, positions: Sequence[int]) -> bool:
    """Return whether a clock with `times` (s) at ascending `positions` (bytes) steps back or leaps ahead."""
    steps, distances = np.diff(times), np.diff(positions)
    if not len(steps):
        return False
    expected = distances * (float(steps.sum()) / max(int(distances.sum()), 1))
    return bool(steps.min() < -BACK or (steps > ALLOWED + USUAL * expected).any())


def _broken_spots(file: Content, size: int, stamp: Any, video: bool) -> bool:
    """Return whether the clock is uneven over the file, or too few positions have stamps (`video`: video stamps)."""
    times: list[float] = []
    positions: list[int] = []
    wraps, usable = 0.0, 0
    for spot in range(SPOTS + 1):
        for chunk in (CHUNK, WIDE):
            position = max(0, size - chunk) * spot // SPOTS
            ticks, period, is_video = stamp(file.read(chunk, position))
            if ticks is not None:
                break
        else:
            continue
        time = ticks / (90000 if period else 1000)
        if period and times and times[-1] - (time + wraps) > period / 180000:
            wraps += period / 90000
        times.append(time + wraps)
        positions.append(position)
        usable += is_video or not video
    return usable < SPOTS // 2 or uneven(times, positions)


def _mpeg_stamp(data: bytes) -> tuple[int | None, int, bool]:
    """Return the first stamp (90 kHz) of a video packet, else of audio; its clock's period; whether it is of video."""
    for kind in (b"\0\0\1\xe0", b"\0\0\1\xc0", b"\0\0\1\xbd"):
        position = data.find(kind)
        while 0 <= position < len(data) - 40:
            ticks = _pes_stamp(data, position + 6)
            if ticks is not None:
                return ticks, WRAP, kind[3] == 0xE0
            position = data.find(kind, position + 4)
    return None, WRAP, False


def _pes_stamp(data: bytes, position: int) -> int | None:
    """Return the stamp after the length in a PES header (ISO/IEC 13818-1, 2.4.3.6; 11172-1, 2.4.3.3), or None."""
    if data[position] & 0xC0 == 0x80:
        if not data[position + 1] & 0x80:
            return None
        position += 3
    else:
        limit = position + 17
        while data[position] == 0xFF and position < limit:
            position += 1
        if data[position] & 0xC0 == 0x40:
            position += 2
    a, b, c, d, e = data[position : position + 5]
    if a & 0xE1 != 0x21 or not c & e & 1:
        return None
    return (a & 0x0E) << 29 | b << 22 | (c & 0xFE) << 14 | d << 7 | e >> 1


def _flv_stamp(data: bytes) -> tuple[int | None, int, bool]:
    """Return the stamp (ms) of the first tag with a correct length after it, 0, and if it is video (Adobe FLV, E.3)."""
    for match in FLV_TAG.finditer(data):
        length = int.from_bytes(match[1])
        end = match.start() + 11 + length
        if length and int.from_bytes(data[end : end + 4]) == length + 11:
            return int.from_bytes(match[3] + match[2]), 0, data[match.start()] == 9
    return None, 0, False


def _one_segment(file: Content, size: int) -> bool:
    """Return whether a Matroska file is one segment that states its length and ends with the file (RFC 9559, 4.5)."""
    head = file.read(4096, 0)
    if not head.startswith(EBML):
        return False
    length, position = _vint(head, 4)
    position += length or 0
    if head[position : position + 4] != SEGMENT:
        return False
    length, position = _vint(head, position + 4)
    return length is not None and position + length == size


def _vint(data: bytes, position: int) -> tuple[int | None, int]:
    """Return an EBML length (RFC 8794, 4), None if unknown, and the position after it."""
    if position >= len(data) or not data[position]:
        return None, position + 1
    width = 9 - data[position].bit_length()
    value = int.from_bytes(data[position : position + width]) & (1 << 7 * width) - 1
    return (None if value == (1 << 7 * width) - 1 else value), position + width


def _broken_fragments(file: Content, size: int, streams: dict[Kind, Any]) -> bool:
    """Return whether the clocks in an MP4 file's fragments are uneven, or FFmpeg's end of the file cannot be right."""
    clocks: dict[int, list[int]] = {}
    for kind, position, length in _boxes(file, 0, size):
        if kind == b"moof":
            for track, ticks in _decode_times(file.read(min(length, WIDE), position)):
                clocks.setdefault(track, []).append(ticks)
    if not clocks:
        return False
    for stream in streams.values():
        times = [ticks * float(stream.time_base) for ticks in clocks.get(stream.id, ())]
        # FFmpeg counts the duration of a fragmented file that begins late from 0.
        if not times or uneven(times, range(len(times))) or times[0] > AGREEMENT or stream.start_time is None:
            return True
        end = float((stream.start_time + (stream.duration or 0)) * stream.time_base)
        longest = float(np.diff(times).max(initial=ALLOWED))
        if not times[-1] - AGREEMENT < end < times[-1] + longest + ALLOWED:
            return True
    return False


def _boxes(file: Content, position: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, position, length) of the boxes of a file (ISO/IEC 14496-12, 4.2)."""
    while position + 8 <= stop:
        head = file.read(16, position)
        if len(head) < 8:
            return
        length = int.from_bytes(head[:4])
        length = int.from_bytes(head[8:16]) if length == 1 else stop - position if length == 0 else length
        if length < 8:
            return
        yield head[4:8], position, length
        position += length


def _decode_times(moof: bytes) -> Iterator[tuple[int, int]]:
    """Yield (track, decoding time of its first sample) of a fragment's `moof` box (ISO/IEC 14496-12, 8.8.7, 8.8.12)."""
    track, position = -1, 0
    while True:
        header, clock = moof.find(b"tfhd", position), moof.find(b"tfdt", position)
        if clock < 0 or clock + 16 > len(moof):
            return
        if 0 <= header < clock:
            track = int.from_bytes(moof[header + 8 : header + 12])
        yield track, int.from_bytes(moof[clock + 8 : clock + (16 if moof[clock + 4] else 12)])
        position = clock + 4
