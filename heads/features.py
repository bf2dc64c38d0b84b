"""The training data: the videos of each split that all backbones could read, and the arrays of their features.

Reads the manifest, the done records and the arrays' metadata; the features themselves are read by heads/dataset.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from config.cli import UserError
from config.heads import LEAST_VIDEOS, Sides
from config.model import Config
from config.paths import Paths
from data.splits import SPLITS
from pipeline.features import good_segments, open_features
from pipeline.records import read_plan, read_record
from pipeline.shards import Shards


@dataclass(frozen=True)
class Split:
    """The videos of a split that the backbones of both modalities could read.

    `rows` are their row numbers (int64, ascending); `good` is bool [videos, segments]: which segments have both
    modalities (all, unless `decoding.partial` kept a damaged video); `total` counts all of the split.
    """

    rows: np.ndarray
    good: np.ndarray
    total: int


class FeatureArray(Protocol):
    """Features of one modality, float16 [videos, segments, dim]: on disk (`Shards`), in memory, or concatenated."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Videos, segments, dim."""

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        """Return consecutive videos, float16 [videos, segments, dim]."""

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return the videos `rows` (int64, in any order), float16 [videos, segments, dim]."""


@dataclass(frozen=True)
class InMemory:
    """Features that are in memory already: `values` are float16 [videos, segments, dim]."""

    values: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """Videos, segments, dim."""
        return self.values.shape

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        return self.values[rows]

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return the videos `rows` (int64, in any order), float16 [videos, segments, dim]."""
        return self.values[rows]


@dataclass(frozen=True)
class Concatenated:
    """Features of several backbones side by side, float16 [videos, segments, sum of dims], in the order of `parts`."""

    parts: tuple[FeatureArray, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Videos, segments, dim."""
        return (*self.parts[0].shape[:2], sum(part.shape[2] for part in self.parts))

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        return np.concatenate([part[rows] for part in self.parts], axis=2)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return the videos `rows` (int64, in any order), float16 [videos, segments, dim]."""
        return np.concatenate([part.read(rows) for part in self.parts], axis=2)


@dataclass(frozen=True)
class PairedFeatures:
    """Both modalities of the cache: `arrays` are audio and video, float16 [videos, segments, dim].

    `splits` by name; `keys`, `random_weights` and, of cached features, `contents` (see there) by backbone.
    """

    arrays: tuple[FeatureArray, FeatureArray]
    splits: dict[str, Split]
    shard_videos: int
    keys: dict[str, str]
    random_weights: dict[str, bool]
    contents: dict[str, str] = field(default_factory=dict)

    @property
    def dims(self) -> tuple[int, int]:
        """Widths of the audio and the video features."""
        return self.arrays[0].shape[2], self.arrays[1].shape[2]

    @property
    def segments(self) -> int:
        """Segments a video."""
        return self.arrays[0].shape[1]

    def digest(self) -> str:
        """Return the sha256 of the videos trained and validated on and of what the cache holds of all videos.

        With `keys` it identifies the data of a run: `pipeline.retry --videos` computes features anew under one key.
        """
        train, validation = self.splits["train"], self.splits["validation"]
        parts = [train.rows.tobytes(), validation.rows.tobytes()]
        used = np.concatenate([train.good, validation.good])
        parts += [] if used.all() else [np.packbits(used).tobytes()]
        parts += [f"{name} {content}".encode() for name, content in sorted(self.contents.items())]
        return hashlib.sha256(b"|".join(parts)).hexdigest()

    def check_enough(self) -> None:
        """Raise UserError if too few videos could be read to train on."""
        for name, least in LEAST_VIDEOS.items():
            split = self.splits[name]
            if len(split.rows) < least:
                raise UserError(
                    f"the {name} split has {split.total} videos, of which {len(split.rows)} have features of "
                    f"{', '.join(self.keys)}; training needs at least {least}. Add videos to `videos` (or raise "
                    "`render.videos`), or look into failures.csv for why they could not be read."
                )


def load_features(config: Config, sides: Sides | None = None) -> PairedFeatures:
    """Open the manifest and the arrays of the backbones of `sides` (default: those of experiments that name none).

    Raises UserError on missing, mixed or incomplete features.
    """
    paths, sides = config.paths, sides or config.sides()
    view = open_features(paths)
    table = view.manifest(["row", "split"])
    names = sides.backbones
    stored = {name: Shards.open(paths.features / name) for name in names}
    audio, video = ([stored[name] for name in side] for side in sides)
    arrays = (_joined(audio), _joined(video))
    good = np.ones(arrays[0].shape[:2], bool)
    for name, array in stored.items():
        mark_damaged(paths, name, array, config.shard_videos, good)
    valid = view.valid(*names) & good.any(axis=1)
    row, split = table["row"].to_numpy(), np.array(table["split"].to_pylist(), object)  # retired videos have no split
    splits: dict[str, Split] = {}
    for name in SPLITS:
        chosen = split == name
        rows = np.sort(row[chosen & valid[row]])
        splits[name] = Split(rows, good[rows], int(chosen.sum()))
    return PairedFeatures(
        arrays=arrays,
        splits=splits,
        shard_videos=config.shard_videos,
        keys={name: view.key(name) for name in names},
        random_weights={name: bool(view.random_weights(name)) for name in names},
        contents=contents(paths, names),
    )


def contents(paths: Paths, backbones: Iterable[str]) -> dict[str, str]:
    """Return by backbone the sha256 over the digests of all its shards in a finished cache, as in `features.json`."""
    shards, digests = read_plan(paths).shards, {}
    for backbone in backbones:
        digest = hashlib.sha256()
        for shard in range(shards):
            record = read_record(paths.done(backbone, shard))
            assert record is not None  # `open_features` has seen them all
            digest.update(record.digest.encode())
        digests[backbone] = digest.hexdigest()
    return digests


def _joined(parts: list[Shards]) -> FeatureArray:
    return parts[0] if len(parts) == 1 else Concatenated(tuple(parts))


def mark_damaged(paths: Paths, backbone: str, array: Shards, shard_videos: int, good: np.ndarray) -> None:
    """Set `good` [videos, segments] to False where a segment is NaN, reading only shards whose record counts some."""
    for shard, first in enumerate(range(0, len(good), shard_videos)):
        record = read_record(paths.done(backbone, shard))
        if record is not None and record.partial:
            part = slice(first, first + shard_videos)
            good[part] &= good_segments(array[part])
