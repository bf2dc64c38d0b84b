"""Which pairs make up an epoch and its batches. Index arithmetic only: reads and writes nothing.

A pair is one segment's sound and picture. Which segments a video gives in an epoch depends on the seed, the epoch and
the video alone, never on how many videos are in memory at a time: training in memory and streaming see the same pairs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from config.model import SegmentPolicy

Batch = tuple[np.ndarray, np.ndarray]
"""Indices of videos and of their segments, both int64 [pairs]."""


def generator(*key: int) -> np.random.Generator:
    """Random numbers of their own for every key: no history, so a resumed epoch draws what an undisturbed one does."""
    return np.random.default_rng(np.random.SeedSequence(key))


def draw(good: np.ndarray, policy: SegmentPolicy, seed: int, epoch: int) -> np.ndarray:
    """The segment that each video gives in each round of an epoch: int64 [videos, rounds], -1 where it gives none.

    `good` is bool [videos, segments]: only these are drawn; each video has one at least. In a round a video gives at
    most one segment. `one` has one round; `all` as many as there are segments, every good one in one of them; `mean`
    one round, in which 0 stands for the mean of the good ones.
    """
    if policy == "mean":
        return np.zeros((len(good), 1), np.int64)
    keys = generator(seed, epoch, 0).random(good.shape, dtype=np.float32)
    keys[~good] = np.inf
    if policy == "one":
        return keys.argmin(axis=1)[:, None]
    order = keys.argsort(axis=1)
    order[np.arange(good.shape[1]) >= good.sum(axis=1, keepdims=True)] = -1
    return order


def cut(segments: np.ndarray, batch: int, seed: int, epoch: int, window: int = 0) -> Iterator[Batch]:
    """The batches over some videos' rounds (int64 [videos, rounds], see `draw`), each round in a random order.

    Batches are as equal in size as they can be and at most `batch` large: nothing need be dropped, and no batch has a
    loss or statistics of its own for being small. `window` numbers the parts of an epoch that is not in memory at once.
    """
    rng = generator(seed, epoch, window + 1)
    for segment in segments.T:
        videos = rng.permutation(np.flatnonzero(segment >= 0))
        for part in np.array_split(videos, count(len(videos), batch)) if len(videos) > 1 else ():
            yield part, segment[part]


def count(videos: int, batch: int) -> int:
    """Batches that a round of so many videos is cut into: none where a pair would be alone, without negatives.

    A batch is one larger than `batch` where otherwise another would have a single pair, which batch norm cannot use.
    """
    return min(-(-videos // batch), videos // 2)


def steps(good: np.ndarray, policy: SegmentPolicy, batch: int) -> int:
    """Batches of an epoch in memory; streaming cuts each window for itself and may have a few more."""
    if policy != "all":
        return count(len(good), batch)
    has = good.sum(axis=1)
    return sum(count(int((has > number).sum()), batch) for number in range(good.shape[1]))
