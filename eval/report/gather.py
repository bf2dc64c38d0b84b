"""Everything the report shows, read from the results folder. Opens no video and writes nothing."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from config.cli import UserError
from config.files import read_json
from config.heads import Experiment, trainable
from config.model import Config
from config.paths import Paths
from data.manifest import active, read_manifest
from data.splits import SPLITS
from eval.report.duplicates import Duplicates, duplicates
from heads.runs import runs
from pipeline.features import Features, open_features
from pipeline.readers import REASONS
from pipeline.records import Plan, read_cache_record, read_plan

Json = dict[str, Any]
LEAD = "recommended"
"""The experiment to show where there is room for a single one; one of trained backbones goes first."""


@dataclass(frozen=True)
class Space:
    """What was measured in one space, as eval/ wrote it: the features' or an experiment's embeddings'."""

    name: str
    neighbours: Json
    probes: dict[str, Json]
    """By task: genre, tagging."""

    @property
    def random_backbones(self) -> list[str]:
        """Backbones of this space whose weights are random numbers."""
        return [name for name, random in self.neighbours["random_weights"].items() if random]


@dataclass(frozen=True)
class ExperimentRun(Space):
    """One experiment's outcome: `metrics` a list of lines for each of `seeds`, the others as eval/ wrote them."""

    settings: Experiment
    seeds: list[int]
    metrics: list[list[Json]]
    retrieval: Json
    diagnosis: Json
    features: str
    """Name of the space of its backbones' features."""

    @property
    def levels(self) -> list[str]:
        """`segment` and `video`, if they were measured."""
        return list(dict.fromkeys(ranked["level"] for ranked in self.retrieval["results"]))

    def results(self, level: str, gallery: str) -> list[Json]:
        """Return the measured rankings of a level over the `full` or the `drawn` galleries."""
        return [
            ranked for ranked in self.retrieval["results"] if (ranked["level"], ranked["gallery"]) == (level, gallery)
        ]

    def headline(self) -> list[Json]:
        """Return rankings of segments in the first drawn of `eval.galleries` (the paper's), or else in the full one."""
        drawn = self.results("segment", "drawn")
        return [ranked for ranked in drawn if ranked["size"] == drawn[0]["size"]] or self.results("segment", "full")

    @property
    def changes(self) -> dict[str, Any]:
        """Settings of this experiment that differ from the paper's baseline."""
        return _changes(Experiment().model_dump(), self.settings.model_dump())


@dataclass(frozen=True)
class Run:
    """Everything that the report shows. `features` and `experiments` are empty if too few videos could be read."""

    plan: Plan
    splits: dict[str, int]
    retired: int
    """Videos that are no longer in the table; no other number includes them."""
    genres: list[tuple[str, int]]
    seconds: float
    coverage: list[Json]
    failures: list[dict[str, str]]
    complete: dict[str, int]
    features: Space | None
    """The features of `heads.audio` and `heads.video`."""
    other_features: list[Space]
    """Those of the backbones that only some experiments read."""
    experiments: list[ExperimentRun]
    mono_loss: list[Json]
    """A line for every backbone and video whose audio lost much when it was mixed to mono."""
    comparison: list[Json]
    """Differences of pairs of experiments, as eval/compare.py wrote them."""
    duplicates: Duplicates

    @property
    def random_backbones(self) -> list[str]:
        """Backbones whose weights are random numbers."""
        return [name for name, planned in self.plan.backbones.items() if planned.random_weights]

    @property
    def reasons(self) -> list[Json]:
        """Failures counted by backbone and reason, most frequent first."""
        counted = Counter((failure["backbone"], failure["reason"]) for failure in self.failures).most_common()
        return [
            {"backbone": backbone, "kind": REASONS[reason].kind, "reason": reason}
            | {"meaning": REASONS[reason].meaning, "videos": videos}
            for (backbone, reason), videos in counted
        ]

    @property
    def losing_mono(self) -> dict[str, int]:
        """{backbone: videos in `mono_loss`}, of those that have any."""
        return dict(Counter(line["backbone"] for line in self.mono_loss))

    @property
    def spaces(self) -> list[Space]:
        """The features, then every experiment; nothing where nothing was measured."""
        return [*([self.features] if self.features else []), *self.other_features, *self.experiments]

    def features_of(self, experiment: ExperimentRun) -> Space | None:
        """Return the features that an experiment's heads read; None where nothing was measured."""
        return next((space for space in self.spaces if space.name == experiment.features), None)

    @property
    def lead(self) -> ExperimentRun | None:
        """The experiment that maps, gallery and the summary's details are of.

        Of those whose backbones are all trained, or of all if there is none: the first called `LEAD…`, or else the
        last.
        """
        trained = [experiment for experiment in self.experiments if not experiment.random_backbones]
        possible = trained or self.experiments
        named = [experiment for experiment in possible if experiment.name.startswith(LEAD)]
        return next(iter(named or possible[-1:]), None)

    @property
    def tasks(self) -> list[str]:
        """The probed tasks."""
        return list(self.features.probes) if self.features else []

    def notes(self, task: str) -> list[str]:
        """Return what must be known of a task's probes, in any space, each once."""
        return list(dict.fromkeys(note for space in self.spaces for note in space.probes[task]["notes"]))


def gather(config: Config) -> Run:
    """Read a finished run. UserError names the stage whose output is missing."""
    paths = config.paths
    plan, table, view = read_plan(paths), read_manifest(paths.manifest), open_features(paths)
    table = table.slice(0, view.videos)
    listed, rows = active(table), {split: view.rows(split) for split in SPLITS}
    coverage = []
    for name, planned in plan.backbones.items():
        valid = view.valid(name) & listed
        row = {"backbone": name, "weights": planned.weights["source"], "random": planned.random_weights}
        row |= {"width": planned.dim, "videos": int(valid.sum()), "of": int(listed.sum())}
        row |= {split: int(valid[rows[split]].sum()) for split in SPLITS}
        coverage.append(row | {"cache_key": planned.key})
    with open(paths.failures, newline="", encoding="utf-8") as file:
        failures = list(csv.DictReader(file))
    record = read_cache_record(paths)
    measured = trainable(record.complete)
    features = [Space(name, *_measured(config, paths, name)) for name in config.spaces] if measured else []
    experiments = [_experiment(config, paths, name) for name in config.heads.experiments] if measured else []
    embeddings = {experiment.name: experiment.retrieval["embeddings"] for experiment in experiments}
    return Run(
        plan=plan,
        splits={split: len(rows[split]) for split in SPLITS},
        retired=int((~listed).sum()),
        genres=Counter(genre for genre in table["genre"].filter(pa.array(listed)).to_pylist() if genre).most_common(),
        seconds=float(np.nansum(view.duration()[listed])),
        coverage=coverage,
        failures=failures,
        complete=record.complete,
        mono_loss=_mono_loss(view, table),
        features=next(iter(features), None),
        other_features=features[1:],
        experiments=experiments,
        comparison=_read(paths.comparison)["results"] if measured else [],
        duplicates=duplicates(config, view, embeddings),
    )


def _changes(default: Json, own: Json) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    for key, value in own.items():
        before = default.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            changed |= {f"{key}.{name}": inner for name, inner in value.items() if inner != before.get(name)}
        elif value != before:
            changed[key] = value
    return changed


def _mono_loss(view: Features, table: pa.Table) -> list[Json]:
    ids, paths = table["video_id"].to_pylist(), table["path"].to_pylist()
    return [
        {"backbone": name, "video_id": ids[row], "path": paths[row], "loss_db": lost}
        for name in view.backbones
        for row, lost in sorted(view.mono_loss(name).items())
    ]


def _experiment(config: Config, paths: Paths, name: str) -> ExperimentRun:
    metrics = []
    trainings = runs(config, name)
    for training in trainings:
        path = training.folder / "metrics.jsonl"
        if not path.exists():
            raise UserError(f"{path} does not exist; run `snakemake train …`")
        metrics.append([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()])
    seeds = [training.seed for training in trainings]
    neighbours, probes = _measured(config, paths, name)
    settings, retrieval = config.heads.experiments[name], _task(paths, name, "retrieval")
    diagnosis = _task(paths, name, "diagnosis")
    features = config.space(config.sides(name))
    return ExperimentRun(name, neighbours, probes, settings, seeds, metrics, retrieval, diagnosis, features)


def _measured(config: Config, paths: Paths, name: str) -> tuple[Json, dict[str, Json]]:
    """Return what was measured of a space: neighbours, and by task the probes."""
    return _task(paths, name, "neighbours"), {task: _task(paths, name, task) for task in config.labels.tasks}


def _task(paths: Paths, name: str, task: str) -> Json:
    return _read(paths.eval(name) / f"{task}.json")


def _read(path: Path) -> Json:
    """Return one of eval/'s files. UserError if it is missing."""
    written: Json | None = read_json(path)
    if written is None:
        raise UserError(f"{path} does not exist; run `snakemake evaluate …`")
    return written
