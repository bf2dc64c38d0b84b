"""Encodes frames and audio into one file with PyAV. Reads nothing; writes `<name>.wip`, then renames it to its name.

H.264 and AAC in MP4, or VP9 and Opus in WebM, at the encoders' fastest settings and with one thread each: the renderer
uses its cores for several videos at a time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from config.cli import UserError

PARTIAL = ".wip"


@dataclass(frozen=True)
class Container:
    """A container with the encoders used in it. `rate`: sampling rate of its audio in Hz."""

    video: str
    video_options: dict[str, str]
    audio: str
    audio_options: dict[str, str]
    sample_format: str
    bit_rate: int
    rate: int


CONTAINERS = {
    "mp4": Container(
        "libx264", {"preset": "ultrafast", "crf": "30"},
        # The tools switched off shape high frequencies at low bit rates and cost half the encoder's time.
        "aac", {"aac_coder": "fast", "aac_ms": "0", "aac_is": "0", "aac_tns": "0", "aac_pns": "0"},
        "fltp", 64_000, 44_100,
    ),
    "webm": Container(
        "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "crf": "36", "b": "0"},
        "libopus", {"compression_level": "0"},
        "flt", 96_000, 48_000,
    ),
}  # fmt: skip


def check() -> None:
    """Raise UserError if this PyAV was built without one of the encoders."""
    for container in CONTAINERS.values():
        for codec in (container.video, container.audio):
            try:
                av.Codec(codec, "w")
            except ValueError:
                raise UserError(
                    f"the installed PyAV ({av.__version__}) has no encoder {codec}, which the rendered videos need. "
                    "Install the pinned wheel (`pip install -r requirements.txt`) instead of a build of your own."
                ) from None


def write(path: Path, container: str, frames: Iterable[np.ndarray], fps: int, samples: np.ndarray) -> None:
    """Write the file `path`, complete or not at all.

    `frames`: [height · 3 / 2, width] uint8 each, yuv420p, `fps` per second. `samples`: [2, n] float32 in (-1, 1) at
    the container's rate. Both streams start at 0, with the lengths given. OSError if the disk is full.
    """
    spec = CONTAINERS[container]
    partial = path.with_name(path.name + PARTIAL)
    # bitexact: no random identifiers and no library versions in the file.
    with av.open(str(partial), "w", format=container, options={"fflags": "bitexact"}) as out:
        video = out.add_stream(spec.video, rate=fps, options=spec.video_options)
        audio = out.add_stream(spec.audio, rate=spec.rate, options=spec.audio_options)
        assert isinstance(video, av.VideoStream) and isinstance(audio, av.AudioStream)
        video.pix_fmt, video.gop_size = "yuv420p", 50
        video.codec_context.thread_count = 1
        audio.codec_context.layout, audio.codec_context.format = "stereo", spec.sample_format
        audio.bit_rate = spec.bit_rate
        for number, image in enumerate(frames):
            if number == 0:
                video.height, video.width = image.shape[0] * 2 // 3, image.shape[1]
            # A second of audio before the second of video that it belongs to, so that the packets interleave.
            if number % fps == 0:
                _encode_second(out, audio, spec, samples, number // fps)
            frame = av.VideoFrame.from_ndarray(image, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            out.mux(video.encode(frame))
        out.mux(video.encode())
        out.mux(audio.encode())
    os.replace(partial, path)


def _encode_second(
    out: av.container.OutputContainer, stream: av.AudioStream, spec: Container, samples: np.ndarray, second: int
) -> None:
    """Encode one second of the audio."""
    start = second * spec.rate
    part = samples[:, start : start + spec.rate]
    if part.shape[1] == 0:
        return
    planes = part if spec.sample_format == "fltp" else part.T.reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(planes), format=spec.sample_format, layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = spec.rate, start, Fraction(1, spec.rate)
    out.mux(stream.encode(frame))
