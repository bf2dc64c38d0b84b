"""How well descriptors can be read linearly from features: ridge regression, judged on videos that it has not seen.

Reads and writes nothing. In each of FOLDS folds, which keep the videos of an artist together, the others' features are
standardised and the strength of the ridge is chosen for every descriptor by generalised cross-validation among them
(Golub, Heath & Wahba 1979, Technometrics 21). R² is that of all held-out predictions together; its interval
is a percentile bootstrap over videos. It can be below 0: then the mean of all videos is the better prediction.
"""

from __future__ import annotations

import numpy as np

FOLDS = 5
STRENGTHS = np.logspace(-3, 6, 19)
"""Ridge strengths, in units of a standardised feature's variance times a video."""


def folds(groups: list[str | None], seed: int) -> np.ndarray:
    """int [videos]: the fold of each; videos of one group are together, those without (None) are on their own."""
    names = [f"={group}" if group is not None else f"{i}" for i, group in enumerate(groups)]
    _, codes = np.unique(names, return_inverse=True)
    return np.random.default_rng(seed).integers(FOLDS, size=codes.max() + 1)[codes]


def predictions(x: np.ndarray, y: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Held-out predictions float64 [videos, targets] of y from features x [videos, dim]."""
    found = np.empty(y.shape)
    for number in np.unique(fold):
        out = fold == number
        train, targets = x[~out].astype(np.float64), y[~out]
        middle, scale = train.mean(axis=0), train.std(axis=0)
        scale[scale < 1e-6 * max(scale.max(), 1e-300)] = np.inf  # constant columns say nothing
        u, s, vt = np.linalg.svd((train - middle) / scale, full_matrices=False)
        mean = targets.mean(axis=0)
        inner = u.T @ (targets - mean)
        rest = ((targets - mean) ** 2).sum(axis=0) - (inner**2).sum(axis=0)
        gcv = []
        for strength in STRENGTHS:
            left = strength / (s**2 + strength)
            freedom = len(train) - 1 - (1 - left).sum()
            gcv.append((rest + (left[:, None] ** 2 * inner**2).sum(axis=0)) / max(freedom, 1e-9) ** 2)
        best = STRENGTHS[np.argmin(gcv, axis=0)]
        weights = vt.T @ (s[:, None] / (s[:, None] ** 2 + best) * inner)
        found[out] = (x[out] - middle) / scale @ weights + mean
    return found


def r2(y: np.ndarray, predicted: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """float64 [3, targets]: R² of the predictions, and the ends of its 95 % interval; 0 of constant targets."""
    n = len(y)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    counts = np.vstack([np.ones(n), counts])
    errors, squares, sums = counts @ (y - predicted) ** 2, counts @ y**2, counts @ y
    total = squares - sums**2 / n
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.where(total > 1e-12 * np.maximum(squares, 1e-300), 1 - errors / total, 0)
    return np.vstack([found[0], np.percentile(found[1:], [2.5, 97.5], axis=0)])
