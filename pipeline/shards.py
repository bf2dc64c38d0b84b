"""Read an array of the cache into memory at the speed of its files, checking the checksum of every chunk that is read.

Reads `features.zarr/<array>`; writes nothing. A shard's file is its chunks, each followed by a CRC-32C, and an index of
(offset, bytes); see the specification of Zarr v3's `sharding_indexed` and `crc32c`. Because features
are not compressed, a chunk is read from the file directly to where it belongs, and checked while it is still in the
processor's cache. Any Zarr reader reads the same files (`Features.zarr`), more slowly (docs/performance.md).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from config.cli import UserError
from config.files import read_json

CRC = {"name": "crc32c"}
Rows = slice | np.ndarray | None
"""Rows of the first axis: all, a slice without steps, or int64 numbers in any order, also repeated."""
Piece = tuple[int, int, slice | np.ndarray | None, slice | np.ndarray]
"""First chunk, number of chunks, which rows of a single chunk are wanted (None: all, of every chunk), where they go."""
TOGETHER = 1 << 19
"""Bytes to read in one go: small enough to be in the processor's cache still when their checksums are taken."""


@dataclass(frozen=True)
class Shards:
    """One array on disk: `shape` and `dtype` of the whole, rows a shard and rows a chunk.

    Without `sharded`, as for the slim arrays, a shard's file is one chunk without an index.
    """

    folder: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    shard_rows: int
    chunk_rows: int
    sharded: bool

    @classmethod
    def open(cls, folder: Path) -> Shards:
        """Open an array's folder. UserError if it is missing, or laid out as the pipeline never writes it."""
        about = read_json(folder / "zarr.json")
        if about is None:
            raise UserError(f"{folder.parent} has no array '{folder.name}'; run `snakemake extract …`")
        whole = about["chunk_grid"]["configuration"]["chunk_shape"]
        codecs = about["codecs"]
        chunk, sharded = whole, codecs[0]["name"] == "sharding_indexed"
        if sharded:
            sharding = codecs.pop(0)["configuration"]
            chunk, codecs = sharding["chunk_shape"], sharding["codecs"]
            if sharding["index_location"] != "end" or sharding["index_codecs"][1:] != [CRC]:
                codecs = []
        names = [codec["name"] for codec in codecs]
        if names != ["bytes", "crc32c"] or not whole[1:] == chunk[1:] == about["shape"][1:]:
            raise UserError(f"{folder}: shards are compressed, or cut along other axes; only Zarr itself reads them")
        dtype = np.dtype(about["data_type"]).newbyteorder("<")
        return cls(folder, tuple(about["shape"]), dtype, whole[0], chunk[0], sharded)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, index: Any) -> np.ndarray:
        """Return rows as in `Rows`, indexed by numpy on the other axes. Reads with one thread: dask has its own."""
        first, *rest = index if isinstance(index, tuple) else (index,)
        return self.read(first, threads=1)[(slice(None), *rest)]

    def read(self, rows: Rows = None, threads: int | None = None) -> np.ndarray:
        """Return the array's `rows`, [rows, …], in its dtype. `threads`: by default as many as there are cores.

        Raise UserError for a missing or damaged shard, IndexError for a row that the array does not have.
        """
        if rows is None or isinstance(rows, slice):
            start, stop, step = (rows or slice(None)).indices(self.shape[0])
            if step != 1:
                raise IndexError("a slice of rows has no steps")
            count, work = max(stop - start, 0), list(self._span(start, stop))
        else:
            rows = np.asarray(rows)
            if rows.ndim != 1 or rows.dtype.kind not in "iu":
                raise IndexError(f"rows are int64 [n], not {rows.dtype} {list(rows.shape)}")
            if len(rows) and not 0 <= rows.min() <= rows.max() < self.shape[0]:
                raise IndexError(f"{self.folder} has the rows 0 to {self.shape[0] - 1}")
            count, work = len(rows), list(self._picked(rows))
        out = np.empty((count, *self.shape[1:]), self.dtype)
        threads = threads or len(os.sched_getaffinity(0))
        if threads == 1:  # starting another one costs more than reading a few chunks
            self._read_shards(work, out)
            return out
        # A task for every shard would cost more than reading a few rows of each; four a thread even out their speeds.
        size = -(-len(work) // (4 * threads)) or 1
        with ThreadPoolExecutor(threads) as pool:
            tasks = (work[first : first + size] for first in range(0, len(work), size))
            for _ in pool.map(lambda task: self._read_shards(task, out), tasks):
                pass
        return out

    def _span(self, start: int, stop: int) -> Iterator[tuple[int, list[Piece]]]:
        """Yield what to read of each shard for the rows `start` to `stop`: whole chunks and parts of others."""
        for shard in range(start // self.shard_rows, -(-stop // self.shard_rows) if stop > start else 0):
            base = shard * self.shard_rows
            low, high = max(start - base, 0), min(stop - base, self.shard_rows)
            first, last = -(-low // self.chunk_rows), high // self.chunk_rows
            pieces: list[Piece] = []
            if first < last:
                edges = [first * self.chunk_rows, last * self.chunk_rows]
                pieces.append((first, last - first, None, slice(base + edges[0] - start, base + edges[1] - start)))
            else:
                edges = [min(first * self.chunk_rows, high)] * 2
            for begin, end in ((low, edges[0]), (edges[1], high)):
                if begin < end:
                    chunk = begin // self.chunk_rows
                    inside = slice(begin - chunk * self.chunk_rows, end - chunk * self.chunk_rows)
                    pieces.append((chunk, 1, inside, slice(base + begin - start, base + end - start)))
            yield shard, pieces

    def _picked(self, rows: np.ndarray) -> Iterator[tuple[int, list[Piece]]]:
        """Yield what to read of each shard for these rows: each chunk once, however many of its rows are wanted."""
        order = np.argsort(rows, kind="stable")
        inside = rows[order]
        # Shards need not be whole numbers of chunks apart from one another: number the chunks shard by shard.
        chunks_a_shard = self.shard_rows // self.chunk_rows
        chunk = inside // self.shard_rows * chunks_a_shard + inside % self.shard_rows // self.chunk_rows
        edges = np.flatnonzero(np.diff(chunk, prepend=-1, append=-1)).tolist()
        now, pieces = -1, list[Piece]()
        for low, high in zip(edges, edges[1:], strict=False):
            shard, within = divmod(int(chunk[low]), chunks_a_shard)
            if shard != now and pieces:
                yield now, pieces
                pieces = []
            now = shard
            if self.chunk_rows == 1 and high - low == 1:
                pieces.append((within, 1, None, slice(int(order[low]), int(order[low]) + 1)))
                continue
            first = shard * self.shard_rows + within * self.chunk_rows
            pieces.append((within, 1, inside[low:high] - first, order[low:high]))
        if pieces:
            yield now, pieces

    def path(self, shard: int) -> Path:
        """Return the path of a shard's file (Zarr v3's default chunk keys)."""
        return Path(f"{self.folder}/c/{shard}{'/0' * (len(self.shape) - 1)}")

    def _read_shards(self, work: list[tuple[int, list[Piece]]], out: np.ndarray) -> None:
        """Read these pieces of these shards into `out`. A shard's chunks lie one after the other from byte 0 on."""
        count = self.shard_rows // self.chunk_rows
        size = self.chunk_rows * math.prod(self.shape[1:]) * self.dtype.itemsize
        step = size + 4
        index = _index(count, step) if self.sharded else b""
        spare = np.empty((self.chunk_rows, *self.shape[1:]), self.dtype)
        for shard, pieces in work:
            try:
                file = os.open(self.path(shard), os.O_RDONLY)
            except FileNotFoundError:
                raise UserError(self._damage(shard, "is missing")) from None
            try:
                # One byte more would show a file that is too long.
                if os.pread(file, len(index) + 1, count * step) != index:
                    raise UserError(self._damage(shard, "is damaged in its index, or of another length"))
                for chunk, chunks, wanted, place in pieces:
                    target = out[place] if wanted is None else spare
                    self._read_chunks(file, shard, chunk, chunks, target.reshape(-1).view(np.uint8))
                    if wanted is not None:
                        out[place] = spare[wanted]
            finally:
                os.close(file)

    def _read_chunks(self, file: int, shard: int, first: int, count: int, raw: np.ndarray) -> None:
        """Read `count` chunks into the bytes `raw` and check them."""
        size = len(raw) // count
        together = min(max(TOGETHER // size, 1), 500)  # the kernel takes 1024 buffers
        sums = np.empty(min(together, count), "<u4")
        for start in range(0, count, together):
            chunks = range(start, min(start + together, count))
            parts = [raw[chunk * size : (chunk + 1) * size] for chunk in chunks]
            buffers = [
                buffer for number, part in enumerate(parts) for buffer in (part.data, sums[number : number + 1].data)
            ]
            if os.preadv(file, buffers, (first + start) * (size + 4)) != len(parts) * (size + 4):
                raise UserError(self._damage(shard, "is too short"))
            for chunk, part, checksum in zip(chunks, parts, sums, strict=False):
                if google_crc32c.value(part) != checksum:
                    raise UserError(self._damage(shard, f"is damaged in its chunk {first + chunk} (checksum)"))

    def _damage(self, shard: int, what: str) -> str:
        return (
            f"{self.path(shard)}: shard {shard} of {self.folder.name} {what}. Run `python -m pipeline.verify "
            f"{self.folder.parent.parent} --repair` and then `snakemake extract …`, which computes it again."
        )


@cache
def _index(count: int, step: int) -> bytes:
    """Return the index at the end of a shard whose `count` chunks of `step` bytes, checksums included, lie in order."""
    entries = np.stack([np.arange(count) * step, np.full(count, step)], axis=1).astype("<u8").tobytes()
    checksum: int = google_crc32c.value(entries)
    return entries + checksum.to_bytes(4, "little")
