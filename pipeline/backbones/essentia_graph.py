"""Any frozen TensorFlow graph for audio through essentia's own algorithms, such as MTG's embedding models.

`weights` is the `.pb`, which the weights file holds as bytes; `options.algorithm` makes the log-mel patches that the
graph expects and runs it, and `options.output` names the node with the features. Reads the weights file; writes a
temporary graph file beside it and removes it. CPU only. This module imports neither torch nor, before it is built,
essentia. `TensorflowPredict2D` is not among the algorithms: it takes another network's features, not audio.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from config.cli import UserError
from pipeline.backbones import graphdef
from pipeline.backbones.base import Backbone, WeightsSource
from pipeline.backbones.mono import mono_text
from pipeline.backbones.musicnn_essentia import import_essentia
from pipeline.readers import AudioRequest
from pipeline.weights import local, read_safetensors

LOCAL = "a frozen TensorFlow graph (.pb), such as those on essentia.upf.edu/models.html"
MISSING = "options.algorithm: the package essentia-tensorflow is not installed. Install it."
GRAPH = "graphdef"


@dataclass(frozen=True)
class Algorithm:
    """One of essentia's TensorflowPredict… algorithms: the audio's rate (Hz), hop (samples) and length (frames) of a
    patch; `resizable`: it takes patches of other lengths. `patch` 0: it cuts no patches. `noisy`: it puts random noise
    in the place of silence, other noise at every call."""

    rate: int
    hop: int
    patch: int
    resizable: bool = True
    noisy: bool = False


ALGORITHMS = {
    "EffnetDiscogs": Algorithm(16_000, 256, 128),
    "VGGish": Algorithm(16_000, 160, 96),
    "MusiCNN": Algorithm(16_000, 256, 187),
    "MAEST": Algorithm(16_000, 256, 1876),
    "FSDSINet": Algorithm(22_050, 220, 101, resizable=False, noisy=True),
    "TempoCNN": Algorithm(11_025, 512, 256, resizable=False, noisy=True),
    "CREPE": Algorithm(16_000, 160, 0, resizable=False),
}
SILENCE = 5e-5
"""Peak of a segment (-86 dBFS) below which a noisy algorithm is given the same noise every time, of this level."""


class EssentiaGraph(Backbone):
    """Segments [n, samples] float32, mono, at the algorithm's rate → [n, dim] float32.

    The algorithm gives one vector or more a patch. They are pooled over everything but their own axis: `mean`, `max`,
    or both, one after the other.
    """

    def __init__(self, weights: Path, options: dict[str, Any], device: str, threads: int) -> None:
        if device == "cuda":
            raise UserError("device: cuda, but essentia runs on the CPU; use auto or cpu")
        self.options, self.dim = options, self.width(options)
        essentia = import_essentia(threads, MISSING)
        with tempfile.TemporaryDirectory(dir=weights.parent, prefix=".graph-") as temporary:
            file = Path(temporary) / "graph.pb"
            file.write_bytes(load_file(weights)[GRAPH].tobytes())
            try:
                self._predict = getattr(essentia.standard, f"TensorflowPredict{options['algorithm']}")(
                    graphFilename=str(file), **_parameters(options)
                )
            except (RuntimeError, TypeError) as error:
                raise UserError(f"weights: essentia's {options['algorithm']} cannot run the graph: {error}") from None

    @classmethod
    def width(cls, options: dict[str, Any]) -> int:
        """See the base. Only the graph knows it, and only TensorFlow can read it there: `dim` says it, and the first
        segment is compared."""
        return int(options["dim"]) * (2 if options["pool"] == "mean_max" else 1)

    @classmethod
    def refusal(cls, options: dict[str, Any], seconds: float) -> str | None:
        """See the base: segments that are shorter than a patch, or options that the algorithm lacks."""
        algorithm, name = ALGORITHMS[options["algorithm"]], options["algorithm"]
        for option in ("patch_size", "patch_hop"):
            if options[option] and not (algorithm.resizable if option == "patch_size" else algorithm.patch):
                return f"options.{option}: {options[option]}, but essentia's {name} has no such parameter; leave it out"
        patch = options["patch_size"] or algorithm.patch
        least = max(0, patch - 2) * algorithm.hop / algorithm.rate
        if seconds > least:
            return None
        remedy = " or a smaller `patch_size`, if the graph is one for shorter patches" if algorithm.resizable else ""
        return (
            f"options.algorithm: {name} needs {least:.2f} s ({patch} frames) for a patch, but a segment has "
            f"{seconds:g} s: set longer segments (segments.seconds){remedy}"
        )

    @staticmethod
    def fetch(source: WeightsSource, folder: Path) -> tuple[dict[str, np.ndarray], str]:
        """See the base; the source is the path of a `.pb`, or of a weights file that holds one."""
        key, output = source.key, source.options["output"]
        path = local(source.name, key, LOCAL)
        if path is None:
            raise UserError(f"{key}: '{source.name}' is not the path (with a `/`) of {LOCAL}")
        if path.suffix == ".safetensors":
            stored = read_safetensors(path, key)
            if set(stored) != {GRAPH}:
                raise UserError(f"{key}: {path.name} holds no graph. It should be {LOCAL}.")
            content = stored[GRAPH].tobytes()
        else:
            try:
                content = path.read_bytes()
            except OSError as error:
                raise UserError(f"{key}: {path} cannot be read: {error.strerror}. It should be {LOCAL}.") from None
        try:
            graphdef.check_operations(content, functions=True)
            names = list(graphdef.nodes(content))
        except ValueError as error:
            raise UserError(f"{key}: {path}: {error}. It should be {LOCAL}.") from None
        if output.partition(":")[0] not in names:
            raise UserError(
                f"{key.removesuffix('weights')}options.output: {path.name} has no node '{output}'. Its last nodes are "
                f"{', '.join(names[-8:])}."
            )
        return {GRAPH: np.frombuffer(content, np.uint8)}, f"local frozen graph {path.name}"

    @staticmethod
    def preprocessing(options: dict[str, Any]) -> dict[str, Any]:
        """See the base; `extractor` counts changes of the results of this code."""
        about = {"rate": ALGORITHMS[options["algorithm"]].rate, "mono": mono_text(options), "pool": options["pool"]}
        names = {"algorithm": f"TensorflowPredict{options['algorithm']}", **_parameters(options)}
        silence = {"silence": SILENCE} if ALGORITHMS[options["algorithm"]].noisy else {}
        return {"extractor": 1, **names, **about, **silence}

    @staticmethod
    def request(options: dict[str, Any]) -> AudioRequest:
        return AudioRequest(ALGORITHMS[options["algorithm"]].rate, options["downmix"])

    def features(self, segments: np.ndarray) -> np.ndarray:
        """See the class. ValueError for a wrong shape or type, UserError for vectors of another width."""
        if segments.ndim != 2 or segments.dtype != np.float32:
            raise ValueError(f"essentia takes float32 [n, samples], got {segments.dtype} {list(segments.shape)}")
        features = np.empty((len(segments), self.dim), np.float32)
        for row, segment in zip(features, segments, strict=True):
            row[:] = self._pooled(self._vectors(np.ascontiguousarray(segment)))
        return features

    def _vectors(self, segment: np.ndarray) -> np.ndarray:
        """Return the graph's output [m, dim]."""
        seconds = len(segment) / ALGORITHMS[self.options["algorithm"]].rate
        short = f"options.algorithm: {self.options['algorithm']} makes no patch of a segment of {seconds:g} s"
        if ALGORITHMS[self.options["algorithm"]].noisy and np.abs(segment).max(initial=0) < SILENCE:
            segment = np.random.RandomState(0).uniform(-SILENCE, SILENCE, len(segment)).astype(np.float32)
        try:
            output = np.asarray(self._predict(segment))
        except RuntimeError as error:  # only some algorithms complain; others return nothing
            raise UserError(f"{short}: {error}") from None
        if output.size == 0:
            raise UserError(f"{short}; set longer segments (segments.seconds), or `last_patch: repeat`")
        if output.shape[-1] != self.options["dim"]:
            raise UserError(
                f"options.dim: '{self.options['output']}' gives vectors of {output.shape[-1]} numbers, not "
                f"{self.options['dim']}; set `dim: {output.shape[-1]}`, or name another node in `output`"
            )
        return output.reshape(-1, output.shape[-1])

    def _pooled(self, vectors: np.ndarray) -> np.ndarray:
        parts = {"mean": (vectors.mean(0),), "max": (vectors.max(0),), "mean_max": (vectors.mean(0), vectors.max(0))}
        return np.concatenate(parts[self.options["pool"]])


def _parameters(options: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters that the configuration gives essentia's algorithm; its own defaults are left out."""
    given = {"input": options["input"], "patchSize": options["patch_size"], "patchHopSize": options["patch_hop"]}
    last = {} if options["algorithm"] == "CREPE" else {"lastPatchMode": options["last_patch"]}
    return {"output": options["output"], **{name: value for name, value in given.items() if value}, **last}
