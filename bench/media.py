"""Renders the files that the benches read: one scene, four codecs. Reads nothing; writes FOLDER/<name>.<suffix>.

    python -m bench.media FOLDER [--seconds 240]

1280×720 at 25 frames a second: detailed frames under a moving, slowly shaking camera with grain, cut every 3 to 7 s,
with audio. Encoding is most of the work, so BLOCK seconds are encoded and their packets are repeated with later time
stamps (every block begins with a keyframe); a decoder has the same work as for a file without repeats. Files that exist
are kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from config.cli import UserError, parser, run
from config.processes import usual_scheduling

WIDTH, HEIGHT, FPS = 1280, 720, 25
SECONDS = 240.0
BLOCK = 40.0
"""Seconds of video that are encoded."""


@dataclass(frozen=True)
class File:
    """A file of the bench: what is in it and how it is encoded."""

    name: str
    suffix: str
    codec: str
    options: dict[str, str]
    gop: int
    audio_codec: str
    rate: int
    words: str


FILES = (
    File(
        "h264_gop250",
        "mp4",
        "libx264",
        {"preset": "veryfast", "b": "2500k", "maxrate": "4000k", "bufsize": "8000k"},
        250,
        "aac",
        44100,
        "H.264, GOP 250",
    ),
    File(
        "h264_gop50",
        "mp4",
        "libx264",
        {"preset": "veryfast", "b": "2500k", "maxrate": "4000k", "bufsize": "8000k", "x264-params": "scenecut=0"},
        50,
        "aac",
        44100,
        "H.264, GOP 50",
    ),
    File(
        "vp9",
        "webm",
        "libvpx-vp9",
        {"deadline": "realtime", "cpu-used": "7", "row-mt": "1", "tile-columns": "2", "b": "2500k"},
        128,
        "libopus",
        48000,
        "VP9",
    ),
    File("av1", "mp4", "libsvtav1", {"preset": "12", "crf": "42"}, 160, "libopus", 48000, "AV1"),
)


def path_of(folder: Path, file: File) -> Path:
    """Return where a file of the bench is."""
    return folder / f"{file.name}.{file.suffix}"


def render(folder: Path, seconds: float = SECONDS, files: Sequence[File] = FILES) -> list[File]:
    """Render what is missing; return the files that this PyAV can encode. OSError when the disk is full."""
    folder.mkdir(parents=True, exist_ok=True)
    rendered = []
    for file in files:
        try:
            av.Codec(file.codec, "w")
        except ValueError:
            print(f"{file.words}: left out, this PyAV ({av.__version__}) has no encoder {file.codec}")
            continue
        if not path_of(folder, file).exists():
            _write(folder, file, seconds)
        rendered.append(file)
    if not rendered:
        raise UserError("this PyAV has no encoder at all; install the pinned wheel (requirements.txt)")
    return rendered


def frames(count: int, seed: int = 1) -> Iterator[np.ndarray]:
    """Yield `count` frames as yuv420p [HEIGHT · 3 / 2, WIDTH] uint8: textures of all scales under a moving camera."""
    random = np.random.default_rng(seed)
    grain = random.normal(0, 2.5, (HEIGHT + 64, WIDTH + 64)).astype(np.int16)
    world, frames_left = _world(random), 0
    position, speed, centre = np.zeros(2), np.zeros(2), np.zeros(2)
    for number in range(count):
        if frames_left == 0:
            frames_left = int(random.integers(3 * FPS, 7 * FPS))
            world = [np.roll(plane, random.integers(0, plane.shape[1]), 1) for plane in world]
            position, speed = random.uniform(100, 300, 2), random.uniform(-2.5, 2.5, 2)
        frames_left -= 1
        position = np.clip(position + speed, 8, 500)
        shake = 3 * np.array([np.sin(number / 7), np.cos(number / 11)])
        y, x = (2 * ((position + shake) // 2)).astype(int)
        planes = [
            world[k][y // s : y // s + HEIGHT // s, x // s : x // s + WIDTH // s].copy()
            for k, s in ((0, 1), (1, 2), (2, 2))
        ]
        # Something that moves against the background, as people do in front of a stage.
        centre += random.uniform(-4, 5, 2)
        top, edge = int(centre[0]) % (HEIGHT // 2) // 2 * 2, int(centre[1]) % (WIDTH // 2) // 2 * 2
        planes[0][top : top + 320, edge : edge + 200] = 255 - planes[0][top : top + 320, edge : edge + 200][::-1]
        noise = grain[(gy := random.integers(64)) : gy + HEIGHT, (gx := random.integers(64)) : gx + WIDTH]
        luma = np.clip(planes[0] + noise, 16, 235).astype(np.uint8)
        yield np.concatenate([luma, *(plane.reshape(HEIGHT // 4, WIDTH) for plane in planes[1:])])


def _world(random: np.random.Generator) -> list[np.ndarray]:
    """Draw a large image, Y [·, ·] and U, V of half its size: octaves of noise, for edges at every scale."""
    size = 1792, 2048
    planes = []
    for scale, octaves in ((1, (4, 8, 16, 64, 256)), (2, (32, 128)), (2, (32, 128))):
        h, w = size[0] // scale, size[1] // scale
        total = np.zeros((h, w))
        for step in octaves:
            rough = random.normal(0, step**0.6, (h // step + 1, w // step + 1))
            total += np.repeat(np.repeat(rough, step, 0), step, 1)[:h, :w]
        planes.append(np.clip(128 + 45 * total / total.std(), 16, 235).astype(np.uint8))
    return planes


def _samples(rate: int, seconds: float) -> np.ndarray:
    """Make [2, samples] float32: chords with a beat."""
    t = np.arange(round(rate * seconds)) / rate
    root = 110 * 2 ** (np.floor(t / 2) % 5 / 12)
    chord = sum(np.sin(2 * np.pi * np.cumsum(root * overtone) / rate) / overtone for overtone in (1, 1.5, 2, 3, 5))
    beat = np.random.default_rng(2).normal(0, 1, len(t)) * np.exp(-(t % 0.5) * 20)
    return np.stack([0.15 * chord + 0.1 * beat, 0.12 * chord - 0.1 * beat]).astype(np.float32)


def _write(folder: Path, file: File, seconds: float) -> None:
    path = path_of(folder, file)
    partial = path.with_name(path.name + ".wip")
    block = min(BLOCK, seconds)
    with usual_scheduling(), av.open(str(partial), "w", format=file.suffix) as out:
        options = {**file.options, **({"svtav1-params": f"keyint={file.gop}"} if file.codec == "libsvtav1" else {})}
        video: Any = out.add_stream(file.codec, rate=FPS, options=options)
        audio: Any = out.add_stream(file.audio_codec, rate=file.rate)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.gop_size, video.codec_context.thread_count = file.gop, 0
        audio.codec_context.layout, audio.bit_rate = "stereo", 128_000
        encoded = list(_video(video, block))
        copies = [(repeat * block, packet) for repeat in range(round(seconds / block)) for packet in encoded]
        packets = [_later(packet, shift, video) for shift, packet in copies] + list(_audio(audio, file, seconds))
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            out.mux(packet)
    os.replace(partial, path)


def _later(packet: Any, seconds: float, stream: Any) -> Any:
    """Copy a packet with later stamps."""
    copy, ticks = av.Packet(bytes(packet)), round(seconds / packet.time_base)
    copy.stream, copy.time_base, copy.is_keyframe = stream, packet.time_base, packet.is_keyframe
    copy.pts, copy.dts, copy.duration = packet.pts + ticks, packet.dts + ticks, packet.duration
    return copy


def _video(stream: Any, seconds: float) -> Iterator[Any]:
    for number, image in enumerate(frames(round(seconds * FPS))):
        frame = av.VideoFrame.from_ndarray(image, format="yuv420p")
        frame.pts, frame.time_base = number, Fraction(1, FPS)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _audio(stream: Any, file: File, seconds: float) -> Iterator[Any]:
    samples = _samples(file.rate, seconds)
    for start in range(0, samples.shape[1], file.rate):
        part = samples[:, start : start + file.rate]
        if file.audio_codec == "libopus":
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(part.T.reshape(1, -1)), format="flt", layout="stereo"
            )
        else:
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = file.rate, start, Fraction(1, file.rate)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "bench.media", config=False)
    command_line.add_argument("folder", type=Path, help="where the files are kept")
    command_line.add_argument(
        "--seconds", type=float, default=SECONDS, help="length of each file, a multiple of 40 s if longer"
    )
    arguments = command_line.parse_args()
    for file in render(arguments.folder, arguments.seconds):
        path = path_of(arguments.folder, file)
        print(f"{path}  {file.words}  {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    run(main)
