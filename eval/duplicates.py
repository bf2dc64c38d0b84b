"""Retrieval of whole videos with near-duplicates counted as right answers, beside the strict way, which counts them as
wrong.

Reads the manifest, the plan, duplicates/ (pipeline.duplicates) and an experiment's embeddings, one seed after the
other. Writes eval/EXPERIMENT/duplicates.json: for both directions over all test videos, `strict` as in retrieval.json,
and `with_duplicates`, where the positives of a query are its own video and every test video of its group of duplicates
(heads/metrics.py says what each metric makes of several positives). Each metric has its value, mean over the seeds, its
95 % interval over groups and its chance level. `videos` counts the test videos that have a duplicate in the test split:
with none, both ways are the same.
"""

from __future__ import annotations

import csv
import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from config.cli import UserError, experiment_parser, run
from config.files import read_json, write_json
from config.model import Config, read
from eval.bootstrap import metric_intervals, resampled_metrics
from eval.ranks import DIRECTIONS, PAIRS, ranks, rows_on_grid
from eval.retrieval import load_test
from heads.metrics import METRICS, chance, summary
from heads.runs import runs
from pipeline.duplicates.report import digests
from pipeline.features import open_features

log = logging.getLogger("duplicates")
WAYS = ("strict", "with_duplicates")
MOST_POSITIVES = 1000
"""Test videos of one group of duplicates, at most."""


def read_groups(path: Path, rows: np.ndarray) -> np.ndarray:
    """Return the group of duplicates of each of these rows (int64 [n]), -1 - i for the i-th if it is in none: [n].

    path: duplicates/duplicates.csv. UserError if it does not exist.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            of_row = {int(line["row"]): int(line["group"]) for line in csv.DictReader(file)}
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run `snakemake duplicates …`") from None
    return np.array([of_row.get(row, -1 - i) for i, row in enumerate(rows.tolist())], np.int64)


def all_ranks(
    queries: np.ndarray, candidates: np.ndarray, own: np.ndarray, group: np.ndarray, unit: tuple[bool, bool]
) -> np.ndarray:
    """Return the ranks of all positives of each query, float32 [n, most positives] as `heads.metrics.as_ranks` has it.

    `queries` and `candidates` are [n, d]; `own` float64 [n] are the ranks of the candidates of the same number
    (`eval.ranks`); candidates of the same `group` (int64 [n]) are positives too. `unit`: whether each is compared as
    unit vectors. Ties share their middle rank, as in `eval.ranks`.
    """
    _, number, count = np.unique(group, return_inverse=True, return_counts=True)
    # Ranks are multiples of ½: exact in float32 for up to 2²³ candidates.
    exact = np.float32 if len(own) <= 2**23 else np.float64
    every = np.full((len(own), int(count.max())), np.inf, exact)
    every[:, 0] = own
    several = np.flatnonzero(count[number] > 1)
    query_rows, candidate_rows = rows_on_grid(queries, unit[0]), rows_on_grid(candidates, unit[1])
    at_once = max(PAIRS * PAIRS // len(own), 1)
    for start in range(0, len(several), at_once):
        part = several[start : start + at_once]
        for query, similar in zip(part.tolist(), query_rows[part] @ candidate_rows.T, strict=True):
            ascending = np.sort(similar)
            positives = similar[group == group[query]]
            above = len(own) - np.searchsorted(ascending, positives, side="right")
            equal = len(own) - above - np.searchsorted(ascending, positives, side="left")
            every[query, : len(positives)] = np.sort(1 + above + (equal - 1) / 2)
    return every


def chance_levels(gallery: int, positives: np.ndarray) -> dict[str, float]:
    """Return the chance level of every metric for queries with so many positives each, int64 [queries].

    Means of metrics are means of the queries' chance levels; the median rank is that of the mixture of the first
    positives' distributions, 1 - C(gallery - rank, positives) / C(gallery, positives) up to a rank.
    """
    sizes, count = np.unique(positives, return_counts=True)
    shares = count / count.sum()
    levels = [chance(gallery, size) for size in sizes.tolist()]
    expected = {
        name: float(sum(share * level[name] for share, level in zip(shares, levels, strict=True))) for name in METRICS
    }
    beyond = np.zeros(gallery)
    rank = np.arange(1, gallery + 1)
    for size, share in zip(sizes.tolist(), shares, strict=True):
        # C(gallery - rank, size) / C(gallery, size), each rank from the one before.
        beyond += share * np.cumprod(np.maximum(gallery - rank + 1 - size, 0) / (gallery - rank + 1))
    reached = 1 - beyond
    middle = (int(np.argmax(reached >= 0.5 - 1e-12)) + int(np.argmax(reached > 0.5 + 1e-12))) / 2 + 1
    return {name: middle if METRICS[name].aggregate == "median" else value for name, value in expected.items()}


@dataclass(frozen=True)
class TestVideos:
    """The test videos, the same for all seeds: int64 [videos] each, their group and their number of positives."""

    __test__ = False  # not for pytest

    groups: np.ndarray
    positives: np.ndarray


@dataclass(frozen=True)
class Summary:
    """One seed's ranks in numbers: every metric, and `eval.bootstrap.resampled_metrics`."""

    values: dict[str, float]
    resampled: np.ndarray


def settled(config: Config) -> dict[str, Any]:
    """Return the record of the near-duplicates (pipeline.duplicates).

    UserError if it is missing, or was made with other settings than the configuration's or of another cache.
    """
    path = config.paths.duplicates
    record: dict[str, Any] | None = read_json(path)
    if record is None:
        raise UserError(f"{path} does not exist; run `snakemake duplicates …`")
    if difference := differs(config, record):
        raise UserError(f"{path} {difference}. Delete {path} and run `snakemake duplicates …`")
    return record


def differs(config: Config, record: dict[str, Any]) -> str | None:
    """Say what else the near-duplicates of this record were looked for with or in; None if all is as it is now."""
    compared_by, view = config.duplicates.on, open_features(config.paths)
    names = {"audio": config.heads.audio, "video": config.heads.video}
    chosen = {modality: name for modality, name in names.items() if compared_by in (modality, "both")}
    wanted = {
        "duplicates.on": ("on", compared_by),
        "duplicates.threshold": ("threshold", config.duplicates.threshold),
        "heads.audio and heads.video": ("backbones", chosen),
        "the cache's keys": ("keys", {name: view.key(name) for name in chosen.values()}),
    }
    for what, (key, value) in wanted.items():
        if record.get(key) != value:
            return f"was made with {key}: {record.get(key)}, but {what} now: {value}"
    # What is not in a record cannot differ: earlier versions wrote less.
    now = digests(config.paths, chosen.values())
    names = {"features": "other features", "manifest": "another manifest"}
    changed = [names[key] for key, value in now.items() if record.get(key, value) != value]
    return f"was made of {' and '.join(changed)}" if changed else None


def positives_of(group: np.ndarray) -> np.ndarray:
    """Return how many positives each video has, itself among them: int64 [n], of groups int64 [n].

    UserError beyond MOST_POSITIVES, for which every query would need that many numbers.
    """
    _, number, count = np.unique(group, return_inverse=True, return_counts=True)
    if count.max(initial=0) > MOST_POSITIVES:
        raise UserError(
            f"a group of duplicates has {count.max()} test videos, more than the {MOST_POSITIVES} that can count as "
            "right answers: they are hardly one video. Look at duplicates/duplicates.csv; a higher "
            "`duplicates.threshold` breaks chains of videos each a little like the next. Then run `snakemake "
            "evaluate_duplicates …`"
        )
    return count[number]


def evaluate(config: Config, name: str) -> dict[str, Any]:
    """Measure one experiment both ways over all its seeds, write the JSON and return it."""
    paths, settings = config.paths, config.eval
    record = settled(config)
    tests: TestVideos | None = None
    embeddings: list[str] = []
    by_seed: dict[tuple[str, str], list[Summary]] = {(direction, way): [] for direction in DIRECTIONS for way in WAYS}
    for training in runs(config, name):
        test, _ = load_test(config, name, training)
        embeddings.append(test.record["digest"])
        audio, video, _ = test.level("video")
        group = read_groups(paths.duplicates_table, test.table["row"].to_numpy())
        tests = TestVideos(test.groups, positives_of(group))
        strict = ranks(audio, video, unit=test.unit)
        sides = ((audio, video, test.unit), (video, audio, test.unit[::-1]))
        for direction, own, (queries, candidates, unit) in zip(DIRECTIONS, strict, sides, strict=True):
            every = all_ranks(queries, candidates, own, group, unit)
            for way, rank in zip(WAYS, (own, every), strict=True):
                values = resampled_metrics(rank, test.groups, settings.bootstrap, settings.seed)
                by_seed[direction, way].append(Summary(summary(rank), values))
    assert tests is not None, "heads.seeds has at least one seed"
    size = len(tests.groups)
    results: list[dict[str, Any]] = []
    for direction in DIRECTIONS:
        line: dict[str, Any] = {"direction": direction}
        for way in WAYS:
            levels = chance(size) if way == "strict" else chance_levels(size, tests.positives)
            line[way] = _metrics(by_seed[direction, way], tests.groups, levels)
        results.append(line)
    written = {
        "experiment": name,
        "seeds": config.heads.seeds,
        "embeddings": embeddings,
        "on": record["on"],
        "threshold": record["threshold"],
        "duplicates": hashlib.sha256(paths.duplicates_table.read_bytes()).hexdigest(),
        "gallery": size,
        "videos": int((tests.positives > 1).sum()),
        "results": results,
    }
    write_json(paths.eval(name) / "duplicates.json", written)
    return written


def _metrics(by_seed: list[Summary], groups: np.ndarray, levels: dict[str, float]) -> dict[str, dict[str, float]]:
    """Return every metric's mean over the seeds, with its interval over groups and its chance level."""
    interval = metric_intervals(np.mean([seed.resampled for seed in by_seed], axis=0), len(np.unique(groups)))
    return {
        name: {
            "value": float(np.mean([seed.values[name] for seed in by_seed])),
            "low": interval[name][0],
            "high": interval[name][1],
            "chance": levels[name],
        }
        for name in METRICS
    }


def main() -> None:
    """Run the command line."""
    arguments = experiment_parser(__doc__, "eval.duplicates").parse_args()
    torch.set_num_threads(arguments.threads)
    written = evaluate(read(arguments.config), arguments.experiment)
    log.info("%d of %d test videos have a duplicate in the test split", written["videos"], written["gallery"])
    for line in written["results"]:
        strict, lenient = (line[way]["recall_at_10"]["value"] for way in WAYS)
        log.info("%s: R@10 %.1f %%, with duplicates %.1f %%", line["direction"], 100 * strict, 100 * lenient)


if __name__ == "__main__":
    run(main)
