"""MusicNN as a frozen TensorFlow graph, without TensorFlow or protobuf. Works on bytes in memory only.

`musicnn_graph` writes the GraphDef message that essentia's TensorflowPredict loads, with the node names of MTG's
`msd-musicnn-1.pb`; `check` inspects a graph from elsewhere. Formats:
tensorflow/core/framework/{graph,node_def,attr_value, tensor}.proto and protobuf's wire encoding. The network is that of
musicnn/models.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from pipeline.weights_tf import fields

INPUT = "model/Placeholder"
OUTPUTS = {
    "pooled": "model/flatten/Reshape",
    "penultimate": "model/batch_normalization_10/batchnorm/add_1",
    "tags": "model/Sigmoid",
}
POOLED = 1506
"""Width of the output `pooled`, the features."""
FLOAT, INT32 = 1, 3  # tensorflow.DataType
# Operations with side effects outside the graph. A frozen network has none of them.
UNSAFE = re.compile("File|Save|Restore|Py|Writer|Reader|Library|Print|Remote|Call")


def layer(kind: str, i: int) -> str:
    """Return TensorFlow's name of the i-th layer of a kind: `conv2d`, `conv2d_1`, …"""
    return f"{kind}_{i}" if i else kind


def nodes(graph: bytes) -> dict[str, str]:
    """Return {node name: operation} of a GraphDef. Raises ValueError if the bytes are none."""
    try:
        messages = [dict(fields(value)) for number, value in fields(graph) if number == 1 and isinstance(value, bytes)]
        operations = {bytes(node[1]).decode(): bytes(node[2]).decode() for node in messages}
    except (IndexError, KeyError, TypeError, UnicodeDecodeError):
        raise ValueError("this is no frozen TensorFlow graph (GraphDef)") from None
    if not operations:
        raise ValueError("this is no frozen TensorFlow graph (GraphDef): it has no nodes")
    return operations


def check(graph: bytes) -> list[str]:
    """Return the keys of OUTPUTS that the graph has. Raises ValueError if it lacks features or has other operations."""
    operations = nodes(graph)
    check_operations(graph)
    for name in (INPUT, OUTPUTS["pooled"]):
        if name not in operations:
            raise ValueError(f"the graph has no node '{name}'; a frozen MusicNN such as MTG's msd-musicnn-1.pb has")
    return [key for key, name in OUTPUTS.items() if name in operations]


def check_operations(graph: bytes, functions: bool = False) -> None:
    """Raise ValueError if running the graph could do more than compute; `functions`: it may call its own functions."""
    operations = set(nodes(graph).values())
    for number, library in fields(graph):
        if number != 2 or not library:
            continue
        if not functions:
            raise ValueError("the graph holds operations that a frozen network does not need: functions")
        operations |= _operations_of_functions(library)
    allowed = {"PartitionedCall", "StatefulPartitionedCall"} if functions else set()
    unsafe = sorted(op for op in operations - allowed if UNSAFE.search(op))
    if unsafe:
        raise ValueError(f"the graph holds operations that a frozen network does not need: {unsafe}")


def _operations_of_functions(library: int | bytes) -> set[str]:
    """Return the operations in a FunctionDefLibrary: `function` is its field 1, of which `node_def` is field 3."""
    try:
        functions = [function for number, function in fields(bytes(library)) if number == 1]
        messages = [node for one in functions for number, node in fields(bytes(one)) if number == 3]
        return {bytes(dict(fields(bytes(node)))[2]).decode() for node in messages}
    except (IndexError, KeyError, TypeError, UnicodeDecodeError):
        raise ValueError("the functions of the graph cannot be read") from None


def musicnn_graph(
    tensors: dict[str, np.ndarray], affines: Sequence[tuple[np.ndarray, np.ndarray]], frames: int, bands: int
) -> bytes:
    """Return the GraphDef: INPUT [n, frames, bands] float32 → OUTPUTS [n, 1506], [n, 200], [n, 50].

    `tensors` are the checkpoint's kernels and biases; `affines` the (scale, shift) of its batch normalisations.
    """
    g = Graph()

    def norm(x: str, i: int) -> str:
        name = layer("batch_normalization", i)
        x = g.node("Mul", f"model/{name}/batchnorm/mul_1", [x, g.const(affines[i][0])], **T)
        return g.node("AddV2", f"model/{name}/batchnorm/add_1", [x, g.const(affines[i][1])], **T)

    def expand(x: str, name: str) -> str:
        return g.node("ExpandDims", name, [x, g.const(np.int32(3))], **T, Tdim=_type(INT32))

    def reduce(op: str, x: str, axis: int, name: str) -> str:
        return g.node(op, name, [x, g.const(np.array([axis], np.int32))], **T, Tidx=_type(INT32))

    def concat(parts: list[str], name: str) -> str:
        inputs = [*parts, g.const(np.int32(2))]
        return g.node("ConcatV2", name, inputs, **T, N=_int(3, len(parts)), Tidx=_type(INT32))

    def conv(x: str, i: int, same: bool) -> str:
        name = layer("conv2d", i)
        if not same:  # three frames before and after, nothing along the mel bands
            pad = g.const(np.array([[0, 0], [3, 3], [0, 0], [0, 0]], np.int32))
            x = g.node("Pad", f"model/Pad_{i}", [x, pad], **T, Tpaddings=_type(INT32))
        padding = _bytes(2, b"SAME" if same else b"VALID")
        kernel, bias = g.const(tensors[f"{name}/kernel"]), g.const(tensors[f"{name}/bias"])
        x = g.node("Conv2D", f"model/{name}/Conv2D", [x, kernel], **T, strides=ONES, padding=padding)
        x = g.node("BiasAdd", f"model/{name}/BiasAdd", [x, bias], **T)
        return norm(g.node("Relu", f"model/{name}/Relu", [x], **T), i + 1)

    def dense(x: str, name: str) -> str:
        x = g.node("MatMul", f"model/{name}/MatMul", [x, g.const(tensors[f"{name}/kernel"])], **T)
        return g.node("BiasAdd", f"model/{name}/BiasAdd", [x, g.const(tensors[f"{name}/bias"])], **T)

    x = g.node("Placeholder", INPUT, [], dtype=_type(FLOAT), shape=_bytes(7, _shape((-1, frames, bands))))
    x = norm(expand(x, "model/ExpandDims"), 0)
    columns = [reduce("Max", conv(x, i, same=i > 1), 2, f"model/front_{i}") for i in range(5)]
    parts = [concat(columns, "model/concat")]
    for i in range(3):
        y = conv(expand(parts[-1], f"model/ExpandDims_{i + 1}"), 5 + i, same=False)
        y = reduce("Max", y, 2, f"model/middle_{i}")  # over an axis of length one: drops it
        parts.append(g.node("AddV2", f"model/add_{i}", [y, parts[-1]], **T) if i else y)
    x = expand(concat(parts, "model/concat_features"), "model/ExpandDims_4")
    pools = [reduce("Max", x, 1, "model/Max"), reduce("Mean", x, 1, "model/moments/Squeeze")]
    flat = [concat(pools, "model/concat_pools"), g.const(np.array([-1, POOLED], np.int32))]
    x = g.node("Reshape", OUTPUTS["pooled"], flat, **T, Tshape=_type(INT32))
    x = g.node("Relu", "model/dense/Relu", [dense(norm(x, 9), "dense")], **T)
    g.node("Sigmoid", OUTPUTS["tags"], [dense(norm(x, 10), "dense_1")], **T)
    return g.serialize()


def _varint(n: int) -> bytes:
    n &= (1 << 64) - 1
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes([*out, n])


def _bytes(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _int(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _shape(sizes: Sequence[int]) -> bytes:
    return b"".join(_bytes(2, _int(1, size)) for size in sizes)


def _type(dtype: int) -> bytes:
    return _int(6, dtype)  # AttrValue.type


T = {"T": _type(FLOAT)}
ONES = _bytes(1, _bytes(3, _varint(1) * 4))  # AttrValue.list.i = [1, 1, 1, 1]


class Graph:
    """Collects NodeDef messages in the order in which they are made, inputs first."""

    def __init__(self) -> None:
        self._nodes: list[bytes] = []

    def node(self, op: str, name: str, inputs: list[str], **attributes: bytes) -> str:
        body = _bytes(1, name.encode()) + _bytes(2, op.encode()) + b"".join(_bytes(3, i.encode()) for i in inputs)
        for key, value in attributes.items():
            body += _bytes(5, _bytes(1, key.encode()) + _bytes(2, value))
        self._nodes.append(body)
        return name

    def const(self, array: np.ndarray | np.int32) -> str:
        dtype = FLOAT if array.dtype == np.float32 else INT32
        tensor = _int(1, dtype) + _bytes(2, _shape(array.shape)) + _bytes(4, array.tobytes())
        name = f"model/const_{len(self._nodes)}"
        return self.node("Const", name, [], dtype=_type(dtype), value=_bytes(8, tensor))

    def serialize(self) -> bytes:
        """Return the GraphDef with `versions.producer` 27, TensorFlow 1.12 and later."""
        return b"".join(_bytes(1, node) for node in self._nodes) + _bytes(4, _int(1, 27))
