"""Cross-validated ridge regression: how well targets can be predicted linearly from features. Opens no file.

There are FOLDS folds, which keep the videos of a group together (study/groups.py). Features are standardised on the
training folds, and the ridge strength is chosen for every target by leave-one-out among them (Golub, Heath & Wahba
1979, Technometrics 21; scikit-learn's RidgeCV). Held-out features are clipped to the range of the training folds: one
that hardly varies there could be thousands of standard deviations away. R² is that of all held-out predictions
together. Below 0 the mean of all videos predicts better.
"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from study.groups import times_drawn

FOLDS = 5
STRENGTHS = np.logspace(-3, 6, 19)
"""Ridge strengths, in units of a standardised feature's variance times a video."""


def predictions(x: np.ndarray, y: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Predict y [videos, targets] from features x [videos, dim] by ridge regression: float64 [videos, targets].

    Each fold is predicted by a fit on the others. Videos whose row of y is NaN are predicted but not fitted on.
    """
    predicted, known = np.empty(y.shape), ~np.isnan(y[:, 0])
    for number in np.unique(fold):
        train, out = known & (fold != number), fold == number
        ridge = make_pipeline(MinMaxScaler(clip=True), StandardScaler(), RidgeCV(STRENGTHS, alpha_per_target=True))
        ridge.fit(x[train].astype(np.float64), y[train])
        values = ridge.predict(x[out].astype(np.float64))
        predicted[out] = values.reshape(-1, y.shape[1])  # a single target loses its axis
    return predicted


def resampled_r2(y: np.ndarray, predicted: np.ndarray, groups: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Compute R², float64 [1 + resamples, targets]: of the videos as they are, then of resamples of whole groups.

    `groups` int64 [videos] (data/groups.py). Equal groups and seeds give equal resamples. 0 for constant targets.
    """
    return weighted_r2(y, predicted, np.vstack([np.ones(len(y)), times_drawn(groups, resamples, seed)]))


def weighted_r2(y: np.ndarray, predicted: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Compute R², float64 [resamples, targets], of videos that count so often: `counts` [resamples, videos]."""
    n = counts.sum(axis=1, keepdims=True)
    errors, squares, sums = counts @ (y - predicted) ** 2, counts @ y**2, counts @ y
    total = squares - sums**2 / n
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(total > 1e-12 * np.maximum(squares, 1e-300), 1 - errors / total, 0)
