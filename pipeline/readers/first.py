"""The sound or pictures of a file by the first decoder that can read it. Reads one file; writes nothing.

A codec or container that the configured decoder does not know at all goes to the other one; damage does not, for then
the decoders would disagree about which files are good. In practice it is decord that sends on: AV1, and containers in
which it does not seek exactly. What FFmpeg does not know, decord, which is built on an older one, does not know either.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from pipeline.readers import Decoded, MediaError
from pipeline.readers.audio import read_audio
from pipeline.readers.video import DECODERS, read_video


def audio(path: str, *, decoder: str = "pyav", **request: Any) -> Decoded:
    """`read_audio(path, **request)`; PyAV is the only decoder of sound. Raises MediaError with its `decoder`."""
    try:
        return Decoded(read_audio(path, **request), decoder)
    except MediaError as error:
        error.decoder = decoder
        raise


def video(path: str, *, decoder: str, **request: Any) -> Decoded:
    """`read_video(path, **request)` by `decoder` or, if that does not know such files, by the other one.

    Raises MediaError with the `decoder` that has the last word: the other one, unless it does not know them either.
    """
    try:
        return _video(path, decoder, request)
    except MediaError as error:
        first = error
    (other,) = (name for name in DECODERS if name != decoder)
    if not first.unsupported or find_spec("decord") is None:
        raise first
    try:
        return _video(path, other, request)
    except MediaError as error:
        raise (first if error.unsupported else error) from None


def _video(path: str, decoder: str, request: dict[str, Any]) -> Decoded:
    try:
        return Decoded(read_video(path, decoder=decoder, **request), decoder)
    except MediaError as error:
        error.decoder = decoder
        raise
