"""What is reported of the scores of a probe: values, intervals over seeds and over groups, classes. No files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.bootstrap import percentile_interval
from eval.probe.metrics import f1, macro, ranking, top_class
from eval.seeds import difference_interval, excludes_zero, mean_interval


@dataclass(frozen=True)
class Scores:
    """The scores of the probes of all seeds on the test split.

    `scores` is float32 [seeds, items, classes]; `thresholds` float64 [seeds, evaluated classes], from the validation
    split; `epochs` those of the weights that were kept; `dim` the width of the representation.
    """

    scores: np.ndarray
    thresholds: np.ndarray
    epochs: list[int]
    dim: int


@dataclass(frozen=True)
class MeasuredProbe:
    """One entry of the JSON, and each metric's macro value in the resamples, float64 [resamples], of `groups`
    groups."""

    entry: dict[str, Any]
    resampled: dict[str, np.ndarray]
    groups: int


def measure(
    fitted: Scores,
    truth: np.ndarray,
    classes: list[str],
    evaluated: np.ndarray,
    times: np.ndarray,
    groups: int,
    single: bool,
) -> MeasuredProbe:
    """Measure one probe on one representation.

    `truth` bool [items, classes]; `evaluated` bool [classes]; `times` as in `eval.probe.metrics`, of `groups` groups.
    All classes count in the confusion and the most likely class, the `evaluated` ones in everything else.
    """
    times = np.column_stack([np.ones(len(times), dtype=np.float32), times])  # first the split itself
    chosen, right = truth[:, evaluated], truth.argmax(axis=1)
    values: dict[str, list[np.ndarray]] = {}
    for scores, thresholds in zip(fitted.scores, fitted.thresholds, strict=True):
        evaluated_scores = scores[:, evaluated]
        auc, precision = ranking(evaluated_scores, chosen, times)
        by_metric = {
            "auc": auc,
            "average_precision": precision,
            "f1": np.where(np.isnan(thresholds), np.nan, f1(evaluated_scores >= thresholds, chosen, times)),
            "f1_at_half": f1(evaluated_scores >= 0.5, chosen, times),
        }
        if single:
            likely = top_class(scores)
            by_metric["f1_of_most_likely"] = f1(likely[:, evaluated], chosen, times)
            correct = (scores.argmax(axis=1) == right).astype(np.float64)
            by_metric["accuracy"] = (correct @ times / times.sum(axis=0))[:, None]
        for name, value in by_metric.items():
            values.setdefault(name, []).append(value)
    share = chosen.mean(axis=0)
    chance = {"auc": 0.5, "average_precision": float(share.mean())}
    metrics, resampled = {}, {}
    for name, by_seed in values.items():
        seeds = np.stack([macro(value) for value in by_seed])  # [seeds, 1 + resamples]
        mean = seeds.mean(axis=0)
        resampled[name] = mean[1:]
        low, high = interval(resampled[name], groups)
        metrics[name] = {"value": number(mean[0]), "low": low, "high": high, "chance": chance.get(name)}
        metrics[name] |= over_seeds(seeds[:, 0])
    by_class = {name: np.mean(by_seed, axis=0) for name, by_seed in values.items() if name != "accuracy"}
    per_class = []
    for column, index in enumerate(np.flatnonzero(evaluated).tolist()):
        low, high = interval(by_class["auc"][1:, column], groups)
        line: dict[str, Any] = {"class": classes[index], "support": int(chosen[:, column].sum())}
        line |= {"auc_low": low, "auc_high": high}
        per_class.append(line | {metric: number(value[0, column]) for metric, value in by_class.items()})
    entry = {"dim": fitted.dim, "epochs": fitted.epochs, "metrics": metrics, "per_class": per_class}
    entry["thresholds"] = [[number(threshold) for threshold in thresholds] for thresholds in fitted.thresholds]
    entry["confusion"] = confusion(fitted.scores, right, classes) if single else None
    return MeasuredProbe(entry, resampled, groups)


def number(value: float) -> float | None:
    """Return a value for JSON, which has no NaN: None where it is not defined."""
    return None if np.isnan(value) else float(value)


def interval(values: np.ndarray, groups: int, level: float = 0.95) -> tuple[float | None, float | None]:
    """Return the percentile interval over the resamples in which a value is defined; None if it is in none."""
    low, high = percentile_interval(values, groups, level)
    return number(low), number(high)


def over_seeds(values: np.ndarray) -> dict[str, Any]:
    """Return the values of the seeds and the 95 % interval of their mean, None if there is none (see eval/seeds.py)."""
    low, high = (None if np.isnan(values).any() else mean_interval(values.tolist())) or (None, None)
    return {"seeds": [number(value) for value in values], "seeds_low": low, "seeds_high": high}


def confusion(scores: np.ndarray, right: np.ndarray, classes: list[str]) -> dict[str, Any]:
    """Return how often each class (row) was taken for each (column): the mean of the seeds' counts."""
    counts = np.zeros((len(classes), len(classes)))
    for seed_scores in scores:
        np.add.at(counts, (right, seed_scores.argmax(axis=1)), 1 / len(scores))
    return {"classes": classes, "counts": counts.round(6).tolist()}


def compare(a: MeasuredProbe, b: MeasuredProbe, metric: str, level: float = 0.95) -> dict[str, Any]:
    """Return the difference a - b of a metric's macro values, with its interval over the same resamples of the groups.

    `level` is the coverage of that; `seeds_low` and `seeds_high` are Welch's 95 % interval over the seeds, None of
    single ones. `differs` is false where either contains 0: then nothing says that one is better.
    """
    of_a, of_b = (probe.entry["metrics"][metric] for probe in (a, b))
    defined = of_a["value"] is not None and of_b["value"] is not None
    low, high = interval(a.resampled[metric] - b.resampled[metric], a.groups, level)
    seeds = difference_interval(of_a["seeds"], of_b["seeds"]) if defined else None
    differs = (
        low is not None and high is not None and excludes_zero((low, high)) and excludes_zero(seeds or (low, high))
    )
    seeds_low, seeds_high = seeds or (None, None)
    line = {"difference": of_a["value"] - of_b["value"] if defined else None, "low": low, "high": high}
    return line | {"seeds_low": seeds_low, "seeds_high": seeds_high, "differs": differs}
