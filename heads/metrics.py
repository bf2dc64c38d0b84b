"""The retrieval metrics: one record each, which everything that computes or shows a metric reads. No files.

A query's ranks are those of all its positives among the gallery, from 1, best first. To add a metric, add a record to
the end of METRICS: the bootstrap, the comparison of experiments, the report's tables and page, and `heads.search` have
it then. Sources, for binary relevance:

R@k    Karpathy & Fei-Fei 2015 (CVPR): share of queries with a positive among the first k. With several positives, text
       retrieval calls another number recall, the share of them among the first k.
MRR    Voorhees 1999 (TREC-8): mean of 1 / rank of the first positive.
nDCG   Järvelin & Kekäläinen 2002 (ACM TOIS 20(4)), with the discount 1 / log2(1 + rank) (Burges et al. 2005, ICML).
mAP    Manning, Raghavan & Schütze 2008, Introduction to Information Retrieval, section 8.4: mean over a query's
       positives of the precision at their ranks. With one positive it is MRR.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Metric:
    """A number that tells how well queries find their positives."""

    name: str
    """As in JSON files and columns of tables."""
    title: str
    """As the report writes it."""
    per_query: Callable[[np.ndarray], np.ndarray]
    """Ranks, float64 [queries, positives] as `as_ranks` returns them, to a value for each query, float64 [queries]."""
    chance: Callable[[int, int], float]
    """Expected value (median for `median`) for a gallery's size and the positives in it, in random order, no ties."""
    lower_is_better: bool = False
    aggregate: Literal["mean", "median"] = "mean"
    """What is taken of the queries' values."""
    shown: Literal["number", "percent"] = "number"
    """How the report writes a value."""


def as_ranks(ranks: np.ndarray) -> np.ndarray:
    """Return ranks as float64 [queries, positives], from [queries] or [queries, positives].

    Each row ascends. Queries with fewer positives than others have inf in the last places.
    Raises ValueError on another shape or order.
    """
    ranks = np.asarray(ranks, dtype=np.float64)
    table = ranks[:, None] if ranks.ndim == 1 else ranks
    if table.ndim != 2 or not table.shape[1] or (table[:, 1:] < table[:, :-1]).any():
        raise ValueError(f"ranks of shape {ranks.shape} are not [queries] or ascending [queries, positives]")
    return table


def _first(ranks: np.ndarray) -> np.ndarray:
    """Return the rank of the first positive."""
    return ranks[:, 0]


def _reciprocal(ranks: np.ndarray) -> np.ndarray:
    return 1 / ranks[:, 0]


def _hit(k: int, ranks: np.ndarray) -> np.ndarray:
    """Return 1 where a positive has a rank of at most k, else 0."""
    return (ranks[:, 0] <= k).astype(np.float64)


def _ndcg(k: int, ranks: np.ndarray) -> np.ndarray:
    gain = np.where(ranks <= k, 1 / np.log2(1 + ranks), 0).sum(axis=1)
    positives = np.isfinite(ranks).sum(axis=1)
    return gain / np.cumsum(_discounts(k))[np.minimum(positives, k) - 1]


def _average_precision(ranks: np.ndarray) -> np.ndarray:
    return (np.arange(1, ranks.shape[1] + 1) / ranks).sum(axis=1) / np.isfinite(ranks).sum(axis=1)


def _discounts(k: int) -> np.ndarray:
    """Return 1 / log2(1 + rank) of the ranks 1 … k."""
    return 1 / np.log2(1 + np.arange(1, k + 1))


# In random order each set of `positives` ranks out of 1 … gallery is as likely as any other, so the first positive has
# rank r in C(gallery - r, positives - 1) of the C(gallery, positives) cases.


def _hit_chance(k: int, gallery: int, positives: int) -> float:
    every = math.comb(gallery, positives)
    return (every - math.comb(max(gallery - k, 0), positives)) / every


def _mean_chance(gallery: int, positives: int) -> float:
    return (gallery + 1) / (positives + 1)


def _median_chance(gallery: int, positives: int) -> float:
    """Return the median of the first positive's rank.

    It is the middle of two ranks: the smallest that half the cases do not exceed, and that more than half do not.
    """
    every = math.comb(gallery, positives)
    not_above, low = 0, None
    for rank in range(1, gallery + 1):
        not_above += math.comb(gallery - rank, positives - 1)
        if low is None and 2 * not_above >= every:
            low = rank
        if low is not None and 2 * not_above > every:
            return (low + rank) / 2
    raise ValueError(f"{positives} positives in a gallery of {gallery}")


def _reciprocal_chance(gallery: int, positives: int) -> float:
    rank = np.arange(1, gallery + 1)
    # C(gallery - rank, positives - 1) relative to its value at rank 1, each from the one before.
    cases = np.cumprod(np.concatenate([[1.0], (gallery - rank[:-1] - positives + 1) / (gallery - rank[:-1])]))
    return float((cases / rank).sum() / (gallery / positives))


def _ndcg_chance(k: int, gallery: int, positives: int) -> float:
    expected = positives / gallery * _discounts(min(k, gallery)).sum()
    return float(expected / _discounts(min(k, positives)).sum())


def _average_precision_chance(gallery: int, positives: int) -> float:
    """Return the expected mAP (Bestgen 2015, Prague Bulletin of Mathematical Linguistics 103).

    A positive has each rank equally often, and other positives have a share (positives - 1) / (gallery - 1) of the
    places before it.
    """
    reciprocal = float((1 / np.arange(1, gallery + 1)).mean())
    return reciprocal if positives == 1 else reciprocal + (positives - 1) / (gallery - 1) * (1 - reciprocal)


def _recall(k: int) -> Metric:
    return Metric(f"recall_at_{k}", f"R@{k}", partial(_hit, k), partial(_hit_chance, k), shown="percent")


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("median", "median rank", _first, _median_chance, lower_is_better=True, aggregate="median"),
        Metric("mean", "mean rank", _first, _mean_chance, lower_is_better=True),
        *(_recall(k) for k in (1, 5, 10)),
        Metric("mrr", "MRR", _reciprocal, _reciprocal_chance),
        *(_recall(k) for k in (50, 100)),
        Metric("ndcg_at_10", "nDCG@10", partial(_ndcg, 10), partial(_ndcg_chance, 10)),
        Metric("map", "mAP", _average_precision, _average_precision_chance),
    )
}
"""Every metric by its name. New ones come last: `eval.bootstrap` says why."""


def summary(ranks: np.ndarray) -> dict[str, float]:
    """Return every metric of METRICS, by its name, of ranks [queries] or [queries, positives] as in `as_ranks`."""
    table = as_ranks(ranks)
    values = {name: metric.per_query(table) for name, metric in METRICS.items()}
    return {
        name: float(np.median(of_queries) if METRICS[name].aggregate == "median" else of_queries.mean())
        for name, of_queries in values.items()
    }


def chance(gallery: int, positives: int = 1) -> dict[str, float]:
    """Return the chance level of every metric, by its name, for `positives` positives in a gallery of `gallery`.

    Raises ValueError if there are no positives, or more than the gallery has.
    """
    if not 1 <= positives <= gallery:
        raise ValueError(f"{positives} positives in a gallery of {gallery}")
    return {name: metric.chance(gallery, positives) for name, metric in METRICS.items()}
