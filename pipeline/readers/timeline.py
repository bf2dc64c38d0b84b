"""One clock for a file: corrects its time stamps, for the probe and both readers. Reads one file.

Presentation time is seconds from where the file begins to play. In most files it is the container's own time less an
origin. In some it is not: recordings joined byte by byte restart their clock, a transport stream's clock may leap,
begin below zero or wrap, and a container may state a wrong duration. Players continue such a clock where it breaks, and
so does this module: a file with breaks is cut into pieces, and each piece is shifted to begin where the previous one
ended. Audio and video of a piece get the same shift, so they stay in sync.

A file is read packet by packet only if a quick check finds something implausible (`pipeline.readers.doubts`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import av

from pipeline.readers import MediaError
from pipeline.readers.doubts import contradicts_index, looks_broken
from pipeline.readers.follow import KINDS, MAX_PACKETS, Piece, follow, is_cut
from pipeline.readers.opening import Kind, Media, open_media, reported_as, ticks_of
from pipeline.readers.source import Source

TAILS = (10.0, 120.0)
PRIMING = 1.0
"""A clock that begins up to this far (s) below zero starts with encoder delay; further below, with content.

MPEG streams have no such delay; what lies below zero there was recorded before their clock wrapped.
"""
AGREEMENT = 1.0
"""By how much (s) the container's end of a stream may differ from that of the packets, which else decide."""
STILL = 0.5
"""A video stream shorter than this (s) beside longer audio is a still image."""


@dataclass(frozen=True)
class Timeline:
    """How a file's stamps become presentation time. Seconds."""

    origin: float
    """The container's own time at presentation time 0."""
    begin: float
    """Start of the content that all present streams have; 0 unless the stamps had to be corrected."""
    end: float
    """Its end; the end of the audio alone if the video is a still image."""
    still: bool = False
    """Whether the video is a single frame."""
    pieces: tuple[Piece, ...] = ()
    """The stretches between breaks of the clock; empty if it does not break."""

    def numbers(self) -> list[float]:
        """Return the timeline as a flat list, as the probe's record stores it."""
        flat = [number for piece in self.pieces for number in (piece.audio, piece.video, piece.shift)]
        return [self.origin, self.begin, self.end, float(self.still), *flat]

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Timeline:
        """Return the timeline from the list that `numbers` made."""
        origin, begin, end, still, *flat = numbers
        pieces = tuple(Piece(int(flat[i]), int(flat[i + 1]), flat[i + 2]) for i in range(0, len(flat), 3))
        return cls(origin, begin, end, bool(still), pieces)


def known_or_surveyed(path: Source, numbers: Sequence[float] | None, kinds: Sequence[Kind] = KINDS) -> Timeline | None:
    """Return the timeline that a reader needs; None for a file whose own clock is right.

    `numbers`: what the probe stored (`Timeline.numbers`), empty for such a file; None if the file was not probed: then
    it is surveyed here. `kinds` and what is raised: as in `survey`.
    """
    if numbers is not None:
        return Timeline.of(numbers) if len(numbers) else None
    with open_media(path) as media, reported_as("unreadable"):
        timeline = survey(path, media, kinds)
        return None if is_plain(timeline, media) else timeline


def is_plain(timeline: Timeline, media: Media) -> bool:
    """Return whether the container's own clock, less `media.origin`, is right for this file."""
    return not (timeline.pieces or timeline.still or timeline.begin) and timeline.origin == media.origin


def placed(media: Media, timeline: Timeline | None) -> Media:
    """Return the open file with the timeline's origin."""
    return media if timeline is None else replace(media, origin=timeline.origin)


def survey(path: Source, media: Media, kinds: Sequence[Kind] = KINDS, audio_end: float | None = None) -> Timeline:
    """Return the timeline of an open file, whose position changes.

    `kinds`: the streams that count; a file whose audio comes from elsewhere is used for its video alone. `audio_end`:
    where that audio ends, in seconds of this file's presentation; beside it, too, a single frame is a still image.
    Raises MediaError: unreadable (neither audio nor video, an empty stream), no_audio_stream, no_video_stream (of one
    kind that alone counts), discontinuous (the clocks of audio and video jump differently).
    """
    streams = {kind: stream for kind in kinds if (stream := media.best(kind)) is not None}
    if not streams and len(kinds) == 1:
        raise MediaError(f"no_{kinds[0]}_stream", f"the file has no {kinds[0]} stream")
    if not streams:
        raise MediaError("unreadable", "the file has neither audio nor video")
    origin = media.origin
    low = (media.container.start_time or 0) / av.time_base
    if low < (0 if {"mpegts", "mpeg"} & media.formats else -PRIMING):
        origin = low
    media = replace(media, origin=origin)
    if looks_broken(media, streams):
        return _followed(path, media, {kind: _stated_end(stream) for kind, stream in streams.items()}, audio_end)
    ends = _ends(path, media, streams)
    if contradicts_index(media, streams, ends):
        return _followed(path, media, ends, audio_end)
    return _whole(media, streams, ends, audio_end)


def _whole(media: Media, streams: dict[Kind, Any], ends: dict[Kind, float], audio_end: float | None = None) -> Timeline:
    """Return the timeline of a file with one clock."""
    ends = {kind: end - media.origin for kind, end in ends.items()}
    if audio_end is not None:
        ends["audio"] = audio_end
    still = len(ends) == 2 and _is_still(media, streams["video"], ends)
    return Timeline(media.origin, 0.0, max(0.0, ends["audio"] if still else min(ends.values())), still)


def _is_still(media: Media, video: Any, ends: dict[Kind, float]) -> bool:
    begin = 0.0 if video.start_time is None else float(video.start_time * video.time_base) - media.origin
    single = video.frames == 1 or ends["video"] - begin < STILL
    return single and ends["audio"] - ends["video"] > STILL


def _followed(
    path: Source, media: Media, stated: Mapping[Kind, float | None], audio_end: float | None = None
) -> Timeline:
    """Return the timeline from all packets. If the clock never breaks, the container's ends are kept if they agree."""
    with open_media(path) as fresh:
        streams = {kind: fresh.best(kind) for kind in stated}
        followed = follow(replace(fresh, origin=media.origin), streams)
        for kind in stated:
            if kind not in followed.spans:
                raise MediaError("unreadable", f"the {kind} stream is empty")
        if len(followed.pieces) > 1:
            begin = max(span[0] for span in followed.spans.values())
            end = min(span[1] for span in followed.spans.values())
            return Timeline(media.origin, begin if begin > AGREEMENT else 0.0, max(0.0, end), False, followed.pieces)
        ends = {}
        for kind, stated_end in stated.items():
            ends[kind] = _agreed(stated_end, followed.spans[kind][1] + media.origin)
        return _whole(media, streams, ends, audio_end)


def _agreed(stated: float | None, measured: float | None) -> float:
    """Return the container's end, if that of the packets agrees; one of the two is known."""
    if stated is None or measured is None:
        return next(end for end in (measured, stated) if end is not None)
    return stated if abs(stated - measured) <= AGREEMENT else measured


def _stated_end(stream: Any) -> float | None:
    """Return the end of a stream as the container states it, in its own seconds, or None."""
    if stream.start_time is None or not stream.duration or stream.duration <= 0:
        return None
    return float((stream.start_time + stream.duration) * stream.time_base)


def _ends(path: Source, media: Media, streams: dict[Kind, Any]) -> dict[Kind, float]:
    """Return the end of each stream in container seconds."""
    stated = {kind: _stated_end(stream) for kind, stream in streams.items()}
    # Matroska states a duration for the file alone, which FFmpeg also gives to streams that it has hardly read.
    guessed = "matroska" in media.formats
    unknown = {kind: stream for kind, stream in streams.items() if guessed or stated[kind] is None}
    measured = _measured(path, media, unknown) if unknown else {}
    return {kind: _agreed(end, measured.get(kind)) for kind, end in stated.items()}


def _measured(path: Source, media: Media, streams: dict[Kind, Any]) -> dict[Kind, float]:
    """Return the ends of the streams by their last packets: near the end of the file, or else of the whole file."""
    wanted = {stream.index: kind for kind, stream in streams.items()}
    length = media.container.duration or 0
    for tail in TAILS if length else ():
        try:
            media.container.seek(max(0, length - round(tail * av.time_base)))
            ends = _last(media, wanted)
        except (av.error.FFmpegError, OSError):
            break  # not seekable
        if len(ends) == len(wanted):
            return ends
    with open_media(path) as fresh:
        ends = _last(fresh, wanted)
    for kind in streams:
        if kind not in ends:
            raise MediaError("unreadable", f"the {kind} stream is empty")
    return ends


def _last(media: Media, wanted: dict[int, Kind]) -> dict[Kind, float]:
    ends: dict[Kind, float] = {}
    streams = [stream for stream in media.container.streams if stream.index in wanted]
    size = media.content.size
    for count, packet in enumerate(media.container.demux(*streams)):
        if count > MAX_PACKETS:
            raise MediaError("unreadable", f"the container gives no duration and has more than {MAX_PACKETS} packets")
        ticks = ticks_of(packet)
        if ticks is not None and not is_cut(packet, size):
            kind = wanted[packet.stream_index]
            end = float((ticks + (packet.duration or 0)) * packet.time_base)
            ends[kind] = max(end, ends.get(kind, end))
    return ends
