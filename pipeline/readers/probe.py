"""What is in a media file: streams, codecs and how many seconds they all cover. Reads one file; writes nothing.

Durations come from the container where it says one for each stream. Where it does not (Matroska and WebM say at most
one for the whole file), the last packets are looked at; nothing is decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import av

from pipeline.readers import MediaError
from pipeline.readers.opening import Media, open_media, reported_as

TAILS = (10.0, 120.0)
MAX_PACKETS = 5_000_000


@dataclass(frozen=True)
class MediaInfo:
    """Facts of a file. Codec names are FFmpeg's ("h264", "opus", "unknown"); sizes are as stored, before rotation."""

    duration: float
    """Seconds that all present streams of sound and pictures cover, from t = 0."""
    has_audio: bool
    has_video: bool
    audio_codec: str | None
    video_codec: str | None
    width: int | None
    height: int | None
    fps: float | None
    """Average frame rate where the container knows one."""


def probe(path: str) -> MediaInfo:
    """Facts of the file at `path`. Raises MediaError (missing, unreadable)."""
    with open_media(path) as media, reported_as("unreadable"):
        audio, video = media.best("audio"), media.best("video")
        streams = [s for s in (audio, video) if s is not None]
        if not streams:
            raise MediaError("unreadable", "the file has neither sound nor pictures")
        picture = video.codec_context if video is not None else None
        rate = (video.average_rate or video.guessed_rate) if video is not None else None
        return MediaInfo(
            duration=max(0.0, min(_ends(path, media, streams)) - media.origin),
            has_audio=audio is not None,
            has_video=video is not None,
            audio_codec=_codec(audio),
            video_codec=_codec(video),
            width=picture.width if picture else None,
            height=picture.height if picture else None,
            fps=float(rate) if rate else None,
        )


def _codec(stream: Any | None) -> str | None:
    if stream is None:
        return None
    return stream.codec_context.codec.canonical_name if stream.codec_context else "unknown"


def _ends(path: str, media: Media, streams: list[Any]) -> list[float]:
    """The end of each stream in container seconds."""
    ends = {s.index: float((s.start_time + s.duration) * s.time_base) for s in streams if _says_duration(s)}
    unknown = [s for s in streams if s.index not in ends]
    if unknown:
        ends |= _measured(path, media, unknown)
    return list(ends.values())


def _says_duration(stream: Any) -> bool:
    return stream.start_time is not None and bool(stream.duration) and stream.duration > 0


def _measured(path: str, media: Media, streams: list[Any]) -> dict[int, float]:
    """Ends of the streams from their last packets: near the end of the file first, then all of it."""
    wanted = {s.index for s in streams}
    length = media.container.duration or 0
    for tail in TAILS if length else ():
        try:
            media.container.seek(max(0, length - round(tail * av.time_base)))
            found = _last(media, wanted)
        except (av.error.FFmpegError, OSError):
            break  # not seekable
        if set(found) == wanted:
            return found
    with open_media(path) as fresh:
        found = _last(fresh, wanted)
    for stream in streams:
        if stream.index not in found:
            raise MediaError("unreadable", f"the {stream.type} stream is empty")
    return found


def _last(media: Media, wanted: set[int]) -> dict[int, float]:
    ends: dict[int, float] = {}
    streams = [s for s in media.container.streams if s.index in wanted]
    for count, packet in enumerate(media.container.demux(*streams)):
        if count > MAX_PACKETS:
            raise MediaError("unreadable", f"the container gives no duration and has more than {MAX_PACKETS} packets")
        ticks = packet.pts if packet.pts is not None else packet.dts
        if ticks is not None:
            end = float((ticks + (packet.duration or 0)) * packet.time_base)
            ends[packet.stream_index] = max(end, ends.get(packet.stream_index, end))
    return ends
