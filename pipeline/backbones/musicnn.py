"""MusicNN for audio: 1506 features a segment. Reads the weights file; the essentia engine writes a temporary graph
file.

The features are the network's flattened pooled back-end (Pons & Serra 2019, arXiv 1909.06654): for each of 753 channels
the maximum and the mean over time, interleaved (max 0, mean 0, max 1, mean 1, …) as the network itself flattens them.
A segment of 3 s is one patch of 187 frames. A longer one is cut into consecutive patches, of which the maximum of the
maxima and the mean of the means are taken; a rest of less than 187 frames is dropped.
Importing this module imports neither torch nor essentia: decode workers and the plan ask it for `request` and
`preprocessing`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from safetensors.numpy import load_file

from config.cli import UserError
from pipeline.backbones import graphdef, mel, musicnn_weights
from pipeline.backbones.base import Backbone, WeightsSource
from pipeline.backbones.mono import mono_text
from pipeline.readers import AudioRequest


class Engine(Protocol):
    """What runs the network: patches in, named outputs out."""

    def patches(self, segments: np.ndarray) -> Any: ...
    def outputs(self, patches: Any) -> dict[str, np.ndarray]: ...


class MusicNN(Backbone):
    """Segments [n, samples] float32, mono, 16 kHz, at least 2.976 s → [n, 1506] float32.

    Both engines give the same numbers (pooled features within 1e-3 of TensorFlow's): `torch`, and `essentia`, which is
    slower, CPU only, and the one that can run a frozen `.pb`.
    """

    dim = graphdef.POOLED

    def __init__(self, weights: Path, options: dict[str, Any], device: str, threads: int) -> None:
        tensors = load_file(weights)
        musicnn_weights.require_graph(tensors, options)
        self.engine: Engine
        if options["engine"] == "torch":
            from pipeline.backbones.musicnn_torch import TorchEngine

            self.engine = TorchEngine(tensors, device, threads)
        else:
            from pipeline.backbones.musicnn_essentia import EssentiaEngine

            if device == "cuda":
                raise UserError("device: cuda, but engine: essentia runs on the CPU; use auto or cpu")
            self.engine = EssentiaEngine(tensors, weights.parent, threads)

    @staticmethod
    def fetch(source: WeightsSource, folder: Path) -> tuple[dict[str, np.ndarray], str]:
        """See `Backbone.fetch`; the source is `wheel`, `wheel-mtt`, `random` or a local path."""
        return musicnn_weights.fetch(source, folder)

    @staticmethod
    def preprocessing(options: dict[str, Any]) -> dict[str, Any]:
        """See the base; `extractor` counts changes of the results of this code. Both engines give the same numbers."""
        return {
            "extractor": 1,
            "rate": mel.RATE,
            "mono": mono_text(options),
            **mel.description(),
            "pool": "max and mean over time, interleaved",
        }

    @staticmethod
    def request(options: dict[str, Any]) -> AudioRequest:
        return AudioRequest(mel.RATE, options.get("downmix", "mean"))

    def features(self, segments: np.ndarray) -> np.ndarray:
        """See the class. Raises ValueError for a wrong shape or type, and for segments shorter than a patch."""
        if segments.ndim != 2 or segments.dtype != np.float32:
            raise ValueError(f"MusicNN takes float32 [n, samples], got {segments.dtype} {list(segments.shape)}")
        patches = mel.patches_in(segments.shape[1])
        if not len(segments):
            return np.empty((0, self.dim), np.float32)
        pooled = self.engine.outputs(self.engine.patches(segments))["pooled"]
        pooled = pooled.reshape(len(segments), patches, self.dim // 2, 2)
        return np.stack([pooled[..., 0].max(1), pooled[..., 1].mean(1)], 2).reshape(-1, self.dim)

    def outputs(self, patches: np.ndarray) -> dict[str, np.ndarray]:
        """Return `pooled` [m, 1506], `penultimate` [m, 200], `tags` [m, 50] of log-mel patches [m, 187, 96] float32."""
        return self.engine.outputs(patches)
