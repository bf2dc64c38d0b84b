"""Reading media files: what a file contains, and the audio and frames of given seconds. Reads one file; writes nothing.

All times are seconds on the file's presentation clock, counted from where the file begins to play
(`max(0, start_time of the container)`). Every problem with a file is a MediaError with one of REASONS.
`first` tries the decoders one after the other and returns a Decoded.
This package runs inside the worker processes of `pipeline.workers`; nothing in it may import torch or essentia.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

import numpy as np

from pipeline.readers.downmix import Downmix


@dataclass(frozen=True)
class Reason:
    """Why a file was not used. `filtered`: a property of the file, not a failure, so trying again is useless."""

    meaning: str
    filtered: bool = False

    @property
    def kind(self) -> str:
        """`filtered` or `failed`, as in failures.csv."""
        return "filtered" if self.filtered else "failed"


REASONS = {
    "missing": Reason("the file does not exist or cannot be opened for reading"),
    "unreadable": Reason("the container format is unknown or damaged"),
    "no_video_stream": Reason("the file has no video stream", filtered=True),
    "no_audio_stream": Reason("the file has no audio stream", filtered=True),
    "too_short": Reason("the file is shorter than one segment", filtered=True),
    "encrypted": Reason("the audio or the video is encrypted", filtered=True),
    "decode_error": Reason("the decoder reports damage or does not know the codec"),
    "still_image": Reason("the video is a single frame beside longer audio", filtered=True),
    "discontinuous": Reason("the time stamps of audio and video jump differently, so that the two cannot be aligned"),
    "empty_audio": Reason("more than half a second of a segment has no audio"),
    "timeout": Reason(
        "decoding took longer than decoding.deadline_seconds, or fetching longer than decoding.remote.deadline_seconds"
    ),
    "network": Reason("the file could not be fetched: no connection, a cut one, or an error of the server"),
    "crashed": Reason("the decoder crashed its process twice"),
    "no_features": Reason("the source of precomputed features has none of this video, or none near its segments"),
    "bad_features": Reason(
        "the precomputed features are missing, not finite, or beyond what float16 holds (6e-8 to 65504)"
    ),
    "out_of_memory": Reason(
        "decoding needed more memory than decoding.memory_mb allows, or the network more than there is"
    ),
    "not_finite": Reason("the network gave numbers that are not finite, or beyond what float16 holds (65504)"),
}


class MediaError(Exception):
    """A file that cannot be used. `reason` is a key of REASONS; `message` is for people."""

    def __init__(
        self, reason: str, message: str, *, unsupported: bool = False, attempts: int = 1, decoder: str = ""
    ) -> None:
        assert reason in REASONS, reason
        super().__init__(reason, message)
        self.reason, self.message = reason, message
        self.unsupported = unsupported
        """Whether the decoder does not know this codec or container; another one may. False for damage."""
        self.attempts = attempts
        """How often the file was tried."""
        self.decoder = decoder
        """The decoder that failed; empty if no decoder was used."""
        self.not_fetched = False
        """Whether the file could not be brought here, so that reading it in another way does not help."""

    @property
    def filtered(self) -> bool:
        """Whether this is a property of the file rather than a failure."""
        return REASONS[self.reason].filtered

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Decoded:
    """The decoded segments of one file, and the decoder that read them.

    `segments` is as `read_audio` or `read_video` return it. `good` is bool [requested segments]: which of them
    `segments` holds; None if all. `mono_loss` is for audio: how far (dB) the mono signal lies below the loudest
    channel, in the segment where it loses most (readers/downmix.py).
    """

    segments: np.ndarray
    decoder: str
    good: np.ndarray | None = None
    mono_loss: float = 0.0


@dataclass(frozen=True)
class AudioRequest:
    """What a backbone needs of decoded audio: samples a second, and how channels become one."""

    rate: int
    downmix: Downmix = "mean"


Interpolation = Literal["bilinear", "bicubic"]
"""How frames are scaled; both average over the source's pixels where they shrink (anti-aliasing)."""


@dataclass(frozen=True)
class VideoRequest:
    """What a backbone needs of decoded video: frames a second, and how they are scaled and cropped.

    Raises ValueError for a crop that is larger than the scaled frame.
    """

    fps: float
    resize: tuple[int, int] | int
    """(height, width) in pixels, whatever the frame's shape; or the length of the shorter side, which keeps the shape:
    `Resize(n)` of torchvision and timm."""
    crop: tuple[int, int]
    """Height and width in pixels of the middle that is kept."""
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        height, width = (self.resize, self.resize) if isinstance(self.resize, int) else self.resize
        if self.crop[0] > height or self.crop[1] > width:
            raise ValueError(f"the crop {self.crop} is larger than the resized frame {self.resize}")

    def scaled(self, height: int, width: int) -> tuple[int, int]:
        """Return the (height, width) to which an upright frame of this size is scaled; rounded as torchvision does."""
        if not isinstance(self.resize, int):
            return self.resize
        longer = int(self.resize * max(height, width) / min(height, width))
        return (longer, self.resize) if height > width else (self.resize, longer)


PACKAGES = {"pyav": "av", "decord": "decord"}
"""{decoder: its package}. Both packages ship their own FFmpeg, so their version identifies it."""


def decoder_versions(decoders: Iterable[str]) -> dict[str, str]:
    """Return {decoder: version of its package}, sorted; names that are no decoders are left out."""
    return {name: version(PACKAGES[name]) for name in sorted(set(decoders) & set(PACKAGES))}
