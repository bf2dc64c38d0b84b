"""Reading media files: what is in a file, and the sound and pictures of given seconds. Reads one file; writes nothing.

All times are seconds on the file's presentation clock, counted from where the file begins to play
(`max(0, start_time of the container)`). Every problem with a file is a MediaError with one of REASONS.
`first` tries the decoders one after the other; what it returns is a Decoded.
This package runs inside the worker processes of `pipeline.workers`; nothing in it may import torch or essentia.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np


@dataclass(frozen=True)
class Reason:
    """Why a file was not used. `filtered`: a property of the file, not a failure, so nobody need try it again."""

    meaning: str
    filtered: bool = False

    @property
    def kind(self) -> str:
        """`filtered` or `failed`, the words of failures.csv."""
        return "filtered" if self.filtered else "failed"


REASONS = {
    "missing": Reason("the file does not exist or cannot be opened for reading"),
    "unreadable": Reason("the container cannot be understood"),
    "no_video_stream": Reason("the file has no pictures", filtered=True),
    "no_audio_stream": Reason("the file has no sound", filtered=True),
    "too_short": Reason("the file is shorter than one segment", filtered=True),
    "decode_error": Reason("the codec reports damage or is unknown"),
    "empty_audio": Reason("the sound stream has no samples where a segment is"),
    "timeout": Reason("decoding took longer than decoding.deadline_seconds"),
    "crashed": Reason("the decoder killed its process, twice"),
    "out_of_memory": Reason("decoding needed more memory than allowed"),
}


class MediaError(Exception):
    """A file that cannot be used: `reason` is a key of REASONS, the message is for a person."""

    def __init__(
        self, reason: str, message: str, *, unsupported: bool = False, attempts: int = 1, decoder: str = ""
    ) -> None:
        assert reason in REASONS, reason
        super().__init__(reason, message)
        self.reason, self.message = reason, message
        self.unsupported = unsupported
        """The decoder does not know this codec or container at all; another one may. Never set for damage."""
        self.attempts = attempts
        """How often the file was tried before it was given up."""
        self.decoder = decoder
        """Which decoder gave it up; empty where the file came to none."""

    @property
    def filtered(self) -> bool:
        """Whether this is a property of the file rather than a failure."""
        return REASONS[self.reason].filtered

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Decoded:
    """The segments of one file, as `read_audio` or `read_video` return them, and which decoder read them.

    `good` is bool [wanted segments]: which of them `segments` holds; None where it holds all.
    """

    segments: np.ndarray
    decoder: str
    good: np.ndarray | None = None


PACKAGES = {"pyav": "av", "decord": "decord"}
"""The package that each decoder comes from; both bring an FFmpeg of their own, so its version says all."""


def decoder_versions(decoders: Iterable[str]) -> dict[str, str]:
    """{decoder: version of its package}, sorted, for those of the names that are decoders."""
    return {name: version(PACKAGES[name]) for name in sorted(set(decoders) & set(PACKAGES))}
