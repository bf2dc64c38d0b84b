"""Measure how well each fusion of audio and video predicts genre and tags, also where one modality is missing.

Reads study/fusion/trained.safetensors and the labels. Writes study/fusion.json. Metrics are those of the probes
(eval/probe/metrics.py), macro means over the classes with a positive and a negative test video, means over the seeds;
thresholds for F1 come from the validation split with both modalities. Differences are paired: the same resampled test
videos; their intervals hold for all rows of a task's table at once, those of every metric (Bonferroni).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from config.cli import UserError, parser, run
from config.model import Config, read
from data.labels import read_labels
from eval.bootstrap import few_groups
from eval.probe.measure import MeasuredProbe, Scores, compare, measure
from eval.probe.metrics import best_thresholds, resamples
from study.answer import Answer, Row, sentences, write_answer
from study.fusion.networks import FUSIONS
from study.fusion.text import findings, limits, method
from study.fusion.train import MISSING, PART, SINGLE, kinds, name_of
from study.groups import groups_of_rows
from study.trainings import Trained, read_trained

METRICS = ("auc", "average_precision", "f1")
BASELINE = "concatenation"
NAMES = {
    "audio": "audio alone",
    "video": "video alone",
    "concatenation": "concatenation",
    "gated": "gated",
    "bilinear": "low-rank bilinear",
    "cross_attention": "cross-attention",
    "cca": "linear CCA",
}
MISSES = {"both": "nothing", "no_audio": "audio", "no_video": "video"}
LEFT = {"no_audio": "video", "no_video": "audio"}
"""The modality that is left; the network trained on it alone is the reference."""

ENDS = ("low", "high", "seeds_low", "seeds_high")

Kind = tuple[str, str, str]
"""Fusion, `plain` or `dropped`, and condition."""


def measured(config: Config, task: str, trained: Trained) -> dict[Kind, MeasuredProbe]:
    """Return every fusion of one task in every condition; those of a single modality only with nothing missing."""
    tensors, facts, about = trained.tensors, trained.facts, trained.same["tasks"][task]
    truth = {split: _truth(config, task, about["rows"][split], about["classes"]) for split in ("validation", "test")}
    positives = truth["test"].sum(axis=0)
    evaluated = (positives > 0) & (positives < len(truth["test"]))
    if not evaluated.any():
        raise UserError(f"labels.{task}: no class has both a positive and a negative test video; add videos")
    groups = groups_of_rows(config.paths, np.array(about["rows"]["test"]))
    count = int(groups.max()) + 1
    times = resamples(count, groups, config.eval.bootstrap, config.eval.seed)
    probes = {}
    for fusion in FUSIONS:
        for kind in kinds(fusion):
            names = [name_of(task, fusion, kind, seed) for seed in config.study.seeds]
            validation = [tensors[f"{name}/validation"].numpy()[:, evaluated] for name in names]
            thresholds = np.stack([best_thresholds(scores, truth["validation"][:, evaluated]) for scores in validation])
            epochs = [facts[name]["epoch"] for name in names]
            for condition in MISSING if fusion not in SINGLE else ("both",):
                scores = np.stack([tensors[f"{name}/{condition}"].numpy() for name in names])
                seeds = Scores(scores, thresholds, epochs, facts[names[0]]["parameters"])
                probes[fusion, kind, condition] = measure(
                    seeds, truth["test"], about["classes"], evaluated, times, count, task == "genre"
                )
    return probes


def _truth(config: Config, task: str, rows: list[int], classes: list[str]) -> np.ndarray:
    """Return labels of these rows, bool [videos, classes]. Raises UserError where they changed since the training."""
    labels = read_labels(config.paths, task)
    positions = np.searchsorted(labels.rows, rows)
    if not set(classes) <= set(labels.classes) or not np.array_equal(labels.rows[positions % len(labels.rows)], rows):
        raise UserError(f"labels/{task}.parquet has changed since the study's fusions were trained; train them again")
    return labels.values[positions][:, [labels.classes.index(name) for name in classes]]


def row(task: str, kind: Kind, probe: MeasuredProbe) -> Row:
    """Return the row of one fusion in one condition: each metric with its intervals."""
    result: Row = {
        **_identity(task, kind),
        "missing": MISSES[kind[2]],
        "parameters": probe.entry["dim"],
        "best_epoch": float(np.mean(probe.entry["epochs"])),
    }
    for metric in METRICS:
        measured = probe.entry["metrics"][metric]
        result |= {metric: measured["value"]} | {f"{metric}_{end}": measured[end] for end in ENDS}
    return result


def _identity(task: str, kind: Kind) -> Row:
    return {"task": task, "fusion": NAMES[kind[0]], "modality_dropout": kind[1] == "dropped"}


def gap(a: MeasuredProbe, b: MeasuredProbe, metric: str, comparisons: int) -> Row:
    """Return a - b of one metric; its interval over groups holds for all `comparisons` at once (Bonferroni)."""
    return {"metric": metric} | compare(a, b, metric, 1 - 0.05 / comparisons)


def differences(task: str, probes: dict[Kind, MeasuredProbe]) -> list[Row]:
    """Return the differences of all fusions to plain concatenation, with both modalities."""
    others = [kind for kind in probes if kind[2] == "both" and kind != (BASELINE, "plain", "both")]
    return [
        _identity(task, kind) | gap(probes[kind], probes[BASELINE, "plain", "both"], metric, len(others) * len(METRICS))
        for kind in others
        for metric in METRICS
    ]


def kept(task: str, probes: dict[Kind, MeasuredProbe]) -> list[Row]:
    """Return the differences, with one modality missing, to the network trained on the other modality alone."""
    chosen = [kind for kind in probes if kind[2] in LEFT]
    return [
        {**_identity(task, kind), "missing": MISSES[kind[2]]}
        | {"value": probes[kind].entry["metrics"][metric]["value"], "beside": NAMES[LEFT[kind[2]]]}
        | gap(probes[kind], probes[LEFT[kind[2]], "plain", "both"], metric, len(chosen) * len(METRICS))
        for kind in chosen
        for metric in METRICS
    ]


def cca_rows(config: Config, facts: dict[str, Any]) -> list[Row]:
    """Return the shrinkage that the validation split chose for CCA, and its test correlation."""
    keys = ("shrinkage", "components", "test_correlation")
    return [
        {"task": task} | {key: facts[name_of(task, "cca", "plain", config.study.seeds[0])][key] for key in keys}
        for task in config.labels.tasks
    ]


def answer(config: Config) -> Answer:
    """Return the answer, measured on the trained fusions."""
    trained = read_trained(config, PART)
    tables: dict[str, list[Row]] = {"fusions": [], "differences": [], "missing": []}
    warnings: list[str] = []
    for task in config.labels.tasks:
        probes = measured(config, task, trained)
        warnings += few_groups(next(iter(probes.values())).groups, f"the test split of {task}")
        tables["fusions"] += [row(task, kind, probe) for kind, probe in probes.items()]
        tables["differences"] += differences(task, probes)
        tables["missing"] += kept(task, probes)
    for name in ("differences", "missing"):
        tables[name].sort(key=lambda row: METRICS.index(row["metric"]))  # the page shows the first rows only
    tables["cca"] = cca_rows(config, trained.facts)
    return Answer(
        part=PART,
        title="Fusion instead of alignment",
        question="Do audio and video together predict genre and tags better, and how much is lost when one is missing?",
        findings=findings(tables),
        method=method(config, trained.same["tasks"]),
        limits=limits() + sentences(warnings),
        random_weights=[name for name, random in trained.same["random_weights"].items() if random],
        seeds=config.study.seeds,
        command="python -m study.fusion.measure --config RESULTS/config.json",
        tables=tables,
    )


def main() -> None:
    """Run the command line."""
    config = read(parser(__doc__, "study.fusion.measure").parse_args().config)
    write_answer(config.paths, answer(config))


if __name__ == "__main__":
    run(main)
