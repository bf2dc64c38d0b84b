"""Confidence intervals for what is said about ranks, by resampling videos. Reads and writes nothing.

Segments of one video resemble each other, so they are not independent evidence: whole videos are drawn with replacement
(a cluster bootstrap). Intervals are percentile intervals (Efron & Tibshirani 1993, An Introduction to the Bootstrap,
chapter 13). The gallery stays as it is: they tell how sure the numbers are for new queries, not for another gallery.
"""

from __future__ import annotations

import numpy as np

from eval.ranks import HITS

ELEMENTS = 2**23
"""Numbers held at once: resamples are worked off in chunks of about this many."""


STATISTICS = ("median", "mean", *(f"recall_at_{k}" for k in HITS), "mrr")
"""The entries of `eval.ranks.summary`, in the order of `resampled`'s columns."""


def intervals(
    rank: np.ndarray, video: np.ndarray, resamples: int, seed: int, level: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Lower and upper end for each entry of `eval.ranks.summary`, by its name. Arguments as in `resampled`."""
    return ends(resampled(rank, video, resamples, seed), level)


def ends(values: np.ndarray, level: float = 0.95) -> dict[str, tuple[float, float]]:
    """Percentile interval of each column of `values` [resamples, statistics], by its name in STATISTICS."""
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(values, [tail, 100 - tail], axis=0)
    return {name: (float(a), float(b)) for name, a, b in zip(STATISTICS, low, high, strict=True)}


def resampled(rank: np.ndarray, video: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Every statistic in every resample, float64 [resamples, len(STATISTICS)].

    `rank` is float [n], `video` int [n] says which video each rank belongs to. Which videos are drawn depends on
    `video`, `resamples` and `seed` alone, so two models' ranks of the same queries are resampled alike: the differences
    of two such arrays are those of a bootstrap paired by query.
    """
    _, cluster = np.unique(video, return_inverse=True)
    clusters = int(cluster.max()) + 1
    order = np.argsort(rank, kind="stable")
    ordered, cluster = rank[order], cluster[order]
    # A mean over a resample needs only each video's sum: one column a statistic, the last counts the ranks.
    columns = [ordered, *(ordered <= k for k in HITS), 1 / ordered, np.ones_like(ordered)]
    sums = np.stack([np.bincount(cluster, weights=column, minlength=clusters) for column in columns], axis=1)
    rng = np.random.default_rng(np.random.SeedSequence([seed % 2**64, len(rank)]))
    found = []
    for size in _chunks(resamples, max(1, ELEMENTS // max(len(rank), clusters))):
        drawn = rng.integers(clusters, size=(size, clusters)) + clusters * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * clusters).reshape(size, clusters)
        total = counts @ sums
        found.append(np.column_stack([_medians(ordered, counts[:, cluster]), total[:, :-1] / total[:, -1:]]))
    return np.concatenate(found)


def _medians(ordered: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Median of each resample: `ordered` [n] ascending, of which resample i has element j `times[i, j]` times."""
    upto = times.cumsum(axis=1)
    total = upto[:, -1]
    # Element number m of a resample (from 0) is the first with more than m elements up to and including it.
    both = zip(upto, np.stack([(total - 1) // 2, total // 2], axis=1), strict=True)
    return ordered[np.array([row.searchsorted(middle, side="right") for row, middle in both])].mean(axis=1)


def _chunks(total: int, most: int) -> list[int]:
    return [min(most, total - at) for at in range(0, total, most)]
