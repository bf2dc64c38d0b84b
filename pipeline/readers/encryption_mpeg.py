"""Tells whether MPEG streams are scrambled (ISO/IEC 13818-1). Reads three windows of the file; writes nothing.

Transport streams: scrambling bits of packets or of the PES packets in them, and the stream types of SAMPLE-AES. Program
streams, such as a DVD's: scrambling bits of PES packets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from pipeline.readers.source import Content

WINDOW = 131_072
"""Bytes examined at the beginning, in the middle and at the end of a file: its beginning may be unencrypted."""
SHARE, FEWEST = 0.1, 3
"""The share and number of a stream's packets in one window that must be scrambled; fewer may be damage."""
SAMPLE_AES = (0xC1, 0xC2, 0xCF, 0xDB)
"""Stream types of encrypted AC-3, Enhanced AC-3, AAC and H.264 (Apple, MPEG-2 Stream Encryption Format for HLS)."""


def _windows(file: Content) -> Iterator[bytes]:
    size = file.size
    for start in sorted({0, max(0, size // 2), max(0, size - WINDOW)}):
        yield file.read(WINDOW, start)


def _is_scrambled(scrambled: int, packets: int) -> bool:
    return scrambled >= max(FEWEST, SHARE * packets)


def in_transport_stream(file: Content, stream: Any, streams: list[Any]) -> bool:
    """Return whether packets of a stream are scrambled or its map has an encrypted type. `stream.id` is its PID."""
    for window in _windows(file):
        packets = _packets(window)
        if packets is None:
            continue
        pids = (packets[:, 1].astype(int) & 31) * 256 + packets[:, 2]
        payloads = packets[(pids == stream.id) & (packets[:, 3] & 16 > 0)]
        if _is_scrambled(int((payloads[:, 3] >= 128).sum()), len(payloads)):
            return True
        flags = _pes_flags(payloads)
        if _is_scrambled(int((flags & 0x30 > 0).sum()), len(flags)):
            return True
        if any(_has_sample_aes(packet.tobytes(), stream.id) for packet in packets[packets[:, 1] & 64 > 0]):
            return True
    return False


def _packets(window: bytes) -> np.ndarray | None:
    """Return the transport packets of the window that begin with the sync byte, uint8 [n, 188]; None if none do.

    Packets are 188 bytes long, or 192 with a time code before, or 204 with a checksum behind.
    """
    data = np.frombuffer(window, np.uint8)
    for step in (188, 192, 204):
        count = len(data) // step - 1
        if count < FEWEST:
            return None
        grid = data[: count * step].reshape(count, step) == 0x47
        column = int(grid.sum(0).argmax())
        if grid[:, column].mean() > 0.9:
            rows = data[column : column + count * step].reshape(count, step)[:, :188]
            return np.asarray(rows[rows[:, 0] == 0x47])
    return None


def _pes_flags(packets: np.ndarray) -> np.ndarray:
    """Return the byte with the scrambling bits, uint8 [·], of every PES packet that begins in the packets."""
    begins = packets[packets[:, 1] & 64 > 0]
    # The payload begins after the adaptation field, where there is one.
    start = np.where(begins[:, 3] & 32 > 0, 5 + begins[:, 4].astype(int), 4)
    begins, start = begins[start < 181], start[start < 181]
    head = np.take_along_axis(begins, start[:, None] + np.arange(7), axis=1)
    flags = head[(head[:, :3] == (0, 0, 1)).all(axis=1), 6]
    return np.asarray(flags[(flags & 0xC0) == 0x80])


def _has_sample_aes(packet: bytes, pid: int) -> bool:
    """Return whether the packet has a program map table that gives the stream an encrypted type."""
    position = 4 + (1 + packet[4] if packet[3] & 32 else 0)
    section = packet[position + 1 + packet[position] :] if position < len(packet) else b""
    if packet[3] & 0xC0 or len(section) < 12 or section[0] != 2 or section[1] & 0xF0 != 0xB0:
        return False
    end = 3 + (section[1] & 15) * 256 + section[2] - 4
    position = 12 + (section[10] & 15) * 256 + section[11]
    while position + 5 <= min(end, len(section)):
        if (section[position + 1] & 31) * 256 + section[position + 2] == pid:
            return section[position] in SAMPLE_AES
        position += 5 + (section[position + 3] & 15) * 256 + section[position + 4]
    return False


def in_program_stream(file: Content, stream: Any, streams: list[Any]) -> bool:
    """Return whether PES packets of a program stream are scrambled."""
    # FFmpeg numbers streams by start code (0x1E0, 0x1C0 …); those in private packets (AC-3, DTS) by their content.
    code = stream.id & 0xFF if stream.id >= 0x100 else 0xBD
    pattern = re.compile(b"\0\0\x01" + re.escape(bytes([code])) + b"..[\x80-\xbf]", re.DOTALL)
    for window in _windows(file):
        scrambled = [match[0][6] & 0x30 > 0 for match in pattern.finditer(window)]
        if _is_scrambled(sum(scrambled), len(scrambled)):
            return True
    return False
