"""Pictures of given seconds of a media file, at a given frame rate and size. Reads one file; writes nothing.

This is the door to the two decoders (`video_pyav`, `video_decord`) and what they share: which frame is shown at a time,
how a stored picture is turned upright, and the crop. Both return the same frames for the same times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from pipeline.readers import MediaError
from pipeline.readers.opening import reported_as

DECODERS = ("pyav", "decord")
TOLERANCE = 0.0005
"""A frame counts as shown this long (s) before its stamp: Matroska and WebM round stamps to 1 ms."""
END = 0.5
"""How long (s) the last frame stays up after its own duration."""


def read_video(
    path: str,
    starts: Sequence[float],
    seconds: float,
    *,
    fps: float,
    resize: tuple[int, int],
    crop: tuple[int, int],
    decoder: str = "pyav",
) -> np.ndarray:
    """Pictures of the segments as uint8 [len(starts), round(seconds × fps), crop height, crop width, 3], RGB.

    `starts` are seconds on the presentation clock; frame k of a segment is the frame shown at start + k / fps: the last
    one with a stamp not after that, the first one before it is due, the last one until END after it is over. Pictures
    are turned upright (display matrix), scaled to `resize` = (height, width) whatever their shape (picture and pixel
    aspect are ignored), bilinear with anti-aliasing, then centre-cropped to `crop`. Colours are converted with the
    file's matrix and range (BT.601 where it names none); HDR is not tone-mapped, fields are not taken apart.

    The decoders agree on every frame. Their pixels differ by less than 1 of 255 in the mean over a frame, by less than
    3 where pictures are interlaced or the width of `resize` is even.

    Raises MediaError: missing, unreadable, no_video_stream, decode_error (damage, unknown codec, a segment that goes on
    after the pictures end); ValueError for impossible arguments.
    """
    if decoder not in DECODERS:
        raise ValueError(f"decoder is '{decoder}', not one of {DECODERS}")
    if crop[0] > resize[0] or crop[1] > resize[1]:
        raise ValueError(f"the crop {crop} is larger than the resized picture {resize}")
    times = np.asarray(starts, np.float64)[:, None] + np.arange(round(seconds * fps)) / fps
    # decord must never be imported where torch or essentia may be, so no decoder is imported before it is asked for.
    frames = import_module(f"pipeline.readers.video_{decoder}").frames
    with reported_as("decode_error"):
        clips = frames(path, times, resize)
    # torchvision's centre crop rounds like this.
    top, left = round((resize[0] - crop[0]) / 2), round((resize[1] - crop[1]) / 2)
    return np.ascontiguousarray(clips[:, :, top : top + crop[0], left : left + crop[1]])


def shown(stamps: np.ndarray, end: float, times: np.ndarray) -> np.ndarray:
    """Indices of the frames shown at `times`, given all frames' ascending `stamps` and their `end` (all s)."""
    check_end(end, times)
    return np.maximum(np.searchsorted(stamps, times + TOLERANCE, side="right") - 1, 0)


def check_end(end: float, times: np.ndarray) -> None:
    """Raise MediaError where a time (s) lies more than END after the `end` of the last frame."""
    if times.size and times.max() > end + END:
        raise MediaError("decode_error", f"the pictures end at {end:.2f} s, a segment wants one at {times.max():.2f} s")


def orientation(frame: Any) -> tuple[bool, bool, bool]:
    """How a player turns a decoded (PyAV) frame: (transpose, then flip y, flip x), from its display matrix.

    The matrix (ISO/IEC 14496-12) is read as one of the eight orientations of a rectangle; a slanted one as the nearest.
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        return True, b < 0, c < 0
    return False, d < 0, a < 0


def upright(picture: np.ndarray, turn: tuple[bool, bool, bool]) -> np.ndarray:
    """Apply an `orientation` to a picture [height, width, 3]."""
    transpose, flip_y, flip_x = turn
    picture = picture.swapaxes(0, 1) if transpose else picture
    return picture[:: -1 if flip_y else 1, :: -1 if flip_x else 1]


def can_start(codec: Any, packet: Any) -> bool:
    """Whether decoding can begin at a (PyAV) packet: a keyframe that shows a whole picture at once.

    Containers also mark the recovery points of H.264 as keyframes, of which some are whole only many frames later
    (intra refresh: ITU-T H.264, D.2.8); FFmpeg would show the broken pictures until then.
    """
    if not packet.is_keyframe or codec.codec.canonical_name != "h264":
        return bool(packet.is_keyframe)
    for unit in _nal_units(bytes(packet), bytes(codec.extradata or b"")):
        if unit[0] & 31 in (1, 5):  # a slice: what describes the picture is over
            break
        if unit[0] & 31 == 6:
            at = 1
            while at + 2 < len(unit) and 255 not in unit[at : at + 2]:  # payload type, size, content
                if unit[at] == 6:
                    return unit[at + 2] >= 128  # recovery_frame_cnt is 0
                at += 2 + unit[at + 1]
    return True


def _nal_units(data: bytes, header: bytes) -> Iterator[bytes]:
    """The beginnings of the NAL units in an H.264 packet, after lengths (ISO/IEC 14496-15) or start codes (Annex B)."""
    if header[:1] == b"\x01" and len(header) > 4:
        width, at = (header[4] & 3) + 1, 0
        while at + width < len(data):
            length = int.from_bytes(data[at : at + width], "big")
            yield data[at + width : at + width + min(length, 1024)] or b"\0"
            at += width + length
    else:
        at = data.find(b"\0\0\1")
        while 0 <= at < len(data) - 3:
            yield data[at + 3 : at + 1027]
            at = data.find(b"\0\0\1", at + 3)
