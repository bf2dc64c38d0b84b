"""Reads frames with PyAV: seek, select the wanted frames by their packets, decode only what they need. Reads one file.

For each segment: seek to the keyframe before it, demux to its end, select the wanted frames by the packets' time
stamps, and let the decoder skip all other non-reference frames (H.264 and HEVC; saves a quarter to a third of the
time). Where packets are not enough (other codecs, field-coded frames, recovery points), every frame is decoded and its
own stamp counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation as Scaling
from av.video.reformatter import VideoReformatter

from pipeline.readers import Interpolation, MediaError, VideoRequest
from pipeline.readers.follow import Piece, continued, unbroken
from pipeline.readers.opening import MAX_PIXELS, Media, open_media, ticks_of
from pipeline.readers.timeline import Timeline, placed
from pipeline.readers.video import TOLERANCE, blank, can_start, check_end, cropped, orientation, shown, upright
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


def frames(path: str, times: np.ndarray, request: VideoRequest, timeline: Timeline | None = None) -> np.ndarray:
    """Return upright, scaled and cropped frames shown at `times` [n, k] (s): uint8 [n, k, height, width, 3]."""
    clips = blank(times, request)
    if times.size == 0:
        return clips
    with open_media(path) as media:
        reader = _Reader(placed(media, timeline), request)
        for index in np.argsort(times[:, 0]):
            if timeline is not None and timeline.pieces:
                clips[index] = _continued(path, times[index], request, timeline)
            else:
                clips[index] = reader.segment(path, times[index])
    return clips


def _continued(path: str, times: np.ndarray, request: VideoRequest, timeline: Timeline) -> list[np.ndarray]:
    """Return the frames shown at ascending `times` in a file whose clock breaks, where seeks fail."""
    with open_media(path) as media:
        reader = _Reader(placed(media, timeline), request, timeline.pieces)
        arrays = reader._plain(times, at_start=False)
    if arrays is None:
        raise MediaError("decode_error", "no frame could be decoded")
    return arrays


class _Reader:
    """One open file, its decoder and its scaler."""

    def __init__(self, media: Media, request: VideoRequest, pieces: tuple[Piece, ...] = ()) -> None:
        self.media, self.request, self.pieces = media, request, pieces
        self.stream = media.only("video")
        self.codec = self.stream.codec_context
        # More threads cost more processor time than they save when several files are decoded in parallel.
        self.codec.thread_count, self.codec.thread_type = 1, "SLICE"
        self.codec.options = {"max_pixels": str(MAX_PIXELS)}
        self.sought = -math.inf
        """The time (s) of the last seek."""
        self.scaler = VideoReformatter()

    def segment(self, path: str, times: np.ndarray) -> list[np.ndarray]:
        """Return the frames shown at ascending `times` (s), uint8 [height, width, 3] each."""
        skip = self.codec.codec.canonical_name in SKIPPING
        for back in BACK:
            if not self._seek(times[0] - back):
                break
            if skip:
                arrays = self._skipping(times)
                if arrays is not None:
                    return arrays
                if not self._seek(times[0] - back):
                    break
            arrays = self._plain(times, at_start=False)
            if arrays is not None:
                return arrays
        with open_media(path) as opened:
            fresh = replace(opened, origin=self.media.origin)
            arrays = _Reader(fresh, self.request)._plain(times, at_start=True)
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

    def _skipping(self, times: np.ndarray) -> list[np.ndarray] | None:
        """Decode what the wanted frames need by the packets' stamps; return None if a wanted frame is missing then."""
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
        stamps = np.array(sorted(self._time(p) for p in packets if not p.is_discard))
        if not len(stamps) or self._is_late(self._time(packets[0]), times[0]):
            return None
        end = max(self._end(p) for p in packets) if complete else math.inf
        wanted = stamps[shown(stamps, end, times)].tolist()
        arrays: dict[float, np.ndarray] = {}
        try:
            for frame in self._decoded(packets, times[-1], frozenset(wanted)):
                time = self._time(frame)
                if time in wanted and time not in arrays:
                    arrays[time] = self._array(frame)
                    if len(arrays) == len(set(wanted)):
                        return [arrays[time] for time in wanted]
        except (av.error.FFmpegError, Damaged):
            pass
        return None

    def _plain(self, times: np.ndarray, at_start: bool) -> list[np.ndarray] | None:
        """Decode every frame and use its own stamp; return None if the first one comes too late for times[0]."""
        arrays: list[np.ndarray] = []
        previous, since, end = None, -math.inf, -math.inf
        packets = self._packets(math.inf if at_start or self.pieces else times[-1], times[0])
        first = next(packets, None)
        if first is None:
            return None
        packets = chain([first], packets)
        if first.pts is None and DECODING_STAMPS & self.media.formats:
            return self._ordered(times, packets, at_start)
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
                arrays += [self._array(frame if previous is None else previous)] * (before - len(arrays))
                if before == len(times):
                    return arrays
            previous, since, end = frame, time, max(end, self._end(frame))
        if previous is None:
            return None
        check_end(end, times)
        return arrays + [self._array(previous)] * (len(times) - len(arrays))

    def _ordered(self, times: np.ndarray, packets: Iterable[Any], at_start: bool) -> list[np.ndarray] | None:
        """Return the same for a container that has decoding stamps only."""
        window, complete = until(packets, self._time, times[-1] + REORDERED)
        end = self._end(window[-1]) if complete else math.inf
        decoded = ordered(self.codec, window, self._time, times, self._array)
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

    def _array(self, frame: Any) -> np.ndarray:
        """Return the frame upright, scaled and cropped: uint8 [height, width, 3] RGB."""
        turn = orientation(frame)
        # Scaling before turning touches fewer pixels.
        if turn[0]:
            width, height = self.request.scaled(frame.width, frame.height)
        else:
            height, width = self.request.scaled(frame.height, frame.width)
        if height * width > MAX_PIXELS:
            shape = f"{frame.width}×{frame.height}"
            raise MediaError("decode_error", f"frames of {shape} pixels cannot be scaled to {width}×{height}")
        scaled = self.scaler.reformat(
            frame,
            width,
            height,
            "rgb24",
            src_colorspace=None if frame.format.is_rgb else frame.colorspace if frame.colorspace in MATRICES else 5,
            interpolation=INTERPOLATION[self.request.interpolation],
            threads=1,
        )
        return cropped(upright(scaled.to_ndarray(), turn), self.request)
