"""Read an array of the cache into memory at the speed of its files, checking the checksum of every chunk that is read.

Reads `features.zarr/<array>`; writes nothing. A shard's file is its chunks, each followed by a CRC-32C, and an index of
(offset, bytes); see the specification of Zarr v3's `sharding_indexed` and `crc32c`. Because features
are not compressed, a chunk is read from the file directly to where it belongs, and checked while it is still in the
processor's cache. Any Zarr reader reads the same files (`Features.zarr`), more slowly: bench/README.md compares them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from config.cli import UserError
from config.files import read_json

CRC = {"name": "crc32c"}
Rows = slice | np.ndarray | None
"""Rows of the first axis: all, a slice without steps, or int64 numbers in any order, also repeated."""
Piece = tuple[int, slice | np.ndarray, slice | np.ndarray]
"""A chunk of a shard, which of its rows are wanted, and where they go."""


@dataclass(frozen=True)
class Shards:
    """One array on disk: `shape` and `dtype` of the whole, rows a shard and rows a chunk. Pickles as its path."""

    folder: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    shard_rows: int
    chunk_rows: int

    @classmethod
    def open(cls, folder: Path) -> Shards:
        """UserError if there is no such array, or one that the pipeline has not written like this."""
        about = read_json(folder / "zarr.json")
        if about is None:
            raise UserError(f"{folder.parent} has no array '{folder.name}'; run `snakemake extract …`")
        whole = about["chunk_grid"]["configuration"]["chunk_shape"]
        codecs = about["codecs"]
        chunk = whole
        if codecs[0]["name"] == "sharding_indexed":
            sharding = codecs.pop(0)["configuration"]
            chunk, codecs = sharding["chunk_shape"], sharding["codecs"]
            if sharding["index_location"] != "end" or sharding["index_codecs"][1:] != [CRC]:
                codecs = []
        if [c["name"] for c in codecs] != ["bytes", "crc32c"] or not whole[1:] == chunk[1:] == about["shape"][1:]:
            raise UserError(f"{folder}: shards are compressed, or cut along other axes; only Zarr itself reads them")
        dtype = np.dtype(about["data_type"]).newbyteorder("<")
        return cls(folder, tuple(about["shape"]), dtype, whole[0], chunk[0])

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, index: Any) -> np.ndarray:
        """Rows as in `Rows`, then whatever numpy takes on the other axes; reads with one thread (dask has its own)."""
        first, *rest = index if isinstance(index, tuple) else (index,)
        return self.read(first, threads=1)[(slice(None), *rest)]

    def read(self, rows: Rows = None, threads: int | None = None) -> np.ndarray:
        """[rows, …] of the array. `threads`: by default as many as there are cores.

        UserError for a missing shard or one whose bytes are not those that were written; IndexError for a row that
        the array has not.
        """
        if rows is None or isinstance(rows, slice):
            start, stop, step = (rows or slice(None)).indices(self.shape[0])
            if step != 1:
                raise IndexError("a slice of rows has no steps")
            count, work = max(stop - start, 0), self._span(start, stop)
        else:
            rows = np.asarray(rows)
            if rows.ndim != 1 or rows.dtype.kind not in "iu":
                raise IndexError(f"rows are int64 [n], not {rows.dtype} {list(rows.shape)}")
            if len(rows) and not 0 <= rows.min() <= rows.max() < self.shape[0]:
                raise IndexError(f"{self.folder} has the rows 0 to {self.shape[0] - 1}")
            count, work = len(rows), self._picked(rows)
        out = np.empty((count, *self.shape[1:]), self.dtype)
        with ThreadPoolExecutor(threads or len(os.sched_getaffinity(0))) as pool:
            for _ in pool.map(lambda each: self._read_shard(each[0], each[1], out), work):
                pass
        return out

    def _span(self, start: int, stop: int) -> Iterator[tuple[int, list[Piece]]]:
        """What to read of each shard for the rows `start` to `stop`."""
        for shard in range(start // self.shard_rows, -(-stop // self.shard_rows) if stop > start else 0):
            pieces: list[Piece] = []
            for chunk in range(self.shard_rows // self.chunk_rows):
                first = shard * self.shard_rows + chunk * self.chunk_rows
                low, high = max(start, first), min(stop, first + self.chunk_rows)
                if low < high:
                    pieces.append((chunk, slice(low - first, high - first), slice(low - start, high - start)))
            yield shard, pieces

    def _picked(self, rows: np.ndarray) -> Iterator[tuple[int, list[Piece]]]:
        """What to read of each shard for these rows: each chunk once, however many of its rows are wanted."""
        order = np.argsort(rows, kind="stable")
        inside = rows[order]
        # Shards need not be whole numbers of chunks apart from one another: number the chunks shard by shard.
        each = self.shard_rows // self.chunk_rows
        chunk = inside // self.shard_rows * each + inside % self.shard_rows // self.chunk_rows
        edges = np.flatnonzero(np.diff(chunk, prepend=-1, append=-1)).tolist()
        now, pieces = -1, list[Piece]()
        for low, high in zip(edges, edges[1:], strict=False):
            shard, within = divmod(int(chunk[low]), each)
            if shard != now and pieces:
                yield now, pieces
                pieces = []
            now = shard
            first = shard * self.shard_rows + within * self.chunk_rows
            pieces.append((within, inside[low:high] - first, order[low:high]))
        if pieces:
            yield now, pieces

    def path(self, shard: int) -> Path:
        """The file of a shard (Zarr v3's default chunk keys)."""
        return self.folder.joinpath("c", str(shard), *["0"] * (len(self.shape) - 1))

    def _read_shard(self, shard: int, pieces: list[Piece], out: np.ndarray) -> None:
        path = self.path(shard)
        size = self.chunk_rows * math.prod(self.shape[1:]) * self.dtype.itemsize
        spare = np.empty((self.chunk_rows, *self.shape[1:]), self.dtype)
        sum_ = bytearray(4)
        try:
            file = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            raise UserError(self._damage(shard, "is missing")) from None
        try:
            offsets = self._offsets(file, shard, size)
            for chunk, wanted, place in pieces:
                straight = isinstance(wanted, slice) and wanted.stop - wanted.start == self.chunk_rows
                target = out[place] if straight else spare
                raw = target.reshape(-1).view(np.uint8)
                if os.preadv(file, [raw.data, sum_], offsets[chunk]) != size + len(sum_):
                    raise UserError(self._damage(shard, "is too short"))
                if google_crc32c.value(raw) != int.from_bytes(sum_, "little"):
                    raise UserError(self._damage(shard, f"is damaged in its chunk {chunk} (checksum)"))
                if not straight:
                    out[place] = spare[wanted]
        finally:
            os.close(file)

    def _offsets(self, file: int, shard: int, size: int) -> list[int]:
        """Where each chunk of an open shard begins."""
        count = self.shard_rows // self.chunk_rows
        if count == 1 and os.fstat(file).st_size == size + 4:
            return [0]  # the slim arrays are not sharded: their file is one chunk
        length = 16 * count + 4
        index = np.frombuffer(os.pread(file, length, os.fstat(file).st_size - length), np.uint8)
        if len(index) != length or google_crc32c.value(index[:-4]) != int.from_bytes(index[-4:].tobytes(), "little"):
            raise UserError(self._damage(shard, "is damaged in its index (checksum)"))
        found = index[:-4].view("<u8").reshape(count, 2)
        if (found[:, 1] != size + 4).any():
            raise UserError(self._damage(shard, "has chunks of another size"))
        return found[:, 0].tolist()

    def _damage(self, shard: int, what: str) -> str:
        return (
            f"{self.path(shard)}: shard {shard} of {self.folder.name} {what}. Run `python -m pipeline.verify "
            f"{self.folder.parent.parent} --repair` and then `snakemake extract …`, which computes it again."
        )
