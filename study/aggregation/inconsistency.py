"""How much the segments of a video differ, and whether such videos rank worse. Reads and writes nothing.

The measure is a ratio of mean squared distances between features standardised over the training split: those of two
segments of one video by those of segments of two videos. At 0 all segments of a video are equal; at 1 they differ as
much as two videos do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import rankdata

from data.groups import renumbered
from eval.bootstrap import percentile_interval
from eval.probe.metrics import resamples
from pipeline.features import segment_mean


def distances(features: np.ndarray, good: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean squared distances of segments within each video and between all, float64 [videos], [videos, videos].

    `features` float [videos, segments, dim], `good` bool [videos, segments]. Within a video every pair of two different
    good segments counts; NaN where there is only one.
    """
    count = good.sum(axis=1)
    known = np.where(good[:, :, None], features.astype(np.float64), 0)
    mean = segment_mean(features, good, np.float64)
    square = (known**2).sum(axis=(1, 2)) / count
    # Σ over pairs of ‖x - y‖² = 2n Σ‖x‖² - 2‖Σx‖², of n (n - 1) ordered pairs.
    with np.errstate(invalid="ignore", divide="ignore"):
        within = np.where(count > 1, 2 * count * (square - (mean**2).sum(axis=1)) / (count - 1), np.nan)
    return within, square[:, None] + square - 2 * mean @ mean.T


def _times(groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return how often each video counts, float [videos, 1 + count]: once, then in `count` resamples of the groups."""
    numbers = renumbered(groups)
    units = int(numbers.max(initial=-1)) + 1
    return np.column_stack([np.ones(len(numbers)), resamples(units, numbers, count, seed)])


def ratio(within: np.ndarray, between: np.ndarray, groups: np.ndarray, count: int, seed: int) -> dict[str, Any]:
    """Return the mean distance within videos by that between them, with its 95 % interval over resampled groups.

    `within` and `between` as `distances` returns them, `groups` int [videos]; `count` resamples. Pairs of a video with
    itself never count. The ratio is None where features are constant, and every distance 0.
    """
    known = ~np.isnan(within)
    within, between = within[known], between[np.ix_(known, known)].copy()
    np.fill_diagonal(between, 0)
    times = _times(groups[known], count, seed)
    pairs = times.sum(axis=0) ** 2 - (times**2).sum(axis=0)
    mean_between = (between @ times * times).sum(axis=0) / pairs
    with np.errstate(divide="ignore", invalid="ignore"):
        values = (within @ times / times.sum(axis=0)) / mean_between
    result: dict[str, Any] = {"ratio": None, "low": None, "high": None, "videos": len(within)}
    if mean_between[0] > 0:
        low, high = percentile_interval(values[1:], len(np.unique(groups[known])))
        result |= {"ratio": float(values[0]), "low": low, "high": high}
    return result


def cosines(features: np.ndarray, good: np.ndarray) -> tuple[float, float]:
    """Return the mean cosine of two segments of one video, and of two videos; arguments as in `distances`."""
    length = np.linalg.norm(features, axis=2, keepdims=True)
    # Of unit vectors the squared distance is 2 - 2 cosine.
    within, between = distances(features / np.where(length > 0, length, 1), good)
    different = between[~np.eye(len(between), dtype=bool)]
    return float(1 - np.nanmean(within) / 2), float(1 - different.mean() / 2)


def spearman(x: np.ndarray, y: np.ndarray, groups: np.ndarray, count: int, seed: int) -> dict[str, float | None]:
    """Return Spearman's correlation of x and y, float [videos], with its 95 % interval over resampled groups.

    `groups` int [videos]. Ranks are those of the whole split; the `count` resamples weight the videos. None where x or
    y is constant.
    """
    known = ~(np.isnan(x) | np.isnan(y))
    a, b = rankdata(x[known]), rankdata(y[known])
    times = _times(groups[known], count, seed)
    total = times.sum(axis=0)

    def mean(values: np.ndarray) -> np.ndarray:
        """Return the mean over the videos, as often as each counts."""
        return values @ times / total

    covariance = mean(a * b) - mean(a) * mean(b)
    if len(a) == 0 or a.min() == a.max() or b.min() == b.max():
        return {"spearman": None, "low": None, "high": None}
    with np.errstate(divide="ignore", invalid="ignore"):
        values = covariance / np.sqrt((mean(a * a) - mean(a) ** 2) * (mean(b * b) - mean(b) ** 2))
    low, high = percentile_interval(values[1:], len(np.unique(groups[known])))
    return {"spearman": float(values[0]), "low": low, "high": high}
