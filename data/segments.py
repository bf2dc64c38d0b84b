"""The segments of a video: a pure function of its id, its duration and the configuration. Reads and writes nothing.

The paper's rule (Veldkamp et al. 2023, section 3): the track is cut into `count` equal parts, in each part a window of
`window` seconds is drawn at random, and a segment of `seconds` of it is used; here the window's middle. Short videos:

- a part shorter than the window: the window is the whole part;
- a part shorter than a segment: the segments overlap, evenly spread from the first second to the last;
- a video shorter than one segment has no segments (the failure `too_short`).

With `segments.start: keyframe`, a segment begins at a keyframe of the video stream instead: one drawn at random from
those of its part from which on the segment fits into the part. The random start stays where there is none, and in all
parts that are shorter than a segment: such segments overlap, and at keyframes some would be the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from config.pipeline import Segments

TRIES = 32
"""Most keyframes that are looked at for one segment; only damaged or odd files need more than a few."""


class Keyframes(Protocol):
    """The keyframes of a video stream; `pipeline.readers.keyframes` finds them in a file."""

    def listed(self, first: float, last: float) -> Sequence[int]:
        """Return the numbers of the keyframes that may be shown from `first` to `last` (s), ascending."""

    def shown(self, number: int) -> float | None:
        """Return when (s) a keyframe is shown; None if decoding cannot begin there."""


def segment_starts(video_id: str, duration: float, spec: Segments) -> np.ndarray | None:
    """Return the start of each segment, [count] float64 in seconds, ascending; None if the video is too short.

    Every segment is inside [0, duration].
    """
    slack = duration - spec.seconds
    if not slack >= 0:  # also when the duration is NaN
        return None
    part = duration / spec.count
    index = np.arange(spec.count)
    if part < spec.seconds:
        return index * slack / (spec.count - 1)
    window = min(spec.window, part)
    draw = np.array([uniform(f"{spec.seed}\0{video_id}\0{i}") for i in range(spec.count)])
    # Rounding may put the end of the last segment past the end of the video.
    return np.minimum(index * part + draw * (part - window) + (window - spec.seconds) / 2, slack)


def keyframe_starts(
    video_id: str, begin: float, end: float, spec: Segments, starts: np.ndarray, keyframes: Keyframes
) -> tuple[np.ndarray, int]:
    """Move random `starts`, [count] float64 (s), to keyframes of the content from `begin` to `end` (s).

    Return the starts, [count] float64, ascending, and how many are at keyframes. Those are float32 numbers not before
    the keyframe's own stamp: the store has float32, and before the stamp all frames since the keyframe before would
    have to be decoded.
    """
    part = (end - begin) / spec.count
    moved, at_keyframes = starts.copy(), 0
    for index in range(spec.count) if part >= spec.seconds else ():
        first, last = begin + index * part, min(begin + (index + 1) * part, end) - spec.seconds
        left = list(keyframes.listed(first, last))
        for number in range(min(TRIES, len(left))):
            draw = uniform(f"{spec.seed}\0{video_id}\0{index}\0keyframe\0{number}")
            stamp = keyframes.shown(left.pop(int(draw * len(left))))
            if stamp is not None and first <= (start := not_before(stamp)) <= last:
                moved[index], at_keyframes = start, at_keyframes + 1
                break
    return moved, at_keyframes


def not_before(time: float) -> float:
    """Return the smallest float32 number that is not below `time`."""
    rounded = np.float32(time)
    # Compared as float64: NumPy would round `time` first.
    return float(rounded) if float(rounded) >= time else float(np.nextafter(rounded, np.float32(np.inf)))


def uniform(text: str) -> float:
    """Return a number in [0, 1) that depends on the text alone: the same on every machine and in every NumPy
    version."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) / 2**53
