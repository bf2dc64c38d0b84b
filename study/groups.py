"""Whole artists as the units of folds, bootstrap resamples and re-pairings. Reads and writes nothing.

Videos of one artist resemble each other, so they are no independent evidence: if folds split an artist's videos, the
test videos resemble the training videos, and a test that permutes single videos finds relations where there are none.
Groups are numbers, int64 [videos]: equal for videos of one artist; a video without an artist is a group of its own.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

from data.names import artist_name


def groups_of(artists: Sequence[str | None]) -> np.ndarray:
    """Number the artists from 0, by the normalised names that the splits use too: int64 [videos]."""
    names = [artist_name(artist) for artist in artists]
    keys = [f"artist {name}" if name else f"video {i}" for i, name in enumerate(names)]
    return np.unique(keys, return_inverse=True)[1].astype(np.int64)


def folds(groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Assign every video to one of `count` folds of about equal size (fewer if there are fewer groups): int64 [videos].

    A group is in one fold. The largest groups are placed first, each into the fold with the fewest videos so far.
    """
    sizes = np.bincount(groups)
    order = np.random.default_rng([seed % 2**64, len(groups)]).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    fold = np.empty(len(sizes), np.int64)
    filled = [(0, number) for number in range(min(count, len(sizes)))]
    for group in order.tolist():
        videos, number = heapq.heappop(filled)
        fold[group] = number
        heapq.heappush(filled, (videos + int(sizes[group]), number))
    return fold.take(groups)


def resampled(groups: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Draw whole groups with replacement: float64 [resamples, videos], how often each video is drawn."""
    count = int(groups.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    return np.asarray(drawn[:, groups], np.float64)


def repaired(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pair each artist's videos with those of one other artist: int64 [videos], -1 where none is left.

    Artists form a ring, ordered by their numbers of videos times a random number between 1 and 2. Each gets the next
    one's videos in random order; surplus videos are left over. So what an artist's videos have in common stays together
    in both modalities, which a permutation of single videos would destroy, and no artist is paired with two others. A
    single group has no other: -1 throughout.
    """
    sizes = np.bincount(groups)
    donors = np.full(len(groups), -1)
    if len(sizes) < 2:
        return donors
    ring = np.argsort(sizes * (1 + rng.random(len(sizes))), kind="stable")
    shuffled = rng.permutation(len(groups))
    members = np.split(shuffled[np.argsort(groups[shuffled], kind="stable")], np.cumsum(sizes)[:-1])
    for artist, donor in zip(ring, np.roll(ring, -1), strict=True):
        shared = min(sizes[artist], sizes[donor])
        donors[members[artist][:shared]] = members[donor][:shared]
    return donors


def one_each(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw one random video of each group, so that they are independent of each other: int64 [groups], ascending."""
    order = rng.permutation(len(groups))
    return np.sort(order[np.unique(groups[order], return_index=True)[1]])
