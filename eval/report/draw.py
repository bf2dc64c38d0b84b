"""The report's plots by their place on the page. Writes them all into report/plots."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from config.heads import MODALITIES
from eval.report.gather import ExperimentRun, Run, Space
from eval.report.plots import neighbours, probes, retrieval, training
from eval.report.plots.base import Plot
from eval.report.tables import table_1, table_2

JOINED = ("audio_video", "cl_aggregated")
"""Representations of both modalities: before the heads and after."""
Drawn = dict[str, list[Plot]]


def draw(run: Run, folder: Path) -> Drawn:
    """Draw every plot; return them by their place on the page."""
    drawn: Drawn = defaultdict(list)
    if run.features is None:
        return drawn
    rows = [
        {"experiment": row["experiment"], "direction": row["direction"], "value": row["share"], "low": row["share_low"]}
        | {"high": row["share_high"], "formula": row["formula_share"], "published": row["paper_share"]}
        for row in table_1(run)
    ]
    drawn["overview"] = [retrieval.overview(rows, folder)]
    for task in run.tasks:
        drawn["probes"] += _probes(run, task, folder)
    for space in _few(run):
        for projected in space.neighbours["maps"]:
            for modality in MODALITIES:
                plot = neighbours.map_of(space.name, projected, modality, space.neighbours["genres"], folder)
                drawn[f"map-{space.name}-{projected['method']}"].append(plot)
    for label in ("genre", "tags", "artist"):
        # One space of features at most is here: without its backbones' names it fits on a line.
        lines = [
            ("features" if space is not run.lead else space.name, _agreement(space, label, "video"))
            for space in _few(run)
        ]
        if any(measured for _, measured in lines):
            drawn["agreement"].append(neighbours.agreement(label, "video", lines, folder))
    for experiment in run.experiments:
        drawn[f"experiment-{experiment.name}"] = _experiment(experiment, folder)
    return drawn


def _few(run: Run) -> list[Space]:
    """Return the leading experiment and the features that it reads: what a plot has room for."""
    lead = run.lead
    return [space for space in (run.features_of(lead), lead) if space] if lead else []


def _agreement(space: Space, label: str, level: str) -> list[dict[str, Any]]:
    return [line for line in space.neighbours["agreement"] if (line["label"], line["level"]) == (label, level)]


def _experiment(experiment: ExperimentRun, folder: Path) -> list[Plot]:
    plots = [training.loss(experiment.name, experiment.metrics, folder)]
    return plots + [
        retrieval.ranks(experiment.name, level, experiment.results(level, "full"), folder)
        for level in experiment.levels
    ]


def _probes(run: Run, task: str, folder: Path) -> list[Plot]:
    """Draw one task: all representations, each class, and for one label a video the confusions."""
    names = [space.name for space in _few(run)]
    shown = [row for row in table_2(run) if row["experiment"] in names and row.get(f"{task}_auc") is not None]
    if not shown:
        return []
    rows = [
        {
            "name": row["name"],
            "value": row[f"{task}_auc"],
            "low": row[f"{task}_auc_low"],
            "high": row[f"{task}_auc_high"],
        }
        | {"published": row[f"{task}_paper_auc"]}
        for row in shown
    ]
    plots = [probes.representations(task, rows, folder)]
    entries = [
        (space, row)
        for space in _few(run)
        for row in space.probes[task]["results"]
        if (row["level"], row["probe"]) == ("video", "perceptron") and row["representation"] in JOINED
    ]
    plots.append(probes.classes(task, [(row["name"], row["per_class"]) for _, row in entries], folder))
    return plots + [
        probes.confusion(row["name"], f"{task}-{space.name}", row["confusion"], folder)
        for space, row in entries
        if row["confusion"]
    ]
