"""Do embeddings retrieve positives better than chance? Tests that hold for any gallery. Reads and writes nothing.

Under the null hypothesis every assignment of a gallery's video items to its audio items is as likely as the true one: a
permutation test (Good 2005, Permutation, Parametric and Bootstrap Tests of Hypotheses, chapter 3) is exact, however
similarities depend on each other. It is exact for grouped videos too (an artist's are alike) where the pairing itself
was drawn by single videos, as study/correlation/pairing.py draws it at ρ = 0, or where videos are independent, as
simulated ones are. It is not exact for pairs of grouped videos that were not drawn: then whole groups would have to be
permuted (study/groups.py; tests/study/test_nulls.py shows it). Trainings with different seeds and pairings give
independent p-values, which Fisher's method combines (1932, Statistical Methods for Research Workers, section 21.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, combine_pvalues, rankdata

from eval.ranks import UNIT, rows_on_grid

LEVEL = 0.05
PERMUTATIONS = 999
"""The smallest p-value is 1 in 1,000."""


@dataclass(frozen=True)
class Ranked:
    """One training's galleries ranked.

    `ranks` float64 [galleries · 2 · videos], audio → video and then video → audio of each gallery, and `owner` int64,
    the video of each; `by_chance` float64 [PERMUTATIONS], the median rank under random pairings; `p` of the mean rank,
    one-sided.
    """

    ranks: np.ndarray
    owner: np.ndarray
    by_chance: np.ndarray
    p: float


def rank_matrices(audio: np.ndarray, video: np.ndarray, unit: tuple[bool, bool] = UNIT) -> np.ndarray:
    """Rank every candidate for every query: float64 [2, videos, videos], audio → video and video → audio.

    Its diagonals are what `eval.ranks.ranks` gives with the same `unit`; `audio` and `video` are [videos, embedding] of
    any float type.
    """
    similar = rows_on_grid(audio, unit[0]) @ rows_on_grid(video, unit[1]).T
    return np.stack([rankdata(-similar, axis=1), rankdata(-similar, axis=0)])


def against_chance(
    galleries: Sequence[tuple[np.ndarray, np.ndarray]], seed: int, unit: tuple[bool, bool] = UNIT
) -> Ranked:
    """Rank the positives and test their mean rank; galleries are (audio, video), [videos, embedding] each.

    The statistic is the mean rank over both directions and all galleries, whose videos are permuted alike, because
    segments of one video are no independent evidence. `unit`: whether audio and video are compared as unit vectors.
    """
    matrices = np.concatenate([rank_matrices(audio, video, unit) for audio, video in galleries])
    videos = matrices.shape[1]
    mean, rows = matrices.mean(axis=0), np.arange(videos)
    rng = np.random.default_rng(np.random.SeedSequence((seed, videos)))
    others = np.array([rng.permutation(videos) for _ in range(PERMUTATIONS)])
    by_chance = np.median(matrices[:, rows, others], axis=(0, 2))
    # The true pairing is one of those compared. Mean ranks are rounded: the tolerance makes equal sums equal.
    own = mean[rows, rows].sum()
    as_good = int((mean[rows, others].sum(axis=1) <= own + 1e-9 * videos).sum())
    p = (1 + as_good) / (1 + PERMUTATIONS)
    return Ranked(matrices[:, rows, rows].ravel(), np.tile(rows, len(matrices)), by_chance, p)


def together(p: Sequence[float]) -> float:
    """Combine independent p-values by Fisher's method."""
    return float(combine_pvalues(p, method="fisher").pvalue)


def threshold(correlations: Sequence[float], p: Sequence[float], level: float = LEVEL) -> float | None:
    """Return the lowest correlation above 0 from which upwards all are significant; None if not even the highest is.

    Testing from the top down to the first that is not significant keeps the probability of any error at `level`
    without correction (Maurer, Hothorn & Lehmacher 1995, fixed-sequence testing).
    """
    lowest = None
    for correlation, value in sorted(zip(correlations, p, strict=True), reverse=True):
        if correlation == 0 or value > level:
            break
        lowest = correlation
    return lowest


def false_alarms(p: Sequence[float], level: float = LEVEL) -> tuple[int, float]:
    """Count the significant p-values of true nulls; return the count and the probability of at least that many."""
    count = sum(bool(value <= level) for value in p)
    return count, float(binomtest(count, len(p), level, alternative="greater").pvalue)
