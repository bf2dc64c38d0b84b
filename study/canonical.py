"""Canonical correlations of two spaces (Hotelling 1936, Biometrika 28). Reads and writes nothing."""

from __future__ import annotations

import numpy as np


def canonical_pairs(
    between: np.ndarray,
    whiten: tuple[np.ndarray, np.ndarray] | None = None,
    pairs: int | None = None,
    smallest: float = -np.inf,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the directions [dim, k] of each space that correlate most, and their correlations [k], descending.

    `between` is the covariance of the two spaces, [dim, other dim]; `whiten` what makes the covariance within each the
    identity, [dim, directions], or [dim] where it is diagonal; None where both are white. k is `pairs` (default: all),
    or less where fewer correlations are above `smallest`, but at least one.
    """
    if whiten is None:
        whiten = np.ones(between.shape[0], between.dtype), np.ones(between.shape[1], between.dtype)
    a, b = whiten
    diagonal = a.ndim == 1
    u, s, vt = np.linalg.svd(a[:, None] * between * b if diagonal else a.T @ between @ b, full_matrices=False)
    kept = slice(min(len(s) if pairs is None else pairs, max(1, int((s > smallest).sum()))))
    left, right = u[:, kept], vt[kept].T
    if diagonal:
        return a[:, None] * left, b[:, None] * right, s[kept]
    return a @ left, b @ right, s[kept]
