"""Find all pairs of videos that are alike: by their mean vectors, block by block, then segment by segment.

Reads the files of `space`; writes nothing. All n · (n - 1) / 2 similarities of mean vectors are computed, as matrix
products of blocks in float32; no pair is skipped. Pairs whose means are alike are compared by their segments: each
segment of the one with the most similar segment of the other, both ways, and the mean of it all (the symmetric Chamfer
similarity of Kordopatis-Zilos et al. 2019, ICCV, "ViSiL"). With several backbones the similarity is the smallest of
theirs. A pair is alike if both similarities reach the threshold.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from threadpoolctl import threadpool_limits

from config.cli import Progress
from pipeline.duplicates.space import Stored, blocks

TILE = 2048
"""Videos a side of a block of similarities."""
CELLS = 1 << 22
"""Numbers in memory at a time while segments are compared."""


class Components:
    """Groups of connected videos: each begins alone."""

    def __init__(self, videos: int) -> None:
        self._above = np.arange(videos)
        """A video of the same group with a smaller number, int64 [videos]; the group's first points at itself."""

    def join(self, pairs: np.ndarray) -> None:
        """Connect the videos of each pair, int64 [n, 2]."""
        for one, other in pairs.tolist():
            firsts = self._first(one), self._first(other)
            self._above[max(firsts)] = min(firsts)

    def _first(self, video: int) -> int:
        while (above := int(self._above[video])) != video:
            self._above[video] = self._above[above]
            video = above
        return video

    def firsts(self, videos: np.ndarray) -> np.ndarray:
        """Return the first video of the group of each video, int64 [n]."""
        while True:
            above = self._above[videos]
            if np.array_equal(above, videos):
                return above
            videos = above

    def apart(self, pairs: np.ndarray) -> np.ndarray:
        """Return which pairs, int64 [n, 2], are not known to be in one group yet, bool [n]."""
        different: np.ndarray = self.firsts(pairs[:, 0]) != self.firsts(pairs[:, 1])
        return different


def chamfer(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the symmetric Chamfer similarity of pairs of segment sets, float32 [pairs, segments, d] each: [pairs].

    The rows are unit vectors; NaN segments are left out. Each set needs one that is not.
    """
    products = np.matmul(a, b.transpose(0, 2, 1))
    known = ~(np.isnan(a[:, :, :1]) | np.isnan(b[:, None, :, 0]))
    products = np.where(known, products, -np.inf)
    total = np.zeros(len(a), np.float32)
    for axis, segments in ((2, a), (1, b)):
        best, good = products.max(axis=axis), ~np.isnan(segments[:, :, 0])
        total += np.where(good, best, 0).sum(axis=1) / good.sum(axis=1)
    return total / 2


def by_means(spaces: Sequence[Stored], pairs: np.ndarray) -> np.ndarray:
    """Return the smallest cosine of the mean vectors of each pair, int64 [n, 2], float32 [n]."""
    cosines = [np.einsum("nd,nd->n", *(space.means(side) for side in pairs.T)) for space in spaces]
    smallest: np.ndarray = np.minimum.reduce(cosines)
    return smallest


def by_segments(spaces: Sequence[Stored], pairs: np.ndarray) -> np.ndarray:
    """Return the smallest Chamfer similarity of each pair, int64 [n, 2], float32 [n]."""
    similar = np.empty(len(pairs), np.float32)
    for start, stop in blocks(len(pairs), pairs_at_once(spaces)):
        part = pairs[start:stop]
        by_space = [chamfer(*(space.of_segments(side) for side in part.T)) for space in spaces]
        similar[start:stop] = np.minimum.reduce(by_space)
    return similar


def pairs_at_once(spaces: Sequence[Stored]) -> int:
    """Return how many pairs may be compared by their segments at a time."""
    return max(CELLS // max(space.segments * (space.segments + 2 * space.components) for space in spaces), 1)


def _alike(spaces: Sequence[Stored], top: tuple[int, int], left: tuple[int, int], threshold: float) -> np.ndarray:
    """Return the pairs of one block whose means are alike, int64 [n, 2], the first below the second."""
    first, *others = spaces
    product = first.block(*top) @ first.block(*left).T
    row, column = np.divmod(np.flatnonzero(product >= np.float32(threshold)), product.shape[1])
    pairs = np.stack([row + top[0], column + left[0]], axis=1)
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    for space in others:
        cosines = np.concatenate(
            [by_means([space], pairs[start:stop]) for start, stop in blocks(len(pairs), CELLS // space.components)]
            or [np.zeros(0, np.float32)]
        )
        pairs = pairs[cosines >= np.float32(threshold)]
    return pairs


def candidates(spaces: Sequence[Stored], threshold: float, threads: int) -> Iterator[np.ndarray]:
    """Yield for each block the pairs whose means are alike, int64 [n, 2], in the order of the blocks.

    As many blocks as threads are computed at a time, and two more wait.
    """
    tiles = list(blocks(spaces[0].videos, TILE))
    work = ((top, left) for i, top in enumerate(tiles) for left in tiles[i:])
    waiting: deque[Future[np.ndarray]] = deque()
    with (
        threadpool_limits(1, user_api="blas"),
        ThreadPoolExecutor(threads) as pool,
        Progress(len(tiles) * (len(tiles) + 1) // 2, "duplicates", "blocks") as shown,
    ):
        while True:
            while len(waiting) < threads + 2 and (tile := next(work, None)) is not None:
                waiting.append(pool.submit(_alike, spaces, *tile, threshold))
            if not waiting:
                return
            yield waiting.popleft().result()
            shown.step()


def search(spaces: Sequence[Stored], threshold: float, threads: int) -> tuple[np.ndarray, int]:
    """Return the groups of videos that are connected by pairs that are alike, and the number of alike means.

    The groups are int64 [videos]: the position of the group's first video. Pairs that are in one group already are not
    compared by their segments: it would change nothing.
    """
    groups, count = Components(spaces[0].videos), 0
    step = pairs_at_once(spaces)
    for pairs in candidates(spaces, threshold, threads):
        count += len(pairs)
        while len(pairs := pairs[groups.apart(pairs)]):
            part, pairs = pairs[:step], pairs[step:]
            groups.join(part[by_segments(spaces, part) >= np.float32(threshold)])
    return groups.firsts(np.arange(spaces[0].videos)), count
