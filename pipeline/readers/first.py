"""The sound or pictures of a file by the first decoder that can read it. Reads one file; writes nothing.

A codec or container that the configured decoder does not know at all goes to the other one; damage does not, for then
the decoders would disagree about which files are good. In practice it is decord that sends on: AV1, and containers in
which it does not seek exactly. What FFmpeg does not know, decord, which is built on an older one, does not know either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from pipeline.readers import Decoded, MediaError
from pipeline.readers.audio import read_audio
from pipeline.readers.video import DECODERS, read_video

DAMAGE = ("decode_error", "empty_audio")
"""Reasons that may be true of one segment and not of the next."""


def audio(path: str, *, decoder: str = "pyav", partial: bool = False, **request: Any) -> Decoded:
    """`read_audio(path, **request)`; PyAV is the only decoder of sound. Raises MediaError with its `decoder`.

    With `partial`, damaged segments are left out if others are good.
    """

    def read(starts: Sequence[float]) -> np.ndarray:
        return read_audio(path, **{**request, "starts": starts})

    return _read(read, decoder, request["starts"], partial)


def video(path: str, *, decoder: str, partial: bool = False, **request: Any) -> Decoded:
    """`read_video(path, **request)` by `decoder` or, if that does not know such files, by the other one.

    With `partial`, damaged segments are left out if others are good. Raises MediaError with the `decoder` that has the
    last word: the other one, unless it does not know such files either.
    """
    try:
        return _video(path, decoder, partial, request)
    except MediaError as error:
        first = error
    (other,) = (name for name in DECODERS if name != decoder)
    if not first.unsupported or find_spec("decord") is None:
        raise first
    try:
        return _video(path, other, partial, request)
    except MediaError as error:
        raise (first if error.unsupported else error) from None


def _video(path: str, decoder: str, partial: bool, request: dict[str, Any]) -> Decoded:
    def read(starts: Sequence[float]) -> np.ndarray:
        return read_video(path, decoder=decoder, **{**request, "starts": starts})

    return _read(read, decoder, request["starts"], partial)


def _read(
    read: Callable[[Sequence[float]], np.ndarray], decoder: str, starts: Sequence[float], partial: bool
) -> Decoded:
    """All segments at once or, if that fails and `partial` allows it, one after the other."""
    try:
        return Decoded(read(starts), decoder)
    except MediaError as error:
        error.decoder = decoder
        if not partial or error.unsupported or error.reason not in DAMAGE:
            raise
        whole = error
    clips = []
    good = np.zeros(len(starts), bool)
    for i, start in enumerate(starts):
        try:
            clips.append(read([start]))
            good[i] = True
        except MediaError as error:
            if error.reason not in DAMAGE:
                error.decoder = decoder
                raise
    if not clips:
        raise whole
    return Decoded(np.concatenate(clips), decoder, good)
