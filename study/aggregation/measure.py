"""Measure which pooling of segments retrieves best, and how inconsistent segments affect each.

Reads study/aggregation/trained.safetensors and the cache's features of the test videos. Writes study/aggregation.json.
All values are of whole test videos ranked against one another, with the middle rank for ties. They are means over the
seeds and, unless a table says otherwise, over both directions. Differences are paired: both on the same resamples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from config.cli import parser, run
from config.model import Config, read
from eval.bootstrap import few_groups, metric_intervals, resampled_metrics
from eval.compare import difference
from eval.ranks import DIRECTIONS, ranks
from eval.seeds import mean_interval
from heads.metrics import chance, summary
from study.aggregation import inconsistency
from study.aggregation.text import findings, limits, method
from study.aggregation.train import PART, WAYS, inconsistent, load_splits, name_of
from study.answer import Answer, Row, sentences, write_answer
from study.groups import groups_of_rows
from study.segments import PairedSegments
from study.trainings import Trained, read_trained

METRICS = ("mrr", "recall_at_10", "median")
BASELINE = "mean"
NAMES = {
    "after": "mean after training",
    "after_one": "mean after (one segment)",
    "mean": "mean",
    "max": "max",
    "learned": "learned weights",
    "attention": "attention",
    "hierarchical": "hierarchical",
    "transformer": "transformer",
    "mean_layer": "mean + layer",
}


class MeasuredPooling:
    """Ranks of one pooling at one number of replaced segments, for all seeds, and their bootstrap."""

    def __init__(self, pairs: list[tuple[np.ndarray, np.ndarray]], groups: np.ndarray, config: Config) -> None:
        """Resample `pairs`: for each seed the ranks of both directions, float64 [videos] each; `groups` int
        [videos]."""
        self.pairs, self.size, self.groups = pairs, len(pairs[0][0]), len(np.unique(groups))
        # [directions][resamples, statistics], the mean over seeds.
        self.values = [
            np.mean(
                [resampled_metrics(pair[direction], groups, config.eval.bootstrap, config.eval.seed) for pair in pairs],
                axis=0,
            )
            for direction in range(2)
        ]
        self.summaries = [[summary(pair[direction]) for pair in pairs] for direction in range(2)]

    def resampled(self, direction: int | None = None) -> np.ndarray:
        """Return float64 [resamples, statistics] of one direction or, by default, the mean of both."""
        return np.mean(self.values, axis=0) if direction is None else self.values[direction]

    def seeds(self, metric: str, direction: int | None = None) -> list[float]:
        """Return a metric's value for each seed, of one direction or, by default, the mean of both."""
        directions = self.summaries if direction is None else [self.summaries[direction]]
        return np.mean([[of_seed[metric] for of_seed in seeds] for seeds in directions], axis=0).tolist()

    def row(self, direction: int | None = None) -> Row:
        """Return each metric with its intervals over groups and over seeds, and its chance level."""
        row: Row = {"gallery": self.size}
        intervals, by_chance = metric_intervals(self.resampled(direction), self.groups), chance(self.size)
        for metric in METRICS:
            seeds = self.seeds(metric, direction)
            row[metric] = float(np.mean(seeds))
            row[f"{metric}_low"], row[f"{metric}_high"] = intervals[metric]
            row[f"{metric}_seeds_low"], row[f"{metric}_seeds_high"] = mean_interval(seeds) or (None, None)
            row[f"{metric}_chance"] = by_chance[metric]
        return row

    def hardness(self) -> np.ndarray:
        """Return the mean logarithm of each video's rank over seeds and directions, float64 [videos]."""
        return np.mean([np.log(rank) for pair in self.pairs for rank in pair], axis=0)


def against(pooling: MeasuredPooling, baseline: MeasuredPooling, comparisons: int) -> list[Row]:
    """Return pooling - baseline for each metric; `low` and `high` hold for all `comparisons` at once (Bonferroni)."""
    values = pooling.resampled() - baseline.resampled()
    paired = metric_intervals(values, baseline.groups, 1 - 0.05 / comparisons)
    rows = []
    for metric in METRICS:
        row = difference(metric, pooling.seeds(metric), baseline.seeds(metric), paired[metric])
        rows.append(row | {"better": {"a": "this", "b": BASELINE, None: None}[row["better"]]})
    return rows


def measure(config: Config, trained: Trained, groups: np.ndarray) -> dict[tuple[str, int], MeasuredPooling]:
    """Return every pooling at every number of replaced segments, by both; `groups` int [test videos]."""
    tensors, measured = trained.tensors, {}
    for replaced in config.study.aggregation.replaced:
        for way in WAYS:
            names = [name_of(way, replaced, seed) for seed in config.study.seeds]
            pairs = [ranks(tensors[f"{name}/audio"].numpy(), tensors[f"{name}/video"].numpy()) for name in names]
            measured[way, replaced] = MeasuredPooling(pairs, groups, config)
    return measured


def pooling_rows(config: Config, measured: dict[tuple[str, int], MeasuredPooling], facts: dict[str, Any]) -> list[Row]:
    """Return a row for each pooling, on the videos as they are."""
    rows = []
    for way in WAYS:
        of_seeds = [facts[name_of(way, 0, seed)] for seed in config.study.seeds]
        sizes = {key: of_seeds[0][key] for key in ("parameters", "pooling_parameters", "steps")}
        epoch = float(np.mean([of_seed["epoch"] for of_seed in of_seeds]))
        rows.append({"pooling": NAMES[way], **sizes, "best_epoch": epoch, **measured[way, 0].row()})
    return rows


def inconsistency_rows(
    config: Config, splits: dict[str, PairedSegments], groups: np.ndarray
) -> tuple[list[Row], dict[str, np.ndarray]]:
    """Return the test videos' inconsistency by modality and replaced segments, and each video's own by modality."""
    standardisers, rows, videos = splits["train"].standardisers(), [], {}
    settings, good = config.eval, splits["test"].good.numpy()
    for replaced in config.study.aggregation.replaced:
        changed = inconsistent(splits, "test", replaced)
        for modality, standardise in zip(("audio", "video"), standardisers, strict=True):
            if modality == "audio" and replaced:
                continue  # only video is replaced
            features = torch.unflatten(standardise(getattr(changed, modality).flatten(0, 1)), 0, good.shape).numpy()
            within, between = inconsistency.distances(features, good)
            if not replaced:
                videos[modality] = within
            cosine_within, cosine_between = inconsistency.cosines(features, good)
            rows.append(
                {"side": modality, "replaced": replaced}
                | inconsistency.ratio(within, between, groups, settings.bootstrap, settings.seed)
                | {"cosine_within": cosine_within, "cosine_between": cosine_between}
            )
    return rows, videos


def answer(config: Config) -> Answer:
    """Return the answer, measured on the trained poolings."""
    trained = read_trained(config, PART)
    splits, shares = load_splits(config), config.study.aggregation.replaced
    groups = groups_of_rows(config.paths, splits["test"].rows)
    measured = measure(config, trained, groups)
    consistency, videos = inconsistency_rows(config, splits, groups)
    others = [way for way in WAYS if way != BASELINE]
    base = {replaced: measured[BASELINE, replaced] for replaced in shares}
    tables: dict[str, list[Row]] = {
        "poolings": pooling_rows(config, measured, trained.facts),
        "differences": [
            {"pooling": NAMES[way], **line}
            for way in others
            for line in against(measured[way, 0], base[0], len(others))
        ],
        "degradation": [
            {"pooling": NAMES[way], "replaced": replaced, **measured[way, replaced].row()}
            for way in WAYS
            for replaced in shares
        ],
        "degradation_differences": [
            {"pooling": NAMES[way], "replaced": replaced, **line}
            for way in others
            for replaced in shares
            for line in against(measured[way, replaced], base[replaced], len(others))
        ],
        "directions": [
            {"pooling": NAMES[way], "direction": direction, **measured[way, 0].row(number)}
            for way in WAYS
            for number, direction in enumerate(DIRECTIONS)
        ],
        "inconsistency": consistency,
        "hard_videos": [
            {"pooling": NAMES[way], "side": modality}
            | inconsistency.spearman(
                within, measured[way, 0].hardness(), groups, config.eval.bootstrap, config.eval.seed
            )
            for way in WAYS
            for modality, within in videos.items()
        ],
    }
    for name in ("differences", "degradation_differences"):
        tables[name].sort(key=lambda row: METRICS.index(row["metric"]))  # the page shows the first rows only
    return Answer(
        part=PART,
        title="Pooling segments into a video",
        question="How should the segments of a video become one vector, and does within-video inconsistency matter?",
        findings=findings(tables),
        method=method(config, {split: len(loaded.rows) for split, loaded in splits.items()}),
        limits=limits(config, tables) + sentences(few_groups(len(np.unique(groups)), "the test split")),
        random_weights=[name for name, random in trained.same["random_weights"].items() if random],
        seeds=config.study.seeds,
        command="python -m study.aggregation.measure --config RESULTS/config.json",
        tables=tables,
    )


def main() -> None:
    """Run the command line."""
    arguments = parser(__doc__, "study.aggregation.measure", "cores to use").parse_args()
    torch.set_num_threads(arguments.threads)
    config = read(arguments.config)
    write_answer(config.paths, answer(config))


if __name__ == "__main__":
    run(main)
