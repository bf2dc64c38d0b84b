"""Ranks of one kind of query by all seeds of an experiment, and their JSON. Reads and writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.bootstrap import metric_intervals
from eval.ranks import histogram
from eval.seeds import mean_interval
from heads.metrics import METRICS, chance, summary

Key = tuple[str, str, str, int]
"""Level, direction, kind of gallery (`full` or `drawn`) and its size."""


@dataclass
class Ranking:
    """Ranks of one key: one array float64 [draws · size] a seed, all galleries concatenated."""

    group: np.ndarray
    """The group of each query (data/groups.py), int [draws · size]."""
    size: int
    ranks: list[np.ndarray]
    formula: list[float]
    """The published formula's median, mean of the galleries; empty for audio → video, which the published code does not
    compute, and where there are too many items to sort."""


def entry(ranking: Ranking, values: np.ndarray) -> dict[str, Any]:
    """Return a ranking as JSON; `values` [resamples, metrics] is the seeds' mean of `eval.bootstrap.resampled_metrics`.

    For each of METRICS in `metrics`: `value`, the mean over seeds; `low` and `high`, its 95 % bootstrap interval over
    groups; `chance`; `seeds`, the value of each, and `seeds_low`, `seeds_high`, the 95 % t-interval of their mean (null
    of one seed). `better_than_chance`: the whole bootstrap interval of the median rank lies below the chance level.
    `histogram`: counts of the rank's share of the gallery in 20 bins, mean over seeds; `histogram_chance`: the
    counts expected by chance (uneven in a small gallery).
    """
    size, queries = ranking.size, len(ranking.group)
    interval = metric_intervals(values, len(np.unique(ranking.group)))
    by_seed, by_chance = [summary(rank) for rank in ranking.ranks], chance(size)
    metrics = {}
    for name in METRICS:
        seeds = [metrics_of_seed[name] for metrics_of_seed in by_seed]
        low, high = mean_interval(seeds) or (None, None)
        metrics[name] = {
            "value": float(np.mean(seeds)),
            "low": interval[name][0],
            "high": interval[name][1],
            "chance": by_chance[name],
            "seeds": seeds,
            "seeds_low": low,
            "seeds_high": high,
        }
    return {
        "size": size,
        "draws": queries // size,
        "queries": queries,
        "metrics": metrics,
        "better_than_chance": interval["median"][1] < by_chance["median"],
        "histogram": np.mean([histogram(rank, size) for rank in ranking.ranks], axis=0).tolist(),
        "histogram_chance": [count * queries / size for count in histogram(np.arange(1.0, size + 1), size)],
        "published_formula": float(np.mean(ranking.formula)) if ranking.formula else None,
    }
