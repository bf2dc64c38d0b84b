"""What there is to train on: the videos of each split that both backbones could read, and where their features lie.

Reads the manifest, the done records and the arrays' metadata; the features themselves are read by heads/memory.py.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from config.cli import UserError
from config.model import LEAST_VIDEOS, Config
from config.paths import Paths
from data.manifest import read_manifest
from pipeline.features import open_features
from pipeline.records import read_record
from pipeline.shards import Shards


@dataclass(frozen=True)
class Split:
    """The videos of a split that both backbones could read.

    `rows` are their row numbers (int64, ascending); `good` is bool [videos, segments]: which segments have both sides
    (all, unless `decoding.partial` kept a damaged video); `total` counts the split's videos, readable or not.
    """

    rows: np.ndarray
    good: np.ndarray
    total: int


class Source(Protocol):
    """Features of one side, float16 [videos, segments, dim]: on disk (`Shards`) or in memory (`Held`)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Videos, segments, dim."""

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        """Consecutive videos."""

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The videos `rows` (int64, in any order)."""


@dataclass(frozen=True)
class Held:
    """Features that are in memory already: `values` are float16 [videos, segments, dim]."""

    values: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """Videos, segments, dim."""
        return self.values.shape

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        return self.values[rows]

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The videos `rows` (int64, in any order)."""
        return self.values[rows]


@dataclass(frozen=True)
class Features:
    """Both sides of the cache: `arrays` are audio and video, float16 [videos, segments, dim], on disk or in memory.

    `splits` by name; `keys` and `random_weights` by backbone.
    """

    arrays: tuple[Source, Source]
    splits: dict[str, Split]
    shard_videos: int
    keys: dict[str, str]
    random_weights: dict[str, bool]

    @property
    def dims(self) -> tuple[int, int]:
        """Widths of the audio and the video features."""
        return self.arrays[0].shape[2], self.arrays[1].shape[2]

    @property
    def segments(self) -> int:
        """Segments a video."""
        return self.arrays[0].shape[1]

    def digest(self) -> str:
        """sha256 of which videos are trained and validated on: with `keys` it says if two runs saw the same data."""
        train, validation = self.splits["train"], self.splits["validation"]
        said = train.rows.tobytes() + b"|" + validation.rows.tobytes()
        used = np.concatenate([train.good, validation.good])
        return hashlib.sha256(said if used.all() else said + b"|" + np.packbits(used).tobytes()).hexdigest()

    def check_enough(self) -> None:
        """UserError if too few videos could be read to train on."""
        for name, least in LEAST_VIDEOS.items():
            split = self.splits[name]
            if len(split.rows) < least:
                raise UserError(
                    f"the {name} split has {split.total} videos, of which {len(split.rows)} have features of both "
                    f"{' and '.join(self.keys)}; training needs at least {least}. Add videos to `videos` (or raise "
                    "`render.videos`), or look into failures.csv for why they could not be read."
                )


def load_features(config: Config) -> Features:
    """Open the manifest and both backbones' arrays. Raises UserError on missing, mixed or incomplete features."""
    paths = Paths(Path(config.results))
    view, table = open_features(paths), read_manifest(paths.manifest, ["row", "split"])
    names = (config.heads.audio, config.heads.video)
    arrays = (Shards.open(paths.features / names[0]), Shards.open(paths.features / names[1]))
    good = np.ones(arrays[0].shape[:2], bool)
    for name, array in zip(names, arrays, strict=True):
        _mark_damaged(paths, name, array, config.shard_videos, good)
    valid = view.valid(names[0]) & view.valid(names[1]) & good.any(axis=1)
    row, split = table["row"].to_numpy(), table["split"].to_numpy()
    if len(row) and row.max() >= len(valid):
        raise UserError(
            f"{paths.manifest} has {len(row)} videos, {paths.features} only {len(valid)}: videos were added after the "
            "extraction. Run `snakemake extract` first."
        )
    splits = {}
    for name in ("train", "validation", "test"):
        chosen = split == name
        rows = np.sort(row[chosen & valid[row]])
        splits[name] = Split(rows, good[rows], int(chosen.sum()))
    return Features(
        arrays=arrays,
        splits=splits,
        shard_videos=config.shard_videos,
        keys={name: view.key(name) for name in names},
        random_weights={name: bool(view.random_weights(name)) for name in names},
    )


def _mark_damaged(paths: Paths, backbone: str, array: Shards, shard_videos: int, good: np.ndarray) -> None:
    """Set `good` [videos, segments] to False where a segment is NaN, reading only shards whose record counts some."""
    for shard, first in enumerate(range(0, len(good), shard_videos)):
        record = read_record(paths.done(backbone, shard))
        if record is not None and record.partial:
            part = slice(first, first + shard_videos)
            good[part] &= ~np.isnan(array[part][:, :, 0])  # a damaged segment is NaN throughout
