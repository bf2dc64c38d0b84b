"""ROC-AUC, average precision and F1 of scores, for a whole split and for bootstrap resamples of it. No files.

Definitions are scikit-learn's (`roc_auc_score`, `average_precision_score`, `f1_score`; a test compares them). They are
computed here because a bootstrap asks for them a thousand times: everything takes `times`, how often each item stands
in each resample, float [items, resamples]; `np.ones((items, 1))` is the split itself. Where a class has no positive
(or, for ROC-AUC, no negative) it is not defined, and NaN.
"""

from __future__ import annotations

import numpy as np

from eval.bootstrap import ELEMENTS, resample_counts


def resamples(groups: int, owner: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Draw `count` resamples of the groups; return how often each item is in each: float32 [items, count].

    Groups, not items, are drawn with replacement (a cluster bootstrap), because segments of one video and videos of one
    group are not independent; `owner` int [items] is the group of each item, numbered from 0. Equal arguments give
    equal resamples, whatever the items.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, groups]))
    return resample_counts(groups, count, rng).T.astype(np.float32)[owner]


def ranking(scores: np.ndarray, truth: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ROC-AUC and average precision of each class: two float64 [resamples, classes].

    `scores` float and `truth` bool are [items, classes]. Items with equal scores are taken together.
    """
    size = max(1, ELEMENTS // max(1, len(scores)))
    parts = [
        np.stack([_ranking(*of_class, times[:, part]) for of_class in zip(scores.T, truth.T, strict=True)], axis=2)
        for part in (slice(first, first + size) for first in range(0, times.shape[1], size))
    ]
    auc, precision = np.concatenate(parts, axis=1)
    return auc, precision


def _ranking(score: np.ndarray, truth: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return ROC-AUC and average precision of one class, float64 [2, resamples]."""
    order = np.argsort(-score, kind="stable")
    ordered, positive = -score[order], truth[order]
    weight = times[order]
    # Float32 holds these counts exactly.
    above = np.vstack([np.zeros_like(weight[:1]), weight.cumsum(axis=0)])  # [k]: how many stand before item k
    hits = weight[positive].astype(np.float64)
    hits_above = np.vstack(
        [np.zeros_like(hits[:1]) if len(hits) else np.zeros((1, times.shape[1])), hits.cumsum(axis=0)]
    )
    scores = ordered[positive]
    # For each positive, how many items, and how many positives, stand before and up to the end of its group of equals.
    before, up_to = (above[np.searchsorted(ordered, scores, side)] for side in ("left", "right"))
    hits_before, hits_up_to = (hits_above[np.searchsorted(scores, scores, side)] for side in ("left", "right"))
    total, negatives = hits_above[-1], above[-1] - hits_above[-1]
    beaten = negatives - ((before - hits_before) + (up_to - hits_up_to)) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        auc = (hits * beaten).sum(axis=0) / (total * negatives)
        # Where nothing stands in the resample up to here, `hits` is 0 too.
        precision = (hits * hits_up_to / np.maximum(up_to, 1)).sum(axis=0) / total
    return np.stack([auc, precision])


def f1(predicted: np.ndarray, truth: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return F1 of each class, float64 [resamples, classes], from two bool [items, classes]."""
    weight = times.T.astype(np.float64)
    positives = weight @ truth
    with np.errstate(invalid="ignore"):
        score = 2 * (weight @ (predicted & truth)) / (weight @ predicted + positives)
    return np.where(positives > 0, score, np.nan)


def best_thresholds(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return for each class the threshold with the highest F1, the highest of equals: float64 [classes].

    An item is predicted to be of the class when its score is at least the threshold, which lies halfway between two
    neighbouring scores. `scores` and `truth` are [items, classes]; NaN for a class without a positive.
    """
    thresholds = []
    for score, positive in zip(scores.T.astype(np.float64), truth.T, strict=True):
        if not positive.any():
            thresholds.append(np.nan)
            continue
        order = np.argsort(-score, kind="stable")
        ordered, hits = score[order], positive[order].cumsum()
        value = 2 * hits / (np.arange(1, len(score) + 1) + hits[-1])
        last = np.append(ordered[1:] < ordered[:-1], True)  # a threshold cannot part equals
        best = int(np.argmax(np.where(last, value, -1.0)))
        thresholds.append((ordered[best] + ordered[min(best + 1, len(ordered) - 1)]) / 2)
    return np.array(thresholds)


def top_class(scores: np.ndarray) -> np.ndarray:
    """Return the class with the highest score of each item, as bool [items, classes]."""
    return np.arange(scores.shape[1]) == scores.argmax(axis=1)[:, None]


def macro(values: np.ndarray) -> np.ndarray:
    """Return the mean over the classes that are defined: [resamples, classes] → [resamples]; NaN where none is."""
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(defined, values, 0).sum(axis=1) / defined.sum(axis=1)
