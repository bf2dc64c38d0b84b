"""Copies of a video as they circulate: encoded anew, cropped, trimmed, pitched and more, each another file.

`write_copy` reads a video file and writes the copy, by PyAV's decoders and filters and the encoders of
data/render/encode.py; `KINDS` has all kinds. `bench.duplicates` measures which of them `pipeline.duplicates` finds.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from data.render import encode

SEMITONE = 2 ** (1 / 12)


@dataclass(frozen=True)
class Media:
    """A decoded video: `frames` uint8 [frames, height · 3 / 2, width], yuv420p, at `fps`; `samples` float32 [2, n]."""

    frames: np.ndarray
    fps: int
    samples: np.ndarray
    rate: int


@dataclass(frozen=True)
class Kind:
    """A kind of copy: what is done, in words, and the function that does it; None: the file's bytes as they are."""

    words: str
    change: Callable[[Media, Media], Media] | None
    other_container: bool = False


def decoded(path: Path) -> Media:
    """Read a whole video with picture and sound. Raises av.FFmpegError for a damaged file."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        rate = encode.CONTAINERS[path.suffix[1:]].rate
        resampler = av.AudioResampler(format="fltp", layout="stereo", rate=rate)
        frames, samples = [], []
        for packet in container.demux(stream, container.streams.audio[0]):
            for frame in packet.decode():
                if isinstance(frame, av.VideoFrame):
                    frames.append(frame.to_ndarray(format="yuv420p"))
                elif isinstance(frame, av.AudioFrame):
                    samples += [part.to_ndarray() for part in resampler.resample(frame)]
        samples += [part.to_ndarray() for part in resampler.resample(None)]
        assert stream.average_rate is not None
        return Media(np.stack(frames), round(stream.average_rate), np.concatenate(samples, axis=1), rate)


def scaled(media: Media, width: int, height: int, crop: float = 0) -> Media:
    """Return it with frames of this size (even numbers), after `crop`, a share of each side, was cut off."""
    frames = []
    for image in media.frames:
        rgb = av.VideoFrame.from_ndarray(image, format="yuv420p").to_ndarray(format="rgb24")
        top, left = round(rgb.shape[0] * crop), round(rgb.shape[1] * crop)
        part: Any = np.ascontiguousarray(rgb[top : rgb.shape[0] - top, left : rgb.shape[1] - left])
        frame = av.VideoFrame.from_ndarray(part, format="rgb24").reformat(width, height, "yuv420p")
        frames.append(frame.to_ndarray())
    return Media(np.stack(frames), media.fps, media.samples, media.rate)


def size(media: Media) -> tuple[int, int]:
    """Return width and height."""
    return media.frames.shape[2], media.frames.shape[1] * 2 // 3


def mirrored(media: Media) -> Media:
    """Return it with left and right exchanged."""
    width, height = size(media)
    frames = media.frames.copy()
    frames[:, :height] = media.frames[:, :height, ::-1]
    # Below the brightness lie the two planes of colour, two of their rows a row.
    colour = media.frames[:, height:].reshape(len(frames), -1, width // 2)
    frames[:, height:] = colour[:, :, ::-1].reshape(len(frames), -1, width)
    return Media(frames, media.fps, media.samples, media.rate)


def cut(media: Media, start: float, end: float) -> Media:
    """Return what lies between two times in seconds."""
    frames = media.frames[round(start * media.fps) : round(end * media.fps)]
    return Media(frames, media.fps, media.samples[:, round(start * media.rate) : round(end * media.rate)], media.rate)


def seconds(media: Media) -> float:
    """Return the duration of the picture."""
    return len(media.frames) / media.fps


def pitched(media: Media, factor: float) -> Media:
    """Return it with all frequencies of the sound times `factor`, at the same speed (FFmpeg's asetrate and atempo)."""
    graph: Any = av.filter.Graph()
    nodes = [
        graph.add_abuffer(sample_rate=media.rate, format="fltp", layout="stereo"),
        graph.add("asetrate", str(round(media.rate * factor))),
        graph.add("aresample", str(media.rate)),
        graph.add("atempo", f"{1 / factor:.9f}"),
        graph.add("aformat", f"sample_fmts=fltp:channel_layouts=stereo:sample_rates={media.rate}"),
        graph.add("abuffersink"),
    ]
    for source, sink in zip(nodes, nodes[1:], strict=False):
        source.link_to(sink)
    graph.configure()
    parts = []

    def drain() -> None:
        while True:
            try:
                parts.append(graph.pull().to_ndarray())
            except (av.BlockingIOError, av.EOFError):
                return

    for start in range(0, media.samples.shape[1], media.rate):
        part = np.ascontiguousarray(media.samples[:, start : start + media.rate])
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = media.rate, start
        graph.push(frame)
        drain()
    graph.push(None)
    drain()
    samples = np.concatenate(parts, axis=1)[:, : media.samples.shape[1]]
    return Media(media.frames, media.fps, samples, media.rate)


def with_sound(media: Media, samples: np.ndarray) -> Media:
    """Return it with other sound, float32 [2, n]."""
    return Media(media.frames, media.fps, samples, media.rate)


def with_pictures(media: Media, other: Media) -> Media:
    """Return its sound under another video's pictures, repeated or cut to its length."""
    count = round(seconds(media) * other.fps)
    frames = other.frames[np.arange(count) % len(other.frames)]
    return Media(frames, other.fps, media.samples, media.rate)


KINDS: dict[str, Kind] = {
    "same_bytes": Kind("the same bytes", None),
    "encoded": Kind("encoded again", lambda media, _: media),
    "container": Kind("in the other container (MP4 with H.264 and AAC ↔ WebM with VP9 and Opus)", lambda m, _: m, True),
    "smaller": Kind("half the width and height", lambda m, _: scaled(m, *(n // 4 * 2 for n in size(m)))),
    "cropped": Kind("an eighth cut off every side", lambda m, _: scaled(m, *size(m), crop=1 / 8)),
    "mirrored": Kind("mirrored", lambda m, _: mirrored(m)),
    "quieter": Kind("half the amplitude", lambda m, _: with_sound(m, m.samples / 2)),
    "pitched_up": Kind("a semitone higher", lambda m, _: pitched(m, SEMITONE)),
    "pitched_down": Kind("a semitone lower", lambda m, _: pitched(m, 1 / SEMITONE)),
    "trimmed": Kind("without the first 3 s and the last 2 s", lambda m, _: cut(m, 3, seconds(m) - 2)),
    "half": Kind("the first half alone", lambda m, _: cut(m, 0, seconds(m) / 2)),
    "other_pictures": Kind("under another video's pictures", with_pictures),
}
"""Every kind of copy by its name."""


def write_copy(path: Path, other: Path, kind: str, target: Path) -> Path:
    """Write a copy of the video at `path` as `target` with the container's ending; return its path.

    `other` is another video, whose pictures `other_pictures` takes. Raises OSError when it cannot be written.
    """
    about, container = KINDS[kind], path.suffix[1:]
    if about.other_container:
        (container,) = set(encode.CONTAINERS) - {container}
    written = target.with_name(f"{target.name}.{container}")
    if about.change is None:
        shutil.copyfile(path, written)
        return written
    original = decoded(path)
    media = about.change(original, decoded(other) if kind == "other_pictures" else original)
    wanted = encode.CONTAINERS[container].rate
    if media.rate != wanted:
        media = Media(media.frames, media.fps, resampled(media, wanted), wanted)
    encode.write(written, container, media.frames, media.fps, np.clip(media.samples, -0.999, 0.999))
    return written


def resampled(media: Media, rate: int) -> np.ndarray:
    """Return the samples at another rate in Hz, float32 [2, n]."""
    import soxr

    samples: np.ndarray = soxr.resample(media.samples.T, media.rate, rate).T
    return samples
