"""Audio descriptors: rhythm, loudness, timbre, key and note onsets of a segment. Reads and writes nothing.

Computed by essentia (Bogdanov et al. 2013, "Essentia: an audio analysis library for music information retrieval") from
mono audio at 44.1 kHz, the rate that its algorithms are made for. Names and units: `descriptors.py`. CPU only.

- `tempo`: RhythmExtractor2013 with Degara's beat tracker (Degara et al. 2012). On segments of a few seconds it confuses
  a tempo with its double or half more often than on whole songs.
- `beats_confidence`: essentia's own confidence is 0 for all segments of a few seconds. So this is the height of the
  onset strength's autocorrelation at the detected beat (pulse clarity; Lartillot et al. 2008).
- `loudness`: LoudnessEBUR128. `dynamic_range`: DynamicComplexity (Streich 2006); EBU's loudness range needs minutes.
- `onset_rate`: OnsetRate. `key`, `mode`, `key_strength`: KeyExtractor (Gómez 2006; profile bgate).
- `danceability`: Danceability (Streich & Herrera 2005), over times up to half of the segment.
- `spectral_centroid` and the envelope `onset`: from magnitudes in windows of 2048 samples, 512 apart. Onset strength is
  the increase of log(1 + 10 magnitude), averaged over frequencies (spectral flux; Böck & Widmer 2013).

A segment below SILENCE has the values that `descriptors.py` states, and 0 everywhere else.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.backbones.descriptors import BIN_SECONDS, BINS, DescriptorBackbone
from pipeline.backbones.mono import mono_text
from pipeline.backbones.musicnn_essentia import import_essentia
from pipeline.readers import AudioRequest

RATE, WINDOW, HOP = 44_100, 2048, 512
SILENCE, QUIETEST = 1e-4, -70.0
"""Root mean square (-80 dBFS) below which a segment is silent; loudness of silence, LUFS (EBU R 128's gate)."""
TEMPO = (60, 190)
FIFTHS = {name: i for i, name in enumerate(["C", "G", "D", "A", "E", "B", "F#", "C#", "Ab", "Eb", "Bb", "F"])}


class AudioDescriptors(DescriptorBackbone):
    """Segments [n, samples] float32, mono, 44.1 kHz, at least a second → [n, 41] float32."""

    name = "sound_descriptors"

    def __init__(self, weights: Path, options: dict[str, Any], device: str, threads: int) -> None:
        missing = "backbones.sound_descriptors: the package essentia-tensorflow is not installed. Install it."
        self.essentia = import_essentia(threads, missing).standard
        # Making an algorithm takes ten times as long as running it.
        low, high = TEMPO
        self.rhythm = self.essentia.RhythmExtractor2013(method="degara", minTempo=low, maxTempo=high)
        self.onsets, self.dynamics = self.essentia.OnsetRate(), self.essentia.DynamicComplexity()
        self.key, self.loudness = self.essentia.KeyExtractor(), self.essentia.LoudnessEBUR128(sampleRate=RATE)
        self.danceability: dict[int, Any] = {}
        self.window = np.hanning(WINDOW + 1)[:-1].astype(np.float32) * np.float32(2 / WINDOW)

    @staticmethod
    def preprocessing(options: dict[str, Any]) -> dict[str, Any]:
        """Return the cache key's part of this backbone; `extractor` counts changes of the results of this code."""
        about = {"rate": RATE, "mono": mono_text(options), "window": WINDOW, "hop": HOP, "bins": BINS}
        rules: dict[str, Any] = {"tempo": list(TEMPO), "silence": SILENCE}
        return {"extractor": 1, "columns": list(AudioDescriptors.columns), **about, **rules}

    @staticmethod
    def request(options: dict[str, Any]) -> AudioRequest:
        return AudioRequest(RATE, options.get("downmix", "mean"))

    @staticmethod
    def check_segments(segments: np.ndarray) -> None:
        """Raise ValueError unless the segments are float32 [n, RATE or more samples]."""
        if segments.ndim != 2 or segments.dtype != np.float32 or segments.shape[1] < RATE:
            raise ValueError(
                f"descriptors take float32 [n, {RATE} or more], got {segments.dtype} {list(segments.shape)}"
            )

    def describe(self, segment: np.ndarray) -> dict[str, float | np.ndarray]:
        """Return {descriptor or `onset`: its value} of one segment, float32 [samples]; what is missing is 0."""
        if np.sqrt(np.mean(segment * segment, dtype=np.float64)) < SILENCE:
            return {"loudness": QUIETEST}
        samples = np.ascontiguousarray(segment)
        tempo = self.rhythm(samples)[0]
        has_beat = TEMPO[0] * 0.9 <= tempo <= TEMPO[1] * 1.1  # without onsets essentia answers 738
        key, scale, strength = self.key(samples)
        angle = 2 * math.pi * FIFTHS[key] / 12
        magnitudes = self._magnitudes(samples)
        self.onsets.reset()  # the only algorithm here that keeps a state between segments
        strengths = np.maximum(np.diff(np.log1p(10 * magnitudes), axis=0), 0).mean(axis=1)
        return {
            "tempo": tempo if has_beat else 0.0,
            "beats_confidence": clarity(strengths, 60 / tempo * RATE / HOP) if has_beat else 0.0,
            "loudness": max(self.loudness(np.stack([samples, samples], axis=1))[2], QUIETEST),
            "dynamic_range": self.dynamics(samples)[0],
            "spectral_centroid": _centroid(magnitudes),
            "onset_rate": self.onsets(samples)[1],
            "key_strength": strength,
            "key": np.array([math.cos(angle), math.sin(angle)]),
            "mode": float(scale == "major"),
            "danceability": self._danceability(samples),
            "onset": _binned(strengths),
        }

    def _danceability(self, samples: np.ndarray) -> float:
        longest = min(8800, len(samples) * 500 // RATE)  # ms
        if longest not in self.danceability:
            self.danceability[longest] = self.essentia.Danceability(maxTau=longest)
        return float(self.danceability[longest](samples)[0])

    def _magnitudes(self, samples: np.ndarray) -> np.ndarray:
        """Return [frames, 1025] float32. Frame k is centred on sample k · HOP; a sine of amplitude a peaks at a / 2."""
        padded = np.pad(samples, WINDOW // 2)
        frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
        return np.abs(np.fft.rfft(frames * self.window, axis=1)).astype(np.float32)


def _centroid(magnitudes: np.ndarray) -> float:
    """Return the centre of gravity (kHz) of the mean magnitudes."""
    spectrum = magnitudes.mean(axis=0, dtype=np.float64)
    return float(spectrum @ np.linspace(0, RATE / 2000, len(spectrum)) / spectrum.sum())


def clarity(strengths: np.ndarray, lag: float) -> float:
    """Return the autocorrelation, 0 to 1, of onset strengths [frames] at `lag` frames: the best of the lags near it."""
    best = 0.0
    for shift in range(max(1, math.floor(lag) - 1), math.ceil(lag) + 2):
        early, late = strengths[:-shift], strengths[shift:]
        if len(early) > 2 and early.std() > 0 and late.std() > 0:
            best = max(best, float(np.corrcoef(early, late)[0, 1]))
    return best


def _binned(strengths: np.ndarray) -> np.ndarray:
    """Return [BINS] float32: the mean onset strength in each bin. Strength k lies between frames k and k + 1."""
    bins = ((np.arange(len(strengths)) + 0.5) * HOP / RATE / BIN_SECONDS).astype(np.int64)
    inside = bins < BINS
    total, count = np.bincount(bins[inside], strengths[inside], BINS), np.bincount(bins[inside], minlength=BINS)
    return (total / np.maximum(count, 1)).astype(np.float32)
