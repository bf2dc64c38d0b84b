"""Opens an untrusted media file safely. Reads that one file; writes nothing.

FFmpeg would follow a playlist to other files or to the network, read `%03d` in a name as a series of images, and guess
a demuxer from the extension. Here the file is opened first, must be a regular one, and FFmpeg only gets the open
descriptor: no name, no other protocol, and only demuxers of containers. FFmpeg's log is off. `reported_as` turns every
exception into a MediaError.
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
from pipeline.readers.encryption import is_encrypted
from pipeline.readers.source import Content, Source, Span

Kind = Literal["audio", "video"]
FORMATS = "aac,aiff,asf,avi,dv,flac,flv,matroska,mov,mp3,mpeg,mpegts,mxf,nut,ogg,rm,wav"
MAX_STREAMS = 64
"""Most audio and video streams. Fonts, subtitles, data and cover art do not count: they are not read."""
MAX_PIXELS = 8192 * 8192
BLOCK = 131_072
"""Most bytes of one read. FFmpeg would read over a megabyte of MP4 after each seek, to have audio and video at once."""
# Old FFmpegs, such as decord's, treat a file that begins like this as a playlist, whatever follows.
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
    content: Content
    """Its bytes."""
    origin: float
    """The container's own time (s) at which the file begins to play: zero of the presentation clock."""

    @property
    def formats(self) -> set[str]:
        """FFmpeg's names of the container format."""
        return set(self.container.format.name.split(","))

    def best(self, kind: Kind) -> Any | None:
        """Return the stream that a player would choose, or None. Cover art is not a video stream."""
        chosen = self.container.streams.best(kind)
        if chosen is not None and not is_cover(chosen):
            return chosen
        return next((stream for stream in self.container.streams if stream.type == kind and not is_cover(stream)), None)

    def only(self, kind: Kind) -> Any:
        """Return `best` and make FFmpeg skip all other streams.

        Raises MediaError: no_audio_stream, no_video_stream, encrypted, decode_error (unknown codec).
        """
        chosen = self.best(kind)
        if chosen is None:
            raise MediaError(f"no_{kind}_stream", f"the file has no {kind} stream")
        if is_encrypted(self.content, self.container.format.name, chosen, list(self.container.streams)):
            raise MediaError("encrypted", f"the {kind} is encrypted")
        if chosen.codec_context is None:
            raise MediaError("decode_error", f"FFmpeg has no decoder for this {kind} stream", unsupported=True)
        for stream in self.container.streams:
            if stream is not chosen:
                stream.discard = Discard.all
        return chosen


def ticks_of(item: Any) -> int | None:
    """Return the presentation stamp of a (PyAV) packet or frame, or else its decoding stamp, in ticks; None without."""
    stamp: int | None = item.pts if item.pts is not None else item.dts
    return stamp


def is_cover(stream: Stream) -> bool:
    """Return whether the stream is an image attached to the file, not a video."""
    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))


@contextmanager
def reported_as(reason: str) -> Iterator[None]:
    """Turn every exception inside the `with` block into a MediaError with this reason; MediaErrors pass unchanged.

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
def open_media(source: Source) -> Iterator[Media]:
    """Open a local media file for reading; it is closed when the `with` block ends.

    Raises MediaError: `missing` (no such file, no permission), `unreadable` (a read error, not a regular file, empty,
    cut off within the stretch that is asked for, a playlist, an unknown container, more than MAX_STREAMS audio and
    video streams, frames of more than MAX_PIXELS).
    """
    av.logging.set_level(None)
    content = _content(source)
    try:
        with reported_as("unreadable"):
            container = _container(content)
        with container:
            with reported_as("unreadable"):
                _check(container)
                origin = max(0, container.start_time or 0) / av.time_base
            yield Media(container, content, origin)
    finally:
        os.close(content.descriptor)


def _content(source: Source) -> Content:
    path = source.path if isinstance(source, Span) else source
    try:
        # O_NONBLOCK: a named pipe without a writer would block for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        raise MediaError("missing", "there is no such file") from None
    except (OSError, ValueError) as error:
        raise MediaError("missing", f"the file cannot be opened: {getattr(error, 'strerror', None) or error}") from None
    try:
        return _checked(descriptor, source)
    except OSError as error:
        os.close(descriptor)
        raise MediaError("unreadable", f"the file cannot be read: {error.strerror}") from None
    except MediaError:
        os.close(descriptor)
        raise


def _checked(descriptor: int, source: Source) -> Content:
    """Return the bytes of an open source. Raises MediaError if it is no media file, OSError if its state is unknown."""
    status = os.fstat(descriptor)
    whole = not isinstance(source, Span)
    begin, size = (source.begin, source.size) if isinstance(source, Span) else (0, status.st_size)
    content = Content(descriptor, begin, size, whole)
    problem = None
    if stat.S_ISDIR(status.st_mode):
        problem = "this is a folder"
    elif not stat.S_ISREG(status.st_mode):
        problem = "this is not a regular file"
    elif size == 0:
        problem = "the file is empty"
    elif begin + size > status.st_size:
        problem = "the file that it is in ends before it does"
    elif content.read(64, 0).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(PLAYLISTS):
        problem = "this is a playlist, not a media file"
    if problem:
        raise MediaError("unreadable", problem)
    return content


def _container(content: Content) -> InputContainer:
    url, protocols = "fd:", "fd"
    if not content.whole:
        url, protocols = f"subfile,,start,{content.begin},end,{content.begin + content.size},,:fd:", "subfile,fd"
    options = {"fd": str(content.descriptor), "protocol_whitelist": protocols}
    options |= {"format_whitelist": FORMATS, "blocksize": str(BLOCK)}
    try:
        container = av.open(url, "r", options=options, metadata_errors="replace")
    except av.error.ArgumentError:
        # FFmpeg raises this for a container outside FORMATS.
        raise MediaError("unreadable", "this container format is not supported") from None
    # PyAV makes FFmpeg generate presentation stamps for containers without any (AVI), wrong for H.264 with B-frames.
    generate: Any = Flags.gen_pts
    container.flags &= ~generate.value
    return container


def _check(container: InputContainer) -> None:
    count = sum(stream.type in ("audio", "video") and not is_cover(stream) for stream in container.streams)
    if count > MAX_STREAMS:
        raise MediaError(
            "unreadable", f"the file has {count} audio and video streams; more than {MAX_STREAMS} are not supported"
        )
    for stream in container.streams:
        context: Any = stream.codec_context
        if stream.type != "video" or context is None or is_cover(stream):
            continue
        if context.width * context.height > MAX_PIXELS:
            raise MediaError("unreadable", f"frames of {context.width}×{context.height} pixels are too large")
