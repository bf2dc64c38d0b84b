"""Intervals over trainings of one experiment that differ in their seed alone. Reads and writes nothing.

The interval over seeds (Student's t) holds for new trainings on the same videos; the bootstrap (eval/bootstrap.py) for
new test videos with the same trainings. Neither replaces the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit  # scipy.stats would cost every rule of eval a second

LEVEL = 0.95
ROUNDING = 1e-9
"""Numbers up to this count as 0: two means of the same values may differ in their last digits."""


def quantile(freedom: float) -> float:
    """Return the 97.5 % quantile of Student's t with `freedom` degrees of freedom."""
    return float(stdtrit(freedom, (1 + LEVEL) / 2))


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean of independent values; None for a single value, whose spread is unknown."""
    if len(values) < 2:
        return None
    middle, half = float(np.mean(values)), quantile(len(values) - 1) * _error(values)
    return middle - half, middle + half


def difference_interval(a: Sequence[float], b: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % interval of mean(a) - mean(b), variances being unequal (Welch 1947, Biometrika 34).

    None if either has but one value.
    """
    if min(len(a), len(b)) < 2:
        return None
    middle, parts = float(np.mean(a) - np.mean(b)), (_error(a) ** 2, _error(b) ** 2)
    if sum(parts) == 0:
        return middle, middle
    freedom = sum(parts) ** 2 / sum(part**2 / (len(values) - 1) for part, values in zip(parts, (a, b), strict=True))
    half = quantile(freedom) * math.sqrt(sum(parts))
    return middle - half, middle + half


def excludes_zero(interval: tuple[float, float]) -> bool:
    """Return whether the interval of a difference lies off 0, by more than rounding."""
    low, high = interval
    return low > ROUNDING or high < -ROUNDING


def _error(values: Sequence[float]) -> float:
    """Return the standard error of the mean."""
    return float(np.std(values, ddof=1)) / math.sqrt(len(values))
