"""Tells from a container's headers whether a stream is encrypted. Reads a few kilobytes of the file; writes nothing.

A decoder treats encrypted bytes as audio or video: most codecs then report damage, but PCM silently becomes noise.
FFmpeg opens such files without a warning, so the containers' marks of encryption are read here:

- MP4, QuickTime: sample descriptions `enca`, `encv` or with a `sinf` box (ISO/IEC 14496-12 and 23001-7, Common
  Encryption), Apple's `drms`, `drmi`, Audible's `aavd`.
- Matroska, WebM: ContentEncodings of type encryption (RFC 9559, section 5.1.4.1.31).
- MPEG transport and program streams: readers/encryption_mpeg.py.
- ASF: encryption objects and the stream's flag; FLV: the filter bit of tags; MXF: cryptographic metadata (SMPTE 429-6).

All loops are bounded, because the file may be malicious. What does not parse counts as not encrypted and is left to
FFmpeg.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pipeline.readers.boxes import MOST, first_box, inside
from pipeline.readers.encryption_mpeg import in_program_stream, in_transport_stream
from pipeline.readers.source import Content

CHUNK = 65_536
"""Most bytes of a sample description or of a header that are read."""

PROTECTED = (b"enca", b"encv", b"drms", b"drmi", b"aavd")
MKV_SEGMENT, MKV_CLUSTER, MKV_TRACKS, MKV_TRACK, MKV_TYPE = 0x18538067, 0x1F43B675, 0x1654AE6B, 0xAE, 0x83
MKV_ENCODINGS, MKV_ENCODING, MKV_ENCODING_TYPE, MKV_ENCRYPTION = 0x6D80, 0x6240, 0x5033, 0x5035
MKV_KINDS = {"video": 1, "audio": 2}
ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
ASF_STREAM = bytes.fromhex("9107dcb7b7a9cf118ee600c00c205365")
ASF_ENCRYPTION = tuple(
    bytes.fromhex(guid)
    for guid in (
        "fbb3112223bdd211b4b700a0c955fc6e",
        "14e68a292226174cb935dae07ee9289c",
        "338505438169e6499b74ad12cb86d58c",
    )
)
"""Content Encryption, Extended Content Encryption and Advanced Content Encryption Object."""
FLV_KINDS = {"audio": 8, "video": 9}
MXF_ESSENCE = bytes.fromhex("0d010301")
MXF_ENCRYPTED = (bytes.fromhex("0d010301027e01"), bytes.fromhex("0d010401020200"))
"""An encrypted triplet; a cryptographic context."""


def is_encrypted(file: Content, format: str, stream: Any, streams: list[Any]) -> bool:
    """Return whether the container marks a (PyAV) stream as encrypted, or some of the stream's content.

    `format` is FFmpeg's name of the container, `streams` are all its streams in order.
    """
    check = _CHECKS.get(format.split(",")[0])
    return check is not None and check(file, stream, streams)


def _integer(file: Content, position: int, size: int, order: Any = "big") -> int:
    return int.from_bytes(file.read(size, position), order)


# MP4 and QuickTime


def _mp4(file: Content, stream: Any, streams: list[Any]) -> bool:
    for begin, end in inside(file, 0, file.size, b"moov"):
        for track in inside(file, begin, end, b"trak"):
            if _track_id(file, track) != stream.id:
                continue
            box = first_box(file, track, b"mdia", b"minf", b"stbl", b"stsd")
            return box is not None and _protected(file.read(min(CHUNK, box[1] - box[0]), box[0]))
        return False  # FFmpeg reads the first movie box
    return False


def _track_id(file: Content, track: tuple[int, int]) -> int | None:
    head = first_box(file, track, b"tkhd")
    if head is None:
        return None
    return _integer(file, head[0] + (20 if _integer(file, head[0], 1) else 12), 4)


def _protected(descriptions: bytes) -> bool:
    """Return whether one of the sample descriptions (the content of an `stsd` box) is of encrypted samples."""
    position = 8
    while position + 8 <= len(descriptions):
        size = int.from_bytes(descriptions[position : position + 4], "big")
        entry = descriptions[position : position + max(size, 8)]
        if entry[4:8] in PROTECTED or (b"sinf" in entry and b"schm" in entry):
            return True
        position += max(size, 8)
    return False


# Matroska and WebM


def _matroska(file: Content, stream: Any, streams: list[Any]) -> bool:
    if "enc_key_id" in stream.metadata:  # FFmpeg's name of a track's key
        return True
    of_type = [other.index for other in streams if other.type == stream.type]
    kind, number = MKV_KINDS[stream.type], of_type.index(stream.index)
    for identity, begin, end in _elements(file, 0, file.size):
        if identity == MKV_SEGMENT:
            for part, first, last in _elements(file, begin, end):
                if part == MKV_TRACKS:
                    tracks = [element[1:] for element in _elements(file, first, last) if element[0] == MKV_TRACK]
                    tracks = [track for track in tracks if _value(file, track, MKV_TYPE) == kind]
                    return number < len(tracks) and _has_encryption(file, tracks[number])
                if part == MKV_CLUSTER:
                    break
    return False


def _elements(file: Content, position: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yield (identity, start of the content, end) of each EBML element (RFC 8794)."""
    for _ in range(MOST):
        head = file.read(12, position)
        if position >= stop or len(head) < 2 or not head[0]:
            return
        width = 9 - head[0].bit_length()
        if width > 4 or len(head) <= width or not head[width]:
            return
        length = 9 - head[width].bit_length()
        size = int.from_bytes(head[width : width + length], "big") & ((1 << 7 * length) - 1)
        begin = position + width + length
        # All ones: as long as the enclosing element.
        end = stop if size == (1 << 7 * length) - 1 else min(begin + size, stop)
        yield int.from_bytes(head[:width], "big"), begin, end
        position = end


def _value(file: Content, element: tuple[int, int], identity: int) -> int | None:
    """Return the number in the first child of that identity, or None."""
    for child, begin, end in _elements(file, *element):
        if child == identity:
            return _integer(file, begin, min(8, end - begin))
    return None


def _has_encryption(file: Content, track: tuple[int, int]) -> bool:
    for child, begin, end in _elements(file, *track):
        if child == MKV_ENCODINGS:
            for inner, first, last in _elements(file, begin, end):
                parts = [part for part, _, _ in _elements(file, first, last)]
                if inner == MKV_ENCODING and (
                    MKV_ENCRYPTION in parts or _value(file, (first, last), MKV_ENCODING_TYPE) == 1
                ):
                    return True
    return False


# ASF, FLV, MXF


def _asf(file: Content, stream: Any, streams: list[Any]) -> bool:
    header = file.read(CHUNK, 0)
    end = min(len(header), int.from_bytes(header[16:24], "little")) if header.startswith(ASF_HEADER) else 0
    position = 30
    while position + 24 <= end:
        kind, size = header[position : position + 16], int.from_bytes(header[position + 16 : position + 24], "little")
        flags = int.from_bytes(header[position + 72 : position + 74], "little")
        encrypted = kind == ASF_STREAM and flags & 0x7F == stream.id and flags & 0x8000
        if kind in ASF_ENCRYPTION or encrypted:
            return True
        position += max(size, 24)
    return False


def _flv(file: Content, stream: Any, streams: list[Any]) -> bool:
    position = _integer(file, 5, 4) + 4
    for _ in range(100):
        head = file.read(4, position)
        if len(head) < 4:
            break
        if head[0] & 0x1F == FLV_KINDS[stream.type]:
            return bool(head[0] & 0x20)
        position += 15 + int.from_bytes(head[1:], "big")
    return False


def _mxf(file: Content, stream: Any, streams: list[Any]) -> bool:
    position = 0
    for _ in range(MOST):
        head = file.read(25, position)
        if len(head) < 17 or head[:4] != b"\x06\x0e\x2b\x34":
            break
        if head[8:].startswith(MXF_ENCRYPTED):
            return True
        if head[8:].startswith(MXF_ESSENCE):
            break
        more = head[16] & 0x7F if head[16] & 0x80 else 0
        size = int.from_bytes(head[17 : 17 + more], "big") if more else head[16]
        position += 17 + more + size
    return False


_CHECKS: dict[str, Callable[[Content, Any, list[Any]], bool]] = {
    "mov": _mp4,
    "matroska": _matroska,
    "mpegts": in_transport_stream,
    "mpeg": in_program_stream,
    "asf": _asf,
    "flv": _flv,
    "mxf": _mxf,
}
