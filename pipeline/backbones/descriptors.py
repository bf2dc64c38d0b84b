"""Names, units and columns of descriptors with a plain meaning: tempo, brightness and so on. Reads and writes nothing.

The arrays `sound_descriptors` (audio) and `picture_descriptors` (video) of the store hold them, computed by
`audio_descriptors.py` and `video_descriptors.py`. The first columns are descriptors of the segment. The last BINS are
an envelope of its first three seconds, 0.1 s a bin: onset strength for audio, change between frames for video. Bins
after the end of a shorter segment are 0.

A direction (hue on the colour wheel, key on the circle of fifths) is two columns, the cosine and the sine of its angle.
The units are chosen so that float16 holds every number with a relative precision of 1/2048.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from config.cli import UserError
from pipeline.backbones.base import Backbone, WeightsSource

BINS, BIN_SECONDS = 30, 0.1
NONE = "none"
"""What `weights` says for backbones that have none."""


@dataclass(frozen=True)
class Descriptor:
    """One property of a segment. `columns` is 1, or 2 (cosine, sine) for a direction."""

    name: str
    unit: str
    meaning: str
    columns: int = 1


AUDIO = (
    Descriptor("tempo", "beats/min", "beats a minute, 60 to 190; 0 where no beat is found"),
    Descriptor("beats_confidence", "", "autocorrelation of the onset strength one beat later, 0 to 1"),
    Descriptor("loudness", "LUFS", "integrated loudness, EBU R 128, as from two loudspeakers; at least -70"),
    Descriptor("dynamic_range", "dB", "mean deviation of the level from its mean (dynamic complexity)"),
    Descriptor("spectral_centroid", "kHz", "centre of gravity of the magnitude spectrum; 0 of silence"),
    Descriptor("onset_rate", "1/s", "note onsets a second"),
    Descriptor("key_strength", "", "correlation with the profile of the best key, -1 to 1; 0 of silence"),
    Descriptor("key", "", "position of the best key's tonic on the circle of fifths, C at 0; (0, 0) of silence", 2),
    Descriptor("mode", "", "1: the best key is major; 0: minor, or silence"),
    Descriptor("danceability", "", "inverse exponent of the level's fluctuations, about 0 to 3"),
)
VIDEO = (
    Descriptor("cut_rate", "1/s", "cuts a second"),
    Descriptor("motion_energy", "", "mean change between frames 0.1 s apart inside a shot, share of full range"),
    Descriptor("brightness", "", "mean luma (BT.601), 0 to 1"),
    Descriptor("saturation", "", "mean saturation (HSV), 0 to 1"),
    Descriptor("colourfulness", "", "Hasler and Süsstrunk's M3, 0 (grey) to about 110"),
    Descriptor("dominant_hue", "", "angle of the most frequent hue, red 0, green 120°; (0, 0) of grey frames", 2),
    Descriptor("contrast", "", "standard deviation of luma inside a frame, 0 to 0.5"),
)
DESCRIPTORS = {"sound_descriptors": AUDIO, "picture_descriptors": VIDEO}
ENVELOPES = {"sound_descriptors": "onset", "picture_descriptors": "change"}


def columns(backbone: str) -> dict[str, slice]:
    """Return {descriptor: its columns of the backbone's array}, in order; last the envelope, `onset` or `change`."""
    slices, start = {}, 0
    for descriptor in DESCRIPTORS[backbone]:
        slices[descriptor.name] = slice(start, start + descriptor.columns)
        start += descriptor.columns
    return slices | {ENVELOPES[backbone]: slice(start, start + BINS)}


WIDTHS = {backbone: columns(backbone)[envelope].stop for backbone, envelope in ENVELOPES.items()}


class DescriptorBackbone(Backbone):
    """Base of the two descriptor backbones: formulas, so there are no weights and nothing to learn."""

    name: ClassVar[str]
    columns: ClassVar[dict[str, slice]]

    def __init_subclass__(cls) -> None:
        cls.columns, cls.dim = columns(cls.name), WIDTHS[cls.name]

    @classmethod
    def fetch(cls, source: WeightsSource, folder: Path) -> tuple[dict[str, np.ndarray], str]:
        """Return no tensors. Raises UserError unless the source is `none`."""
        if source.name != NONE:
            raise UserError(
                f"{source.key}: '{source.name}', but {cls.name} is computed by formulas that learn nothing and have no "
                f"weights; write `weights: {NONE}`"
            )
        return {}, "none: computed by formulas"

    @abstractmethod
    def describe(self, segment: np.ndarray) -> dict[str, float | np.ndarray]:
        """Return {descriptor or envelope: its value} of one segment; what is missing is 0."""

    @staticmethod
    @abstractmethod
    def check_segments(segments: np.ndarray) -> None:
        """Raise ValueError for segments of a wrong shape or type."""

    def features(self, segments: np.ndarray) -> np.ndarray:
        """Return [n, dim] float32, column order as in `columns`. Raises ValueError for a wrong shape or type."""
        self.check_segments(segments)
        features = np.zeros((len(segments), self.dim), np.float32)
        for row, segment in zip(features, segments, strict=True):
            for name, value in self.describe(segment).items():
                row[self.columns[name]] = value
        return features
