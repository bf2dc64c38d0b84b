"""Which pairs make up an epoch and its batches. Index arithmetic only: reads and writes nothing.

A pair is the audio and the video of one segment. The segments that a video gives in an epoch depend on the seed, the
epoch and the video alone, not on how many videos are in memory: training in memory and streaming see the same pairs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from config.heads import SegmentPolicy

Batch = tuple[np.ndarray, np.ndarray]
"""Indices of videos and of their segments, both int64 [pairs]."""


def generator(*key: int) -> np.random.Generator:
    """Return a generator that depends on the key alone: a resumed epoch draws what an undisturbed one does."""
    return np.random.default_rng(np.random.SeedSequence(key))


def draw(good: np.ndarray, policy: SegmentPolicy, seed: int, epoch: int) -> np.ndarray:
    """Draw the segment of each video in each round of an epoch: int64 [videos, rounds], -1 where it gives none.

    `good` is bool [videos, segments]: only these are drawn; each video has at least one. In a round a video gives at
    most one segment. `one` has one round; `all` as many as there are segments, every good one in one of them; `mean`
    one round, in which 0 stands for the mean of the good ones; `first` one round with the first good segment.
    """
    if policy == "first":
        return good.argmax(axis=1)[:, None]
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
    """Yield the batches over some videos' rounds (int64 [videos, rounds], see `draw`), each round in a random order.

    Batches are as equal in size as possible: nothing is dropped, and no small batch has another loss or statistics than
    the rest (see `count`). `window` numbers the parts of an epoch that is not in memory at once.
    """
    rng = generator(seed, epoch, window + 1)
    for segment in segments.T:
        videos = rng.permutation(np.flatnonzero(segment >= 0))
        for part in np.array_split(videos, count(len(videos), batch)) if len(videos) > 1 else ():
            yield part, segment[part]


def count(videos: int, batch: int) -> int:
    """Return the number of batches per round; 0 if a batch would hold a single pair (no negatives).

    A batch has at most `batch` pairs, or one more where another would have a single pair, which batch norm cannot use.
    """
    return min(-(-videos // batch), videos // 2)


def steps(good: np.ndarray, policy: SegmentPolicy, batch: int) -> int:
    """Return the number of batches of an epoch in memory; streaming cuts each window alone and may have a few more."""
    if policy != "all":
        return count(len(good), batch)
    has = good.sum(axis=1)
    return sum(count(int((has > number).sum()), batch) for number in range(good.shape[1]))
