"""The cached features as training pairs, and which pairs make up each batch. Reads the manifest and the cache's arrays.

A pair is one segment's sound and picture. An epoch is one pass over the *videos* of the training split: each gives
one of its segments, drawn at random, so no batch holds two segments of one video. What an epoch draws is a function
of the seed and the epoch's number alone, which is what makes a resumed run equal to an undisturbed one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from config.cli import UserError
from config.model import Config
from config.paths import Paths
from data.manifest import read_manifest
from pipeline.features import open_features

Batch = tuple[np.ndarray, np.ndarray]
"""Indices of videos and of their segments, both int64 [pairs]."""


@dataclass(frozen=True)
class Features:
    """The two sides' features and the videos of each split that both backbones could read.

    `audio` and `video` are float16 [videos, segments, dim]; `rows` gives for each split the valid videos' row numbers
    (int64, ascending); `total` the number of videos in each split, valid or not; `good` is bool [videos, segments]:
    which segments have both sides (all of a valid video's, unless `decoding.partial` kept a damaged one); `keys` and
    `random_weights` are by backbone.
    """

    audio: np.ndarray
    video: np.ndarray
    rows: dict[str, np.ndarray]
    total: dict[str, int]
    good: np.ndarray
    keys: dict[str, str]
    random_weights: dict[str, bool]

    @property
    def segments(self) -> int:
        """Segments a video."""
        return self.audio.shape[1]

    def pairs(self, split: str, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """Features [pairs, audio dim] and [pairs, video dim] float16 of a batch over the valid videos of `split`."""
        rows, segments = self.rows[split][batch[0]], batch[1]
        return self.audio[rows, segments], self.video[rows, segments]

    def digest(self) -> str:
        """sha256 of which videos are trained and validated on: with `keys` it says if two runs saw the same data."""
        said = self.rows["train"].tobytes() + b"|" + self.rows["validation"].tobytes()
        used = self.good[np.concatenate([self.rows["train"], self.rows["validation"]])]
        return hashlib.sha256(said if used.all() else said + b"|" + np.packbits(used).tobytes()).hexdigest()


def load_features(config: Config) -> Features:
    """Open the manifest and both backbones' arrays. Raises UserError on missing, mixed or incomplete features."""
    paths = Paths(Path(config.results))
    view, table = open_features(paths), read_manifest(paths.manifest)
    names = (config.heads.audio, config.heads.video)
    audio, video = (view.numpy(name) for name in names)
    good = ~(np.isnan(audio[:, :, 0]) | np.isnan(video[:, :, 0]))  # a damaged segment is NaN throughout
    valid = view.valid(names[0]) & view.valid(names[1]) & good.any(axis=1)
    row, split = table["row"].to_numpy(), np.array(table["split"].to_pylist())
    if len(row) and row.max() >= len(valid):
        raise UserError(
            f"{paths.manifest} has {len(row)} videos, {paths.features} only {len(valid)}: videos were added after the "
            "extraction. Run `snakemake extract` first."
        )
    return Features(
        audio=audio,
        video=video,
        rows={name: np.sort(row[(split == name) & valid[row]]) for name in ("train", "validation", "test")},
        total={name: int((split == name).sum()) for name in ("train", "validation", "test")},
        good=good,
        keys={name: view.key(name) for name in names},
        random_weights={name: bool(view.random_weights(name)) for name in names},
    )


def generator(seed: int, stream: int) -> np.random.Generator:
    """Numpy's counter-based Philox keyed by (seed, stream): streams are independent and need no history."""
    return np.random.Generator(np.random.Philox(key=np.array([seed % 2**64, stream], dtype=np.uint64)))


def training_batches(good: np.ndarray, batch: int, seed: int, epoch: int) -> list[Batch]:
    """The batches of one epoch (numbered from 1): a random order of the videos, a random segment of each.

    `good` is bool [videos, segments]: only these are drawn; each video has one at least.

    The last, incomplete batch is dropped when it has fewer than half of `batch` pairs (or only one, which batch norm
    cannot use), unless it is the only one: a small batch has fewer negatives, thus another loss, and noisier
    statistics. Over the epochs every video gets its turn all the same, as the order changes.
    """
    rng = generator(seed, epoch)
    videos, segments = good.shape
    order = rng.permutation(np.arange(videos))
    segment = np.asarray(rng.integers(segments, size=videos))
    for i in np.flatnonzero(~good[order, segment]).tolist():
        segment[i] = rng.choice(np.flatnonzero(good[order[i]]))
    starts = range(0, videos, batch)
    batches = [(order[i : i + batch], segment[i : i + batch]) for i in starts]
    if len(batches) > 1 and len(batches[-1][0]) < max(batch / 2, 2):
        batches.pop()
    return batches


def validation_batches(good: np.ndarray, batch: int, seed: int) -> list[Batch]:
    """The same batches after every epoch: each `good` segment of each video once, a video at most once in a batch.

    Batches are as equal in size as they can be and at most `batch` large, so that nothing need be dropped. Using every
    segment, where an epoch of training uses one a video, makes the loss that stops the training less noisy.
    """
    videos, segments = good.shape
    order = generator(seed, 0).permutation(videos)
    parts = np.array_split(np.arange(videos), -(-videos // batch))
    batches = [(order[part], (part + shift) % segments) for shift in range(segments) for part in parts]
    kept = [(video[good[video, segment]], segment[good[video, segment]]) for video, segment in batches]
    return [each for each in kept if len(each[0])]
