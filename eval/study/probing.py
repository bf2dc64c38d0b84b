"""What a linear probe reads from features of whole videos, each predicted by a fit on the others. Opens no file.

Of rendered videos the planted factors are known (data/render/latents.py), of all the manifest's genre. The probe is
the ridge regression of `readable.py`; genres are regressed as 0 and 1.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from config.model import Render
from data.render import plan
from eval.probe.metrics import macro, ranking
from eval.study.readable import predictions


@dataclass(frozen=True)
class Target:
    """What is read: float64 [videos, columns], NaN rows for videos where it is not known, and how it is scored."""

    name: str
    values: np.ndarray
    measure: str
    """`R²` or `ROC-AUC`: means over the columns."""
    chance: float


def factors(render: Render, names: list[str], side: str) -> Target:
    """The planted factors (scores) of one side, `sound` or `picture`, of rendered videos."""
    known = {(video := plan(render, index)).video_id: video for index in range(render.videos)}
    scores = [getattr(known[name].song, side).scores for name in names]
    return Target("planted factors", np.array(scores), "R²", 0.0)


def genres(found: list[str | None], least: int) -> Target | None:
    """The genres that at least so many videos have, a column each; None if fewer than two are left."""
    counts = Counter(genre for genre in found if genre)
    classes = sorted(genre for genre, count in counts.items() if count >= least)
    if len(classes) < 2:
        return None
    truth = np.array([[float(genre == each) for each in classes] for genre in found])
    truth[truth.sum(axis=1) == 0] = np.nan
    return Target("genre", truth, "ROC-AUC", 0.5)


def predicted(features: np.ndarray, target: Target, fold: np.ndarray) -> np.ndarray:
    """Predictions of every column, [videos, columns], each video by a probe that was fitted on the other folds.

    All probes get the same intercept, the mean over all folds: where a fold has more of a class than the others, its
    probe's own would be lower, and a probe that learned nothing would rank the folds the wrong way round.
    """
    found, known = predictions(features, target.values, fold), ~np.isnan(target.values[:, 0])
    for held in np.unique(fold):
        own = target.values[known & (fold != held)].mean(axis=0)
        found[fold == held] += target.values[known].mean(axis=0) - own
    return found


def score(predictions: np.ndarray, target: Target, times: np.ndarray) -> np.ndarray:
    """The target's measure in each resample, float64 [resamples]; `times` as in eval/probe/metrics.py."""
    known = ~np.isnan(target.values[:, 0])
    truth, guess, weight = target.values[known], predictions[known], times[known].astype(np.float64)
    if target.measure == "ROC-AUC":
        return macro(ranking(guess, truth > 0.5, times[known])[0])
    # The mean is each resample's own, so that a probe that says it throughout scores 0 there.
    total = weight.sum(axis=0)[:, None]
    spread = weight.T @ truth**2 - (weight.T @ truth) ** 2 / total
    return (1 - (weight.T @ (truth - guess) ** 2) / spread).mean(axis=1)
