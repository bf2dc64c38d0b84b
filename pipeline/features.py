"""A finished cache as numpy, torch or dask arrays, with its labels: what heads, evaluation and notebooks open.

    from pipeline.features import open_features

    features = open_features("results/demo")
    rows = features.rows("train", valid=("musicnn", "r2plus1d"))     # int64 [n], ascending
    sound = features.numpy("musicnn", rows)                          # float16 [n, segments, 1506]
    genres = features.labels(rows)["genre"]                          # pyarrow

Reads `plan.json`, `done/`, `manifest.parquet` and `features.zarr`; writes nothing. Every read checks checksums.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import zarr

from config.cli import UserError
from config.files import read_json
from config.paths import Paths
from data.manifest import read_manifest
from pipeline.records import read_record
from pipeline.shards import Rows, Shards
from pipeline.store import DURATION, START, read_array

if TYPE_CHECKING:
    import dask.array
    import torch

Split = Literal["train", "validation", "test"]


class Features:
    """A finished cache, read-only. Made by `open_features`. `threads`: cores to read with, by default all."""

    def __init__(self, paths: Paths, plan: dict[str, Any], threads: int | None = None) -> None:
        self._paths, self._plan, self._threads = paths, plan, threads

    @property
    def folder(self) -> Path:
        """The Zarr group."""
        return self._paths.features

    @property
    def videos(self) -> int:
        """Rows of every array."""
        return self._plan["videos"]

    @property
    def segments(self) -> int:
        """Segments a video."""
        return self._plan["segments"]["count"]

    @property
    def backbones(self) -> list[str]:
        """Names of the cached backbones."""
        return list(self._plan["backbones"])

    def dim(self, backbone: str) -> int:
        """Width of a backbone's features."""
        return self._plan["backbones"][backbone]["dim"]

    def key(self, backbone: str) -> str:
        """The cache key that all of a backbone's features were computed under."""
        return self._plan["backbones"][backbone]["key"]

    def random_weights(self, backbone: str) -> bool:
        """Whether the backbone's weights are random numbers, not learned ones."""
        return self._plan["backbones"][backbone]["random_weights"]

    def zarr(self, backbone: str) -> zarr.Array[Any]:
        """The array itself, [videos, segments, dim] float16; nothing is read yet."""
        return read_array(self._paths, backbone)

    def numpy(self, backbone: str, rows: Rows = None) -> np.ndarray:
        """[rows, segments, dim] float16; NaN where `valid` is False, and in damaged segments of valid videos.

        rows: all of them, a slice, or int64 [n] in any order. UserError for a shard that is damaged or missing.
        """
        return self._read(backbone, rows)

    def torch(self, backbone: str, rows: Rows = None) -> torch.Tensor:
        """The same as a tensor on the CPU, which shares the memory that was read into."""
        import torch  # only here: importing it costs seconds, which readers of labels need not wait

        return torch.from_numpy(self._read(backbone, rows))

    def dask(self, backbone: str) -> dask.array.Array:
        """[videos, segments, dim] float16, lazily, one dask chunk a shard; checksums are checked as it is computed."""
        import dask.array

        shards = Shards.open(self._paths.features / backbone)
        chunks = (shards.shard_rows, *shards.shape[1:])
        name = f"{backbone}-{self.key(backbone)[:16]}-{self.videos}"
        return dask.array.from_array(shards, chunks=chunks, name=name, meta=np.empty((0, 0, 0), np.float16))

    def valid(self, backbone: str) -> np.ndarray:
        """[videos] bool."""
        return self._read(f"{backbone}_valid")

    def start(self) -> np.ndarray:
        """[videos, segments] float32 seconds: where each segment begins; NaN for videos without segments."""
        return self._read(START)

    def duration(self) -> np.ndarray:
        """[videos] float32 seconds; NaN for videos that could not be opened."""
        return self._read(DURATION)

    def rows(self, split: Split | None = None, valid: Sequence[str] = ()) -> np.ndarray:
        """int64 [n], ascending: the rows of a split (or all) that have features of every backbone in `valid`."""
        chosen = np.ones(self.videos, bool)
        for backbone in valid:
            chosen &= self.valid(backbone)
        if split is not None:
            chosen &= pc.equal(self.labels()["split"], split).to_numpy()
        return np.flatnonzero(chosen)

    def labels(self, rows: np.ndarray | None = None) -> pa.Table:
        """The manifest's rows, in the order given: video_id, path, artist, genre, tags, msd_track_id, split."""
        table = read_manifest(self._paths.manifest)
        if table.num_rows < self.videos:
            raise UserError(f"{self._paths.manifest} has fewer rows than the cache; run `snakemake manifest …`")
        # Videos that were added since have no features yet.
        table = table.slice(0, self.videos)
        return table if rows is None else table.take(pa.array(rows))

    def _read(self, name: str, rows: Rows = None) -> np.ndarray:
        return Shards.open(self._paths.features / name).read(rows, self._threads)


def open_features(results: Paths | str | os.PathLike[str], threads: int | None = None) -> Features:
    """Open a complete cache: a results folder. UserError if shards are missing or of another key than the plan's."""
    paths = results if isinstance(results, Paths) else Paths(Path(results))
    plan = read_json(paths.plan)
    if plan is None:
        raise UserError(f"{paths.plan} does not exist; run `snakemake extract …`")
    for backbone, entry in plan["backbones"].items():
        records = [read_record(paths.done(backbone, shard)) for shard in range(plan["shards"])]
        missing = [shard for shard, record in enumerate(records) if record is None]
        if missing:
            raise UserError(
                f"{paths.features}: {len(missing)} of {plan['shards']} shards of {backbone} are not extracted yet "
                f"(first: {missing[0]}); run `snakemake extract …`"
            )
        mixed = [shard for shard, record in enumerate(records) if record and record.key != entry["key"]]
        if mixed or read_array(paths, backbone).attrs.get("key") != entry["key"]:
            raise UserError(
                f"{paths.features}: {backbone} mixes cache keys (shards {mixed[:5] or 'all'}): they were computed with "
                "other weights, segments or preprocessing than the plan says. Run `snakemake extract …`, "
                "which computes those shards again."
            )
    return Features(paths, plan, threads)
