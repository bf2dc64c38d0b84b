"""Everything the report shows, read from the results folder. Opens no video and writes nothing."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from config.cli import UserError
from config.files import read_json
from config.model import Config, trainable
from config.paths import Paths
from data.manifest import read_manifest
from pipeline.features import open_features
from pipeline.plan import read_plan
from pipeline.readers import REASONS

DIRECTIONS = {"audio_to_video": "sound → picture", "video_to_audio": "picture → sound"}
METRICS = {
    "median": "median rank",
    "mean": "mean rank",
    "recall_at_1": "R@1",
    "recall_at_5": "R@5",
    "recall_at_10": "R@10",
    "mrr": "MRR",
}


@dataclass(frozen=True)
class ExperimentRun:
    """One experiment's outcome: `metrics` a dict an epoch, `retrieval` and `neighbours` as eval/ wrote them."""

    name: str
    metrics: list[dict[str, Any]]
    retrieval: dict[str, Any]
    neighbours: dict[str, Any]

    @property
    def levels(self) -> list[str]:
        """`segment` and `video`, as far as they were measured."""
        return list(dict.fromkeys(r["level"] for r in self.retrieval["results"]))

    def results(self, level: str, gallery: str) -> list[dict[str, Any]]:
        """The measured rankings of a level over the `full` or the `drawn` galleries."""
        return [r for r in self.retrieval["results"] if (r["level"], r["gallery"]) == (level, gallery)]

    @property
    def best_epoch(self) -> dict[str, Any]:
        """The epoch whose weights were kept."""
        return min(self.metrics, key=lambda line: line["validation_loss"])


@dataclass(frozen=True)
class Run:
    """What the report is about."""

    plan: dict[str, Any]
    splits: dict[str, int]
    genres: list[tuple[str, int]]
    seconds: float
    coverage: list[dict[str, Any]]
    failures: list[dict[str, str]]
    complete: dict[str, int]
    experiments: list[ExperimentRun]

    @property
    def random_backbones(self) -> list[str]:
        """Backbones whose weights are random numbers."""
        return [name for name, planned in self.plan["backbones"].items() if planned["random_weights"]]

    @property
    def reasons(self) -> list[dict[str, Any]]:
        """Failures counted by backbone and reason, most frequent first."""
        counted = Counter((f["backbone"], f["reason"]) for f in self.failures).most_common()
        return [
            {"backbone": b, "kind": REASONS[r].kind, "reason": r, "meaning": REASONS[r].meaning, "videos": n}
            for (b, r), n in counted
        ]

    @property
    def retrieval_rows(self) -> list[dict[str, Any]]:
        """One row a measured ranking, flat, for the table."""
        rows = []
        for e in self.experiments:
            for r in e.retrieval["results"]:
                row = {"experiment": e.name, "level": r["level"], "direction": DIRECTIONS[r["direction"]]}
                row |= {"gallery": r["size"], "queries": r["queries"]}
                for name in METRICS:
                    m = r["metrics"][name]
                    row |= {name: m["value"], f"{name}_low": m["low"], f"{name}_high": m["high"]}
                    row[f"{name}_chance"] = m["chance"]
                row |= {"better_than_chance": r["better_than_chance"], "published_formula": r["published_formula"]}
                rows.append(row)
        return rows

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Every table of the report by file name."""
        losses = [{"experiment": e.name, **line} for e in self.experiments for line in e.metrics]
        return {
            "coverage": self.coverage,
            "failures": self.failures,
            "failure_reasons": self.reasons,
            "losses": losses,
            "retrieval": self.retrieval_rows,
        }

    def shown(self) -> list[dict[str, Any]]:
        """The videos that the page shows a frame of: dicts with `video_id`, `path`, `start`."""
        queries = [q for e in self.experiments for q in e.neighbours["queries"]]
        return queries + [n for q in queries for n in q["nearest"]]


def gather(config: Config) -> Run:
    """Read a finished run. UserError naming the stage whose output is missing."""
    paths = Paths(Path(config.results))
    plan, table, view = read_plan(paths), read_manifest(paths.manifest), open_features(paths)
    split = np.array(table["split"].to_pylist())[: view.videos]
    duration = view.duration()
    coverage = []
    for name, planned in plan["backbones"].items():
        valid = view.valid(name)
        row = {"backbone": name, "weights": planned["weights"]["source"], "random": planned["random_weights"]}
        row |= {"width": planned["dim"], "videos": int(valid.sum()), "of": len(valid)}
        row |= {s: int(valid[split == s].sum()) for s in ("train", "validation", "test")}
        coverage.append(row | {"cache_key": planned["key"]})
    with open(paths.failures, newline="", encoding="utf-8") as file:
        failures = list(csv.DictReader(file))
    record = read_json(paths.features_record)
    if record is None:
        raise UserError(f"{paths.features_record} does not exist; run `snakemake extract …`")
    names = config.heads.experiments if trainable(record["complete"]) else {}
    return Run(
        plan=plan,
        splits={s: int((split == s).sum()) for s in ("train", "validation", "test")},
        genres=Counter(g for g in table["genre"].to_pylist() if g).most_common(),
        seconds=float(np.nansum(duration)),
        coverage=coverage,
        failures=failures,
        complete=record["complete"],
        experiments=[_experiment(paths, name) for name in names],
    )


def _experiment(paths: Paths, name: str) -> ExperimentRun:
    metrics = paths.heads(name) / "metrics.jsonl"
    if not metrics.exists():
        raise UserError(f"{metrics} does not exist; run `snakemake train …`")
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    return ExperimentRun(name, lines, _task(paths, name, "retrieval"), _task(paths, name, "neighbours"))


def _task(paths: Paths, name: str, task: str) -> dict[str, Any]:
    path = paths.eval(name) / f"{task}.json"
    found = read_json(path)
    if found is None:
        raise UserError(f"{path} does not exist; run `snakemake evaluate …`")
    return found
