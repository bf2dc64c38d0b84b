"""Whole groups as the units of folds, bootstrap resamples and re-pairings. Reads the manifest; writes nothing.

Videos of one group (by default those of an artist) resemble each other, so they are no independent evidence: if folds
split a group's videos, the test videos resemble the training videos, and a test that permutes single videos finds
relations where there are none. Groups are numbers, int64 [videos], by `data.groups.group_numbers`.
"""

from __future__ import annotations

import heapq

import numpy as np
import pyarrow as pa

from config.paths import Paths
from data.groups import group_numbers
from data.manifest import read_manifest


def groups_of_rows(paths: Paths, rows: np.ndarray) -> np.ndarray:
    """Return the groups of these rows of the manifest, int64 [rows], numbered from 0."""
    return group_numbers(read_manifest(paths.manifest, ["video_id", "artist", "group"]).take(pa.array(rows)))


def folds(groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Assign every video to one of `count` folds of about equal size (fewer if there are fewer groups): int64 [videos].

    A group is in one fold. The largest groups are placed first, each into the fold with the fewest videos so far.
    """
    sizes = np.bincount(groups)
    order = np.random.default_rng([seed, len(groups)]).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    fold = np.empty(len(sizes), np.int64)
    filled = [(0, number) for number in range(min(count, len(sizes)))]
    for group in order.tolist():
        videos, number = heapq.heappop(filled)
        fold[group] = number
        heapq.heappush(filled, (videos + int(sizes[group]), number))
    return fold.take(groups)


def times_drawn(groups: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Draw whole groups with replacement; return how often each video is drawn: float64 [resamples, videos]."""
    count = int(groups.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    return np.asarray(drawn[:, groups], np.float64)


def repaired(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pair each group's videos with those of one other group: int64 [videos], -1 where none is left.

    Groups form a ring, ordered by their numbers of videos times a random number between 1 and 2. Each gets the next
    one's videos in random order; surplus videos are left over. So what a group's videos have in common stays together
    in both modalities, which a permutation of single videos would destroy, and no group is paired with two others. A
    single group has no other: -1 throughout.
    """
    sizes = np.bincount(groups)
    donors = np.full(len(groups), -1)
    if len(sizes) < 2:
        return donors
    ring = np.argsort(sizes * (1 + rng.random(len(sizes))), kind="stable")
    shuffled = rng.permutation(len(groups))
    members = np.split(shuffled[np.argsort(groups[shuffled], kind="stable")], np.cumsum(sizes)[:-1])
    for group, donor in zip(ring, np.roll(ring, -1), strict=True):
        shared = min(sizes[group], sizes[donor])
        donors[members[group][:shared]] = members[donor][:shared]
    return donors


def one_each(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw one random video of each group, so that they are independent of each other: int64 [groups], ascending."""
    order = rng.permutation(len(groups))
    return np.sort(order[np.unique(groups[order], return_index=True)[1]])
