"""MusicNN through essentia-tensorflow. Reads nothing; writes a temporary graph file beside the weights and removes it.

The log-mel patches are those of `mel.py`, not of essentia's own TensorflowInputMusiCNN, whose symmetric window moves
the pooled features by up to 0.9; the graph is `graphdef.py`'s or a local `.pb`. CPU only. This module imports no torch.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from config.cli import UserError
from pipeline.backbones import graphdef, mel
from pipeline.backbones.musicnn_weights import affine

MISSING = (
    "backbones.musicnn.options.engine: essentia, but the package essentia-tensorflow is not installed. "
    "Install it, or use engine: torch, which gives the same numbers."
)


class EssentiaEngine:
    """One TensorFlow session with the frozen graph. `folder` is where the temporary graph file may be written."""

    def __init__(self, tensors: dict[str, np.ndarray], folder: Path, threads: int) -> None:
        if "graphdef" in tensors:
            graph = tensors["graphdef"].tobytes()
        else:
            graph = graphdef.musicnn_graph(tensors, [affine(tensors, i) for i in range(11)], mel.PATCH, mel.BANDS)
        try:
            self._nodes = {key: graphdef.OUTPUTS[key] for key in graphdef.check(graph)}
        except ValueError as error:
            raise UserError(f"weights: {error}") from None
        self._essentia = import_essentia(threads)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".graph-") as temporary:
            file = Path(temporary) / "musicnn.pb"
            file.write_bytes(graph)
            self._predict = self._essentia.standard.TensorflowPredict(
                graphFilename=str(file), inputs=[graphdef.INPUT], outputs=list(self._nodes.values())
            )
        self._try()

    def patches(self, segments: np.ndarray) -> np.ndarray:
        """Return the log-mel patches of segments, [n, samples] float32 → [n · k, 187, 96] float32."""
        return mel.patches(segments)

    def outputs(self, patches: np.ndarray) -> dict[str, np.ndarray]:
        """Return `pooled` [m, 1506] of patches [m, 187, 96] float32; `penultimate` and `tags` if the graph has them."""
        rows = [self._run(patch) for patch in patches]  # a batch is no faster
        return {key: np.stack([row[key] for row in rows]) for key in self._nodes}

    def _run(self, patch: np.ndarray) -> dict[str, np.ndarray]:
        pool = self._essentia.Pool()
        pool.set(graphdef.INPUT, np.ascontiguousarray(patch[None, None], dtype=np.float32))
        result = self._predict(pool)
        return {key: np.array(result[node], dtype=np.float32).ravel() for key, node in self._nodes.items()}

    def _try(self) -> None:
        """Run silence through the graph, so that a wrong graph from elsewhere fails before any work."""
        try:
            width = self._run(np.zeros((mel.PATCH, mel.BANDS), np.float32))["pooled"].size
        except RuntimeError as error:
            raise UserError(f"weights: essentia cannot run the graph: {error}") from None
        if width != graphdef.POOLED:
            raise UserError(
                f"weights: '{graphdef.OUTPUTS['pooled']}' has {width} values, MusicNN's has {graphdef.POOLED}"
            )


def import_essentia(threads: int, missing: str = MISSING) -> Any:
    """Import and return essentia without its log, with `threads` TensorFlow threads.

    TensorFlow reads its settings once a process. Raises UserError with the text `missing` if the package is not
    installed, RuntimeError if decord was imported first.
    """
    if "decord" in sys.modules and "essentia" not in sys.modules:
        raise RuntimeError("decord was imported before essentia, which then cannot start; decode in another process")
    os.environ |= {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_NUM_INTRAOP_THREADS": str(threads),
        "TF_NUM_INTEROP_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "-1",  # TensorFlow would take all of a GPU's memory
    }
    try:
        essentia = importlib.import_module("essentia")
    except ImportError:
        raise UserError(missing) from None
    essentia.log.infoActive = essentia.log.warningActive = False  # before `standard`, which logs on import
    importlib.import_module("essentia.standard")
    return essentia
