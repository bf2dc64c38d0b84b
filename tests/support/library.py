"""Small videos of every kind that a reader meets, each made once, with numbered frames (tests/support/media.py)."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.bitstream import BitStreamFilterContext

from tests.support.media import Audio, Video, cut_start, numbered_frame, regular, write

RESIZE, CROP = (128, 171), (112, 112)
MS = Fraction(1, 1000)
TICK = Fraction(1, 25)
JITTERED = np.cumsum(np.r_[0, np.random.default_rng(0).uniform(0.01, 0.12, 80)]).tolist()
T25 = regular(5, 25)
VP = {"cpu-used": "8", "deadline": "realtime", "lag-in-frames": "8", "b": "400000"}
MPEG = {"b": "2000000"}
FRAGMENTED = {"options": {"movflags": "frag_keyframe+empty_moov"}}

LIBRARY: dict[str, tuple[list[Video | Audio], dict]] = {
    "constant.mp4": ([Video(T25, gop=25), Audio(5)], {}),
    "bframes.mp4": ([Video(regular(5, 30000 / 1001), bframes=3, gop=48, options={"params": "b-pyramid=normal"})], {}),
    "one_gop.mkv": ([Video(T25, bframes=2, gop=1000, time_base=MS)], {}),
    "variable.mp4": ([Video(JITTERED, bframes=2)], {}),
    "variable.mkv": ([Video(JITTERED, bframes=2, time_base=MS)], {}),
    "offset.ts": ([Video(regular(5, 25, 3.2), bframes=2), Audio(8.2, 3.2)], {}),
    "offset.mkv": ([Video(regular(5, 30, 3.2), bframes=2, time_base=MS)], {}),
    "offset.mp4": ([Video(regular(5, 30, 3.2), bframes=2)], {}),
    "edited.mp4": ([Video(T25, bframes=2, gop=40)], {"cut": 0.72}),
    "late.mp4": ([Video(regular(4, 25, 0.62), bframes=2), Audio(5)], {}),
    "hevc_open_gop.mp4": ([Video(T25, "libx265", bframes=4, gop=20, options={"params": "open-gop=1"})], {}),
    "hevc_10_bit.mp4": ([Video(T25, "libx265", gop=20, pix_fmt="yuv420p10le")], {}),
    "hevc_leading.mp4": ([Video(T25, "libx265", bframes=4, gop=20, options={"params": "open-gop=0:radl=2"})], {}),
    "open_gop.mkv": ([Video(T25, bframes=3, gop=20, options={"params": "open-gop=1"})], {}),
    "refresh.mp4": ([Video(T25, gop=40, options={"params": "intra-refresh=1"})], {}),
    "interlaced.mp4": ([Video(T25, bframes=2, gop=20, options={"params": "interlaced=1"})], {}),
    "fragmented.mp4": ([Video(T25, bframes=2, gop=20), Audio(5)], FRAGMENTED),
    "vp9_opus.webm": ([Video(T25, "libvpx-vp9", gop=40, options=VP), Audio(5, codec="libopus", rate=48000)], {}),
    "no_duration.webm": ([Video(T25, "libvpx-vp9", gop=40, options=VP)], {"options": {"live": "1"}}),
    "vp8.webm": ([Video(T25, "libvpx", gop=40, time_base=MS, options=VP)], {}),
    "av1.mkv": (
        [Video(regular(2, 25), "libsvtav1", 320, 240, time_base=MS, options={"preset": "10", "crf": "15"})],
        {},
    ),
    "mpeg4.avi": ([Video(T25, "mpeg4", bframes=2, time_base=TICK, options=MPEG)], {}),
    "h264.avi": ([Video(T25, bframes=2, time_base=TICK)], {}),
    "h264.flv": ([Video(T25, bframes=2, gop=20), Audio(5)], {}),
    "mpeg2.ts": ([Video(T25, "mpeg2video", bframes=2, time_base=TICK, options=MPEG)], {}),
    "mpeg2.mpg": ([Video(T25, "mpeg2video", bframes=2, time_base=TICK, options=MPEG)], {"format": "mpeg"}),
    "jpeg.mov": ([Video(T25, "mjpeg", pix_fmt="yuvj420p", options={"qmin": "2", "qmax": "4"})], {}),
    "odd_size.webm": ([Video(T25, "libvpx-vp9", 163, 121, options=VP)], {}),
    "odd_444.mkv": ([Video(T25, width=163, height=121, pix_fmt="yuv444p")], {}),
    "rgb.mkv": ([Video(T25, "libx264rgb", pix_fmt="rgb24")], {}),
    "slow.mp4": ([Video(regular(5, 3), gop=4)], {}),
}


def turned_midway(folder: Path) -> str:
    """Write fifty frames whose second half is stored lying, and says so itself (H.264 display orientation)."""

    def lying(k: int, width: int, height: int) -> np.ndarray:
        return np.ascontiguousarray(np.rot90(numbered_frame(25 + k, height, width), -1))

    how: dict[str, Any] = {"options": {"params": "repeat-headers=1"}, "gop": 25}
    parts = [Video(regular(1, 25), **how), Video(regular(1, 25, 1), **how, draw=lying)]
    with av.open(str(folder / "turned.mkv"), "w") as container:
        stream = None
        for i, part in enumerate(parts):
            with av.open(write(folder / f"part{i}.ts", part)) as source:
                video = source.streams.video[0]
                stream = stream or container.add_stream_from_template(video)
                for packet in source.demux(video):
                    if i and packet.size:  # a new filter each time, for it writes the orientation only once
                        insert = "h264_metadata=rotate=90:display_orientation=insert"
                        (packet,) = BitStreamFilterContext(insert, video).filter(packet)
                    if packet.size:
                        packet.stream = stream
                        container.mux(packet)
    return str(folder / "turned.mkv")


Files = Callable[[str], str]


def maker(folder: Path) -> Files:
    """Return a function that makes a file of LIBRARY in the folder, once, and returns its path."""

    @cache
    def make(name: str) -> str:
        streams, how = LIBRARY[name]
        cut = how.get("cut", 0)
        path = write(folder / name, *streams, **{key: value for key, value in how.items() if key != "cut"})
        return cut_start(path, cut) if cut else path

    return make
