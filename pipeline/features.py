"""A finished cache as numpy, torch or dask arrays, with its labels: what heads, evaluation and notebooks open.

    from pipeline.features import open_features

    features = open_features("results/demo")
    rows = features.rows("train", valid=("musicnn", "r2plus1d"))     # int64 [n], ascending
    audio = features.numpy("musicnn", rows)                          # float16 [n, segments, 1506]
    genres = features.labels(rows)["genre"]                          # pyarrow

Reads `plan.json`, `done/`, `manifest.parquet` and `features.zarr`; writes nothing. Every read checks checksums.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import zarr

from config.cli import UserError
from config.paths import Paths
from data.manifest import SCHEMA, active, read_manifest
from data.splits import Split
from pipeline.records import Plan, read_plan, read_record
from pipeline.shards import Rows, Shards
from pipeline.store import DURATION, START, read_array

if TYPE_CHECKING:
    import dask.array
    import torch


class Features:
    """A finished cache, read-only. Made by `open_features`. `threads`: cores to read with, by default all."""

    def __init__(self, paths: Paths, plan: Plan, threads: int | None = None) -> None:
        self._paths, self._plan, self._threads = paths, plan, threads

    @property
    def folder(self) -> Path:
        """The Zarr group."""
        return self._paths.features

    @property
    def videos(self) -> int:
        """Rows of every array."""
        return self._plan.videos

    @property
    def segments(self) -> int:
        """Segments a video."""
        return self._plan.segments.count

    @property
    def backbones(self) -> list[str]:
        """Names of the cached backbones."""
        return list(self._plan.backbones)

    def dim(self, backbone: str) -> int:
        """Return the width of a backbone's features."""
        return self._plan.backbones[backbone].dim

    def modality(self, backbone: str) -> str:
        """Return `audio` or `video`; "" for a cache of before this was recorded."""
        return self._plan.backbones[backbone].modality

    def key(self, backbone: str) -> str:
        """Return the cache key that all of a backbone's features were computed under."""
        return self._plan.key(backbone)

    def random_weights(self, backbone: str) -> bool:
        """Return whether the backbone's weights are random numbers, not learned ones."""
        return self._plan.backbones[backbone].random_weights

    def weights(self, backbone: str) -> dict[str, Any]:
        """Return the record of the backbone's weights: `source`, `sha256` and more (pipeline/weights.py)."""
        return self._plan.backbones[backbone].weights

    def zarr(self, backbone: str) -> zarr.Array[Any]:
        """Return the Zarr array, [videos, segments, dim] float16; nothing is read yet."""
        return read_array(self._paths, backbone)

    def numpy(self, backbone: str, rows: Rows = None) -> np.ndarray:
        """Return [rows, segments, dim] float16; NaN where `valid` is False, and in damaged segments of valid videos.

        rows: all of them, a slice, or int64 [n] in any order. UserError for a shard that is damaged or missing.
        """
        return self._read(backbone, rows)

    def joined(self, backbones: Sequence[str], rows: Rows = None) -> np.ndarray:
        """Return the features of several backbones side by side, [rows, segments, sum of dims]; rows as in `numpy`."""
        blocks = [self._read(backbone, rows) for backbone in backbones]
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=2)

    def torch(self, backbone: str, rows: Rows = None) -> torch.Tensor:
        """Return the same as a tensor on the CPU."""
        import torch  # only here: importing it costs seconds, which readers of labels need not wait

        return torch.from_numpy(self._read(backbone, rows))

    def dask(self, backbone: str) -> dask.array.Array:
        """Return [videos, segments, dim] float16, lazy, one dask chunk per shard; computing checks the checksums."""
        import dask.array

        shards = Shards.open(self._paths.features / backbone)
        chunks = (shards.shard_rows, *shards.shape[1:])
        name = f"{backbone}-{self.key(backbone)[:16]}-{self.videos}"
        return dask.array.from_array(shards, chunks=chunks, name=name, meta=np.empty((0, 0, 0), np.float16))

    def valid(self, *backbones: str) -> np.ndarray:
        """Return bool [videos]: which videos have features of all these backbones."""
        return np.logical_and.reduce([self._read(f"{backbone}_valid") for backbone in backbones])

    def mono_loss(self, backbone: str) -> dict[int, float]:
        """Return {row: dB} of the videos whose audio lost much when mixed to mono (readers/downmix.py)."""
        records = [read_record(self._paths.done(backbone, shard)) for shard in range(self._plan.shards)]
        return {row: lost for record in records if record is not None for row, lost in record.mono_loss.items()}

    def start(self) -> np.ndarray:
        """Return [videos, segments] float32 seconds: where each segment begins; NaN for videos without segments."""
        return self._read(START)

    def duration(self) -> np.ndarray:
        """Return [videos] float32 seconds; NaN for videos that could not be opened."""
        return self._read(DURATION)

    def rows(self, split: Split | None = None, valid: Sequence[str] = ()) -> np.ndarray:
        """Return int64 [n], ascending: the rows of a split (or all) that have features of every backbone in `valid`.

        Retired videos (data/manifest.py) are in no split, and not in all either.
        """
        labels = self.labels()
        chosen = active(labels)
        if valid:
            chosen &= self.valid(*valid)
        if split is not None:
            chosen &= pc.fill_null(pc.equal(labels["split"], split), False).to_numpy()
        return np.flatnonzero(chosen)

    def labels(self, rows: np.ndarray | None = None) -> pa.Table:
        """Return manifest rows in the given order, with the columns of `data.manifest.SCHEMA`."""
        # Videos that were added since have no features yet.
        table = self._manifest().slice(0, self.videos)
        return table if rows is None else table.take(pa.array(rows))

    def manifest(self, columns: Sequence[str] = SCHEMA.names) -> pa.Table:
        """Return the manifest, row by row the videos of the arrays.

        UserError if videos were added since the extraction: what is measured would be of a part of them.
        """
        table = self._manifest(columns)
        if table.num_rows > self.videos:
            raise UserError(
                f"{self._paths.manifest} has {table.num_rows} videos, {self._paths.features} only {self.videos}: some "
                "were added after the extraction; run `snakemake extract …`"
            )
        return table

    def _manifest(self, columns: Sequence[str] = SCHEMA.names) -> pa.Table:
        table = read_manifest(self._paths.manifest, columns)
        if table.num_rows < self.videos:
            raise UserError(
                f"{self._paths.manifest} has {table.num_rows} videos, {self._paths.features} {self.videos}; run "
                "`snakemake manifest …`"
            )
        return table

    def _read(self, name: str, rows: Rows = None) -> np.ndarray:
        return Shards.open(self._paths.features / name).read(rows, self._threads)


def good_segments(*blocks: np.ndarray) -> np.ndarray:
    """Return bool [videos, segments]: which segments are undamaged in all blocks, float [videos, segments, dim].

    A damaged segment (`decoding.partial`) and all of an unreadable video are NaN throughout.
    """
    return ~np.logical_or.reduce([np.isnan(block[:, :, 0]) for block in blocks])


def segment_mean(block: np.ndarray, good: np.ndarray, dtype: type[np.floating[Any]] = np.float32) -> np.ndarray:
    """Return the mean of each video's good segments, `dtype` [videos, dim], summed and divided in that precision.

    block: float [videos, segments, dim]; good: bool [videos, segments], at least one true a video.
    """
    total = np.zeros((len(block), block.shape[2]), dtype)
    for segment in range(block.shape[1]):
        chosen = good[:, segment]
        total[chosen] += block[chosen, segment]
    return total / good.sum(axis=1, keepdims=True).astype(dtype)


def open_features(results: Paths | str | os.PathLike[str], threads: int | None = None) -> Features:
    """Open a complete cache: a results folder. UserError if shards are missing or of another key than the plan's."""
    paths = results if isinstance(results, Paths) else Paths(Path(results))
    plan = read_plan(paths)
    for backbone in plan.backbones:
        records = [read_record(paths.done(backbone, shard)) for shard in range(plan.shards)]
        missing = [shard for shard, record in enumerate(records) if record is None]
        if missing:
            raise UserError(
                f"{paths.features}: {len(missing)} of {plan.shards} shards of {backbone} are not extracted yet "
                f"(first: {missing[0]}); run `snakemake extract …`"
            )
        mixed = [shard for shard, record in enumerate(records) if record and record.key != plan.key(backbone)]
        if mixed or read_array(paths, backbone).attrs.get("key") != plan.key(backbone):
            raise UserError(
                f"{paths.features}: {backbone} mixes cache keys (shards {mixed[:5] or 'all'}): they were computed with "
                "other weights, segments or preprocessing than the plan says. Run `snakemake extract …`, "
                "which computes those shards again."
            )
    return Features(paths, plan, threads)
