"""The ranks of one kind of queries by all seeds of an experiment, and their JSON. Reads and writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.bootstrap import STATISTICS, ends
from eval.ranks import chance, histogram, summary
from eval.seeds import mean_interval

Key = tuple[str, str, str]
"""Level, direction and kind of gallery (`full` or `drawn`)."""


@dataclass
class Ranking:
    """The ranks of one key, seed after seed: each float64 [draws · size], of all galleries together."""

    owner: np.ndarray
    """The video of each rank, int [draws · size]."""
    size: int
    ranks: list[np.ndarray]
    formula: list[float]
    """The published formula's median, mean of the galleries; empty where there are too many items to sort."""


def entry(ranking: Ranking, values: np.ndarray) -> dict[str, Any]:
    """One measured ranking as JSON; `values` [resamples, statistics] is the seeds' mean of `eval.bootstrap.resampled`.

    For each of `metrics`: `value`, the mean over seeds; `low` and `high`, its 95 % bootstrap interval over videos;
    `chance`; `seeds`, the value of each, and `seeds_low`, `seeds_high`, the 95 % t-interval of their mean (null of one
    seed). `better_than_chance`: the whole bootstrap interval of the median rank lies below the chance level.
    `histogram`: counts of the rank's share of the gallery in 20 bins, mean over seeds; `histogram_chance`: what a guess
    would give (uneven in a small gallery).
    """
    size, queries = ranking.size, len(ranking.owner)
    each, interval, guess = [summary(rank) for rank in ranking.ranks], ends(values), chance(size)
    metrics = {}
    for name in STATISTICS:
        seeds = [one[name] for one in each]
        low, high = mean_interval(seeds) or (None, None)
        metrics[name] = {
            "value": float(np.mean(seeds)),
            "low": interval[name][0],
            "high": interval[name][1],
            "chance": guess[name],
            "seeds": seeds,
            "seeds_low": low,
            "seeds_high": high,
        }
    return {
        "size": size,
        "draws": queries // size,
        "queries": queries,
        "metrics": metrics,
        "better_than_chance": interval["median"][1] < guess["median"],
        "histogram": np.mean([histogram(rank, size) for rank in ranking.ranks], axis=0).tolist(),
        "histogram_chance": [count * queries / size for count in histogram(np.arange(1.0, size + 1), size)],
        "published_formula": float(np.mean(ranking.formula)) if ranking.formula else None,
    }
