"""Reads all packets of a file to find where its clock breaks, and corrects their stamps. Reads one file.

A clock breaks where a stream's stamps go back by more than BACK, or ahead by more than AHEAD (as in FFmpeg's players).
A step back of one stream must have a counterpart in the other one, or the file is `discontinuous`: the two cannot be
aligned. A leap ahead of one stream alone is no break: a frame stays on the screen, or the audio pauses. Steps back of
less than BACK are not detected; the streams are out of sync by at most that much there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import av

from pipeline.readers import MediaError
from pipeline.readers.opening import Kind, Media, ticks_of

KINDS: tuple[Kind, ...] = ("audio", "video")
BACK = 1.0
REORDERED = 4
"""Packets by which stamps may be out of order, whatever their duration."""
AHEAD = 10.0
ALONE = 60.0
"""AHEAD for a file without audio, where one frame may be shown for long."""
APART = 5.0
"""Breaks of audio and video belong together if the lengths of their steps differ by less (s)."""
MAX_PACKETS = 5_000_000
MAX_PIECES = 256


@dataclass(frozen=True)
class Piece:
    """A stretch of a file in which the clock does not break.

    `audio` and `video` are the positions in the file (bytes) of its first packets, -1 where it has none. `shift` is
    added to the container's time (s), less the origin.
    """

    audio: int
    video: int
    shift: float


@dataclass(frozen=True)
class Followed:
    """The pieces of a file, and {kind of stream: its begin and end (presentation s)}."""

    pieces: tuple[Piece, ...]
    spans: dict[Kind, tuple[float, float]]


@dataclass
class _Stretch:
    """Packets of one stream between two breaks. Container seconds; `number` counts the file's packets."""

    number: int
    position: int
    begin: float
    end: float
    held: float
    """The end, if packets with a duration above AHEAD get that of the packet before them."""
    latest: float
    decoded: float
    """The latest stamp of presentation, and of decoding."""
    step: float
    """By how much the clock leapt from the end of the previous stretch."""


def follow(media: Media, streams: dict[Kind, Any]) -> Followed:
    """Read all packets of {kind: stream}; the file must be at its beginning.

    Raises MediaError: discontinuous, unreadable (more than MAX_PACKETS packets).
    """
    stretches, last = _stretches(media, streams)
    pieces = _joined(stretches, last)
    spans = {}
    for kind in stretches:
        own = [(piece.shift - media.origin, parts[kind]) for piece, parts in pieces if kind in parts]
        ends = [shift + (stretch.held if len(pieces) > 1 else stretch.end) for shift, stretch in own]
        spans[kind] = (min(shift + stretch.begin for shift, stretch in own), max(ends))
    return Followed(tuple(piece for piece, _ in pieces), spans)


def _stretches(media: Media, streams: dict[Kind, Any]) -> tuple[dict[Kind, list[_Stretch]], dict[Kind, int]]:
    """Return the stretches of each stream, and the number of its last packet."""
    kinds = {stream.index: kind for kind, stream in streams.items()}
    ahead = AHEAD if "audio" in streams else ALONE
    stretches: dict[Kind, list[_Stretch]] = {}
    last: dict[Kind, int] = {}
    usual: dict[Kind, float] = {}
    position, size = 0, media.content.size
    for number, packet in enumerate(media.container.demux(*streams.values())):
        if number > MAX_PACKETS:
            raise MediaError("unreadable", f"the file has more than {MAX_PACKETS} packets")
        shown = ticks_of(packet)
        if shown is None or not packet.size or is_cut(packet, size):
            continue
        kind, base = kinds[packet.stream_index], packet.time_base
        begin = float(shown * base)
        decoded = begin if packet.dts is None else float(packet.dts * base)
        duration = float((packet.duration or 0) * base)
        usual[kind] = duration if duration < ahead else usual.get(kind, 0.0)
        end, held = begin + duration, begin + usual[kind]
        position = position if packet.pos is None else packet.pos
        own = stretches.setdefault(kind, [])
        current = own[-1] if own else None
        last[kind] = number
        if (
            current is None
            or begin > current.latest + ahead
            or _back(current.latest, current.decoded, begin, decoded, duration)
        ):
            step = 0.0 if current is None else begin - current.held
            own.append(_Stretch(number, position, begin, end, held, begin, decoded, step))
            if len(own) > MAX_PIECES:
                raise MediaError("discontinuous", f"the clock breaks more than {MAX_PIECES} times")
        elif not packet.is_discard or len(own) > 1:  # others are cut away by an edit list
            current.begin, current.latest = min(current.begin, begin), max(current.latest, begin)
            current.decoded = max(current.decoded, decoded)
            current.end, current.held = max(current.end, end), max(current.held, held)
    return stretches, last


def is_cut(packet: Any, size: int) -> bool:
    """Return whether the file, of `size` bytes, ends within the packet."""
    return bool(packet.is_corrupt) or (packet.pos or 0) + packet.size > size


def _back(latest: float, latest_decoded: float, shown: float, decoded: float, duration: float) -> bool:
    """Return whether a packet's stamps (s) step back from the latest ones.

    Frames are stored in decoding order, so presentation stamps are out of order by a few frames; so are decoding stamps
    where FFmpeg generates them (Matroska has none).
    """
    return max(shown - latest, decoded - latest_decoded) < -max(BACK, REORDERED * duration)


def unbroken(packets: Iterable[Any]) -> Iterator[Any]:
    """Yield the packets of one stream of a file without known breaks.

    Raises MediaError: discontinuous (the clock steps back nevertheless).
    """
    latest = latest_decoded = -math.inf
    for packet in packets:
        ticks = ticks_of(packet)
        if ticks is not None and packet.size:
            base = float(packet.time_base)
            shown, decoded = ticks * base, (ticks if packet.dts is None else packet.dts) * base
            if _back(latest, latest_decoded, shown, decoded, (packet.duration or 0) * base):
                raise MediaError("discontinuous", f"the clock steps back from {latest:.1f} s to {shown:.1f} s")
            latest, latest_decoded = max(latest, shown), max(latest_decoded, decoded)
        yield packet


def _joined(stretches: dict[Kind, list[_Stretch]], last: dict[Kind, int]) -> list[tuple[Piece, dict[Kind, _Stretch]]]:
    """Return the pieces with the stretches that they consist of, in order. Raises MediaError: discontinuous."""
    parts = {kind: own[0] for kind, own in stretches.items()}
    waiting = {kind: own[1:] for kind, own in stretches.items()}
    pieces = [(_piece(parts, 0.0), parts)]
    while any(waiting.values()):
        heads = {kind: own[0] for kind, own in waiting.items() if own}
        if len(heads) == 2 and abs(heads["audio"].step - heads["video"].step) > APART:
            first = min(heads, key=lambda kind: heads[kind].number)
            heads = {first: heads[first]}
        for kind in heads:
            waiting[kind].pop(0)
        parts = pieces[-1][1]
        if len(heads) < len(stretches):
            ((kind, head),) = heads.items()
            others_go_on = any(number > head.number for other, number in last.items() if other != kind)
            if others_go_on and head.step > 0:  # no break of the clock: this stream pauses
                if kind in parts:
                    parts[kind].end = max(parts[kind].end, head.end)
                    parts[kind].held = max(parts[kind].held, head.held)
                continue
            if others_go_on:
                raise MediaError(
                    "discontinuous",
                    f"the clock of the {kind} steps back by {-head.step:.1f} s and that of the other stream does not",
                )
        both = heads.keys() & parts.keys()
        shift = pieces[-1][0].shift + (max(parts[kind].held - heads[kind].begin for kind in both) if both else 0.0)
        pieces.append((_piece(heads, shift), heads))
    return pieces


def _piece(parts: dict[Kind, _Stretch], shift: float) -> Piece:
    audio, video = (parts[kind].position if kind in parts else -1 for kind in KINDS)
    return Piece(audio, video, shift)


def continued(media: Media, stream: Any, pieces: tuple[Piece, ...]) -> Iterator[Any]:
    """Yield the packets of a stream from the file's beginning, their stamps shifted by those of their pieces.

    The file must be at its beginning. The stamps stay in the stream's time base, relative to `media.origin`.
    """
    first = [piece.audio if stream.type == "audio" else piece.video for piece in pieces]
    starts = [(position, piece.shift) for position, piece in zip(first, pieces, strict=True) if position >= 0]
    current = 0
    for packet in media.container.demux(stream):
        if packet.pos is not None:
            while current + 1 < len(starts) and packet.pos >= starts[current + 1][0]:
                current += 1
        if packet.is_discard and current:
            # FFmpeg discards an MP4 fragment whose clock steps back, up to the time before the step.
            packet = _kept(packet, stream)
        ticks = round(starts[current][1] / stream.time_base) if starts else 0
        if packet.pts is not None:
            packet.pts += ticks
        if packet.dts is not None:
            packet.dts += ticks
        yield packet


def _kept(packet: Any, stream: Any) -> Any:
    """Return a copy of a packet that the decoder does not discard."""
    copy = av.Packet(bytes(packet))
    copy.stream, copy.time_base, copy.is_keyframe = stream, packet.time_base, packet.is_keyframe
    copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration
    return copy
