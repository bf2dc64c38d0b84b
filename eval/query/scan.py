"""Exact search over all stored embeddings of one modality: the most similar videos, and the rank of a given one.

Reads embeddings in parts, writes nothing. A part is in memory at a time and thread, so that the memory does not grow
with the collection but for one float32 a video and query. Cosines are computed in float32 first, whose error has a
bound; what could be among the most similar ones is computed again in float64, as the evaluation does (eval/ranks.py).

A query is compared on one of two LEVELS, which are different rankings:
  video    cosine of the two means of the segments' unit vectors, as whole videos are ranked by the evaluation
  segment  the highest cosine of a segment of the query with a segment of the video: the best moment decides
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from eval.ranks import unit_rows
from eval.retrieval import mean_unit
from heads.embed import BLOCK
from heads.features import FeatureArray

Level = Literal["video", "segment"]
LEVELS: tuple[Level, ...] = get_args(Level)
TOGETHER = 64
"""Queries compared in one pass over the embeddings."""
FAR = np.float32(-9)
"""Stands for a cosine that is still to be computed."""
FAINT = 0.25
"""Length of a mean of unit vectors, below which they cancel out so far that float32 is not enough."""


@dataclass(frozen=True)
class Ranked:
    """The most similar videos of a query: `rows` int64, the most similar first, and their `cosines` float64.

    Equally similar ones stand in the order of their rows. `rank` is that of the video that was asked for, counted from
    1 with ties sharing their middle rank; None if none was, or if it is not in the gallery. `gallery` counts the
    videos that were compared.
    """

    rows: np.ndarray
    cosines: np.ndarray
    rank: float | None
    gallery: int


def good_units(segments: np.ndarray) -> np.ndarray:
    """Return the unit vectors of the good ones of a video's segments, float64 [good, dim].

    `segments`: float [segments, dim], NaN for bad ones; one of zeros has no direction and counts as bad.
    """
    units: np.ndarray = unit_rows(segments[good_ones(segments)])
    return units


def good_ones(segments: np.ndarray) -> np.ndarray:
    """Return bool [segments]: which of the segments [segments, dim] have a direction."""
    good: np.ndarray = np.isfinite(segments[:, 0]) & segments.any(axis=1)
    return good


def without_zeros(segments: np.ndarray) -> np.ndarray:
    """Return segments [..., dim] with NaN for those without a direction, which are zeros."""
    return np.where(segments.any(axis=-1, keepdims=True), segments, np.nan)


def mean_of(query: np.ndarray) -> np.ndarray:
    """Return the unit vector, float64 [dim], of a query's segments [segments, dim], as whole videos are ranked by."""
    vector: np.ndarray = unit_rows(mean_unit(without_zeros(query)[None]))[0]
    return vector


def search(
    stored: FeatureArray,
    allowed: np.ndarray,
    queries: Sequence[np.ndarray],
    level: Level = "video",
    top: int = 10,
    own: Sequence[int | None] = (),
    leave_out: bool = False,
    threads: int = 1,
) -> list[Ranked]:
    """Search the `allowed` rows (bool [videos]) of `stored` for each query, float [segments, dim], NaN for bad ones.

    Every query needs a good segment. `own`: for each query, the row whose rank is asked for, or None; with `leave_out`
    that row is not in the gallery instead, and there is no rank.
    """
    own = own or [None] * len(queries)
    ranked = []
    for first in range(0, len(queries), TOGETHER):
        few = queries[first : first + TOGETHER]
        screened = _screen(stored, few, level, threads)
        for query, cosines, row in zip(few, screened, own[first : first + TOGETHER], strict=True):
            cosines[~allowed] = -np.inf
            if leave_out and row is not None:
                cosines[row] = -np.inf
                row = None
            ranked.append(_ranked(stored, query, cosines, level, top, row))
    return ranked


def _ranked(
    stored: FeatureArray, query: np.ndarray, cosines: np.ndarray, level: Level, top: int, own: int | None
) -> Ranked:
    """Settle the order of the most similar and the rank of `own` by exact cosines, where float32 leaves it open."""
    gallery = int(np.isfinite(cosines).sum())
    error = _error(*stored.shape[1:])
    top = min(top, gallery)
    rows = np.empty(0, np.int64)
    if top:
        last = np.partition(cosines, len(cosines) - top)[len(cosines) - top]
        rows = np.flatnonzero(cosines >= last - 2 * error)
    exact = exact_cosines(stored, rows, query, level)
    order = np.argsort(-exact, kind="stable")[:top]
    rank = None
    if own is not None and np.isfinite(cosines[own]):
        near = np.flatnonzero(np.abs(cosines - cosines[own]) <= 2 * error)
        compared = exact_cosines(stored, near, query, level)
        mine = compared[np.searchsorted(near, own)]
        greater = (cosines > cosines[own] + 2 * error).sum() + (compared > mine).sum()
        rank = float(1 + greater + ((compared == mine).sum() - 1) / 2)
    return Ranked(rows[order], exact[order], rank, gallery)


def _error(segments: int, dim: int) -> float:
    """Bound how far a float32 cosine is off: videos of up to `segments` segments, embeddings of `dim` numbers.

    An inner product of d numbers in float32 is off by at most d · 2⁻²⁴ of the lengths' product (see eval/ranks.py).
    Here are the segments' lengths, their mean, its length and the product; what the mean is off by weighs up to
    1 / FAINT of that, since shorter means are computed in float64.
    """
    return (4 * dim + 4 * segments + 64) * 2.0**-24


def _screen(stored: FeatureArray, queries: Sequence[np.ndarray], level: Level, threads: int) -> np.ndarray:
    """Return float32 cosines of all videos, [queries, videos]; −inf for those without a good segment."""
    units = [good_units(query) for query in queries]
    if level == "video":
        units = [mean_of(query)[None] for query in queries]
    matrix = np.concatenate(units).astype(np.float32)
    firsts = np.cumsum([0, *map(len, units[:-1])])
    videos = stored.shape[0]
    cosines = np.empty((len(queries), videos), np.float32)

    def work(start: int) -> None:
        part = slice(start, min(start + BLOCK, videos))
        cosines[:, part] = _part(stored[part], matrix, firsts, level)

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(work, range(0, videos, BLOCK)):
                pass
    finally:
        torch.set_num_threads(before)
    return cosines


def _part(block: np.ndarray, matrix: np.ndarray, firsts: np.ndarray, level: Level) -> np.ndarray:
    """Return float32 cosines [queries, videos] of a block float16 [videos, segments, dim]."""
    values = torch.from_numpy(block).float().numpy()  # eight times as fast as numpy's conversion
    good = np.isfinite(values[:, :, 0])
    if not good.all():
        values[~good] = 0
    length = np.sqrt(np.vecdot(values, values))
    weight = np.divide(1, length, out=np.zeros_like(length), where=length > 0)
    if level == "video":
        similar = _pooled_cosines(values, weight, matrix)
        faint = similar[0] == FAR
        if faint.any():
            exact = values[faint].astype(np.float64)
            length = np.sqrt(np.vecdot(exact, exact))
            weight = np.divide(1, length, out=np.zeros_like(length), where=length > 0)
            similar[:, faint] = _pooled_cosines(exact, weight, matrix.astype(np.float64), least=0)
        return similar
    products = matrix @ values.reshape(-1, values.shape[2]).T
    products *= weight.reshape(-1)
    products[:, (weight == 0).reshape(-1)] = -np.inf
    best: np.ndarray = np.maximum.reduceat(products, firsts, axis=0).reshape(len(firsts), *weight.shape).max(axis=2)
    return best


def _pooled_cosines(values: np.ndarray, weight: np.ndarray, matrix: np.ndarray, least: float = FAINT) -> np.ndarray:
    """Return cosines [queries, videos] of unit vectors [queries, dim] and weighted means of [videos, segments, dim].

    −inf without a segment of weight; FAR where the mean is shorter than `least` of the number of segments.
    """
    pooled = np.einsum("vs,vsd->vd", weight, values)
    length, count = np.sqrt(np.vecdot(pooled, pooled)), (weight > 0).sum(axis=1)
    similar = matrix @ pooled.T
    similar = np.divide(similar, length, out=np.full_like(similar, -np.inf), where=length > 0)
    similar[:, (count > 0) & (length < least * count)] = FAR
    return similar


def exact_cosines(stored: FeatureArray, rows: np.ndarray, query: np.ndarray, level: Level) -> np.ndarray:
    """Return the cosines of a query with these videos (int64, each with a good segment), float64 [rows]."""
    units, mean = good_units(query), mean_of(query)
    exact = np.empty(len(rows))
    for start in range(0, len(rows), BLOCK):
        block = stored.read(rows[start : start + BLOCK])
        if level == "video":
            exact[start : start + BLOCK] = unit_rows(mean_unit(without_zeros(block))) @ mean
        else:
            exact[start : start + BLOCK] = [(good_units(video) @ units.T).max() for video in block]
    return exact


def best_moment(video: np.ndarray, query: np.ndarray) -> tuple[int, int, float]:
    """Return the most similar segments of a video and a query, float [segments, dim]: both numbers, and the cosine."""
    numbers = [np.flatnonzero(good_ones(segments)) for segments in (video, query)]
    cosines = good_units(video) @ good_units(query).T
    of_video, of_query = np.unravel_index(int(cosines.argmax()), cosines.shape)
    return int(numbers[0][of_video]), int(numbers[1][of_query]), float(cosines[of_video, of_query])
