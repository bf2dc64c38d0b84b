"""Media whose time is wrong, made by joining and changing bytes: numbered frames with audio that tells its second.

The frame of second t shows the number 25 t; the audio has a click at every whole second (`bench.known`).
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from bench.known import RATE, SECONDS, clicking_audio, clicks
from pipeline.readers.audio import read_audio
from pipeline.readers.container import probe
from pipeline.readers.video import read_video
from tests.support.library import CROP, RESIZE
from tests.support.media import Audio, Video, numbered_frame, numbers, regular, write

FPS = 25
HOW = {"fps": 10.0, "resize": RESIZE, "crop": CROP}
SYNC = 0.11
"""Seconds between audio and video: a frame, the codec's delay, half a step of 10 frames a second."""
WAVE = clicking_audio()


def streams(first: float, last: float, shift: float = 0.0, **codecs: str) -> tuple[Video, Audio]:
    """Return the content of [first, last), to be shown from `shift` on."""

    def draw(k: int, width: int, height: int) -> np.ndarray:
        return numbered_frame(round(first * FPS) + k, width, height)

    def wave(t: np.ndarray) -> np.ndarray:
        return np.interp(t - shift + first, np.arange(SECONDS * RATE) / RATE, WAVE)

    video = codecs.get("video", "libx264")
    base = {"mpeg2video": Fraction(1, FPS), "mpeg4": Fraction(1, FPS), "mjpeg": Fraction(1, FPS)}
    options = {
        "libvpx": {"cpu-used": "8", "deadline": "realtime", "b": "400000"},
        "mpeg2video": {"b": "2000000"},
        "mpeg4": {"b": "2000000"},
    }
    return (
        Video(
            regular(last - first, FPS, shift), video, bframes=0 if "vp" in video else 2, draw=draw, gop=25,
            time_base=base.get(video, Fraction(1, 90000)), options=options.get(video, {}),
        ),
        Audio(last - first + shift, shift, codecs.get("audio", "aac"), 48000, wave=wave),
    )  # fmt: skip


def joined(
    folder: Path,
    suffix: str,
    cuts: tuple[float, ...],
    skip: int = 0,
    shifts: tuple[float, ...] = (),
    options: dict[str, str] | None = None,
    **codecs: str,
) -> str:
    """Write a file of the parts between `cuts`, byte after byte; `skip` bytes are left out where a part begins."""
    data = b""
    for k, (low, high) in enumerate(zip(cuts, cuts[1:], strict=False)):
        part = folder / f"part{k}.{suffix}"
        shift = shifts[k] if shifts else 0.0
        write(part, *streams(low, high, shift, **codecs), options=options, format="mpeg" if suffix == "mpg" else None)
        data += part.read_bytes()[skip if k else 0 :]
    path = folder / f"joined.{suffix}"
    path.write_bytes(data)
    return str(path)


def whole(folder: Path, suffix: str, last: float = 12.0, shift: float = 0.0, **how: Any) -> str:
    """Write one file of the content's first seconds."""
    return joined(folder, suffix, (0.0, last), shifts=(shift,), **how)


def changed(path: str, change: Callable[[bytearray], None]) -> str:
    """Let `change` work on the bytes of the file and return its path."""
    data = bytearray(Path(path).read_bytes())
    change(data)
    Path(path).write_bytes(data)
    return path


def offsets(path: str, start: float, seconds: float = 3.0, stored: bool = True) -> list[float]:
    """Return by how much the video is ahead of the audio (s) at each click of a segment; at least two clicks.

    `stored`: as an extraction does it, with the timeline that the probe has kept; else the readers find it out.
    """
    timeline = probe(path).timeline if stored else None
    audio = read_audio(path, [start], seconds, 16000, timeline=timeline).segments[0]
    shown = numbers(read_video(path, [start], seconds, **HOW, timeline=timeline), RESIZE)[0]
    ahead = []
    for second, heard in clicks(audio, 16000):
        k = min(int(heard * 10), len(shown) - 1)
        ahead.append(shown[k] / FPS + heard - k / 10 - second)
    assert len(ahead) >= 2
    return ahead
