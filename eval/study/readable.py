"""How well descriptors can be read linearly from features: ridge regression, judged on videos that it has not seen.

Reads and writes nothing. In each of FOLDS folds, which keep the videos of an artist together, the others' features are
standardised and the strength of the ridge is chosen for every target by leaving one out among them (Golub, Heath &
Wahba 1979, Technometrics 21; scikit-learn's RidgeCV). Held-out features are clipped to the range of the others': what
hardly varies among these would be thousands of their deviations away in a video that differs. R² is that of all
held-out predictions together; its interval is a percentile bootstrap over videos. It can be below 0: then the mean of
all videos is the better prediction.
"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

FOLDS = 5
STRENGTHS = np.logspace(-3, 6, 19)
"""Ridge strengths, in units of a standardised feature's variance times a video."""


def folds(groups: list[str | None], seed: int) -> np.ndarray:
    """int [videos]: the fold of each; videos of one group are together, those without (None) are on their own."""
    names = [f"={group}" if group is not None else f"{i}" for i, group in enumerate(groups)]
    _, codes = np.unique(names, return_inverse=True)
    return np.random.default_rng(seed).integers(FOLDS, size=codes.max() + 1)[codes]


def predictions(x: np.ndarray, y: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Held-out predictions float64 [videos, targets] of y from features x [videos, dim], by ridge regression.

    Each fold is predicted by what was fitted on the others. Videos whose row of y is NaN are only predicted.
    """
    found, known = np.empty(y.shape), ~np.isnan(y[:, 0])
    for number in np.unique(fold):
        train, out = known & (fold != number), fold == number
        ridge = make_pipeline(MinMaxScaler(clip=True), StandardScaler(), RidgeCV(STRENGTHS, alpha_per_target=True))
        ridge.fit(x[train].astype(np.float64), y[train])
        found[out] = ridge.predict(x[out].astype(np.float64)).reshape(-1, y.shape[1])  # of one target it drops the axis
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
