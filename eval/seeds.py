"""What several trainings of one experiment say, which differ by their seed alone. Reads and writes nothing.

The interval over seeds (Student's t) tells how sure the mean is for new trainings on the same videos; the bootstrap
(eval/bootstrap.py) how sure it is for new test videos with the same trainings. Neither replaces the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import t

LEVEL = 0.95


def quantile(freedom: float) -> float:
    """97.5 % quantile of Student's t with so many degrees of freedom."""
    return float(t.ppf((1 + LEVEL) / 2, freedom))


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % interval of the mean of independent values; None of a single one, which says nothing of its spread."""
    if len(values) < 2:
        return None
    middle, half = float(np.mean(values)), quantile(len(values) - 1) * _error(values)
    return middle - half, middle + half


def difference_interval(a: Sequence[float], b: Sequence[float]) -> tuple[float, float] | None:
    """95 % interval of mean(a) - mean(b) for independent values of unequal variances (Welch 1947, Biometrika 34).

    None if either has but one value.
    """
    if min(len(a), len(b)) < 2:
        return None
    middle, parts = float(np.mean(a) - np.mean(b)), (_error(a) ** 2, _error(b) ** 2)
    if sum(parts) == 0:
        return middle, middle
    freedom = sum(parts) ** 2 / sum(part**2 / (len(x) - 1) for part, x in zip(parts, (a, b), strict=True))
    half = quantile(freedom) * math.sqrt(sum(parts))
    return middle - half, middle + half


def _error(values: Sequence[float]) -> float:
    """Standard error of the mean."""
    return float(np.std(values, ddof=1)) / math.sqrt(len(values))
