"""Cutting a segment into the clips of a network that looks at a fixed number of frames. Reads and writes nothing."""

from __future__ import annotations

RULE = "as many as cover the segment, evenly spaced"


def clip_starts(frames: int, clip: int | None) -> list[int]:
    """Return the first frames of the clips of a segment: as few as cover all its frames, evenly spaced.

    Where the segment is no multiple of a clip they overlap: 30 frames in clips of 16 begin at 0 and 14. `clip` None:
    the network looks at any number of frames, and there is one clip.
    """
    count = 1 if clip is None or frames <= clip else -(-frames // clip)
    return [round(i * (frames - (clip or 0)) / (count - 1)) for i in range(count)] if count > 1 else [0]
