"""How strongly descriptors go together, how sure that is, and what is left of it once other things are given.

Reads and writes nothing. A descriptor is [videos] numbers, or [videos, 2] unit vectors for a direction. Numbers become
ranks, so between two of them the strength is Spearman's ρ. A direction has no ranks: with one, it is the canonical
correlation of Jupp & Mardia (1980, Biometrika 67, 163-173): sqrt(V / s), where V is the sum of the s squared canonical
correlations; it has no sign. Every p is that of Pillai's trace (an F test; of two numbers it is the t test of ρ).
Given labels or other descriptors, the ranks' residuals from a linear model of these take the ranks' place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import f, false_discovery_control, rankdata

Table = dict[str, np.ndarray]
"""{descriptor: float64 [videos] or [videos, 2]}."""


@dataclass(frozen=True)
class Associations:
    """Of the rows' descriptors with the columns': `strength`, `p` and `q` float64 [rows, columns].

    `q` is p corrected for all pairs at once: calling those with q ≤ α significant makes at most a share α of them
    false on average (Benjamini & Hochberg 1995).
    """

    rows: list[str]
    columns: list[str]
    strength: np.ndarray
    p: np.ndarray
    q: np.ndarray


def associations(rows: Table, columns: Table, given: np.ndarray | None = None) -> Associations:
    """All pairs of two tables of the same videos; `given`: float64 [videos, any] that is held constant.

    Where a descriptor is constant, there is no association: strength 0, p 1.
    """
    left, lost = _residuals(rows, given)
    right, _ = _residuals(columns, given)
    strength, p = np.zeros((2, len(rows), len(columns)))
    for i, x in enumerate(left):
        for j, y in enumerate(right):
            strength[i, j], p[i, j] = _pair(x, y, lost)
    return Associations(list(rows), list(columns), strength, p, false_discovery_control(p, axis=None).reshape(p.shape))


def dummies(labels: list[str | None]) -> np.ndarray:
    """float64 [videos, labels]: which label each has; None is one of them."""
    _, codes = np.unique([f"={label}" if label is not None else "" for label in labels], return_inverse=True)
    return np.eye(codes.max() + 1)[codes]


def _residuals(table: Table, given: np.ndarray | None) -> tuple[list[np.ndarray], int]:
    """Orthonormal bases [videos, 0 to 2] of what `given` and the mean leave; and how many dimensions `given` took."""
    videos = len(next(iter(table.values())))
    fixed = np.ones((videos, 1))
    if given is not None:
        middle = given.mean(axis=0)
        fixed = np.column_stack([fixed, given - middle])
    basis = _basis(fixed)
    left = []
    for each in table.values():
        values = rankdata(each)[:, None] if each.ndim == 1 else each
        values = values - values.mean(axis=0)
        scale = float(np.linalg.norm(values))
        left.append(_basis(values - basis @ (basis.T @ values), scale))
    return left, basis.shape[1] - 1


def _basis(values: np.ndarray, scale: float | None = None) -> np.ndarray:
    """Orthonormal columns that span those of `values`, of one column its direction; no column for what is rounding."""
    u, s, turn = np.linalg.svd(values, full_matrices=False)
    if values.shape[1] == 1:
        u = u * turn  # the sign of a single column is kept
    return u[:, s > 1e-9 * max(s[0] if scale is None else scale, 1e-300)]


def _pair(x: np.ndarray, y: np.ndarray, lost: int) -> tuple[float, float]:
    """Strength and p of two orthonormal bases, where `lost` dimensions are taken besides the mean."""
    s, most = sorted((x.shape[1], y.shape[1]))
    free = len(x) - 1 - lost - most
    if s == 0 or free < 1:
        return 0.0, 1.0
    inner = x.T @ y
    trace = float(np.clip((inner**2).sum(), 0, s * (1 - 1e-12)))
    p = float(f.sf(free / most * trace / (s - trace), s * most, s * free))
    strength = float(np.sqrt(trace / s))
    return (strength if inner[0, 0] >= 0 or most > 1 else -strength), p
