"""Paired differences of trainings on the same test videos, over videos' groups and over seeds. No files.

Two intervals, as everywhere: a bootstrap of whole groups of test videos, of which both arms get the same resamples, and
Student's t over the seeds, whose differences are paired because arms with one seed see the same data. A difference is
tested by the larger of both p-values, so that it must hold for new videos and for new trainings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtr

from eval.bootstrap import metric_intervals, resampled_metrics
from eval.seeds import mean_interval
from heads.metrics import METRICS, summary

MEASURES = ("mrr", "median")
"""What is compared; tests and claims are on the first."""
COLUMNS = {name: number for number, name in enumerate(METRICS)}


@dataclass(frozen=True)
class Measured:
    """One arm on one source: for each seed the metrics by name, and all resamples' means over seeds and directions.

    `values` is float64 [resamples, metrics] in the order of METRICS; `gallery` counts the test videos, `groups` their
    groups.
    """

    seeds: list[dict[str, float]]
    values: np.ndarray
    gallery: int
    groups: int

    def of_seeds(self, metric: str) -> list[float]:
        """Return a metric's value for each seed."""
        return [by_metric[metric] for by_metric in self.seeds]

    def scale(self, metric: str) -> float:
        """Return what a metric's values are multiplied by in tables: medians are in percent of the gallery."""
        return 100 / self.gallery if metric == "median" else 1.0


def measure(ranks: Sequence[np.ndarray], groups: np.ndarray, resamples: int, seed: int) -> Measured:
    """Measure an arm: `ranks` float [directions, videos] of each seed; `groups` int64 [videos]."""
    drawn = [[resampled_metrics(direction, groups, resamples, seed) for direction in of_seed] for of_seed in ranks]
    summaries = []
    for of_seed in ranks:
        by_direction = [summary(direction) for direction in of_seed]
        summaries.append({name: sum(one[name] for one in by_direction) / len(by_direction) for name in METRICS})
    return Measured(summaries, np.mean(drawn, axis=(0, 1)), ranks[0].shape[1], len(np.unique(groups)))


def value(arm: Measured, metric: str) -> dict[str, float | None]:
    """Return a metric's mean over the seeds with both intervals: `…`, `…_low`, `…_high`, `…_seeds_low`, `…_high`."""
    scale, column = arm.scale(metric), COLUMNS[metric]
    low, high = metric_intervals(arm.values[:, [column]] * scale, arm.groups, names=[metric])[metric]
    seeds = [number * scale for number in arm.of_seeds(metric)]
    seeds_low, seeds_high = mean_interval(seeds) or (None, None)
    return {
        metric: float(np.mean(seeds)),
        f"{metric}_low": low,
        f"{metric}_high": high,
        f"{metric}_seeds_low": seeds_low,
        f"{metric}_seeds_high": seeds_high,
    }


def difference(arm: Measured, base: Measured, metric: str) -> dict[str, float | None]:
    """Return arm - base of a metric: `difference`, `low`, `high`, `seeds_low`, `seeds_high` and `p`."""
    scale, column = arm.scale(metric), COLUMNS[metric]
    drawn = (arm.values[:, column] - base.values[:, column]) * scale
    seeds = [(ours - theirs) * scale for ours, theirs in zip(arm.of_seeds(metric), base.of_seeds(metric), strict=True)]
    low, high = metric_intervals(drawn[:, None], arm.groups, names=[metric])[metric]
    seeds_low, seeds_high = mean_interval(seeds) or (None, None)
    return {
        "difference": float(np.mean(seeds)),
        "low": low,
        "high": high,
        "seeds_low": seeds_low,
        "seeds_high": seeds_high,
        "p": max(bootstrap_p(drawn, arm.groups), seeds_p(seeds)),
    }


def bootstrap_p(drawn: np.ndarray, groups: int) -> float:
    """Return the two-sided p-value of resampled differences: the level at which their interval just contains 0.

    The interval is that of `eval.bootstrap.quantiles` for so many groups; for many groups this is twice the share of
    the resamples on the far side of 0. At least one resample counts as being there.
    """
    share = (1 + min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))) / (1 + len(drawn))
    if groups < 2 or share >= 0.5:
        return 1.0
    return float(2 * stdtr(groups - 1, ndtri(share) * ((groups - 1) / groups) ** 0.5))


def seeds_p(differences: Sequence[float]) -> float:
    """Return the two-sided p-value of Student's t for a mean difference of 0; 1 for equal or single differences."""
    count, spread = len(differences), float(np.std(differences, ddof=1)) if len(differences) > 1 else 0.0
    if spread == 0:
        return 1.0
    t = abs(float(np.mean(differences))) / spread * count**0.5
    return float(2 * stdtr(count - 1, -t))


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm 1979, Scandinavian Journal of Statistics 6), in their order."""
    corrected, largest = [0.0] * len(p), 0.0
    for rank, number in enumerate(sorted(range(len(p)), key=lambda number: p[number])):
        largest = max(largest, min(1.0, (len(p) - rank) * p[number]))
        corrected[number] = largest
    return corrected
