"""MusicNN as a frozen TensorFlow graph, without TensorFlow or protobuf. Works on bytes in memory only.

`musicnn_graph` writes the GraphDef message that essentia's TensorflowPredict loads, with the node names of MTG's
`msd-musicnn-1.pb`; `check` inspects a graph from elsewhere. Formats: graph.proto, node_def.proto, attr_value.proto and
tensor.proto of tensorflow/core/framework, and protobuf's wire encoding. The network is that of musicnn/models.py.
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


def layer(kind: str, number: int) -> str:
    """Return TensorFlow's name of a layer by its number among those of its kind: `conv2d`, `conv2d_1`, …"""
    return f"{kind}_{number}" if number else kind


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
    unsafe = sorted(filter(UNSAFE.search, operations - allowed))
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
    graph = Graph()

    def norm(x: str, i: int) -> str:
        name = layer("batch_normalization", i)
        x = graph.node("Mul", f"model/{name}/batchnorm/mul_1", [x, graph.const(affines[i][0])], **T)
        return graph.node("AddV2", f"model/{name}/batchnorm/add_1", [x, graph.const(affines[i][1])], **T)

    def expand(x: str, name: str) -> str:
        return graph.node("ExpandDims", name, [x, graph.const(np.int32(3))], **T, Tdim=_type(INT32))

    def reduce(operation: str, x: str, axis: int, name: str) -> str:
        return graph.node(operation, name, [x, graph.const(np.array([axis], np.int32))], **T, Tidx=_type(INT32))

    def concat(parts: list[str], name: str) -> str:
        inputs = [*parts, graph.const(np.int32(2))]
        return graph.node("ConcatV2", name, inputs, **T, N=_int(3, len(parts)), Tidx=_type(INT32))

    def conv(x: str, i: int, same: bool) -> str:
        name = layer("conv2d", i)
        if not same:  # three frames before and after, nothing along the mel bands
            pad = graph.const(np.array([[0, 0], [3, 3], [0, 0], [0, 0]], np.int32))
            x = graph.node("Pad", f"model/Pad_{i}", [x, pad], **T, Tpaddings=_type(INT32))
        padding = _bytes(2, b"SAME" if same else b"VALID")
        kernel, bias = graph.const(tensors[f"{name}/kernel"]), graph.const(tensors[f"{name}/bias"])
        x = graph.node("Conv2D", f"model/{name}/Conv2D", [x, kernel], **T, strides=ONES, padding=padding)
        x = graph.node("BiasAdd", f"model/{name}/BiasAdd", [x, bias], **T)
        return norm(graph.node("Relu", f"model/{name}/Relu", [x], **T), i + 1)

    def dense(x: str, name: str) -> str:
        x = graph.node("MatMul", f"model/{name}/MatMul", [x, graph.const(tensors[f"{name}/kernel"])], **T)
        return graph.node("BiasAdd", f"model/{name}/BiasAdd", [x, graph.const(tensors[f"{name}/bias"])], **T)

    x = graph.node("Placeholder", INPUT, [], dtype=_type(FLOAT), shape=_bytes(7, _shape((-1, frames, bands))))
    x = norm(expand(x, "model/ExpandDims"), 0)
    columns = [reduce("Max", conv(x, i, same=i > 1), 2, f"model/front_{i}") for i in range(5)]
    parts = [concat(columns, "model/concat")]
    for i in range(3):
        y = conv(expand(parts[-1], f"model/ExpandDims_{i + 1}"), 5 + i, same=False)
        y = reduce("Max", y, 2, f"model/middle_{i}")  # over an axis of length one: drops it
        parts.append(graph.node("AddV2", f"model/add_{i}", [y, parts[-1]], **T) if i else y)
    x = expand(concat(parts, "model/concat_features"), "model/ExpandDims_4")
    pools = [reduce("Max", x, 1, "model/Max"), reduce("Mean", x, 1, "model/moments/Squeeze")]
    flat = [concat(pools, "model/concat_pools"), graph.const(np.array([-1, POOLED], np.int32))]
    x = graph.node("Reshape", OUTPUTS["pooled"], flat, **T, Tshape=_type(INT32))
    x = graph.node("Relu", "model/dense/Relu", [dense(norm(x, 9), "dense")], **T)
    graph.node("Sigmoid", OUTPUTS["tags"], [dense(norm(x, 10), "dense_1")], **T)
    return graph.serialize()


def _varint(number: int) -> bytes:
    """Return an integer of 64 bits in protobuf's base 128; a negative one in two's complement."""
    left = number & (1 << 64) - 1
    encoded = bytearray()
    while left > 0x7F:
        encoded.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*encoded, left])


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
    """A GraphDef in the making: NodeDef messages in the order in which they are added, inputs first."""

    def __init__(self) -> None:
        self._nodes: list[bytes] = []

    def node(self, operation: str, name: str, inputs: list[str], **attributes: bytes) -> str:
        """Add a node with one output; return its name."""
        body = _bytes(1, name.encode()) + _bytes(2, operation.encode())
        body += b"".join(_bytes(3, source.encode()) for source in inputs)
        for key, value in attributes.items():
            body += _bytes(5, _bytes(1, key.encode()) + _bytes(2, value))
        self._nodes.append(body)
        return name

    def const(self, array: np.ndarray | np.int32) -> str:
        """Add a constant, float32 or int32; return its name."""
        dtype = FLOAT if array.dtype == np.float32 else INT32
        tensor = _int(1, dtype) + _bytes(2, _shape(array.shape)) + _bytes(4, array.tobytes())
        name = f"model/const_{len(self._nodes)}"
        return self.node("Const", name, [], dtype=_type(dtype), value=_bytes(8, tensor))

    def serialize(self) -> bytes:
        """Return the GraphDef with `versions.producer` 27, TensorFlow 1.12 and later."""
        return b"".join(_bytes(1, node) for node in self._nodes) + _bytes(4, _int(1, 27))
