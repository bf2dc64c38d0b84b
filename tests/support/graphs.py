"""Frozen TensorFlow graphs for tests: small ones whose features are easy to compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.backbones.graphdef import FLOAT, INT32, Graph, T, _bytes, _int, _shape, _type

SHAPES = {
    "EffnetDiscogs": ("serving_default_melspectrogram", (64, 128, 96), 2),
    "VGGish": ("model/Placeholder", (-1, 96, 64), 2),
    "MusiCNN": ("model/Placeholder", (-1, 187, 96), 2),
    "MAEST": ("melspectrogram", (-1, 1876, 96), 2),
    "FSDSINet": ("x", (-1, 101, 96, 1), 2),
    "TempoCNN": ("input", (-1, 40, 256, 1), 1),
    "CREPE": ("frames", (-1, 1024), 1),
}
"""{essentia's algorithm: input node, its shape, and the axis of frequencies (of samples for CREPE)}."""


def write_graph(path: Path, algorithm: str, dim: int, calls: str = "") -> Path:
    """Write the graph of an algorithm's input: the mean over all axes but that of frequencies, times a fixed matrix.

    Its nodes `embeddings` and, as in MTG's graphs, `PartitionedCall` with two outputs: the first half of `dim` numbers
    and the second half. `calls`: an operation, such as WriteFile, in a function that the graph has but does not call.
    """
    name, shape, frequencies = SHAPES[algorithm]
    g = Graph()
    x = g.node("Placeholder", name, [], dtype=_type(FLOAT), shape=_bytes(7, _shape(shape)))
    axes = np.array([axis for axis in range(1, len(shape)) if axis != frequencies], np.int32)
    if len(axes):
        x = g.node("Mean", "mean", [x, g.const(axes)], **T, Tidx=_type(INT32))
    matrix = np.random.default_rng(0).normal(size=(shape[frequencies], dim)).astype(np.float32)
    x = g.node("MatMul", "embeddings", [x, g.const(matrix)], **T)
    g.node("Split", "PartitionedCall", [g.const(np.int32(1)), x], **T, num_split=_int(3, 2))
    content = g.serialize()
    if calls:
        node = _bytes(3, _bytes(1, b"node") + _bytes(2, calls.encode()))
        content += _bytes(2, _bytes(1, _bytes(1, _bytes(1, b"function")) + node))
    path.write_bytes(content)
    return path
