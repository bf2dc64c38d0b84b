"""Frames of given seconds of a media file, at given frame rates and sizes. Reads one file; writes nothing.

This module calls the two decoders (`video_pyav`, `video_decord`) and holds what they share: which frame is shown at a
time, how a stored frame is turned upright, and the crop. Both return the same frames for the same times. Several
backbones that need the same seconds are served by one reading of the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from pipeline.readers import Interpolation, MediaError, VideoRequest
from pipeline.readers.follow import KINDS
from pipeline.readers.opening import Kind, reported_as
from pipeline.readers.source import Source
from pipeline.readers.timeline import known_or_surveyed

DECODERS = ("pyav", "decord")
TOLERANCE = 0.0005
"""A frame counts as shown this long (s) before its stamp: Matroska and WebM round stamps to 1 ms."""
END = 0.5
"""How long (s) the last frame is shown after its own duration."""


@dataclass(frozen=True)
class Wanted:
    """The frames that one request needs: those shown at `times`, float64 [segments, frames], presentation seconds."""

    request: VideoRequest
    times: np.ndarray


def read_video(
    path: Source,
    starts: Sequence[float],
    seconds: float,
    *,
    fps: float,
    resize: tuple[int, int] | int,
    crop: tuple[int, int],
    interpolation: Interpolation = "bilinear",
    decoder: str = "pyav",
    timeline: Sequence[float] | None = None,
    kinds: Sequence[Kind] = KINDS,
) -> np.ndarray:
    """Return what `read_videos` returns for the one request `VideoRequest(fps, resize, crop, interpolation)`."""
    request = VideoRequest(fps, resize, crop, interpolation)
    return read_videos(path, starts, seconds, [request], decoder=decoder, timeline=timeline, kinds=kinds)[0]


def read_videos(
    path: Source,
    starts: Sequence[float],
    seconds: float,
    requests: Sequence[VideoRequest],
    *,
    decoder: str = "pyav",
    timeline: Sequence[float] | None = None,
    kinds: Sequence[Kind] = KINDS,
) -> list[np.ndarray]:
    """Return frames of the segments for each request: uint8 [len(starts), round(seconds × fps), height, width, 3], RGB.

    Height and width are those of the request's crop; equal requests share one array. The file is read once, and each
    array is, to the byte, what its request would get alone; where that cannot be (damage that only one of them would
    meet, say) MediaError is raised, and the requests have to be read one by one. One exception: what a decoder makes of
    damage that it does not notice may depend on which frames it is allowed to leave out.

    `starts` are seconds on the presentation clock; frame k of a segment is the frame shown at start + k / fps: the last
    one with a stamp not after that time. The first frame also counts before its stamp, the last one until END after its
    duration. A frame is shown until the next one, however long: slide shows and files of variable frame rate are stored
    like that, and most containers do not distinguish them from missing frames. Size and pixel format may change. Frames
    are turned upright (display matrix), scaled, with anti-aliasing, then centre-cropped, all as `VideoRequest` says;
    the shape of stored pixels is ignored. Colours are converted with the file's matrix and range (BT.601 if it names
    none); HDR is not tone-mapped, interlaced frames are not deinterlaced.

    The decoders agree on every frame. Their pixels differ by less than 1 of 255 in the mean over a frame, by less than
    3 where frames are interlaced or the width of `resize` is even. decord scales every frame to one size, bilinearly:
    other requests are `unsupported` by it.

    `timeline` is what the probe learned about the file's clock (`MediaInfo.timeline`); if None, it is surveyed here.
    `kinds`: the file's streams that count for that; `video` alone if its audio comes from another file.

    Raises MediaError: missing, unreadable, discontinuous, no_video_stream, encrypted, still_image (a single frame with
    longer audio), decode_error (damage, unknown codec, a segment that lasts longer than the video); ValueError for
    impossible arguments.
    """
    if decoder not in DECODERS:
        raise ValueError(f"decoder is '{decoder}', not one of {DECODERS}")
    begins = np.asarray(starts, np.float64)[:, None]
    # Equal requests are scaled once.
    wanted = [
        Wanted(request, begins + np.arange(round(seconds * request.fps)) / request.fps)
        for request in dict.fromkeys(requests)
    ]
    # decord must never be imported beside torch or essentia, so a decoder is only imported when it is used.
    frames = import_module(f"pipeline.readers.video_{decoder}").frames
    known = known_or_surveyed(path, timeline, kinds)
    if known is not None and known.still:
        raise MediaError("still_image", "the video is a single frame, and the audio is longer")
    with reported_as("decode_error"):
        clips = frames(path, wanted, known)
    read = {wish.request: clip for wish, clip in zip(wanted, clips, strict=True)}
    return [read[request] for request in requests]


def blank(wanted: Wanted) -> np.ndarray:
    """Return an array for the frames of a request, all zeros: uint8 [segments, frames, height, width, 3]."""
    return np.zeros((*wanted.times.shape, *wanted.request.crop, 3), np.uint8)


def cropped(frames: np.ndarray, request: VideoRequest) -> np.ndarray:
    """Return the centre of scaled upright frames [..., height, width, 3] as the request crops them."""
    height, width = request.crop
    # torchvision's centre crop rounds like this.
    top, left = round((frames.shape[-3] - height) / 2), round((frames.shape[-2] - width) / 2)
    return frames[..., top : top + height, left : left + width, :]


def shown(stamps: np.ndarray, end: float, times: np.ndarray) -> np.ndarray:
    """Return the indices of the frames shown at `times`, from all frames' ascending `stamps` and their `end` (s)."""
    check_end(end, times)
    return np.maximum(np.searchsorted(stamps, times + TOLERANCE, side="right") - 1, 0)


def check_end(end: float, times: np.ndarray) -> None:
    """Raise MediaError if a time (s) lies more than END after the `end` of the last frame."""
    if times.size and times.max() > end + END:
        raise MediaError(
            "decode_error", f"the video ends at {end:.2f} s, a segment needs a frame at {times.max():.2f} s"
        )


def orientation(frame: Any) -> tuple[bool, bool, bool]:
    """Return how a player turns a decoded (PyAV) frame: (transpose, then flip y, flip x), from its display matrix.

    The matrix (ISO/IEC 14496-12) is read as one of the eight orientations of a rectangle; a slanted one as the nearest.
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return False, False, False
    xx, xy, _, yx, yy = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    if abs(xy) + abs(yx) > abs(xx) + abs(yy):
        return True, xy < 0, yx < 0
    return False, yy < 0, xx < 0


def upright(frame: np.ndarray, turn: tuple[bool, bool, bool]) -> np.ndarray:
    """Apply an `orientation` to a frame [height, width, 3]."""
    transpose, flip_y, flip_x = turn
    frame = frame.swapaxes(0, 1) if transpose else frame
    return frame[:: -1 if flip_y else 1, :: -1 if flip_x else 1]


def can_start(codec: Any, packet: Any) -> bool:
    """Return whether decoding can begin at a (PyAV) packet: a keyframe that is complete at once.

    Containers also mark the recovery points of H.264 as keyframes. Some are complete only many frames later (intra
    refresh: ITU-T H.264, D.2.8); FFmpeg would return broken frames until then.
    """
    if not packet.is_keyframe or codec.codec.canonical_name != "h264":
        return bool(packet.is_keyframe)
    for unit in _nal_units(bytes(packet), bytes(codec.extradata or b"")):
        if unit[0] & 31 in (1, 5):  # a slice: the description of the frame is over
            break
        if unit[0] & 31 == 6:
            position = 1
            while position + 2 < len(unit) and 255 not in unit[position : position + 2]:  # payload type, size, content
                if unit[position] == 6:
                    return unit[position + 2] >= 128  # recovery_frame_cnt is 0
                position += 2 + unit[position + 1]
    return True


def has_orientation(codec: Any, packet: Any) -> bool:
    """Return whether an H.264 (PyAV) packet has a display orientation message (ITU-T H.264, D.2.27)."""
    if codec.codec.canonical_name != "h264":
        return False
    for unit in _nal_units(bytes(packet), bytes(codec.extradata or b"")):
        if unit[0] & 31 in (1, 5):
            break
        if unit[0] & 31 == 6 and 47 in _messages(unit):
            return True
    return False


def _messages(unit: bytes) -> Iterator[int]:
    """Yield the types of the messages in an SEI NAL unit; types and sizes are coded in base 255."""
    position = 1
    while position + 2 < len(unit):
        numbers = [0, 0]
        for which in (0, 1):  # type, size
            while position < len(unit) - 1 and unit[position] == 255:
                numbers[which] += 255
                position += 1
            numbers[which] += unit[position] if position < len(unit) else 0
            position += 1
        yield numbers[0]
        position += numbers[1]


def _nal_units(data: bytes, header: bytes) -> Iterator[bytes]:
    """Yield the start of each NAL unit of an H.264 packet, by lengths (ISO/IEC 14496-15) or start codes (Annex B)."""
    if header[:1] == b"\x01" and len(header) > 4:
        width, position = (header[4] & 3) + 1, 0
        while position + width < len(data):
            length = int.from_bytes(data[position : position + width], "big")
            yield data[position + width : position + width + min(length, 1024)] or b"\0"
            position += width + length
    else:
        position = data.find(b"\0\0\1")
        while 0 <= position < len(data) - 3:
            yield data[position + 3 : position + 1027]
            position = data.find(b"\0\0\1", position + 3)
