"""Percentile bootstrap intervals over resampled groups. Reads and writes nothing.

Segments of one video resemble each other, and so do videos of one group (data/groups.py): they are not independent
evidence. So whole groups are drawn with replacement (a cluster bootstrap). Intervals are percentile intervals (Efron &
Tibshirani 1993, An Introduction to the Bootstrap, chapter 13), expanded for few groups (Hesterberg 2015, What Teachers
Should Know About the Bootstrap, The American Statistician 69(4)): a sample of n groups varies less than what it was
drawn from, by (n - 1) / n, and its spread is itself uncertain, as in Student's t. What is left of the error with few
groups is measured by bench/nulls.py. The gallery stays the same: intervals hold for new queries, not for
another gallery.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.stats import norm, t

from heads.metrics import METRICS, as_ranks

CENTRAL = (0.025, 0.975)
"""Quantiles that enclose 95 % of values."""
FEW = 10
"""With fewer groups an interval is called unreliable."""
ELEMENTS = 2**23
"""Numbers held at once: resamples are worked off in chunks of about this many."""
WIDTH = 5
"""Metrics of one matrix product. BLAS may round otherwise for another width; with a fixed one, a metric that is added
at the end of METRICS changes no digit of the others."""


def few_groups(groups: int, where: str) -> list[str]:
    """Return a sentence if there are fewer than FEW groups, otherwise none. `where` is what has them."""
    if groups >= FEW:
        return []
    return [
        f"{where} has {groups} groups: 95 % intervals over fewer than {FEW} groups are unreliable, and may hold the "
        "true value less often than they say"
    ]


def quantiles(groups: int, level: float = 0.95) -> tuple[float, float]:
    """Return the quantiles of the resampled values that an interval over `groups` groups reaches from and to.

    Those of the expanded percentile interval: for many groups (1 - level) / 2 and the same from above, for 12 groups
    and 95 % 1.1 and 98.9 %. With a single group, which has no spread, 0 and 1.
    """
    if groups < 2:
        return 0.0, 1.0
    tail = float(norm.cdf(np.sqrt(groups / (groups - 1)) * t.ppf((1 - level) / 2, groups - 1)))
    return tail, 1 - tail


def percentile_interval(values: np.ndarray, groups: int, level: float = 0.95) -> tuple[float, float]:
    """Return the ends of the interval of a statistic's resampled `values`, float [resamples], of so many groups.

    Resamples in which the statistic is NaN are left out; two NaN if it is NaN in all.
    """
    known = values[~np.isnan(values)]
    if not len(known):
        return np.nan, np.nan
    low, high = percentile_bounds(known, quantiles(groups, level))
    return float(low), float(high)


def percentile_bounds(values: np.ndarray, between: tuple[float, float] = CENTRAL) -> np.ndarray:
    """Return float64 [2, …]: these two quantiles of `values`, float [resamples, …] without NaN."""
    bounds: np.ndarray = np.quantile(values, between, axis=0)
    return bounds


def metric_intervals(
    values: np.ndarray, groups: int, level: float = 0.95, names: Sequence[str] | None = None
) -> dict[str, tuple[float, float]]:
    """Return {metric: (low, high)} of resampled `values`, float [resamples, metrics], in the order of `names`.

    `groups` were resampled; `level` is the coverage; `names` are those of METRICS by default.
    """
    lows, highs = percentile_bounds(values, quantiles(groups, level))
    columns = zip(METRICS if names is None else names, lows, highs, strict=True)
    return {name: (float(low), float(high)) for name, low, high in columns}


def intervals(
    rank: np.ndarray, group: np.ndarray, resamples: int, seed: int, level: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Return {metric: (low, high)} of ranks, for all of METRICS. Arguments as in `resampled_metrics`."""
    return metric_intervals(resampled_metrics(rank, group, resamples, seed), len(np.unique(group)), level)


def resample_counts(units: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `units` units with replacement, so many times; return int64 [resamples, units], how often each was drawn."""
    drawn = rng.integers(units, size=(resamples, units)) + units * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * units).reshape(resamples, units)


def resampled_metrics(rank: np.ndarray, group: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Return every metric in every resample, float64 [resamples, len(METRICS)], columns in the order of METRICS.

    `rank` is float [n] or, with several positives, [n, positives] as `heads.metrics.as_ranks` has it; `group` int [n]
    says which group each query belongs to. Which groups are drawn depends on `group`, `resamples` and `seed` alone, so
    two models' ranks of the same queries are resampled alike: the differences of two such arrays are those of a
    bootstrap paired by query.
    """
    _, cluster = np.unique(group, return_inverse=True)
    clusters = int(cluster.max()) + 1
    ranks = as_ranks(rank)
    order = np.argsort(ranks[:, 0], kind="stable")
    ranks, cluster = ranks[order], cluster[order]
    per_query = {name: metric.per_query(ranks) for name, metric in METRICS.items()}
    means = [name for name, metric in METRICS.items() if metric.aggregate == "mean"]
    sums = _sums([per_query[name] for name in means], cluster, clusters)
    # Ascending values and their groups: of ranks they ascend already.
    ascending = {name: np.argsort(per_query[name], kind="stable") for name in METRICS if name not in means}
    medians = {name: (per_query[name][by], cluster[by]) for name, by in ascending.items()}
    rng = np.random.default_rng(np.random.SeedSequence([seed, len(ranks)]))
    chunks = []
    for size in _chunks(resamples, max(1, ELEMENTS // max(len(ranks), clusters))):
        counts = resample_counts(clusters, size, rng)
        columns = dict(zip(means, _means(counts, sums), strict=False))  # the last product's spare columns are left
        columns |= {name: _medians(values, counts[:, owner]) for name, (values, owner) in medians.items()}
        chunks.append(np.column_stack([columns[name] for name in METRICS]))
    return np.concatenate(chunks)


def _sums(values: list[np.ndarray], cluster: np.ndarray, clusters: int) -> list[np.ndarray]:
    """Sum each of `values` [n] by group, all that a mean over a resample needs: [clusters, WIDTH + 1] for each WIDTH.

    The last column of each array counts the queries; unused ones are 0.
    """
    count = np.bincount(cluster, minlength=clusters)
    blocks = []
    for start in range(0, len(values), WIDTH):
        block = np.zeros((clusters, WIDTH + 1))
        for column, value in enumerate(values[start : start + WIDTH]):
            block[:, column] = np.bincount(cluster, weights=value, minlength=clusters)
        block[:, WIDTH] = count
        blocks.append(block)
    return blocks


def _means(counts: np.ndarray, sums: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the mean of each column of `sums` in each resample [resamples]; `counts` is [resamples, clusters]."""
    for block in sums:
        total = counts @ block
        yield from (total[:, :-1] / total[:, -1:]).T


def _medians(ordered: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return each resample's median: resample i has element j of `ordered` [n], ascending, `times[i, j]` times."""
    reached = times.cumsum(axis=1)
    total = reached[:, -1]
    # Element number m of a resample (from 0) is the first with more than m elements up to and including it.
    both = zip(reached, np.stack([(total - 1) // 2, total // 2], axis=1), strict=True)
    middles = np.array([row.searchsorted(middle, side="right") for row, middle in both])
    medians: np.ndarray = ordered[middles].mean(axis=1)
    return medians


def _chunks(total: int, most: int) -> list[int]:
    return [min(most, total - start) for start in range(0, total, most)]
