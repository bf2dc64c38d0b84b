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
        {"experiment": r["experiment"], "direction": r["direction"], "value": r["share"], "low": r["share_low"]}
        | {"high": r["share_high"], "formula": r["formula_share"], "published": r["paper_share"]}
        for r in table_1(run)
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
        lines = [("features" if s is not run.lead else s.name, _agreement(s, label, "video")) for s in _few(run)]
        if any(measured for _, measured in lines):
            drawn["agreement"].append(neighbours.agreement(label, "video", lines, folder))
    for e in run.experiments:
        drawn[f"experiment-{e.name}"] = _experiment(e, folder)
    return drawn


def _few(run: Run) -> list[Space]:
    """The leading experiment and the features that it reads: what a plot has room for."""
    lead = run.lead
    return [s for s in (run.features_of(lead), lead) if s] if lead else []


def _agreement(space: Space, label: str, level: str) -> list[dict[str, Any]]:
    return [a for a in space.neighbours["agreement"] if (a["label"], a["level"]) == (label, level)]


def _experiment(e: ExperimentRun, folder: Path) -> list[Plot]:
    plots = [training.loss(e.name, e.metrics, folder)]
    return plots + [retrieval.ranks(e.name, level, e.results(level, "full"), folder) for level in e.levels]


def _probes(run: Run, task: str, folder: Path) -> list[Plot]:
    """One task's plots: all representations, each class, and for one label a video the confusions."""
    names = [space.name for space in _few(run)]
    shown = [r for r in table_2(run) if r["experiment"] in names and r.get(f"{task}_auc") is not None]
    if not shown:
        return []
    rows = [
        {"name": r["name"], "value": r[f"{task}_auc"], "low": r[f"{task}_auc_low"], "high": r[f"{task}_auc_high"]}
        | {"published": r[f"{task}_paper_auc"]}
        for r in shown
    ]
    plots = [probes.representations(task, rows, folder)]
    entries = [
        (s, r)
        for s in _few(run)
        for r in s.probes[task]["results"]
        if (r["level"], r["probe"]) == ("video", "perceptron") and r["representation"] in JOINED
    ]
    plots.append(probes.classes(task, [(r["name"], r["per_class"]) for _, r in entries], folder))
    return plots + [
        probes.confusion(r["name"], f"{task}-{s.name}", r["confusion"], folder) for s, r in entries if r["confusion"]
    ]
