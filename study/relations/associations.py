"""How strongly descriptors are associated, with p-values, also with labels or other descriptors held constant.

Reads and writes nothing. A descriptor is [videos] numbers, or [videos, 2] unit vectors for a direction. Numbers become
ranks, so the strength between two of them is Spearman's ρ. A direction has no ranks: its strength is the canonical
correlation of Jupp & Mardia (1980, Biometrika 67, 163-173), sqrt(V / s), where V is the sum of the s squared canonical
correlations; it has no sign. To hold labels or other descriptors constant, the ranks are replaced by their residuals
from a linear model of these.

If every video is independent, p is that of Pillai's trace (an F test; for two numbers it is the t test of ρ). Videos
of one artist are not independent. Then the test flips the signs of whole artists' contributions to the covariance at
random (Hemerik, Goeman & Finos 2020, JRSS B 82, 841-864; Canay, Romano & Shaikh 2017, Econometrica 85, 1013-1030):
without an association a contribution is as likely to be positive as negative, however many videos the artist has and
however alike they are. The deviation that residuals lose by the fit is restored for each artist (CR2 of Bell &
McCaffrey 2002).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import f, false_discovery_control, rankdata

FLIPS = 9999
"""Random sign changes: the smallest p is 1 in 10,000."""
BLOCK = 256
"""Sign changes computed at a time."""
Table = dict[str, np.ndarray]
"""{descriptor: float64 [videos] or [videos, 2]}."""


@dataclass(frozen=True)
class Associations:
    """Associations of every row's with every column's descriptor: `strength`, `p` and `q` float64 [rows, columns].

    `q` is p corrected for all pairs together: of the pairs with q ≤ α, on average at most a share α is false
    (Benjamini & Hochberg 1995).
    """

    rows: list[str]
    columns: list[str]
    strength: np.ndarray
    p: np.ndarray
    q: np.ndarray


def associations(
    rows: Table, columns: Table, given: np.ndarray | None = None, groups: np.ndarray | None = None
) -> Associations:
    """Test all pairs of two tables of the same videos. `given` float64 [videos, any] is held constant.

    `groups` int64 [videos] (study/groups.py) says which videos are of one artist; by default all are independent.
    A constant descriptor has strength 0 and p 1.
    """
    basis = _fixed(len(next(iter(rows.values()))), given)
    left, right = (_residuals(table, basis) for table in (rows, columns))
    strength, p = np.zeros((2, len(rows), len(columns)))
    for i, x in enumerate(left):
        for j, y in enumerate(right):
            strength[i, j], p[i, j] = _pair(x, y, basis.shape[1] - 1)
    if groups is not None and groups.max() + 1 < len(groups):
        p = _by_flips(left, right, basis, groups)
    return Associations(list(rows), list(columns), strength, p, false_discovery_control(p, axis=None).reshape(p.shape))


def dummies(labels: list[str | None]) -> np.ndarray:
    """Code labels as float64 [videos, distinct labels], 1 for the label of the video; None is a label too."""
    _, codes = np.unique([f"={label}" if label is not None else "" for label in labels], return_inverse=True)
    return np.eye(codes.max() + 1)[codes]


def smallest_p(groups: np.ndarray) -> float:
    """Return the smallest p that `associations` can give for these groups: few artists have few patterns of signs."""
    count = int(groups.max()) + 1
    return 0.0 if count == len(groups) else max(1 / (1 + FLIPS), 2.0 ** (1 - count))


def _fixed(videos: int, given: np.ndarray | None) -> np.ndarray:
    """Return an orthonormal basis [videos, at least 1] of what is held constant: the mean and `given`."""
    constant = np.ones((videos, 1))
    return _basis(constant if given is None else np.column_stack([constant, given - given.mean(axis=0)]))


def _residuals(table: Table, basis: np.ndarray) -> list[np.ndarray]:
    """Return orthonormal bases [videos, 0 to 2] of the part of each descriptor that `basis` does not explain."""
    residuals = []
    for descriptor in table.values():
        values = rankdata(descriptor)[:, None] if descriptor.ndim == 1 else descriptor
        values = values - values.mean(axis=0)
        scale = float(np.linalg.norm(values))
        residuals.append(_basis(values - basis @ (basis.T @ values), scale))
    return residuals


def _by_flips(left: list[np.ndarray], right: list[np.ndarray], basis: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return p of every pair of residuals, float64 [rows, columns], by flipping the signs of whole groups."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    x, y = np.concatenate(left, axis=1)[order], np.concatenate(right, axis=1)[order]
    total = x.T @ y
    x = _unshrunk(x, basis[order], starts)
    # [groups, columns of x · columns of y]: up to `_unshrunk`, their sum is the covariance of the data.
    contributions = np.add.reduceat(x[:, :, None] * y[:, None, :], starts).reshape(len(starts), -1).astype(np.float32)
    # Which row and column of the table each product of columns belongs to.
    row, column = (np.repeat(np.arange(len(side)), [bases.shape[1] for bases in side]) for side in (left, right))
    pair = np.zeros((total.size, len(left) * len(right)))
    pair[np.arange(total.size), (row[:, None] * len(right) + column).ravel()] = 1
    observed = (total.ravel() ** 2) @ pair
    rng, at_least = np.random.default_rng(len(groups)), np.zeros(len(observed), np.int64)
    for start in range(0, FLIPS, BLOCK):
        signs = rng.integers(0, 2, (min(BLOCK, FLIPS - start), len(starts)), np.int8).astype(np.float32) * 2 - 1
        # A flip of no sign, or of all, must count as equal to the data despite rounding.
        at_least += (((signs @ contributions).astype(np.float64) ** 2) @ pair >= observed * (1 - 1e-5)).sum(axis=0)
    return ((1 + at_least) / (1 + FLIPS)).reshape(len(left), len(right))


def _unshrunk(x: np.ndarray, basis: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Scale residuals x [videos, columns] up by the deviation that they lost when `basis` [videos, fixed] was fitted.

    Both are ordered by group; `starts` are the groups' first rows. The residuals e of a group have the covariance
    σ²(I - BB'), where B are its rows of the basis, so that of (I - BB')^(-1/2) e is σ² I.
    """
    scaled = x.copy()
    for first, last in zip(starts, [*starts[1:], len(x)], strict=True):
        u, s, _ = np.linalg.svd(basis[first:last], full_matrices=False)
        rest = 1 - s**2
        scale = np.where(rest > 1e-6, 1 / np.sqrt(np.maximum(rest, 1e-6)), 0) - 1  # 0: the fit left nothing
        scaled[first:last] += u @ (scale[:, None] * (u.T @ x[first:last]))
    return scaled


def _basis(values: np.ndarray, scale: float | None = None) -> np.ndarray:
    """Return orthonormal columns that span those of `values`, without those that are only rounding errors."""
    u, s, turn = np.linalg.svd(values, full_matrices=False)
    if values.shape[1] == 1:
        u = u * turn  # the sign of a single column is kept
    return u[:, s > 1e-9 * max(s[0] if scale is None else scale, 1e-300)]


def _pair(x: np.ndarray, y: np.ndarray, lost: int) -> tuple[float, float]:
    """Return strength and p of two bases of residuals; `lost` dimensions are held constant besides the mean."""
    s, larger = sorted((x.shape[1], y.shape[1]))
    free = len(x) - 1 - lost - larger
    if s == 0 or free < 1:
        return 0.0, 1.0
    inner = x.T @ y
    trace = float(np.clip((inner**2).sum(), 0, s * (1 - 1e-12)))
    p = float(f.sf(free / larger * trace / (s - trace), s * larger, s * free))
    strength = float(np.sqrt(trace / s))
    return (strength if inner[0, 0] >= 0 or larger > 1 else -strength), p
