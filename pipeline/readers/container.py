"""What a media file contains: streams, codecs and how many seconds they all cover. Reads one file; writes nothing.

Durations come from the container if it states a credible one for each stream. If it states none (Matroska and WebM have
at most one for the whole file), the last packets are read; if it is not credible, all packets are
(`pipeline.readers.timeline`). Nothing is decoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.readers import MediaError
from pipeline.readers.follow import KINDS
from pipeline.readers.opening import Kind, open_media, reported_as
from pipeline.readers.source import Source
from pipeline.readers.timeline import is_plain, survey


@dataclass(frozen=True)
class MediaInfo:
    """Facts of a file. Codec names are FFmpeg's ("h264", "opus", "unknown"); sizes are as stored, before rotation."""

    duration: float
    """Seconds that all present audio and video streams cover, from t = 0."""
    has_audio: bool
    has_video: bool
    audio_codec: str | None
    video_codec: str | None
    width: int | None
    height: int | None
    fps: float | None
    """Average frame rate, if the container states one."""
    begin: float = 0.0
    """Start (s) of the content that all streams cover; 0 unless the file's stamps had to be corrected, or its audio is
    another file."""
    timeline: tuple[float, ...] = ()
    """What both readers need to correct the stamps (`Timeline.numbers`); empty if the file's own clock is right."""
    starts: tuple[float, ...] = ()
    """Where segments begin (s), if the probe was asked for keyframes (`pipeline.readers.keyframes.probe`)."""
    at_keyframes: int = 0
    """How many of them begin at a keyframe; the others at random."""


def probe(path: Source, audio_path: Source | None = None, audio_offset: float = 0.0) -> MediaInfo:
    """Return the facts of the file at `path`. Raises MediaError (missing, unreadable, discontinuous).

    With `audio_path` the audio is that of this file, and that of `path` does not count. The video begins at its second
    `audio_offset`, which may be negative; `begin` and `duration` then are where both have content, on the video's
    clock. Raises MediaError also if one of them has no such stream (no_video_stream, no_audio_stream).
    """
    if audio_path is None:
        return _facts(path, KINDS)
    try:
        sound = _facts(audio_path, ("audio",))
    except MediaError as error:
        raise MediaError(error.reason, f"audio_path: {error.message}", unsupported=error.unsupported) from None
    picture = _facts(path, ("video",), sound.duration - audio_offset)
    begin = max(picture.begin, sound.begin - audio_offset)
    end = min(picture.duration, sound.duration - audio_offset)
    return replace(
        picture, begin=begin, duration=max(begin, end), has_audio=sound.has_audio, audio_codec=sound.audio_codec
    )


def _facts(path: Source, kinds: Sequence[Kind], audio_end: float | None = None) -> MediaInfo:
    """Return the facts of one file of which these streams count. `audio_end`: as in `survey`."""
    with open_media(path) as media, reported_as("unreadable"):
        audio, video = (media.best(kind) if kind in kinds else None for kind in KINDS)
        timeline = survey(path, media, kinds, audio_end)
        codec = video.codec_context if video is not None else None
        rate = (video.average_rate or video.guessed_rate) if video is not None else None
        return MediaInfo(
            duration=timeline.end,
            has_audio=audio is not None,
            has_video=video is not None,
            audio_codec=_codec(audio),
            video_codec=_codec(video),
            width=codec.width if codec else None,
            height=codec.height if codec else None,
            fps=float(rate) if rate else None,
            begin=timeline.begin,
            timeline=() if is_plain(timeline, media) else tuple(timeline.numbers()),
        )


def _codec(stream: Any | None) -> str | None:
    if stream is None:
        return None
    return stream.codec_context.codec.canonical_name if stream.codec_context else "unknown"
