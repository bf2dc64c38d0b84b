"""What each way of fusing sound and pictures is worth for genre and tags, and what is left when one side is missing.

Reads study/fusion/trained.safetensors and the labels. Writes study/fusion.json. Metrics are those of the probes
(eval/probe/metrics.py), macro means over the classes with a positive and a negative test video, means over the seeds;
thresholds for F1 come from the validation split with both sides there. Differences are paired: the same resampled test
videos; their intervals hold for all comparisons of a task at once (Bonferroni).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from config.cli import UserError, parser, run
from config.model import Config, read
from config.paths import Paths
from data.labels import read_labels
from eval.probe.measure import Measured, Scores, measure
from eval.probe.metrics import best_thresholds, resamples
from eval.seeds import difference_interval
from eval.study.answer import Answer, Row, write_answer
from eval.study.fusion_words import findings, limits, method
from heads.study.fusion import MISSING, PART, SINGLE, kinds, name_of
from heads.study.fusions import FUSIONS
from heads.study.pieces import Trained, read_trained

METRICS = ("auc", "average_precision", "f1")
BASELINE = "concatenation"
NAMES = {
    "audio": "sound alone",
    "video": "pictures alone",
    "concatenation": "concatenation",
    "gated": "gated",
    "bilinear": "low-rank bilinear",
    "cross_attention": "cross-attention",
    "cca": "linear CCA",
}
MISSES = {"both": "nothing", "no_audio": "sound", "no_video": "pictures"}
LEFT = {"no_audio": "video", "no_video": "audio"}
"""The side that is left, whose network alone is the measure of what is kept."""

ENDS = ("low", "high", "seeds_low", "seeds_high")

Kind = tuple[str, str, str]
"""Fusion, `plain` or `dropped`, and condition."""


def measured(config: Config, task: str, trained: Trained) -> dict[Kind, Measured]:
    """Every fusion of one task in every condition; of one side alone only that with nothing missing."""
    tensors, facts, about = trained.tensors, trained.facts, trained.same["tasks"][task]
    truth = {split: _truth(config, task, about["rows"][split], about["classes"]) for split in ("validation", "test")}
    positives = truth["test"].sum(axis=0)
    evaluated = (positives > 0) & (positives < len(truth["test"]))
    if not evaluated.any():
        raise UserError(f"labels.{task}: no class has both a positive and a negative test video; add videos")
    times = resamples(len(truth["test"]), np.arange(len(truth["test"])), config.eval.bootstrap, config.eval.seed)
    found = {}
    for fusion in FUSIONS:
        for kind in kinds(fusion):
            names = [name_of(task, fusion, kind, seed) for seed in config.study.seeds]
            held = [tensors[f"{name}/validation"].numpy()[:, evaluated] for name in names]
            thresholds = np.stack([best_thresholds(scores, truth["validation"][:, evaluated]) for scores in held])
            epochs = [facts[name]["epoch"] for name in names]
            for condition in MISSING if fusion not in SINGLE else ("both",):
                scores = np.stack([tensors[f"{name}/{condition}"].numpy() for name in names])
                one = Scores(scores, thresholds, epochs, facts[names[0]]["parameters"])
                found[fusion, kind, condition] = measure(
                    one, truth["test"], about["classes"], evaluated, times, task == "genre"
                )
    return found


def _truth(config: Config, task: str, rows: list[int], classes: list[str]) -> np.ndarray:
    """Labels of these rows, bool [videos, classes]. UserError where they are no longer those trained with."""
    labels = read_labels(Paths(Path(config.results)), task)
    at = np.searchsorted(labels.rows, rows)
    if not set(classes) <= set(labels.classes) or not np.array_equal(labels.rows[at % len(labels.rows)], rows):
        raise UserError(f"labels/{task}.parquet has changed since the study's fusions were trained; train them again")
    return labels.values[at][:, [labels.classes.index(name) for name in classes]]


def row(task: str, kind: Kind, one: Measured) -> Row:
    """One fusion in one condition: each metric with its intervals."""
    found: Row = {"task": task, "fusion": NAMES[kind[0]], "modality_dropout": kind[1] == "dropped"}
    found |= {
        "missing": MISSES[kind[2]],
        "parameters": one.entry["dim"],
        "best_epoch": float(np.mean(one.entry["epochs"])),
    }
    for metric in METRICS:
        m = one.entry["metrics"][metric]
        found |= {metric: m["value"]} | {
            f"{metric}_{end}": m[end] for end in ("low", "high", "seeds_low", "seeds_high")
        }
    return found


def gap(a: Measured, b: Measured, metric: str, comparisons: int) -> Row:
    """Difference a - b of one metric; `differs` where neither the interval over videos nor the seeds' contains 0."""
    one, other = (each.entry["metrics"][metric] for each in (a, b))
    values = a.resampled[metric] - b.resampled[metric]
    known = values[~np.isnan(values)]
    if one["value"] is None or other["value"] is None or not len(known):
        return {"metric": metric} | dict.fromkeys(("difference", *ENDS, "differs"))
    tail = 0.05 / comparisons / 2
    low, high = (float(x) for x in np.quantile(known, [tail, 1 - tail]))
    seeds = difference_interval(one["seeds"], other["seeds"])
    differs = all(ends[0] > 0 or ends[1] < 0 for ends in ((low, high), seeds or (low, high)))
    ends = dict(zip(ENDS, (low, high, *(seeds or (None, None))), strict=True))
    return {"metric": metric, "difference": one["value"] - other["value"], **ends, "differs": differs}


def differences(task: str, found: dict[Kind, Measured]) -> list[Row]:
    """Everything beside plain concatenation, with both sides there."""
    others = [kind for kind in found if kind[2] == "both" and kind != (BASELINE, "plain", "both")]
    return [
        {"task": task, "fusion": NAMES[kind[0]], "modality_dropout": kind[1] == "dropped"}
        | gap(found[kind], found[BASELINE, "plain", "both"], metric, len(others))
        for kind in others
        for metric in METRICS
    ]


def kept(task: str, found: dict[Kind, Measured]) -> list[Row]:
    """With one side missing: beside a network that was trained on the other side alone."""
    chosen = [kind for kind in found if kind[2] in LEFT]
    return [
        {"task": task, "fusion": NAMES[kind[0]], "modality_dropout": kind[1] == "dropped", "missing": MISSES[kind[2]]}
        | {"value": found[kind].entry["metrics"][metric]["value"], "beside": NAMES[LEFT[kind[2]]]}
        | gap(found[kind], found[LEFT[kind[2]], "plain", "both"], metric, len(chosen))
        for kind in chosen
        for metric in METRICS
    ]


def cca_rows(config: Config, facts: dict[str, Any]) -> list[Row]:
    """What the validation split chose for CCA."""
    keys = ("shrinkage", "components", "test_correlation")
    return [
        {"task": task} | {key: facts[name_of(task, "cca", "plain", config.study.seeds[0])][key] for key in keys}
        for task in config.labels.tasks
    ]


def answer(config: Config) -> Answer:
    """Measure and put the answer together."""
    trained = read_trained(config, PART)
    tables: dict[str, list[Row]] = {"fusions": [], "differences": [], "missing": []}
    for task in config.labels.tasks:
        found = measured(config, task, trained)
        tables["fusions"] += [row(task, kind, one) for kind, one in found.items()]
        tables["differences"] += differences(task, found)
        tables["missing"] += kept(task, found)
    for name in ("differences", "missing"):
        tables[name].sort(key=lambda row: METRICS.index(row["metric"]))  # the page shows the first rows only
    tables["cca"] = cca_rows(config, trained.facts)
    return Answer(
        part=PART,
        title="Fusion instead of alignment",
        question="Do sound and pictures together predict genre and tags better, and what is left when one is missing?",
        findings=findings(tables),
        method=method(config, trained.same["tasks"]),
        limits=limits(),
        random_weights=[name for name, random in trained.same["random_weights"].items() if random],
        seeds=config.study.seeds,
        command="python -m eval.study.fusion --config RESULTS/config.json",
        tables=tables,
    )


def main() -> None:
    """Command line."""
    config = read(parser(__doc__, "eval.study.fusion").parse_args().config)
    write_answer(Paths(Path(config.results)), answer(config))


if __name__ == "__main__":
    run(main)
