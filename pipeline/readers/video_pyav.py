"""Reads pictures with PyAV: seek, find the wanted frames among the packets, decode only what they need. Reads one file.

For each segment: seek to the keyframe before it, demux to its end, see from the packets' time stamps which frames are
wanted, and let the decoder skip every non-reference frame that is not (H.264 and HEVC; saves a quarter to a third).
Where the packets do not tell (other codecs, field-coded pictures, recovery points) every frame is decoded and its own
stamp counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from pipeline.readers import MediaError
from pipeline.readers.opening import MAX_PIXELS, Media, open_media
from pipeline.readers.video import TOLERANCE, can_start, check_end, orientation, shown, upright

SKIPPING = ("h264", "hevc")
BACK = (0.0, 3.0, 15.0)
"""Seconds before a segment to seek to, one after the other until the frame shown at its start is found."""
# Bit-exact: the same pixels on every processor. Full chroma: swscale's short cut for even widths darkens by 1 %.
INTERPOLATION = (
    Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
)
MATRICES = (1, 4, 5, 6, 7, 9)
"""Colour matrices (ITU-T H.273 codes) that swscale knows; it gets BT.601 for all others."""


def frames(path: str, times: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Upright pictures of `size` = (height, width) shown at `times` [n, k] (s): uint8 [n, k, height, width, 3]."""
    clips = np.zeros((*times.shape, *size, 3), np.uint8)
    if times.size == 0:
        return clips
    with open_media(path) as media:
        reader = _Reader(media, size)
        for index in np.argsort(times[:, 0]):
            clips[index] = reader.segment(path, times[index])
    return clips


class _Damaged(MediaError):
    """The decoder patched up a damaged picture."""


class _Reader:
    """One open file, its decoder and its scaler."""

    def __init__(self, media: Media, size: tuple[int, int]) -> None:
        self.media, self.size = media, size
        self.stream = media.only("video")
        self.codec = self.stream.codec_context
        # More threads cost more processor time than they save where several files are decoded side by side.
        self.codec.thread_count, self.codec.thread_type = 1, "SLICE"
        self.codec.options = {"max_pixels": str(MAX_PIXELS)}
        self.scaler = VideoReformatter()

    def segment(self, path: str, times: np.ndarray) -> list[np.ndarray]:
        """The pictures shown at ascending `times`."""
        skip = self.codec.codec.canonical_name in SKIPPING
        for back in BACK:
            if not self._seek(times[0] - back):
                break
            if skip:
                pictures = self._skipping(times)
                if pictures is not None:
                    return pictures
                if not self._seek(times[0] - back):
                    break
            pictures = self._plain(times, at_start=False)
            if pictures is not None:
                return pictures
        with open_media(path) as fresh:
            pictures = _Reader(fresh, self.size)._plain(times, at_start=True)
        if pictures is None:
            raise MediaError("decode_error", "not one picture could be decoded")
        return pictures

    def _seek(self, time: float) -> bool:
        ticks = math.floor((time + self.media.origin + TOLERANCE) / self.stream.time_base)
        try:
            self.media.container.seek(ticks, stream=self.stream)
        except (av.error.FFmpegError, OSError):
            return False
        return True

    def _time(self, item: Any) -> float:
        """Presentation time (s) of a packet or frame; a container without presentation stamps has decoding stamps."""
        ticks = item.pts if item.pts is not None else item.dts
        return math.nan if ticks is None else self._seconds(ticks)

    def _seconds(self, ticks: int) -> float:
        return float(ticks * self.stream.time_base) - self.media.origin

    def _packets(self, latest: float) -> Iterator[Any]:
        """Packets from the first keyframe on, if one comes until `latest`: what comes before it cannot be decoded."""
        started = False
        for packet in self.media.container.demux(self.stream):
            # An empty packet would tell the decoder that the stream ends.
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
        """Decode what the packets say is needed; None where that did not give every wanted frame."""
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
        pictures: dict[float, np.ndarray] = {}
        try:
            for frame in self._decoded(packets, frozenset(wanted)):
                time = self._time(frame)
                if time in wanted and time not in pictures:
                    pictures[time] = self._picture(frame)
                    if len(pictures) == len(set(wanted)):
                        return [pictures[time] for time in wanted]
        except (av.error.FFmpegError, _Damaged):
            pass
        return None

    def _plain(self, times: np.ndarray, at_start: bool) -> list[np.ndarray] | None:
        """Decode every frame and go by its own stamp; None where the first one comes too late for times[0]."""
        pictures: list[np.ndarray] = []
        previous, since, end = None, -math.inf, -math.inf
        packets = self._packets(math.inf if at_start else times[-1])
        for frame in self._decoded(packets, None, at_start):
            time = self._time(frame)
            if math.isnan(time):
                time = end  # the decoder's last frames, in a container without presentation stamps
            if time < since or math.isinf(time):
                continue
            if previous is None and not at_start and self._is_late(time, times[0]):
                return None
            before = int(np.searchsorted(times, time - TOLERANCE, side="left"))  # times[:before] are before this frame
            if before > len(pictures):
                pictures += [self._picture(frame if previous is None else previous)] * (before - len(pictures))
                if before == len(times):
                    return pictures
            previous, since, end = frame, time, max(end, self._end(frame))
        if previous is None:
            return None
        check_end(end, times)
        return pictures + [self._picture(previous)] * (len(times) - len(pictures))

    def _is_late(self, time: float, wanted: float) -> bool:
        """Whether decoding from `time` on misses the frame shown at `wanted`, and the stream has earlier ones."""
        begin = self.stream.start_time
        at_start = begin is not None and time <= self._seconds(begin) + TOLERANCE
        return time > wanted + TOLERANCE and not at_start

    def _decoded(self, packets: Iterable[Any], keep: frozenset[float] | None, at_start: bool = False) -> Iterator[Any]:
        """Frames of the packets; where `keep` is given, non-reference frames of other times are skipped.

        Frames shown before the first packet's own are left out: they may refer to a keyframe before it, unless there
        is none. Raises _Damaged.
        """
        self.codec.flush_buffers()
        self.codec.skip_frame = "DEFAULT"
        begin = None
        for packet in chain(packets, [None]):  # None drains the decoder
            if packet is not None:
                begin = self._time(packet) if begin is None else begin
                if keep is not None:
                    self.codec.skip_frame = "DEFAULT" if self._time(packet) in keep else "NONREF"
            for frame in self.codec.decode(packet):
                time = self._time(frame)
                if begin is not None and time < begin and (frame.is_corrupt or not at_start):
                    continue
                if frame.is_corrupt:
                    raise _Damaged("decode_error", f"the pictures are damaged near {time:.2f} s")
                yield frame

    def _picture(self, frame: Any) -> np.ndarray:
        """The frame upright and scaled: uint8 [height, width, 3] RGB."""
        turn = orientation(frame)
        height, width = self.size[::-1] if turn[0] else self.size  # scaling before turning touches fewer pixels
        scaled = self.scaler.reformat(
            frame,
            width,
            height,
            "rgb24",
            src_colorspace=None if frame.format.is_rgb else frame.colorspace if frame.colorspace in MATRICES else 5,
            interpolation=INTERPOLATION,
            threads=1,
        )
        return upright(scaled.to_ndarray(), turn)
