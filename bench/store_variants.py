"""Other layouts of the same features, for the bench of the store: chunk sizes and codecs.

Writes arrays to the folder that it is given, and reads them again.
"""

from __future__ import annotations

import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from bench.store_timing import ROWS, fastest, random_rows
from pipeline.shards import Shards

CHUNKS = (1, 2, 4, 8, 20, 50, 200, 1000)
CODECS: dict[str, list[Any]] = {
    "none": [],
    "crc32c": [Crc32cCodec()],
    "zstd 1, crc32c": [ZstdCodec(level=1), Crc32cCodec()],
    "lz4, shuffled, crc32c": [BloscCodec(cname="lz4", clevel=5, shuffle="shuffle", typesize=2), Crc32cCodec()],
    "zstd 3, bit-shuffled, crc32c": [
        BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle", typesize=2),
        Crc32cCodec(),
    ],
}


def variant(folder: Path, block: np.ndarray, shard: int, chunk: int, chain: list[Any]) -> tuple[Any, float]:
    """Write the block as a sharded array; return it and the seconds that it took."""
    shutil.rmtree(folder, ignore_errors=True)
    array = zarr.create_array(
        folder,
        shape=block.shape,
        dtype=block.dtype,
        shards=(shard, *block.shape[1:]),
        chunks=(chunk, *block.shape[1:]),
        compressors=chain,
        filters=None,
        fill_value=np.nan,
        config={"write_empty_chunks": True},
    )
    start = time.perf_counter()
    array[:] = block
    return array, time.perf_counter() - start


def chunk_sizes(work: Path, block: np.ndarray, shard: int) -> list[dict[str, Any]]:
    """Time loading all and gathering random rows, by rows a chunk, with this project's reader and with Zarr's."""
    rows = np.random.default_rng(0).integers(len(block), size=ROWS)
    results = []
    for chunk in (rows for rows in CHUNKS if shard % rows == 0):
        array, _ = variant(work / "chunks", block, shard, chunk, [Crc32cCodec()])
        ours = Shards.open(work / "chunks")
        results.append(
            {
                "rows": chunk,
                "kb": round(chunk * block[0].nbytes / 1000, 1),
                "load": fastest(ours.read),
                "load_zarr": fastest(partial(array.__getitem__, slice(None)), 1),
                "gather": random_rows(len(block), [ours.path(i) for i in range(len(block) // shard)], ours.read),
                "gather_zarr": fastest(partial(array.oindex.__getitem__, rows), 1),
            }
        )
    return results


def codecs(work: Path, block: np.ndarray, shard: int) -> dict[str, Any]:
    """Measure bytes and seconds of each codec, through Zarr; loading with the Rust pipeline too, if it is installed."""
    results = []
    for name, chain in CODECS.items():
        array, seconds = variant(work / "codecs", block, shard, 50, chain)
        size = sum(file.stat().st_size for file in (work / "codecs").rglob("*") if file.is_file())
        load = fastest(partial(array.__getitem__, slice(None)), 1)
        result = {"codec": name, "size": size / block.nbytes, "write": seconds, "load": load}
        with rust_pipeline() as available:
            if available:
                again = zarr.open_array(work / "codecs", mode="r")
                result["load_zarrs"] = fastest(partial(again.__getitem__, slice(None)), 1)
        results.append(result)
    return {"bytes": block.nbytes, "codecs": results}


class rust_pipeline:
    """While open, Zarr uses the codec pipeline of the package `zarrs`; gives False where that is not installed."""

    def __enter__(self) -> bool:
        try:
            import zarrs
        except ImportError:
            return False
        zarr.registry.register_pipeline(zarrs.ZarrsCodecPipeline)
        zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
        return True

    def __exit__(self, *exception: object) -> None:
        zarr.config.set({"codec_pipeline.path": "zarr.core.codec_pipeline.BatchedCodecPipeline"})
