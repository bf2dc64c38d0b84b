"""Linear probes of whole videos' features, cross-validated: planted factors and genre. Opens no file.

Planted factors are known of rendered videos (data/render/latents.py), the genre from the manifest. The probe is the
ridge regression of study/ridge.py; genres are regressed as 0 and 1.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from config.pipeline import Render
from data.render import plan
from eval.probe.metrics import macro, ranking
from study.ridge import predictions


@dataclass(frozen=True)
class Target:
    """A target of the probe, and how its predictions are scored."""

    name: str
    values: np.ndarray
    """float64 [videos, columns]; rows of videos whose value is unknown are NaN."""
    measure: str
    """`R²` or `ROC-AUC`, the mean over the columns."""
    chance: float


def factors(render: Render, names: list[str], modality: str) -> Target:
    """Return the planted factors of one modality of rendered videos; `modality` is `audio` or `video`."""
    known = {(video := plan(render, index)).video_id: video for index in range(render.videos)}
    scores = [getattr(known[name].song, modality).scores for name in names]
    return Target("planted factors", np.array(scores), "R²", 0.0)


def genres(labels: list[str | None], least: int) -> Target | None:
    """Return the genres that at least `least` videos have, one column each; None if there are fewer than two."""
    counts = Counter(genre for genre in labels if genre)
    classes = sorted(genre for genre, count in counts.items() if count >= least)
    if len(classes) < 2:
        return None
    truth = np.array([[float(label == genre) for genre in classes] for label in labels])
    truth[truth.sum(axis=1) == 0] = np.nan
    return Target("genre", truth, "ROC-AUC", 0.5)


def predicted(features: np.ndarray, target: Target, fold: np.ndarray) -> np.ndarray:
    """Predict every video by a probe that was fitted on the other folds: [videos, columns].

    All probes get the same intercept, the mean over all folds. With its own, the probe of a fold that has more of a
    class would start lower, and a probe that learned nothing would rank the folds in reverse.
    """
    held_out, known = predictions(features, target.values, fold), ~np.isnan(target.values[:, 0])
    for number in np.unique(fold):
        fitted = target.values[known & (fold != number)].mean(axis=0)
        held_out[fold == number] += target.values[known].mean(axis=0) - fitted
    return held_out


def score(predictions: np.ndarray, target: Target, times: np.ndarray) -> np.ndarray:
    """Compute the target's measure in each resample, float64 [resamples]; `times` as in eval/probe/metrics.py."""
    known = ~np.isnan(target.values[:, 0])
    truth, estimate, weight = target.values[known], predictions[known], times[known].astype(np.float64)
    if target.measure == "ROC-AUC":
        return macro(ranking(estimate, truth > 0.5, times[known])[0])
    # The mean is that of the resample, so that a constant prediction of it scores 0.
    total = weight.sum(axis=0)[:, None]
    spread = weight.T @ truth**2 - (weight.T @ truth) ** 2 / total
    return np.asarray((1 - (weight.T @ (truth - estimate) ** 2) / spread).mean(axis=1))
