"""Segments of some videos in memory, audio, video and which are good. Reads the cache; writes nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from heads.batches import generator
from heads.features import PairedFeatures
from heads.standardise import Standardiser

BLOCK = 8192
"""Segments turned into float32 at a time."""


@dataclass(frozen=True)
class PairedSegments:
    """Audio and video features of whole videos.

    `rows` int64 [videos], ascending; `audio`, `video` float16 [videos, segments, dim], 0 where `good` is false;
    `good` bool [videos, segments], at least one true a video.
    """

    rows: np.ndarray
    audio: Tensor
    video: Tensor
    good: Tensor

    def standardisers(self) -> tuple[Standardiser, Standardiser]:
        """Return the standardisers of audio and video, fitted on the good segments."""
        audio, video = (
            Standardiser.fit(features.shape[2], torch.split(features[self.good], BLOCK))
            for features in (self.audio, self.video)
        )
        return audio, video

    def with_replaced(self, count: int, seed: int) -> PairedSegments:
        """Return the same audio, with video of other videos in `count` segments of each video (see `donors`)."""
        sources = torch.from_numpy(donors(self.good.numpy(), count, seed))
        return replace(self, video=self.video[sources, torch.arange(sources.shape[1])])


def load(features: PairedFeatures, split: str, most: int, among: np.ndarray | None = None) -> PairedSegments:
    """Return the videos of a split with both modalities, of the rows `among` (int64; default all).

    Where there are more than `most`, that many are drawn at random.
    """
    videos = features.splits[split]
    chosen = np.arange(len(videos.rows)) if among is None else np.flatnonzero(np.isin(videos.rows, among))
    if len(chosen) > most:
        chosen = np.sort(generator(len(split)).choice(chosen, most, replace=False))
    good = videos.good[chosen]
    audio, video = (torch.from_numpy(array.read(videos.rows[chosen])) for array in features.arrays)
    if not good.all():
        bad = torch.from_numpy(~good)[:, :, None]
        audio, video = audio.masked_fill_(bad, 0), video.masked_fill_(bad, 0)
    return PairedSegments(videos.rows[chosen], audio, video, torch.from_numpy(good))


def donors(good: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return the index of the video that each segment is taken from, int64 [videos, segments].

    It is the video itself but for `count` segments drawn among its good ones (`good` bool [videos, segments]; fewer
    where it has fewer). They come from a random other video whose segment at the same position is good. With the same
    seed, what is replaced at `count` is replaced in the same way at `count + 1`.
    """
    rng = generator(seed, 1)
    keys = rng.random(good.shape)
    draws = rng.random(good.shape)
    keys[~good] = np.inf
    order = keys.argsort(axis=1).argsort(axis=1)
    sources = np.tile(np.arange(len(good))[:, None], good.shape[1])
    for segment in range(good.shape[1]):
        candidates = np.flatnonzero(good[:, segment])
        replaced = np.flatnonzero(good[:, segment] & (order[:, segment] < count))
        if len(candidates) < 2:
            continue
        drawn = (draws[replaced, segment] * (len(candidates) - 1)).astype(np.int64)
        # Skip the video itself among the candidates.
        sources[replaced, segment] = candidates[drawn + (drawn >= np.searchsorted(candidates, replaced))]
    return sources
