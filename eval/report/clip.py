"""One short, small clip of a video and a still from its middle. Runs in a worker process (pipeline/workers.py).

Reads one media file, or two where the audio is a file of its own; writes the two files that it is asked for. The clip
is decoded and encoded anew, with its own size and bit rate: nothing of the original file, its metadata included, is
copied. A file without video gets black frames, one without audio silence, so that both can be played.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
from PIL import Image

from config.files import replacing
from data.render import encode
from pipeline.readers import MediaError
from pipeline.readers.audio import read_audio
from pipeline.readers.follow import KINDS
from pipeline.readers.opening import Kind, open_media, reported_as
from pipeline.readers.source import Source
from pipeline.readers.video import orientation, read_video

HEIGHT, WIDTH, FPS = 108, 192, 10
"""The clip's frames, in pixels, and frames a second: H.264 beside AAC of 64 kbit/s, about 20 kB a second in all."""


def clip(
    path: Source,
    start: float,
    seconds: float,
    out: str,
    decoder: str,
    audio_path: Source | None = None,
    audio_offset: float = 0.0,
) -> tuple[int, int]:
    """Write `seconds` of the video from `start` on as `out`.mp4, and `out`.jpg; return their sizes in bytes.

    The sound is that of `audio_path`, if given, in which the video begins at the second `audio_offset`. Frames keep
    their aspect ratio, between black bars. Raises MediaError as the readers do.
    """
    canvas = np.zeros((round(seconds * FPS), HEIGHT, WIDTH, 3), np.uint8)
    rate = encode.CONTAINERS["mp4"].rate
    samples = np.zeros((1, round(seconds * rate)), np.float32)
    # Of a video with a separate audio track, one kind of stream of each file counts.
    seen: tuple[Kind, ...]
    heard: tuple[Kind, ...]
    seen, heard = (KINDS, KINDS) if audio_path is None else (("video",), ("audio",))
    with _lacking("no_video_stream") as no_video:
        height, width = _inside(path)
        size = (height, width)
        decoded = read_video(path, [start], seconds, fps=FPS, resize=size, crop=size, decoder=decoder, kinds=seen)
        top, left = (HEIGHT - height) // 2, (WIDTH - width) // 2
        canvas[:, top : top + height, left : left + width] = decoded[0]
    with _lacking("no_audio_stream") as no_audio:
        sound, begin = (path, start) if audio_path is None else (audio_path, start + audio_offset)
        samples = read_audio(sound, [begin], seconds, rate, kinds=heard).segments
    if no_video and no_audio:
        raise no_video[0]
    audio = np.repeat(samples, 2, axis=0)
    film, still = Path(f"{out}.mp4"), Path(f"{out}.jpg")
    frames = (
        av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p").to_ndarray() for pixels in canvas
    )
    encode.write(film, "mp4", frames, FPS, audio)
    with replacing(still) as temporary:
        Image.fromarray(canvas[len(canvas) // 2]).save(temporary, "JPEG", quality=75)
    return film.stat().st_size, still.stat().st_size


@contextmanager
def _lacking(reason: str) -> Iterator[list[MediaError]]:
    """Yield a list that gets a MediaError of this reason from inside the `with` block; others pass."""
    caught: list[MediaError] = []
    try:
        yield caught
    except MediaError as error:
        if error.reason != reason:
            raise
        caught.append(error)


def _inside(path: Source) -> tuple[int, int]:
    """Return height and width of the video's upright frames when scaled to fit into the clip's, both even."""
    with open_media(path) as media, reported_as("decode_error"):
        stream = media.only("video")
        frame = next(iter(media.container.decode(stream)))
        aspect = stream.display_aspect_ratio or 0
        height, width = frame.height, frame.width
        shape = float(aspect) if aspect else width / height
        if orientation(frame)[0]:
            shape = 1 / shape
    scale = min(HEIGHT, WIDTH / shape)
    return max(2, round(scale / 2) * 2), max(2, min(WIDTH, round(scale * shape / 2) * 2))
