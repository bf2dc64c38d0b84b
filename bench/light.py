"""Backbones for benches that cost next to nothing, and a way to run the pipeline's modules with it.

    python -m bench.light pipeline.extract --config … --backbone light --shard 0

`light` reads audio like MusicNN, `light_video` frames like R(2+1)D, one a second or as many as its option `fps` says;
the features are the loudness or brightness of 8 equal parts of a segment. Everything around them (probe, decoding
processes, journal, store) is the real thing, and a job starts in a second, because torch is not imported. Reads and
writes what the module does.
"""

from __future__ import annotations

import runpy
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.backbones.base import Backbone, WeightsSource
from pipeline.backbones.registry import REGISTRY, Entry
from pipeline.readers import AudioRequest, VideoRequest

NAME = "light"
NAMES = (NAME, "light_video")
DIM = 8


class Light(Backbone):
    """Loudness of 8 parts of each segment."""

    dim = DIM

    def __init__(self, weights: Path, options: dict[str, Any], device: str, threads: int) -> None:
        if not weights.exists():
            raise FileNotFoundError(weights)

    @staticmethod
    def fetch(source: WeightsSource, folder: Path) -> tuple[dict[str, np.ndarray], str]:
        """Return one number, which nothing uses: there is nothing to learn here."""
        return {"unused": np.array([source.seed], np.float32)}, "none needed"

    @staticmethod
    def preprocessing(options: dict[str, Any]) -> dict[str, Any]:
        """Return the sampling rate."""
        return {"rate": 16000}

    @staticmethod
    def request(options: dict[str, Any]) -> AudioRequest | VideoRequest:
        """Return audio as MusicNN reads it."""
        return AudioRequest(16000)

    def features(self, segments: np.ndarray) -> np.ndarray:
        """Return root mean squares: [n, samples] → [n, 8]."""
        parts = np.array_split(segments, DIM, axis=1)
        return np.stack([np.sqrt(np.square(part, dtype=np.float64).mean(axis=1)) for part in parts], axis=1).astype(
            "f4"
        )


class LightVideo(Light):
    """Brightness of 8 parts of each segment."""

    @staticmethod
    def preprocessing(options: dict[str, Any]) -> dict[str, Any]:
        """Return what is decoded."""
        return asdict(LightVideo.request(options))

    @staticmethod
    def request(options: dict[str, Any]) -> VideoRequest:
        """Return frames of R(2+1)D's size."""
        return VideoRequest(options["fps"], (128, 171), (112, 112))

    def features(self, segments: np.ndarray) -> np.ndarray:
        """Return brightnesses within 1: [n, frames, height, width, 3] → [n, 8]."""
        return super().features(segments.reshape(len(segments), -1) / np.float32(255))


def register() -> None:
    """Let the configuration of this process know the backbones."""
    REGISTRY[NAMES[0]] = Entry("bench.light:Light", "audio", engine="numpy")
    REGISTRY[NAMES[1]] = Entry("bench.light:LightVideo", "video", {"fps": 1.0}, engine="numpy")


def main() -> None:
    """Register the backbones, then run the module named first as if it had been started alone."""
    register()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
