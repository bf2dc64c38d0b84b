"""The keyframes of a video stream from which decoding can begin, found without decoding. Reads one file.

MP4, QuickTime, AVI, Matroska and WebM have an index of keyframes. FFmpeg knows it when the file is open, that of
Matroska after a seek to the end. In MP4 it has decoding stamps, and it never says which frames are complete at once
(`can_start`): a keyframe that is wanted is read, one packet. Other containers, MP4 in fragments, and files whose clock
breaks have no index that is complete and right: all packets of their video stream are read.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any

import av

from config.pipeline import Segments
from data.segments import keyframe_starts, segment_starts
from pipeline.readers import MediaError, container
from pipeline.readers.boxes import is_fragmented
from pipeline.readers.container import MediaInfo
from pipeline.readers.follow import MAX_PACKETS, continued
from pipeline.readers.opening import Media, open_media, reported_as, ticks_of
from pipeline.readers.source import Source
from pipeline.readers.timeline import Timeline, placed
from pipeline.readers.video import TOLERANCE, can_start

INDEXED = {"mov", "avi", "matroska"}
"""FFmpeg's names of the containers with an index of keyframes."""
FAR = 10**12
"""A time (µs) after the end of every file."""
REORDERED = 1.0
"""A frame is shown at most this long (s) after it is decoded."""
NEAR = 100
"""Most packets that are read to find a keyframe of the index."""


def probe(
    path: Source, video_id: str, spec: Segments, audio_path: Source | None = None, audio_offset: float = 0.0
) -> MediaInfo:
    """Return the facts of a file, with the starts of its segments, at keyframes where possible.

    `audio_path`, `audio_offset`: as in `container.probe`. `starts` is empty if the video is shorter than a segment.
    Raises MediaError as `container.probe` does.
    """
    info = container.probe(path, audio_path, audio_offset)
    random = segment_starts(video_id, info.duration - info.begin, spec)
    if random is None:
        return info
    timeline = Timeline.of(info.timeline) if info.timeline else None
    with reported_as("unreadable"), opened(path, timeline) as keyframes:
        starts, count = keyframe_starts(video_id, info.begin, info.duration, spec, random + info.begin, keyframes)
    return replace(info, starts=tuple(starts.tolist()), at_keyframes=count)


@contextmanager
def opened(path: Source, timeline: Timeline | None = None) -> Iterator[FileKeyframes]:
    """Open a file to find its keyframes. `timeline`: how its clock is mended; None if it is right.

    A file without a video stream that can be decoded has none. Raises MediaError as `open_media` does.
    """
    with open_media(path) as media:
        yield FileKeyframes(placed(media, timeline), timeline)


class FileKeyframes:
    """The keyframes of an open file: of its index, or of all its packets. Times are presentation seconds."""

    def __init__(self, media: Media, timeline: Timeline | None) -> None:
        self.media = media
        self.read: list[float] | None = None
        """When the keyframes are shown, if all packets have been read."""
        self.ticks: list[int] = []
        """Otherwise their stamps in the index."""
        try:
            self.stream = media.only("video")
        except MediaError:
            self.times: list[float] = []
            return
        if (timeline is None or not timeline.pieces) and has_index(media):
            self.ticks = sorted(_index(media, self.stream))
            self.times = [self._seconds(ticks) for ticks in self.ticks]
        else:
            pieces = timeline.pieces if timeline else ()
            packets = continued(media, self.stream, pieces) if pieces else media.container.demux(self.stream)
            self.read = self.times = sorted(self._startable(packets))

    def listed(self, first: float, last: float) -> range:
        """Return the numbers of the keyframes that may be shown from `first` to `last` (s)."""
        earlier = 0.0 if self.read is not None else REORDERED
        return range(bisect_left(self.times, first - earlier), bisect_right(self.times, last))

    def shown(self, number: int) -> float | None:
        """Return when (s) a keyframe is shown; None if decoding cannot begin there, or the index is wrong."""
        if self.read is not None:
            return self.read[number]
        by_pts = "matroska" in self.media.formats
        ticks = self.ticks[number]
        try:
            # Any frame: FFmpeg takes the time for one of presentation and would go to the keyframe before.
            self.media.container.seek(ticks, stream=self.stream, any_frame=not by_pts)
            for packet in islice(self.media.container.demux(self.stream), NEAR):
                stamp = packet.pts if by_pts else packet.dts
                if stamp == ticks and packet.is_keyframe:
                    return next(self._startable([packet]), None)
                if stamp is not None and stamp > ticks + REORDERED / self.stream.time_base:
                    break
        except (av.error.FFmpegError, OSError):
            pass  # damage; the reader reports what is damaged where segments are
        return None

    def _startable(self, packets: Iterable[Any]) -> Iterator[float]:
        """Yield when (s) the keyframes among packets are shown from which decoding can begin, up to damage."""
        try:
            for packet in islice(packets, MAX_PACKETS):
                ticks = ticks_of(packet)
                if ticks is None or not packet.size or packet.is_discard or not packet.is_keyframe:
                    continue
                time = self._seconds(ticks)
                if time >= -TOLERANCE and can_start(self.stream.codec_context, packet):
                    yield max(time, 0.0)  # the origin is rounded to 1 µs
        except (av.error.FFmpegError, OSError):
            return

    def _seconds(self, ticks: int) -> float:
        return float(ticks * self.stream.time_base) - self.media.origin


def has_index(media: Media) -> bool:
    """Return whether FFmpeg can know all keyframes of a file without reading it."""
    return bool(INDEXED & media.formats) and not ("mov" in media.formats and is_fragmented(media.content))


def _index(media: Media, stream: Any) -> set[int]:
    """Return the stamps (ticks) of the keyframes in the container's index that are not cut away by an edit list."""
    try:
        if "matroska" in media.formats:
            media.container.seek(FAR)
        # Entries point into memory that FFmpeg may move: each is read at once.
        return {entry.timestamp for entry in stream.index_entries if entry.is_keyframe and not entry.is_discard}
    except (av.error.FFmpegError, OSError):
        return set()
