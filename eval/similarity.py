"""Nearest items, labels that neighbours share, and similarity of a video's own segments.

Reads and writes nothing. An item is a segment or a whole video; it has a vector of audio and one of video, and
belongs to a video. Intervals are bootstrap intervals over groups, as in eval/bootstrap.py: segments of one video and
videos of one group are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from data.groups import renumbered
from eval.bootstrap import percentile_interval
from eval.ranks import DIRECTIONS, UNIT
from eval.seeds import ROUNDING

WITHIN = ("audio", "video", "both")
BLOCK = 256
"""Queries worked on at a time."""


def directed(vectors: np.ndarray) -> np.ndarray:
    """Return vectors [..., dim], NaN where missing, that all have a direction: zeros get 1 in one more dimension.

    Centred features are zero where they are constant. Such vectors then resemble each other, and no other ones.
    """
    zero = (vectors == 0).all(axis=-1)
    return np.concatenate([vectors, zero[..., None].astype(vectors.dtype)], axis=-1) if zero.any() else vectors


def comparable(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors [n, dim] and [m, dim] whose cosines are all defined: 0 where one of the two is a zero vector.

    Zeros get a direction that the other array lacks; without zeros, both are returned unchanged.
    """
    zero = (a == 0).all(axis=1), (b == 0).all(axis=1)
    if not (zero[0].any() or zero[1].any()):
        return a, b
    return np.column_stack([a, zero[0], np.zeros(len(a))]), np.column_stack([b, np.zeros(len(b)), zero[1]])


@dataclass(frozen=True)
class Items:
    """Items to search among: `audio` and `video` float32 [items, dim]; `owner` int64 [items], the video.

    `groups` int64 [videos] are the groups of the videos (data/groups.py). `shared`: both modalities are embedded in one
    space and can be compared; features are not. `unit`: whether audio and video are unit vectors. Others are compared
    across modalities by dot products; within a modality, where the longest would be everybody's neighbours, all are
    compared by cosine.
    """

    audio: np.ndarray
    video: np.ndarray
    owner: np.ndarray
    groups: np.ndarray
    shared: bool
    unit: tuple[bool, bool] = UNIT

    @cached_property
    def directions(self) -> tuple[np.ndarray, np.ndarray]:
        """Audio and video as unit vectors, float32 [items, dim]; a vector of zeros stays as it is."""
        audio, video = (
            rows if unit else rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
            for rows, unit in zip((self.audio, self.video), self.unit, strict=True)
        )
        return audio, video

    @property
    def ways(self) -> tuple[str, ...]:
        """What items can be compared by: modalities, and directions where the space is shared."""
        return WITHIN + DIRECTIONS if self.shared else WITHIN

    def similar(self, query: np.ndarray, by: str) -> np.ndarray:
        """Return similarities float32 [queries, items] of items `query` (int64) to all; of `both`, the mean cosine."""
        audio, video = (self.audio, self.video) if by in DIRECTIONS else self.directions
        if by == "both":
            cosines: np.ndarray = (audio[query] @ audio.T + video[query] @ video.T) / 2
        else:
            source = audio if by in ("audio", "audio_to_video") else video
            target = audio if by in ("audio", "video_to_audio") else video
            cosines = source[query] @ target.T
        return cosines


def closest(similar: np.ndarray, k: int, ordered: bool = True) -> np.ndarray:
    """Return the k most similar candidates of each query, int64 [queries, k], of cosines [queries, candidates].

    Candidates to be left out have −inf. `ordered`: the most similar first, equally similar ones by their numbers; else
    in any order, which is faster where there are many candidates.
    """
    if ordered:
        return np.argsort(-similar, axis=1, kind="stable")[:, :k]
    return np.argpartition(-similar, k - 1, axis=1)[:, :k]


def nearest(items: Items, query: np.ndarray, by: str, k: int, leave_out: str) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield, for blocks of the items `query` (int64), (queries, their k nearest items, those cosines), nearest first.

    `leave_out` excludes all items of the query's `group`, of its `video`, only the `item` itself, or `nothing`. Where
    fewer than k remain for a query, its row ends with items that it excludes, whose cosines are −inf. Equally similar
    items come in the order of their numbers.
    """
    for start in range(0, len(query), BLOCK):
        block = query[start : start + BLOCK]
        similar = items.similar(block, by)
        if leave_out in ("group", "video"):
            unit = items.owner if leave_out == "video" else items.groups[items.owner]
            excluded = unit[block][:, None] == unit
        else:
            excluded = np.zeros(similar.shape, dtype=bool)
            if leave_out == "item":
                excluded[np.arange(len(block)), block] = True
        similar[excluded] = -np.inf
        order = closest(similar, k)
        yield block, order, np.take_along_axis(similar, order, axis=1)


@dataclass(frozen=True)
class Label:
    """Labels of videos: `values` bool [videos, `classes`]. A video without any is not labelled."""

    name: str
    classes: list[str]
    values: np.ndarray

    def names(self) -> list[list[str]]:
        """Return the names of each video's labels."""
        return [[self.classes[i] for i in np.flatnonzero(row)] for row in self.values]

    def alike(self) -> np.ndarray:
        """Return the Jaccard index of two videos' labels, float32 [videos, videos]; with one label each 0 or 1.

        NaN where one of the two is not labelled, and on the diagonal.
        """
        values = self.values.astype(np.float32)
        shared, count = values @ values.T, values.sum(axis=1)
        with np.errstate(invalid="ignore"):
            jaccard: np.ndarray = shared / (count[:, None] + count - shared)
        jaccard[count == 0] = np.nan
        jaccard[:, count == 0] = np.nan
        np.fill_diagonal(jaccard, np.nan)
        return jaccard


def agreement(items: Items, label: Label, by: str, k: int, resamples: int, seed: int) -> dict[str, Any] | None:
    """Measure how many labels the k nearest items share with the query, beside chance, as JSON.

    Items of the query's group are left out, or all that is shown would be that an artist's videos, which are near each
    other, have one genre; for the label `artist` only those of its video are. `value` is the mean over queries of
    `Label.alike`, `chance` the same over all other labelled videos instead of the nearest ones; `low`, `high` the 95 %
    interval of `value`, and `better_than_chance` whether the interval of the difference lies above 0. None where fewer
    than two videos are labelled, or none of another group is.
    """
    alike = label.alike()
    leave_out = "video" if label.name == "artist" else "group"
    if leave_out == "group":
        alike[items.groups[:, None] == items.groups] = np.nan
    known = np.flatnonzero(~np.isnan(alike).all(axis=1))
    query = np.flatnonzero(np.isin(items.owner, known))
    if len(known) < 2 or not len(query):
        return None
    blocks = nearest(items, query, by, k, leave_out)
    shared = [
        _mean(np.where(cosines > -np.inf, alike[items.owner[block][:, None], items.owner[near]], np.nan))
        for block, near, cosines in blocks
    ]
    of_nearest, of_all = np.concatenate(shared), _mean(alike[items.owner[query]])
    kept = ~np.isnan(of_nearest)
    if not kept.any():
        return None
    owner = items.owner[query][kept]
    value, chance = (_by_video(mean[kept], owner) for mean in (of_nearest, of_all))
    groups = items.groups[np.unique(owner)]
    low, high = np.clip(pair_interval(value, groups, resamples, seed), 0, 1).tolist()
    return {
        "label": label.name,
        "by": by,
        "k": k,
        "videos": len(value),
        "value": float(value.mean()),
        "low": low,
        "high": high,
        "chance": float(chance.mean()),
        "better_than_chance": pair_interval(value - chance, groups, resamples, seed)[0] > ROUNDING,
    }


def consistency(items: Items, by: str, resamples: int, seed: int) -> dict[str, Any] | None:
    """Compare the similarity of a video's own segments with that across videos, as JSON; `by` is `audio` or `video`.

    `within`: mean cosine of two segments of a video; `between`: of segments of different videos, both as means over
    videos with intervals; `nearest_same_video`: how often a segment's nearest other segment is of its own video, beside
    its `chance`. None without two videos with two segments each.
    """
    units = items.directions[0 if by == "audio" else 1].astype(np.float64)
    videos, number = np.unique(items.owner, return_inverse=True)
    count = np.bincount(number).astype(np.float64)
    total = np.zeros((len(videos), units.shape[1]))
    np.add.at(total, number, units)
    several = count > 1
    if several.sum() < 2:
        return None
    square, every = (total**2).sum(axis=1), total.sum(axis=0)
    within = ((square - count) / np.maximum(count * (count - 1), 1))[several]
    between = ((total @ every - square) / (count * (len(units) - count)))[several]
    query = np.flatnonzero(several[number])
    same = [items.owner[near[:, 0]] == items.owner[block] for block, near, _ in nearest(items, query, by, 1, "item")]
    measured: dict[str, Any] = {"by": by, "videos": int(several.sum())}
    for name, value in (
        ("within", within),
        ("between", between),
        ("nearest_same_video", _by_video(np.concatenate(same).astype(np.float64), items.owner[query])),
    ):
        low, high = interval(value, items.groups[videos[several]], resamples, seed)
        measured[name] = {"value": float(value.mean()), "low": low, "high": high}
    # Over videos, like the value: segments would let videos with many of them weigh more.
    measured["nearest_same_video"]["chance"] = float(((count[several] - 1) / (len(units) - 1)).mean())
    return measured


def pair_interval(values: np.ndarray, groups: np.ndarray, resamples: int, seed: int) -> tuple[float, float]:
    """Return the interval of the mean of what videos have in common with their neighbours; arguments as in `interval`.

    Where one video is a neighbour of another, the other often is of the one: such a pair counts twice, once from each
    side, although it is one piece of evidence. If all did, the variance would be twice what resampled queries say, so
    the interval is wider by the square root of 2 (measured in bench/nulls.py).
    """
    mean = float(values.mean())
    low, high = interval(values, groups, resamples, seed)
    return mean + math.sqrt(2) * (low - mean), mean + math.sqrt(2) * (high - mean)


def interval(values: np.ndarray, groups: np.ndarray, resamples: int, seed: int) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the mean of `values`, float [videos]; `groups` int [videos] are
    resampled."""
    numbers = renumbered(groups)
    sums, sizes = np.bincount(numbers, weights=values), np.bincount(numbers)
    rng = np.random.default_rng(np.random.SeedSequence([seed, len(values)]))
    # One resample at a time: those of a large collection do not fit into memory together.
    drawn = (rng.integers(len(sizes), size=len(sizes)) for _ in range(resamples))
    means = np.array([sums[chosen].sum() / sizes[chosen].sum() for chosen in drawn])
    return percentile_interval(means, len(sizes))


def _mean(alike: np.ndarray) -> np.ndarray:
    """Return the mean of each row over what is not NaN; NaN where all is."""
    known = ~np.isnan(alike)
    with np.errstate(invalid="ignore"):
        mean: np.ndarray = np.where(known, alike, 0).sum(axis=1, dtype=np.float64) / known.sum(axis=1)
    return mean


def _by_video(values: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Return the mean of each video's `values`, one number a video."""
    _, number = np.unique(owner, return_inverse=True)
    mean: np.ndarray = np.bincount(number, weights=values) / np.bincount(number)
    return mean
