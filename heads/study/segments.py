"""Segments of some videos in memory, both sides and which of them are good. Reads the cache; writes nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from heads.autoencoder import Standardise
from heads.batches import generator
from heads.features import Features

BLOCK = 8192
"""Segments turned into float32 at a time."""


@dataclass(frozen=True)
class Segments:
    """`rows` int64 [videos], ascending; `audio`, `video` float16 [videos, segments, dim], 0 where `good` is false;
    `good` bool [videos, segments], at least one true a video."""

    rows: np.ndarray
    audio: Tensor
    video: Tensor
    good: Tensor

    def standardise(self) -> tuple[Standardise, Standardise]:
        """What gives each side's good segments mean 0 and deviation 1 in every feature."""
        found = Standardise(), Standardise()
        for scale, side in zip(found, (self.audio, self.video), strict=True):
            for part in side[self.good].split(BLOCK):
                scale.see(part)
        return found

    def with_strangers(self, count: int, seed: int) -> Segments:
        """The same sound with `count` of each video's pictures replaced by other videos' (see `strangers`)."""
        donors = torch.from_numpy(strangers(self.good.numpy(), count, seed))
        return replace(self, video=self.video[donors, torch.arange(donors.shape[1])])


def load(features: Features, split: str, most: int, among: np.ndarray | None = None) -> Segments:
    """Videos of a split that have both sides, of these rows (int64; default all), at most so many, drawn at random."""
    s = features.splits[split]
    chosen = np.arange(len(s.rows)) if among is None else np.flatnonzero(np.isin(s.rows, among))
    if len(chosen) > most:
        chosen = np.sort(generator(len(split)).choice(chosen, most, replace=False))
    good = s.good[chosen]
    audio, video = (torch.from_numpy(array.read(s.rows[chosen])) for array in features.arrays)
    if not good.all():
        bad = torch.from_numpy(~good)[:, :, None]
        audio, video = audio.masked_fill_(bad, 0), video.masked_fill_(bad, 0)
    return Segments(s.rows[chosen], audio, video, torch.from_numpy(good))


def strangers(good: np.ndarray, count: int, seed: int) -> np.ndarray:
    """From which video each video takes each segment, int64 [videos, segments]: itself, but for `count` segments.

    These are drawn at random among its good ones (bool [videos, segments]; fewer than `count` where it has no more),
    each from a random other video whose segment at the same position is good. The first `count` of a seed are among
    the first `count + 1`: more inconsistency is the same inconsistency and some more.
    """
    rng = generator(seed, 1)
    keys = rng.random(good.shape)
    pick = rng.random(good.shape)
    keys[~good] = np.inf
    order = keys.argsort(axis=1).argsort(axis=1)
    donors = np.tile(np.arange(len(good))[:, None], good.shape[1])
    for segment in range(good.shape[1]):
        pool = np.flatnonzero(good[:, segment])
        taken = np.flatnonzero(good[:, segment] & (order[:, segment] < count))
        if len(pool) < 2:
            continue
        other = (pick[taken, segment] * (len(pool) - 1)).astype(np.int64)
        donors[taken, segment] = pool[other + (other >= np.searchsorted(pool, taken))]
    return donors
