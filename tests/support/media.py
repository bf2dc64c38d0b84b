"""Real media files for tests: frames that carry their number, audio that is a known function of time.

Writes the files it is asked for (with PyAV) and nothing else. A frame has a 4×4 grid of black and white cells in
its middle: four corner cells that differ under every rotation and mirroring, twelve cells with the frame number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from config.processes import usual_scheduling

# The grid's extent as shares of the frame: inside what a 112×112 crop of 128×171 leaves.
TOP, BOTTOM, LEFT, RIGHT = 0.12, 0.88, 0.24, 0.76
CORNERS = {(0, 0): 1, (0, 3): 0, (3, 0): 0, (3, 3): 0}
BITS = [(row, column) for row in range(4) for column in range(4) if (row, column) not in CORNERS]


def numbered_frame(number: int, width: int, height: int) -> np.ndarray:
    """Return the frame that shows `number`, uint8 [height, width, 3]."""
    grid = np.zeros((4, 4), np.uint8)
    for cell, bit in CORNERS.items():
        grid[cell] = bit
    for k, cell in enumerate(BITS):
        grid[cell] = number >> k & 1
    image = np.full((height, width, 3), 90, np.uint8)
    y = np.round(np.linspace(TOP, BOTTOM, 5) * height).astype(int)
    x = np.round(np.linspace(LEFT, RIGHT, 5) * width).astype(int)
    for row, column in np.ndindex(4, 4):
        image[y[row] : y[row + 1], x[column] : x[column + 1]] = 235 if grid[row, column] else 20
    return image


def number(image: np.ndarray, resize: tuple[int, int] | None = None) -> int:
    """Read the frame number back from an upright frame that was resized to `resize` and centre-cropped.

    Returns -1 where the cells are not clearly black or white, or the frame is not upright.
    """
    height, width = resize or image.shape[:2]
    top, left = round((height - image.shape[0]) / 2), round((width - image.shape[1]) / 2)
    value = 0
    for row, column in np.ndindex(4, 4):
        y = (TOP + (BOTTOM - TOP) * (row + 0.5) / 4) * height - top
        x = (LEFT + (RIGHT - LEFT) * (column + 0.5) / 4) * width - left
        level = image[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2].mean()
        if 75 < level < 180:
            return -1
        bit = int(level >= 180)
        if (row, column) in CORNERS:
            if bit != CORNERS[row, column]:
                return -1
        else:
            value |= bit << BITS.index((row, column))
    return value


def numbers(clips: np.ndarray, resize: tuple[int, int] | None = None) -> list[list[int]]:
    """Read the number of every frame of clips [n, frames, height, width, 3]."""
    return [[number(image, resize) for image in clip] for clip in clips]


def chirp(t: np.ndarray) -> np.ndarray:
    """Return the samples at times `t` (s): three sweeps that never repeat within a minute, peak about 0.6."""
    sweeps = [np.sin(2 * np.pi * (f * t + slope * t**2)) for f, slope in ((220, 6.1), (700, 17.3), (1900, 29.7))]
    return 0.2 * np.sum(sweeps, axis=0)


@dataclass
class Video:
    """A video stream. `times` are the presentation times of its frames in seconds; frame k shows the number k."""

    times: Sequence[float]
    codec: str = "libx264"
    width: int = 160
    height: int = 120
    gop: int = 12
    bframes: int = 0
    pix_fmt: str = "yuv420p"
    time_base: Fraction = Fraction(1, 90000)
    rotation: int = 0
    """Degrees counter-clockwise by which a player turns the stored frame; `hflip` mirrors left and right then."""
    hflip: bool = False
    matrix: int | None = None
    """Colour matrix (ITU-T H.273: 1 BT.709, 5 BT.601) to convert with and to name; None: 601, not named."""
    options: dict[str, str] = field(default_factory=dict)
    draw: Callable[[int, int, int], np.ndarray] = numbered_frame


LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
"""5.1 and 7.1: left, right, centre, LFE, then pairs of surrounds."""


@dataclass
class Audio:
    """An audio stream: `wave` of the presentation time, from `start` to `end` seconds, one gain a channel (LAYOUTS)."""

    end: float
    start: float = 0.0
    codec: str = "aac"
    rate: int = 44100
    gains: tuple[float, ...] = (1.0, 1.0)
    wave: Callable[[np.ndarray], np.ndarray] = chirp
    bit_rate: int = 192_000


def regular(seconds: float, fps: float, start: float = 0.0) -> list[float]:
    """Return the presentation times (s) of a constant frame rate."""
    return [start + k / fps for k in range(round(seconds * fps))]


def write(
    path: Path | str,
    *streams: Video | Audio,
    format: str | None = None,
    options: dict[str, str] | None = None,
    keep: Callable[[Any], bool] = lambda packet: True,
) -> str:
    """Encode the streams into `path` and return it as text. `keep` can drop packets, to make gaps."""
    with usual_scheduling(), av.open(str(path), "w", format=format, options=options or {}) as container:
        packets: list[Any] = []
        for stream in streams:
            packets += list(_video(container, stream) if isinstance(stream, Video) else _audio(container, stream))
        packets.sort(key=lambda p: p.dts * p.time_base)
        for packet in packets:
            if keep(packet):
                container.mux(packet)
    return str(path)


def joined(path: Path, *parts: str) -> str:
    """Write the files end to end into `path`, as transport streams may be."""
    path.write_bytes(b"".join(Path(part).read_bytes() for part in parts))
    return str(path)


def in_one_stream(path: Path, *parts: str) -> str:
    """Write the first streams of the files as one stream of `path`; decoders meet their formats in turn."""
    with av.open(str(path), "w") as container:
        stream = None
        for part in parts:
            with av.open(part) as source:
                stream = stream or container.add_stream_from_template(source.streams[0])
                for packet in source.demux(source.streams[0]):
                    if packet.size:
                        packet.stream = stream
                        container.mux(packet)
    return str(path)


def cut_start(path: str, seconds: float) -> str:
    """Change the edit list of an mp4 with one stream so that it begins to play `seconds` later."""
    data = bytearray(Path(path).read_bytes())
    entry = data.index(b"elst") + 12  # past the name, version, flags and number of entries
    timescale = int.from_bytes(data[(mdhd := data.index(b"mdhd") + 16) : mdhd + 4])
    for position, amount in ((entry, -round(seconds * 1000)), (entry + 4, round(seconds * timescale))):
        data[position : position + 4] = (int.from_bytes(data[position : position + 4]) + amount).to_bytes(4)
    Path(path).write_bytes(data)
    return path


def _video(container: Any, v: Video) -> Iterable[Any]:
    options = dict(v.options)
    if v.codec in ("libx264", "libx265"):
        name = "x264-params" if v.codec == "libx264" else "x265-params"
        base = f"keyint={v.gop}:min-keyint={v.gop}:scenecut=0:bframes={v.bframes}:b-adapt=0"
        extra = options.pop("params", "")
        options = {"preset": "ultrafast", "crf": "23", name: base + (":" + extra if extra else ""), **options}
        if v.codec == "libx265":
            options[name] += ":log-level=none:pools=1:frame-threads=1"
    gaps = np.diff(v.times)
    rate = Fraction(1 / float(np.median(gaps))).limit_denominator(1001) if len(gaps) else Fraction(25)
    stream = container.add_stream(v.codec, rate=rate, options=options)
    stream.width, stream.height, stream.pix_fmt = v.width, v.height, v.pix_fmt
    stream.codec_context.time_base = stream.time_base = v.time_base
    stream.codec_context.thread_count = 1
    if v.codec not in ("libx264", "libx265"):
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = v.gop, v.bframes
    if v.matrix:
        stream.codec_context.colorspace = v.matrix
    if v.rotation or v.hflip:
        stream.set_display_rotation(v.rotation, hflip=v.hflip)
    ticks = [round(t / v.time_base) for t in v.times]
    for k, tick in enumerate(ticks):
        frame = av.VideoFrame.from_ndarray(_stored(v, k), format="rgb24")
        if v.pix_fmt != "rgb24":
            frame = frame.reformat(format=v.pix_fmt, dst_colorspace=v.matrix or 5)
            frame.colorspace = v.matrix or 2
        frame.pts, frame.time_base = tick, v.time_base
        frame.duration = (ticks[k + 1] if k + 1 < len(ticks) else tick + round(1 / rate / v.time_base)) - tick
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _stored(v: Video, k: int) -> np.ndarray:
    """Return frame k as it must be stored to be upright once a player has turned it."""
    turns = v.rotation // 90
    size = (v.height, v.width) if turns % 2 else (v.width, v.height)
    shown = v.draw(k, *size)
    return np.ascontiguousarray(np.rot90(shown[:, ::-1] if v.hflip else shown, -turns))


def _audio(container: Any, a: Audio) -> Iterable[Any]:
    layout = LAYOUTS[len(a.gains)]
    stream = container.add_stream(a.codec, rate=a.rate, layout=layout, options={"strict": "experimental"})
    stream.codec_context.time_base = Fraction(1, a.rate)
    if a.codec not in ("flac", "pcm_s16le"):
        stream.bit_rate = a.bit_rate
    count, first = round((a.end - a.start) * a.rate), round(a.start * a.rate)
    x = np.outer(a.gains, a.wave((first + np.arange(count)) / a.rate))
    integer = np.round(np.clip(x, -1, 1) * 32767).astype(np.int16)
    step = 1024
    for start in range(0, count, step):
        block = integer[:, start : start + step]
        if len(block) > 2:  # PyAV miscounts the planes of eight channels
            frame = av.AudioFrame.from_ndarray(block.T.reshape(1, -1).copy(), format="s16", layout=layout)
        else:
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="s16p", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = a.rate, first + start, Fraction(1, a.rate)
        yield from stream.encode(frame)
    yield from stream.encode(None)
