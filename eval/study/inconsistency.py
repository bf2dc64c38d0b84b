"""How unlike a video's own segments are, and whether that makes it hard to find. Reads and writes nothing.

The measure is a ratio of mean squared distances between features standardised over the training split: between two
segments of one video, and between segments of two videos. At 0 a video is the same throughout; at 1 its segments are as
unlike as two videos are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import rankdata

from eval.probe.metrics import resamples


def distances(features: np.ndarray, good: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean squared distances of segments: within each video, float64 [videos], and between all, [videos, videos].

    `features` float [videos, segments, dim], `good` bool [videos, segments]. Within a video every pair of two different
    segments counts; NaN where it has but one.
    """
    count = good.sum(axis=1)
    known = np.where(good[:, :, None], features.astype(np.float64), 0)
    mean = known.sum(axis=1) / count[:, None]
    square = (known**2).sum(axis=(1, 2)) / count
    # Σ over pairs of ‖x - y‖² = 2n Σ‖x‖² - 2‖Σx‖², of n (n - 1) ordered pairs.
    with np.errstate(invalid="ignore", divide="ignore"):
        within = np.where(count > 1, 2 * count * (square - (mean**2).sum(axis=1)) / (count - 1), np.nan)
    return within, square[:, None] + square - 2 * mean @ mean.T


def ratio(within: np.ndarray, between: np.ndarray, count: int, seed: int) -> dict[str, Any]:
    """Mean distance within videos by that between them, with its 95 % interval over `count` resamples of the videos.

    Pairs of a video with itself count in no resample.
    """
    known = ~np.isnan(within)
    within, between = within[known], between[np.ix_(known, known)].copy()
    np.fill_diagonal(between, 0)
    times = np.column_stack([np.ones(len(within)), resamples(len(within), np.arange(len(within)), count, seed)])
    pairs = times.sum(axis=0) ** 2 - (times**2).sum(axis=0)
    values = (within @ times / times.sum(axis=0)) / ((between @ times * times).sum(axis=0) / pairs)
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return {"ratio": float(values[0]), "low": float(low), "high": float(high), "videos": len(within)}


def cosines(features: np.ndarray, good: np.ndarray) -> tuple[float, float]:
    """Mean cosine of two segments of one video, and of segments of two videos; arguments as in `distances`."""
    length = np.linalg.norm(features, axis=2, keepdims=True)
    # Of unit vectors the squared distance is 2 - 2 cosine.
    within, between = distances(features / np.where(length > 0, length, 1), good)
    apart = between[~np.eye(len(between), dtype=bool)]
    return float(1 - np.nanmean(within) / 2), float(1 - apart.mean() / 2)


def spearman(x: np.ndarray, y: np.ndarray, count: int, seed: int) -> dict[str, float]:
    """Spearman's correlation of two values a video, float [videos], with its 95 % interval over resampled videos.

    The ranks are those of the whole split, which resamples only weigh.
    """
    known = ~(np.isnan(x) | np.isnan(y))
    a, b = rankdata(x[known]), rankdata(y[known])
    times = np.column_stack([np.ones(len(a)), resamples(len(a), np.arange(len(a)), count, seed)])
    total = times.sum(axis=0)

    def moment(values: np.ndarray) -> np.ndarray:
        return values @ times / total

    shared = moment(a * b) - moment(a) * moment(b)
    values = shared / np.sqrt((moment(a * a) - moment(a) ** 2) * (moment(b * b) - moment(b) ** 2))
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return {"spearman": float(values[0]), "low": float(low), "high": float(high)}
