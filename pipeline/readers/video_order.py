"""Orders packets and frames where a container has decoding stamps only. Opens no file.

In AVI, and in Matroska with a codec stored as in AVI, a stamp is when a packet is decoded, not when its frame is shown.
Players show the n-th frame at the n-th stamp, and so does `ordered`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import av
import numpy as np

from pipeline.readers import MediaError
from pipeline.readers.video import TOLERANCE, can_start

T = TypeVar("T")
REORDERED = 1.0
"""Frames are decoded at most this long (s) before they are shown."""


class Damaged(MediaError):
    """The decoder concealed damage in a frame."""


@dataclass(frozen=True)
class Ordered(Generic[T]):
    """When frames are shown, `stamps` float64 [n] ascending (s), and those that may be needed by their index there."""

    stamps: np.ndarray
    frames: dict[int, T]


def from_keyframe(packets: Iterable[Any], codec: Any, time: Callable[[Any], float], wanted: float) -> Iterator[Any]:
    """Yield the packets from the last keyframe whose `time` (s) is not after `wanted`, or else from the first one."""
    kept: list[Any] = []
    passed = False
    for packet in packets:
        if not packet.size or not (stamp := time(packet)) == stamp:  # an empty packet, or one without a stamp
            continue
        if passed:
            yield packet
            continue
        if can_start(codec, packet) and (stamp <= wanted + TOLERANCE or not kept):
            kept = []
        elif not kept:
            continue
        kept.append(packet)
        if stamp > wanted + REORDERED:
            passed = True
            yield from kept
    if not passed:
        yield from kept


def until(packets: Iterable[Any], time: Callable[[Any], float], latest: float) -> tuple[list[Any], bool]:
    """Return the packets that are decoded until `latest` (s), and whether no others follow."""
    window: list[Any] = []
    for packet in packets:
        if window and time(packet) > latest:
            return window, False
        window.append(packet)
    return window, True


def ordered(
    codec: Any,
    window: list[Any],
    time: Callable[[Any], float],
    times: np.ndarray,
    convert: Callable[[Any], T],
) -> Ordered[T] | None:
    """Decode packets with decoding stamps only, from a keyframe to REORDERED after the last of `times` (s).

    Each packet gets its number as its stamp, which the decoder returns with its frame. Packets just after the first one
    that return no frame refer to packets before it and are shown before it. `convert` turns a decoded frame into what
    is kept of it. Return None if no frame is decoded. Raises Damaged, and FFmpeg's errors.
    """
    decoded = [time(packet) for packet in window]
    order: list[int] = []
    arrays: dict[int, T] = {}
    codec.flush_buffers()
    codec.skip_frame = "DEFAULT"
    for number, packet in enumerate([*window, None]):
        needed = packet is None or decoded[number] >= times[0] - REORDERED
        if packet is not None:
            packet.pts = number
        try:
            frames = codec.decode(packet)
        except av.error.FFmpegError:
            if packet is not None and decoded[number] <= times[-1] + TOLERANCE:
                raise
            break
        for frame in frames:
            if not order and frame.pts != 0:
                continue
            if frame.is_corrupt and needed:
                raise Damaged("decode_error", f"the video is damaged near {times[0]:.2f} s")
            if needed:
                arrays[len(order)] = convert(frame)
            order.append(frame.pts)
    if not order:
        return None
    returned = set(order)
    leading = next((number for number in range(1, len(window)) if number in returned), len(window)) - 1
    stamps = sorted(stamp for number, stamp in enumerate(decoded) if number <= leading or number in returned)
    return Ordered(np.array(stamps[leading:][: len(order)]), arrays)
