"""Descriptors of sound: rhythm, loudness, timbre, key, and when notes begin. Reads and writes nothing.

By essentia (Bogdanov et al. 2013, "Essentia: an audio analysis library for music information retrieval"), on mono sound
at 44.1 kHz, for which its algorithms are made. Names and units: `descriptors.py`. CPU only.

- `tempo`: RhythmExtractor2013 with Degara's beat tracker (Degara et al. 2012). On segments this short it takes a double
  or a half for the tempo more often than on whole songs.
- `beats_confidence`: essentia's own confidence is 0 for all segments of a few seconds, so this is the height of the
  onset strength's autocorrelation at the beat that was found (pulse clarity; Lartillot et al. 2008).
- `loudness`: LoudnessEBUR128. `dynamic_range`: DynamicComplexity (Streich 2006); EBU's loudness range needs minutes.
- `onset_rate`: OnsetRate. `key`, `mode`, `key_strength`: KeyExtractor (Gómez 2006; profile bgate).
- `danceability`: Danceability (Streich & Herrera 2005), over times up to half of the segment.
- `spectral_centroid` and the envelope `onset`: from magnitudes in windows of 2048 samples, 512 apart; onset strength is
  the mean over frequencies of what log(1 + 10 magnitude) rises (spectral flux; Böck & Widmer 2013).

A segment below SILENCE has the values that `descriptors.py` names and 0 everywhere else.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.backbones.descriptors import BIN_SECONDS, BINS, WIDTHS, places
from pipeline.backbones.musicnn_essentia import import_essentia
from pipeline.backbones.unweighted import Unweighted

RATE, WINDOW, HOP = 44_100, 2048, 512
SILENCE, QUIETEST = 1e-4, -70.0
"""Root mean square (-80 dBFS) below which nothing is heard; loudness of silence, LUFS (EBU R 128's gate)."""
TEMPO = (60, 190)
FIFTHS = {name: i for i, name in enumerate(["C", "G", "D", "A", "E", "B", "F#", "C#", "Ab", "Eb", "Bb", "F"])}


class SoundDescriptors(Unweighted):
    """Segments [n, samples] float32, mono, 44.1 kHz, at least a second → [n, 41] float32."""

    name = "sound_descriptors"
    dim = WIDTHS[name]

    def __init__(self, weights: Path, options: dict[str, Any], device: str, threads: int) -> None:
        missing = "backbones.sound_descriptors: the package essentia-tensorflow is not installed. Install it."
        self.essentia = import_essentia(threads, missing).standard
        self.places = places(self.name)
        # Making an algorithm takes ten times as long as running it.
        low, high = TEMPO
        self.rhythm = self.essentia.RhythmExtractor2013(method="degara", minTempo=low, maxTempo=high)
        self.onsets, self.dynamics = self.essentia.OnsetRate(), self.essentia.DynamicComplexity()
        self.key, self.loudness = self.essentia.KeyExtractor(), self.essentia.LoudnessEBUR128(sampleRate=RATE)
        self.dances: dict[int, Any] = {}
        self.window = np.hanning(WINDOW + 1)[:-1].astype(np.float32) * np.float32(2 / WINDOW)

    @staticmethod
    def preprocessing(options: dict[str, Any]) -> dict[str, Any]:
        """`extractor` counts changes of this code's results."""
        about = {"rate": RATE, "mono": "mean of the channels", "window": WINDOW, "hop": HOP, "bins": BINS}
        rules: dict[str, Any] = {"tempo": list(TEMPO), "silence": SILENCE}
        return {"extractor": 1, "columns": list(places(SoundDescriptors.name)), **about, **rules}

    @staticmethod
    def request(options: dict[str, Any]) -> dict[str, Any]:
        return {"rate": RATE}

    def features(self, segments: np.ndarray) -> np.ndarray:
        """See the class. Raises ValueError for other shapes and types."""
        if segments.ndim != 2 or segments.dtype != np.float32 or segments.shape[1] < RATE:
            raise ValueError(
                f"descriptors take float32 [n, {RATE} or more], got {segments.dtype} {list(segments.shape)}"
            )
        found = np.zeros((len(segments), self.dim), np.float32)
        for row, sound in zip(found, segments, strict=True):
            for name, value in self.describe(sound).items():
                row[self.places[name]] = value
        return found

    def describe(self, sound: np.ndarray) -> dict[str, float | np.ndarray]:
        """{descriptor or `onset`: its value} of one segment, float32 [samples]; what is missing is 0."""
        if np.sqrt(np.mean(sound * sound, dtype=np.float64)) < SILENCE:
            return {"loudness": QUIETEST}
        sound = np.ascontiguousarray(sound)
        tempo = self.rhythm(sound)[0]
        heard = TEMPO[0] * 0.9 <= tempo <= TEMPO[1] * 1.1  # of sound without onsets it says 738
        key, scale, strength = self.key(sound)
        angle = 2 * math.pi * FIFTHS[key] / 12
        magnitudes = self._magnitudes(sound)
        self.onsets.reset()  # alone of all these it would go on where the segment before ended
        strengths = np.maximum(np.diff(np.log1p(10 * magnitudes), axis=0), 0).mean(axis=1)
        return {
            "tempo": tempo if heard else 0.0,
            "beats_confidence": clarity(strengths, 60 / tempo * RATE / HOP) if heard else 0.0,
            "loudness": max(self.loudness(np.stack([sound, sound], axis=1))[2], QUIETEST),
            "dynamic_range": self.dynamics(sound)[0],
            "spectral_centroid": _centroid(magnitudes),
            "onset_rate": self.onsets(sound)[1],
            "key_strength": strength,
            "key": np.array([math.cos(angle), math.sin(angle)]),
            "mode": float(scale == "major"),
            "danceability": self._danceability(sound),
            "onset": _binned(strengths),
        }

    def _danceability(self, sound: np.ndarray) -> float:
        longest = min(8800, len(sound) * 500 // RATE)  # ms
        if longest not in self.dances:
            self.dances[longest] = self.essentia.Danceability(maxTau=longest)
        return self.dances[longest](sound)[0]

    def _magnitudes(self, sound: np.ndarray) -> np.ndarray:
        """[frames, 1025] float32; frame k is centred on sample k · HOP. A sine of amplitude a peaks at a / 2."""
        padded = np.pad(sound, WINDOW // 2)
        frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
        return np.abs(np.fft.rfft(frames * self.window, axis=1)).astype(np.float32)


def _centroid(magnitudes: np.ndarray) -> float:
    """Centre of gravity (kHz) of the mean magnitudes."""
    spectrum = magnitudes.mean(axis=0, dtype=np.float64)
    return float(spectrum @ np.linspace(0, RATE / 2000, len(spectrum)) / spectrum.sum())


def clarity(strengths: np.ndarray, lag: float) -> float:
    """Correlation, 0 to 1, of onset strengths [frames] with those `lag` frames later, the best of lags near it."""
    found = 0.0
    for each in range(max(1, math.floor(lag) - 1), math.ceil(lag) + 2):
        early, late = strengths[:-each], strengths[each:]
        if len(early) > 2 and early.std() > 0 and late.std() > 0:
            found = max(found, float(np.corrcoef(early, late)[0, 1]))
    return found


def _binned(strengths: np.ndarray) -> np.ndarray:
    """[BINS] float32: the mean onset strength in each bin. Strength k lies between frames k and k + 1."""
    at = ((np.arange(len(strengths)) + 0.5) * HOP / RATE / BIN_SECONDS).astype(np.int64)
    inside = at < BINS
    total, count = np.bincount(at[inside], strengths[inside], BINS), np.bincount(at[inside], minlength=BINS)
    return (total / np.maximum(count, 1)).astype(np.float32)
