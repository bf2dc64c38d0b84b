"""Opens a media file as nothing but a media file. Reads that one file; writes nothing.

A table of videos comes from somewhere, so its files are not trusted. FFmpeg would follow a playlist to other files or
to the network, read `%03d` in a name as a series of images, and guess a demuxer from the extension. Here the file is
opened first, must be a regular one, and FFmpeg gets the open descriptor and nothing else: no name, no other protocol,
and only demuxers of containers. FFmpeg's log lines are off. `reported_as` is the edge at which every exception becomes
a MediaError.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import av
import av.logging
from av.container import Flags, InputContainer
from av.stream import Discard, Disposition, Stream

from pipeline.readers import MediaError

FORMATS = "aac,aiff,asf,avi,dv,flac,flv,matroska,mov,mp3,mpeg,mpegts,mxf,nut,ogg,rm,wav"
MAX_STREAMS = 64
MAX_PIXELS = 8192 * 8192
# Old FFmpegs, such as decord's, take a file that begins like this for a playlist, whatever follows.
PLAYLISTS = (
    b"#EXTM3U",
    b"ffconcat",
    b"<?xml",
    b"<MPD",
    b"<smil",
    b"<SmoothStreamingMedia",
    b"[playlist]",
    b"[Reference]",
)


@dataclass(frozen=True)
class Media:
    """An open file."""

    container: InputContainer
    descriptor: int
    """The file descriptor under it."""
    origin: float
    """The container's own time (s) at which the file begins to play: zero of the presentation clock."""

    def best(self, kind: Literal["audio", "video"]) -> Any | None:
        """The stream that a player would choose, or None. A cover picture is not a video stream."""
        chosen = self.container.streams.best(kind)
        if chosen is not None and not is_cover(chosen):
            return chosen
        return next((s for s in self.container.streams if s.type == kind and not is_cover(s)), None)

    def only(self, kind: Literal["audio", "video"]) -> Any:
        """`best`, with FFmpeg told to skip all other streams.

        Raises MediaError: no_audio_stream, no_video_stream, decode_error (unknown codec).
        """
        chosen = self.best(kind)
        if chosen is None:
            raise MediaError(f"no_{kind}_stream", f"the file has no {'sound' if kind == 'audio' else 'pictures'}")
        if chosen.codec_context is None:
            raise MediaError("decode_error", f"FFmpeg has no decoder for this {kind} stream", unsupported=True)
        for stream in self.container.streams:
            if stream is not chosen:
                stream.discard = Discard.all
        return chosen


def is_cover(stream: Stream) -> bool:
    """Whether the stream is a picture attached to the file, not a video."""
    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))


@contextmanager
def reported_as(reason: str) -> Iterator[None]:
    """Turn every exception inside into a MediaError with this reason; MediaErrors pass.

    FFmpeg reports damage as almost any exception (InvalidDataError, ValueError, PermissionError, UnicodeDecodeError …).
    """
    try:
        yield
    except MediaError:
        raise
    except MemoryError as error:
        raise MediaError(
            "out_of_memory", "decoding asked for more memory than there is; the file may be damaged"
        ) from error
    except av.error.InvalidDataError as error:
        raise MediaError(reason, "FFmpeg finds invalid data: the file is damaged or not what it seems") from error
    except (av.error.DecoderNotFoundError, av.error.PatchWelcomeError) as error:
        raise MediaError(reason, f"FFmpeg cannot decode this: {error.strerror}", unsupported=True) from error
    except av.error.FFmpegError as error:
        raise MediaError(reason, f"FFmpeg gives up: {error.strerror}") from error
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise MediaError(reason, f"{type(error).__name__}: {text}" if text else type(error).__name__) from error


@contextmanager
def open_media(path: str) -> Iterator[Media]:
    """Open a local media file for reading and close it at the end.

    Raises MediaError: `missing` (no such file, no permission), `unreadable` (not a regular file, empty, a playlist, an
    unknown container, more than MAX_STREAMS streams, pictures of more than MAX_PIXELS).
    """
    av.logging.set_level(None)
    descriptor = _descriptor(path)
    try:
        with reported_as("unreadable"):
            container = _container(descriptor)
        with container:
            with reported_as("unreadable"):
                _check(container)
                origin = max(0, container.start_time or 0) / av.time_base
            yield Media(container, descriptor, origin)
    finally:
        os.close(descriptor)


def _descriptor(path: str) -> int:
    try:
        # O_NONBLOCK: a named pipe without a writer would block for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        raise MediaError("missing", "there is no such file") from None
    except (OSError, ValueError) as error:
        raise MediaError("missing", f"the file cannot be opened: {getattr(error, 'strerror', None) or error}") from None
    status = os.fstat(descriptor)
    problem = None
    if stat.S_ISDIR(status.st_mode):
        problem = "this is a folder"
    elif not stat.S_ISREG(status.st_mode):
        problem = "this is not a regular file"
    elif status.st_size == 0:
        problem = "the file is empty"
    elif os.pread(descriptor, 64, 0).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(PLAYLISTS):
        problem = "this is a playlist, not a media file"
    if problem:
        os.close(descriptor)
        raise MediaError("unreadable", problem)
    return descriptor


def _container(descriptor: int) -> InputContainer:
    options = {"fd": str(descriptor), "protocol_whitelist": "fd", "format_whitelist": FORMATS}
    try:
        container = av.open("fd:", "r", options=options, metadata_errors="replace")
    except av.error.ArgumentError:
        # FFmpeg's answer to a container outside FORMATS.
        raise MediaError("unreadable", "this is not a video or sound container that is read here") from None
    # PyAV lets FFmpeg invent presentation stamps for containers without any (AVI), wrongly for H.264 with B-frames.
    invent: Any = Flags.gen_pts
    container.flags &= ~invent.value
    return container


def _check(container: InputContainer) -> None:
    count = len(container.streams)
    if count > MAX_STREAMS:
        raise MediaError("unreadable", f"the file has {count} streams; more than {MAX_STREAMS} are not read")
    for stream in container.streams:
        context: Any = stream.codec_context
        if stream.type != "video" or context is None or is_cover(stream):
            continue
        if context.width * context.height > MAX_PIXELS:
            raise MediaError("unreadable", f"pictures of {context.width}×{context.height} are too large to be read")
