"""Which items lie nearest to which, whether neighbours share labels, whether a video's segments resemble each other.

Reads and writes nothing. An item is a segment or a whole video; it has a unit vector for its sound and one for its
pictures, and belongs to a video. Intervals are percentile bootstrap intervals over videos, as in eval/bootstrap.py:
segments of one video are not independent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

WITHIN = ("audio", "video", "both")
ACROSS = ("audio_to_video", "video_to_audio")
BLOCK = 256
"""Queries worked on at a time."""


@dataclass(frozen=True)
class Items:
    """Items to search among: `audio` and `video` float32 [items, dim], unit vectors; `owner` int64 [items], the video.

    `shared`: both sides are embeddings in one space, so that sounds and pictures can be compared; features are not.
    """

    audio: np.ndarray
    video: np.ndarray
    owner: np.ndarray
    shared: bool

    @property
    def ways(self) -> tuple[str, ...]:
        """All that items can be compared by."""
        return WITHIN + ACROSS if self.shared else WITHIN

    def similar(self, query: np.ndarray, by: str) -> np.ndarray:
        """Cosines float32 [queries, items] of items `query` (int64) to all; by `both` their mean over the two sides."""
        a, v = self.audio, self.video
        if by == "both":
            return (a[query] @ a.T + v[query] @ v.T) / 2
        left, right = {"audio": (a, a), "video": (v, v), "audio_to_video": (a, v), "video_to_audio": (v, a)}[by]
        return left[query] @ right.T


def nearest(items: Items, query: np.ndarray, by: str, k: int, leave_out: str) -> Iterator[tuple[np.ndarray, ...]]:
    """For blocks of the items `query` (int64): (queries, their k nearest items, those cosines), nearest first.

    Left out as neighbours are all items of the query's own `video`, only the `item` itself, or `nothing`. Where fewer
    than k remain, there are fewer columns; equally similar items come in the order of their numbers.
    """
    for at in range(0, len(query), BLOCK):
        here = query[at : at + BLOCK]
        similar = items.similar(here, by)
        if leave_out == "video":
            out = items.owner[here][:, None] == items.owner
        else:
            out = np.zeros(similar.shape, dtype=bool)
            if leave_out == "item":
                out[np.arange(len(here)), here] = True
        similar[out] = -np.inf
        most = min(k, int((~out).sum(axis=1).min()))
        order = np.argsort(-similar, axis=1, kind="stable")[:, :most]
        yield here, order, np.take_along_axis(similar, order, axis=1)


@dataclass(frozen=True)
class Label:
    """What videos are said to be: `values` bool [videos, `classes`]. A video without any is not labelled."""

    name: str
    classes: list[str]
    values: np.ndarray

    def names(self) -> list[list[str]]:
        """The labels of each video in words."""
        return [[self.classes[i] for i in np.flatnonzero(each)] for each in self.values]

    def alike(self) -> np.ndarray:
        """Shared labels over all labels of two videos (Jaccard), float32 [videos, videos]; with one label each 0 or 1.

        NaN where one of the two is not labelled, and of a video with itself.
        """
        values = self.values.astype(np.float32)
        shared, count = values @ values.T, values.sum(axis=1)
        with np.errstate(invalid="ignore"):
            found = shared / (count[:, None] + count - shared)
        found[count == 0] = np.nan
        found[:, count == 0] = np.nan
        np.fill_diagonal(found, np.nan)
        return found


def agreement(items: Items, label: Label, by: str, k: int, resamples: int, seed: int) -> dict[str, Any] | None:
    """How much of their labels the k nearest items (of other videos) share with the query, and what chance gives.

    `value` is the mean over queries of `Label.alike`, `chance` the same over all other labelled videos instead of the
    nearest ones; `low`, `high` the 95 % interval of `value`, and `better_than_chance` whether the interval of the
    difference lies above 0. None where fewer than two videos are labelled.
    """
    alike = label.alike()
    known = np.flatnonzero(~np.isnan(alike).all(axis=1))
    if len(known) < 2:
        return None
    query = np.flatnonzero(np.isin(items.owner, known))
    found, guess = np.full(len(query), np.nan), _mean(alike[items.owner[query]])
    at = 0
    for here, near, _ in nearest(items, query, by, k, "video"):
        found[at : at + len(here)] = _mean(alike[items.owner[here][:, None], items.owner[near]])
        at += len(here)
    kept = ~np.isnan(found)
    if not kept.any():
        return None
    owner = items.owner[query][kept]
    value, chance = (_by_video(side[kept], owner) for side in (found, guess))
    low, high = interval(value, resamples, seed)
    return {
        "label": label.name,
        "by": by,
        "k": k,
        "videos": len(value),
        "value": float(value.mean()),
        "low": low,
        "high": high,
        "chance": float(chance.mean()),
        "better_than_chance": interval(value - chance, resamples, seed)[0] > 0,
    }


def consistency(items: Items, by: str, resamples: int, seed: int) -> dict[str, Any] | None:
    """Do a video's segments resemble each other more than other videos' do? `by` `audio` or `video`.

    `within`: mean cosine of two segments of a video; `between`: of segments of different videos, both as means over
    videos with intervals; `nearest_same_video`: how often a segment's nearest other segment is of its own video, beside
    its `chance`. None without two videos with two segments each.
    """
    units = (items.audio if by == "audio" else items.video).astype(np.float64)
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
    same = [items.owner[near[:, 0]] == items.owner[here] for here, near, _ in nearest(items, query, by, 1, "item")]
    own = count[number][query]
    found: dict[str, Any] = {"by": by, "videos": int(several.sum())}
    for name, value in (
        ("within", within),
        ("between", between),
        ("nearest_same_video", _by_video(np.concatenate(same).astype(np.float64), items.owner[query])),
    ):
        low, high = interval(value, resamples, seed)
        found[name] = {"value": float(value.mean()), "low": low, "high": high}
    found["nearest_same_video"]["chance"] = float(((own - 1) / (len(units) - 1)).mean())
    return found


def interval(values: np.ndarray, resamples: int, seed: int) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of `values` [videos]."""
    rng = np.random.default_rng(np.random.SeedSequence([seed % 2**64, len(values)]))
    drawn = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(resamples)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def _mean(alike: np.ndarray) -> np.ndarray:
    """Mean of each row over what is not NaN, NaN where all is."""
    known = ~np.isnan(alike)
    with np.errstate(invalid="ignore"):
        return np.where(known, alike, 0).sum(axis=1, dtype=np.float64) / known.sum(axis=1)


def _by_video(values: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Mean of each video's `values`, one number a video."""
    _, number = np.unique(owner, return_inverse=True)
    return np.bincount(number, weights=values) / np.bincount(number)
