"""Reads frames with PyAV: seek, select the wanted frames by their packets, decode only what they need. Reads one file.

For each segment: seek to the keyframe before it, demux to its end, select the wanted frames by the packets' time
stamps, and let the decoder skip all other non-reference frames (H.264 and HEVC; saves a quarter to a third of the
time). Where packets are not enough (other codecs, field-coded frames, recovery points), every frame is decoded and its
own stamp counts.

Several requests are served by one such decoding: it selects the frames that any of them wants, and scales each frame
for those that want it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation as Scaling
from av.video.reformatter import VideoReformatter

from pipeline.readers import Interpolation, MediaError, VideoRequest
from pipeline.readers.follow import Piece, continued, unbroken
from pipeline.readers.opening import MAX_PIXELS, Media, open_media, ticks_of
from pipeline.readers.source import Source
from pipeline.readers.timeline import Timeline, placed
from pipeline.readers.video import (
    TOLERANCE,
    Wanted,
    blank,
    can_start,
    check_end,
    cropped,
    orientation,
    shown,
    upright,
)
from pipeline.readers.video_order import REORDERED, Damaged, from_keyframe, ordered, until

SKIPPING = ("h264", "hevc")
DECODING_STAMPS = {"avi", "matroska"}
"""Containers whose packets may have decoding stamps only (AVI, and Matroska with a codec stored as in AVI)."""
BACK = (0.0, 3.0, 15.0)
"""Seconds before a segment to seek to, tried in order until the frame shown at its start is found."""
# Bit-exact: the same pixels on every processor. Full chroma: swscale's fast path for even widths darkens by 1 %.
_EXACT = Scaling.FULL_CHR_H_INT | Scaling.ACCURATE_RND | Scaling.BITEXACT
INTERPOLATION: dict[Interpolation, Scaling] = {
    "bilinear": Scaling.BILINEAR | _EXACT,
    "bicubic": Scaling.BICUBIC | _EXACT,
}
MATRICES = (1, 4, 5, 6, 7, 9)
"""Colour matrices (ITU-T H.273 codes) that swscale knows; it gets BT.601 for all others."""


def frames(path: Source, wanted: Sequence[Wanted], timeline: Timeline | None = None) -> list[np.ndarray]:
    """Return the upright, scaled and cropped frames of each request: uint8 [segments, frames, height, width, 3]."""
    clips = [blank(wish) for wish in wanted]
    asked = [(wish, clip) for wish, clip in zip(wanted, clips, strict=True) if wish.times.size]
    if not asked:
        return clips
    with open_media(path) as media:
        reader = _Reader(placed(media, timeline))
        for index in np.argsort(asked[0][0].times[:, 0]):
            moments = Moments.of({wish.request: wish.times[index] for wish, _ in asked})
            if timeline is not None and timeline.pieces:
                arrays = _continued(path, moments, timeline)
            else:
                arrays = reader.segment(path, moments)
            for w, clip in asked:
                clip[index] = [arrays[i][w.request] for i in np.searchsorted(moments.times, w.times[index])]
    return clips


@dataclass(frozen=True)
class Moments:
    """The ascending times (s) of a segment at which frames are wanted, float64 [n], and for each who wants one."""

    times: np.ndarray
    requests: list[tuple[VideoRequest, ...]]
    together: bool
    """Whether they are those of several requests."""

    @classmethod
    def of(cls, wanted: dict[VideoRequest, np.ndarray]) -> Moments:
        """Return the union of {request: its ascending times}."""
        times = np.unique(np.concatenate(list(wanted.values())))
        requests: list[list[VideoRequest]] = [[] for _ in times]
        for request, own in wanted.items():
            for position in np.searchsorted(times, own):
                requests[position].append(request)
        return cls(times, list(map(tuple, requests)), len(wanted) > 1)

    def users(self, first: int, stop: int) -> list[VideoRequest]:
        """Return who wants a frame at one of `times[first:stop]`, each once."""
        return list(dict.fromkeys(request for requests in self.requests[first:stop] for request in requests))


Scaled = dict[VideoRequest, np.ndarray]
"""One decoded frame, as each request wants it: uint8 [height, width, 3] RGB."""


def _continued(path: Source, moments: Moments, timeline: Timeline) -> list[Scaled]:
    """Return the frames shown at the moments in a file whose clock breaks, where seeks fail."""
    with open_media(path) as media:
        arrays = _Reader(placed(media, timeline), timeline.pieces)._plain(moments, at_start=False)
    if arrays is None:
        raise MediaError("decode_error", "no frame could be decoded")
    return arrays


class _Reader:
    """One open file, its decoder and its scalers."""

    def __init__(self, media: Media, pieces: tuple[Piece, ...] = ()) -> None:
        self.media, self.pieces = media, pieces
        self.stream = media.only("video")
        self.codec = self.stream.codec_context
        # More threads cost more processor time than they save when several files are decoded in parallel.
        self.codec.thread_count, self.codec.thread_type = 1, "SLICE"
        self.codec.options = {"max_pixels": str(MAX_PIXELS)}
        self.sought = -math.inf
        """The time (s) of the last seek."""
        self.scalers: defaultdict[VideoRequest, VideoReformatter] = defaultdict(VideoReformatter)

    def segment(self, path: Source, moments: Moments) -> list[Scaled]:
        """Return the frames shown at the moments, in order."""
        times = moments.times
        skip = self.codec.codec.canonical_name in SKIPPING
        for back in BACK:
            if not self._seek(times[0] - back):
                break
            if skip:
                arrays = self._skipping(moments)
                if arrays is not None:
                    return arrays
                if not self._seek(times[0] - back):
                    break
            arrays = self._plain(moments, at_start=False)
            if arrays is not None:
                return arrays
        with open_media(path) as opened:
            fresh = replace(opened, origin=self.media.origin)
            arrays = _Reader(fresh)._plain(moments, at_start=True)
        if arrays is None:
            raise MediaError("decode_error", "no frame could be decoded")
        return arrays

    def _seek(self, time: float) -> bool:
        self.sought = time
        ticks = math.floor((time + self.media.origin + TOLERANCE) / self.stream.time_base)
        try:
            self.media.container.seek(ticks, stream=self.stream)
        except (av.error.FFmpegError, OSError):
            return False
        return True

    def _time(self, item: Any) -> float:
        """Return the presentation time (s) of a packet or frame; its decoding time if the container has no other."""
        ticks = ticks_of(item)
        return math.nan if ticks is None else self._seconds(ticks)

    def _seconds(self, ticks: int) -> float:
        return float(ticks * self.stream.time_base) - self.media.origin

    def _packets(self, latest: float, earliest: float = math.inf) -> Iterator[Any]:
        """Yield the packets from a keyframe on, if there is one until `latest`; earlier ones cannot be decoded.

        It is the last one that is shown until the time that was sought: FFmpeg's seek may end before, as in MP4 with an
        edit list. In a file whose clock breaks, it is the last one that is shown until `earliest`.
        """
        if self.pieces:
            yield from from_keyframe(continued(self.media, self.stream, self.pieces), self.codec, self._time, earliest)
        else:
            yield from from_keyframe(self._startable(latest), self.codec, self._time, self.sought)

    def _startable(self, latest: float) -> Iterator[Any]:
        """Yield the packets from the first keyframe on, if there is one until `latest`."""
        started = False
        for packet in unbroken(self.media.container.demux(self.stream)):
            # An empty packet would end the stream for the decoder.
            if not packet.size or math.isnan(self._time(packet)):
                continue
            started = started or can_start(self.codec, packet)
            if started:
                yield packet
            elif self._time(packet) > latest:
                return

    def _end(self, item: Any) -> float:
        return self._time(item) + float((item.duration or 0) * self.stream.time_base)

    def _skipping(self, moments: Moments) -> list[Scaled] | None:
        """Decode what the wanted frames need by the packets' stamps; return None if a wanted frame is missing then."""
        times = moments.times
        packets: list[Any] = []
        complete = True
        for packet in self._packets(times[-1]):
            if packet.pts is None:
                return None
            packets.append(packet)
            # A frame is never shown before it is decoded: nothing after such a packet can be shown in time.
            if packet.dts is not None and self._seconds(packet.dts) > times[-1] + TOLERANCE:
                complete = False
                break
        stamps = np.array(sorted(self._time(packet) for packet in packets if not packet.is_discard))
        if not len(stamps) or self._is_late(self._time(packets[0]), times[0]):
            return None
        end = max(self._end(packet) for packet in packets) if complete else math.inf
        wanted = stamps[shown(stamps, end, times)].tolist()
        users: dict[float, list[VideoRequest]] = {}
        for stamp, requests in zip(wanted, moments.requests, strict=True):
            users.setdefault(stamp, []).extend(requests)
        arrays: dict[float, Scaled] = {}
        try:
            for frame in self._decoded(packets, times[-1], frozenset(users)):
                time = self._time(frame)
                if time in users and time not in arrays:
                    arrays[time] = self._scaled(frame, users[time])
                    if len(arrays) == len(users):
                        return [arrays[time] for time in wanted]
        except (av.error.FFmpegError, Damaged):
            pass
        if moments.together:  # one of them alone might have been served
            raise MediaError("decode_error", f"not every frame from {times[0]:.2f} s on is where its packet says")
        return None

    def _plain(self, moments: Moments, at_start: bool) -> list[Scaled] | None:
        """Decode every frame and use its own stamp; return None if the first one comes too late for times[0]."""
        times = moments.times
        arrays: list[Scaled] = []
        previous, since, end = None, -math.inf, -math.inf
        packets = self._packets(math.inf if at_start or self.pieces else times[-1], times[0])
        first = next(packets, None)
        if first is None:
            return None
        packets = chain([first], packets)
        if first.pts is None and DECODING_STAMPS & self.media.formats:
            return self._ordered(moments, packets, at_start)
        for frame in self._decoded(packets, times[-1], None, at_start):
            time = self._time(frame)
            if math.isnan(time):
                time = end  # the decoder's last frames, in a container without presentation stamps
            if time < since or math.isinf(time):
                continue
            if previous is None and not at_start and self._is_late(time, times[0]):
                return None
            before = int(np.searchsorted(times, time - TOLERANCE, side="left"))  # times[:before] are before this frame
            if before > len(arrays):
                users = moments.users(len(arrays), before)
                arrays += [self._scaled(frame if previous is None else previous, users)] * (before - len(arrays))
                if before == len(times):
                    return arrays
            previous, since, end = frame, time, max(end, self._end(frame))
        if previous is None:
            return None
        check_end(end, times)
        return arrays + [self._scaled(previous, moments.users(len(arrays), len(times)))] * (len(times) - len(arrays))

    def _ordered(self, moments: Moments, packets: Iterable[Any], at_start: bool) -> list[Scaled] | None:
        """Return the same for a container that has decoding stamps only."""
        times, everybody = moments.times, moments.users(0, len(moments.times))
        window, complete = until(packets, self._time, times[-1] + REORDERED)
        end = self._end(window[-1]) if complete else math.inf
        decoded = ordered(self.codec, window, self._time, times, lambda frame: self._scaled(frame, everybody))
        if decoded is None or (not at_start and self._is_late(decoded.stamps[0], times[0])):
            return None
        return [decoded.frames[index] for index in shown(decoded.stamps, end, times).tolist()]

    def _is_late(self, time: float, wanted: float) -> bool:
        """Return whether decoding from `time` on misses the frame shown at `wanted`, although the stream has it."""
        begin = self.stream.start_time
        at_start = begin is not None and time <= self._seconds(begin) + TOLERANCE
        return time > wanted + TOLERANCE and not at_start

    def _decoded(
        self, packets: Iterable[Any], latest: float, keep: frozenset[float] | None, at_start: bool = False
    ) -> Iterator[Any]:
        """Yield the decoded frames of the packets; with `keep`, non-reference frames of other times are skipped.

        Frames shown before the first packet's own are left out: they may refer to a keyframe before it, unless there
        is none. Damage in frames shown after `latest`, such as the last packet of a truncated file, is ignored; other
        damage raises Damaged.
        """
        self.codec.flush_buffers()
        self.codec.skip_frame = "DEFAULT"
        begin = None
        for packet in chain(packets, [None]):  # None drains the decoder
            if packet is not None:
                begin = self._time(packet) if begin is None else begin
                if keep is not None:
                    self.codec.skip_frame = "DEFAULT" if self._time(packet) in keep else "NONREF"
            try:
                frames = self.codec.decode(packet)
            except av.error.FFmpegError:
                if packet is None or self._time(packet) <= latest + TOLERANCE:
                    raise
                continue
            for frame in frames:
                time = self._time(frame)
                if begin is not None and time < begin and (frame.is_corrupt or not at_start):
                    continue
                if frame.is_corrupt and time <= latest + TOLERANCE:
                    raise Damaged("decode_error", f"the video is damaged near {time:.2f} s")
                yield frame

    def _scaled(self, frame: Any, requests: Iterable[VideoRequest]) -> Scaled:
        """Return the frame upright, scaled and cropped for each of the requests."""
        turn = orientation(frame)
        return {request: self._array(frame, request, turn) for request in requests}

    def _array(self, frame: Any, request: VideoRequest, turn: tuple[bool, bool, bool]) -> np.ndarray:
        # Scaling before turning touches fewer pixels.
        if turn[0]:
            width, height = request.scaled(frame.width, frame.height)
        else:
            height, width = request.scaled(frame.height, frame.width)
        if height * width > MAX_PIXELS:
            shape = f"{frame.width}×{frame.height}"
            raise MediaError("decode_error", f"frames of {shape} pixels cannot be scaled to {width}×{height}")
        scaled = self.scalers[request].reformat(
            frame,
            width,
            height,
            "rgb24",
            src_colorspace=None if frame.format.is_rgb else frame.colorspace if frame.colorspace in MATRICES else 5,
            interpolation=INTERPOLATION[request.interpolation],
            threads=1,
        )
        return cropped(upright(scaled.to_ndarray(), turn), request)
