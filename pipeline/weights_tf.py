"""TensorFlow checkpoints without TensorFlow. Reads `PREFIX.index` and `PREFIX.data-00000-of-00001`; writes nothing.

The index is an uncompressed LevelDB table of protobuf messages (name → type, shape, offset, size), the data file is
the raw little-endian tensors. Formats: tensorflow/core/protobuf/tensor_bundle.proto, LevelDB's table_format.md and
protobuf's wire encoding. Nothing in either file is ever executed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

MAGIC = bytes.fromhex("57fb808b247547db")  # last eight bytes of every LevelDB table
FOOTER = 48
# By the number in tensorflow.DataType.
DTYPES: dict[int, np.dtype] = {1: np.dtype("<f4"), 2: np.dtype("<f8"), 3: np.dtype("<i4"), 9: np.dtype("<i8")}


def files(prefix: str) -> tuple[Path, Path]:
    """Return the index and the data file of the checkpoint at `prefix` (which may end in `/`, as MusicNN's do)."""
    return Path(f"{prefix}.index"), Path(f"{prefix}.data-00000-of-00001")


def read_checkpoint(prefix: str, names: set[str] | None = None) -> dict[str, np.ndarray]:
    """Read the checkpoint's tensors by variable name, in TensorFlow's layout; only those in `names` where it is given.

    Raise FileNotFoundError, and ValueError for anything that is not an intact, unsharded checkpoint.
    """
    index, data = (file.read_bytes() for file in files(prefix))
    if len(index) < FOOTER or not index.endswith(MAGIC):
        raise ValueError(f"{files(prefix)[0].name} is not a TensorFlow checkpoint index")
    try:
        entries = dict(_entries(index))
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"{files(prefix)[0].name} is damaged: {error}") from None
    wanted = entries if names is None else {name: entries[name] for name in names if name in entries}
    return {name: _tensor(name, entry, data) for name, entry in wanted.items()}


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, value) of one protobuf message; length-delimited and fixed-width values as bytes."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, position = _varint(message, position)
            yield number, value
            continue
        if wire == 2:
            size, position = _varint(message, position)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise IndexError(f"unknown protobuf wire type {wire}")
        if position + size > len(message):
            raise IndexError("a protobuf field runs past the end")
        yield number, message[position : position + size]
        position += size


def _varint(buffer: bytes, position: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = buffer[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7


def _entries(index: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield (variable name, BundleEntryProto) of the whole table."""
    _, position = _handle(index, len(index) - FOOTER)  # the metaindex block, unused
    top, _ = _handle(index, position)
    for _, pointer in _block(index, *top):
        block, _ = _handle(pointer, 0)
        for key, entry in _block(index, *block):
            if key:  # the empty key is the bundle's header
                yield key.decode(), entry


def _handle(buffer: bytes, position: int) -> tuple[tuple[int, int], int]:
    offset, position = _varint(buffer, position)
    size, position = _varint(buffer, position)
    return (offset, size), position


def _block(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield (key, value) of one table block, whose keys are stored as differences from the key before."""
    if table[offset + size] != 0:
        raise IndexError("compressed blocks are not supported")
    block = table[offset : offset + size]
    restarts = struct.unpack_from("<I", block, size - 4)[0]
    end, position, key = size - 4 - 4 * restarts, 0, b""
    while position < end:
        shared, position = _varint(block, position)
        fresh, position = _varint(block, position)
        length, position = _varint(block, position)
        key = key[:shared] + block[position : position + fresh]
        position += fresh
        yield key, block[position : position + length]
        position += length


def _tensor(name: str, entry: bytes, data: bytes) -> np.ndarray:
    try:
        values: dict[int, int | bytes] = dict(fields(entry))
        dtype: np.dtype | None = DTYPES.get(_int(values, 1))
        shape = tuple(_int(dict(fields(dim)), 1) for number, dim in fields(_bytes(values, 2)) if number == 2)  # type: ignore[arg-type]
    except IndexError as error:
        raise ValueError(f"the entry of '{name}' is damaged: {error}") from None
    shard, start, size = _int(values, 3), _int(values, 4), _int(values, 5)
    if dtype is None or shard != 0:
        raise ValueError(f"'{name}' has an unsupported type or lies in another data file")
    if start + size > len(data) or size != dtype.itemsize * int(np.prod(shape, dtype=object)):
        raise ValueError(f"the data file is too short for '{name}', or is of another checkpoint")
    return np.frombuffer(data, dtype, size // dtype.itemsize, start).reshape(shape)


def _int(values: dict[int, int | bytes], number: int) -> int:
    value = values.get(number, 0)  # protobuf leaves out zeros
    if not isinstance(value, int):
        raise IndexError(f"field {number} is not a number")
    return value


def _bytes(values: dict[int, int | bytes], number: int) -> bytes:
    value = values.get(number, b"")
    if not isinstance(value, bytes):
        raise IndexError(f"field {number} is not a message")
    return value
