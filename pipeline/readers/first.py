"""Audio or frames of a file, by the first decoder that can read it. Reads one file; writes nothing.

If the configured decoder does not know a codec or container, the other one tries. Damage is not passed on, or the
decoders would disagree about which files are good. In practice only decord passes on: AV1, and containers in which it
does not seek exactly. It is built on an older FFmpeg than PyAV, so it reads nothing that PyAV cannot.

`audio` and `video` read for one backbone, `audios` and `videos` for several at once. The latter know no `partial`: what
they cannot read has to be read for one backbone after the other, so that no backbone's result depends on the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial as bound
from importlib.util import find_spec
from typing import Any, TypeVar

import numpy as np

from pipeline.readers import Decoded, MediaError, VideoRequest
from pipeline.readers.audio import read_audio, read_audios
from pipeline.readers.source import Source
from pipeline.readers.video import DECODERS, read_video, read_videos
from pipeline.readers.video_decord import takes

T = TypeVar("T")

DAMAGE = ("decode_error", "empty_audio")
"""Reasons that may hold for one segment and not for the next."""


def audio(path: Source, *, decoder: str = "pyav", partial: bool = False, **request: Any) -> Decoded:
    """Return the segments of `read_audio(path, **request)`; PyAV is the only decoder of audio.

    With `partial`, damaged segments are left out if others are good. Raises MediaError with its `decoder`.
    """
    loss = 0.0

    def read(starts: Sequence[float]) -> np.ndarray:
        nonlocal loss
        decoded = read_audio(path, **{**request, "starts": starts})
        loss = max(loss, float(decoded.loss.max(initial=0)))
        return decoded.segments

    return replace(_read(read, decoder, request["starts"], partial), mono_loss=loss)


def audios(path: Source, *, decoder: str = "pyav", **request: Any) -> list[Decoded]:
    """Return the segments of `read_audios(path, **request)`, one for each of its `requests`; see `audio`."""
    try:
        decoded = read_audios(path, **request)
    except MediaError as error:
        error.decoder = decoder
        raise
    return [Decoded(one.segments, decoder, mono_loss=float(one.loss.max(initial=0))) for one in decoded]


def video(path: Source, *, decoder: str, partial: bool = False, **request: Any) -> Decoded:
    """Return the segments of `read_video(path, **request)` by `decoder`, or by the other one if it cannot read such
    files.

    With `partial`, damaged segments are left out if others are good. Raises MediaError with the `decoder` that decided:
    the other one, unless it cannot read such files either.
    """
    return _by_either(lambda chosen: _video(path, chosen, partial, request), decoder)


def videos(path: Source, *, decoder: str, requests: Sequence[VideoRequest], **segments: Any) -> list[Decoded]:
    """Return the segments of `read_videos(path, requests=requests, **segments)`, one for each; decoders as in `video`.

    Requests that decord does not take must not send the others to PyAV: they are read apart.
    """
    answers: dict[VideoRequest, Decoded] = {}
    for taken in (True, False):
        group = [request for request in requests if (decoder != "decord" or takes(request)) is taken]
        if group:
            read = _by_either(bound(_videos, path, group, segments), decoder)
            answers |= dict(zip(group, read, strict=True))
    return [answers[request] for request in requests]


def _videos(path: Source, requests: Sequence[VideoRequest], segments: dict[str, Any], decoder: str) -> list[Decoded]:
    try:
        clips = read_videos(path, requests=requests, decoder=decoder, **segments)
    except MediaError as error:
        error.decoder = decoder
        raise
    return [Decoded(clip, decoder) for clip in clips]


def _by_either(read: Callable[[str], T], decoder: str) -> T:
    """Return `read(decoder)`; if that decoder does not know the codec or container, what the other one reads."""
    try:
        return read(decoder)
    except MediaError as error:
        first_error = error
    (alternative,) = (name for name in DECODERS if name != decoder)
    if not first_error.unsupported or find_spec("decord") is None:
        raise first_error
    try:
        return read(alternative)
    except MediaError as error:
        raise (first_error if error.unsupported else error) from None


def _video(path: Source, decoder: str, partial: bool, request: dict[str, Any]) -> Decoded:
    def read(starts: Sequence[float]) -> np.ndarray:
        return read_video(path, decoder=decoder, **{**request, "starts": starts})

    return _read(read, decoder, request["starts"], partial)


def _read(
    read: Callable[[Sequence[float]], np.ndarray], decoder: str, starts: Sequence[float], partial: bool
) -> Decoded:
    """Read all segments at once or, if that fails and `partial` allows it, one after the other."""
    try:
        return Decoded(read(starts), decoder)
    except MediaError as error:
        error.decoder = decoder
        if not partial or error.unsupported or error.reason not in DAMAGE:
            raise
        whole_error = error
    clips = []
    good = np.zeros(len(starts), bool)
    for segment, start in enumerate(starts):
        try:
            clips.append(read([start]))
            good[segment] = True
        except MediaError as error:
            if error.reason not in DAMAGE:
                error.decoder = decoder
                raise
    if not clips:
        raise whole_error
    return Decoded(np.concatenate(clips), decoder, good)
