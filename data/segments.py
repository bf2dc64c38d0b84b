"""The segments of a video: a pure function of its id, its duration and the configuration. Reads and writes nothing.

The paper's rule (Veldkamp et al. 2023, section 3): the track is cut into `count` equal parts, in each part a window of
`window` seconds is drawn at random, and a segment of `seconds` of it is used; here the window's middle. Short videos:

- a part shorter than the window: the window is the whole part;
- a part shorter than a segment: the segments overlap, evenly spread from the first second to the last;
- a video shorter than one segment has no segments (the failure `too_short`).
"""

from __future__ import annotations

import hashlib

import numpy as np

from config.pipeline import Segments


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
    # Rounding may put the last segment a hair past the end.
    return np.minimum(index * part + draw * (part - window) + (window - spec.seconds) / 2, slack)


def uniform(text: str) -> float:
    """Return a number in [0, 1) that depends on the text alone: the same on every machine and in every NumPy
    version."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) / 2**53
