"""Which pooling of segments retrieves best, and what inconsistent segments do to each.

Reads study/aggregation/trained.safetensors and the cache's features of the test videos. Writes study/aggregation.json.
All values are of whole test videos ranked against one another, true ranks with the middle rank for ties; means over the
seeds and, unless a table says otherwise, over both directions. Differences are paired: the same resampled videos.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from config.cli import parser, run
from config.model import Config, read
from config.paths import Paths
from eval.bootstrap import ends, resampled
from eval.compare import difference
from eval.ranks import chance, ranks, summary
from eval.seeds import mean_interval
from eval.study import inconsistency
from eval.study.aggregation_words import findings, limits, method
from eval.study.answer import Answer, Row, write_answer
from heads.study.aggregation import PART, WAYS, inconsistent, load_splits, name_of
from heads.study.pieces import Trained, read_trained
from heads.study.segments import Segments

DIRECTIONS = ("audio_to_video", "video_to_audio")
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


class Measured:
    """One way of pooling at one inconsistency: its ranks by all seeds, and their bootstrap."""

    def __init__(self, pairs: list[tuple[np.ndarray, np.ndarray]], config: Config) -> None:
        """pairs: for each seed the ranks of both directions, float64 [videos] each."""
        self.pairs, self.size = pairs, len(pairs[0][0])
        owner = np.arange(self.size)
        # [directions][resamples, statistics], the mean over seeds.
        self.values = [
            np.mean([resampled(pair[d], owner, config.eval.bootstrap, config.eval.seed) for pair in pairs], axis=0)
            for d in range(2)
        ]
        self.each = [[summary(pair[d]) for pair in pairs] for d in range(2)]

    def resampled(self, direction: int | None = None) -> np.ndarray:
        """[resamples, statistics] of one direction or, by default, the mean of both."""
        return np.mean(self.values, axis=0) if direction is None else self.values[direction]

    def seeds(self, metric: str, direction: int | None = None) -> list[float]:
        """A metric's value by each seed."""
        chosen = self.each if direction is None else [self.each[direction]]
        return np.mean([[one[metric] for one in each] for each in chosen], axis=0).tolist()

    def row(self, direction: int | None = None) -> Row:
        """Each metric with its intervals over videos and over seeds, and what guessing gives."""
        found: Row = {"gallery": self.size}
        interval, guess = ends(self.resampled(direction)), chance(self.size)
        for metric in METRICS:
            seeds = self.seeds(metric, direction)
            found[metric] = float(np.mean(seeds))
            found[f"{metric}_low"], found[f"{metric}_high"] = interval[metric]
            found[f"{metric}_seeds_low"], found[f"{metric}_seeds_high"] = mean_interval(seeds) or (None, None)
            found[f"{metric}_chance"] = guess[metric]
        return found

    def hardness(self) -> np.ndarray:
        """Each video's mean logarithm of its rank over seeds and directions, float64 [videos]."""
        return np.mean([np.log(rank) for pair in self.pairs for rank in pair], axis=0)


def against(one: Measured, base: Measured, comparisons: int) -> list[Row]:
    """Differences one - base of each metric; `low` and `high` hold for all `comparisons` at once (Bonferroni)."""
    paired = ends(one.resampled() - base.resampled(), 1 - 0.05 / comparisons)
    found = []
    for metric in METRICS:
        line = difference(metric, one.seeds(metric), base.seeds(metric), paired[metric])
        found.append(line | {"better": {"a": "this", "b": BASELINE, None: None}[line["better"]]})
    return found


def measure(config: Config, trained: Trained) -> dict[tuple[str, int], Measured]:
    """Every way of pooling at every inconsistency."""
    tensors, found = trained.tensors, {}
    for replaced in config.study.aggregation.replaced:
        for way in WAYS:
            names = [name_of(way, replaced, seed) for seed in config.study.seeds]
            pairs = [ranks(tensors[f"{n}/audio"].numpy(), tensors[f"{n}/video"].numpy()) for n in names]
            found[way, replaced] = Measured(pairs, config)
    return found


def pooling_rows(config: Config, measured: dict[tuple[str, int], Measured], facts: dict[str, Any]) -> list[Row]:
    """A row for each pooling, on the videos as they are."""
    rows = []
    for way in WAYS:
        each = [facts[name_of(way, 0, seed)] for seed in config.study.seeds]
        one = {key: each[0][key] for key in ("parameters", "pooling_parameters", "steps")}
        epoch = float(np.mean([e["epoch"] for e in each]))
        rows.append({"pooling": NAMES[way], **one, "best_epoch": epoch, **measured[way, 0].row()})
    return rows


def inconsistency_rows(config: Config, splits: dict[str, Segments]) -> tuple[list[Row], dict[str, np.ndarray]]:
    """The test videos' inconsistency on each side, and of the pictures with others'; and each video's, by side."""
    scales, rows, videos = splits["train"].standardise(), [], {}
    e, good = config.eval, splits["test"].good.numpy()
    for replaced in config.study.aggregation.replaced:
        changed = inconsistent(splits, "test", replaced)
        for side, scale in zip(("audio", "video"), scales, strict=True):
            if side == "audio" and replaced:
                continue  # only pictures are replaced
            features = scale(getattr(changed, side).flatten(0, 1)).unflatten(0, good.shape).numpy()
            within, between = inconsistency.distances(features, good)
            if not replaced:
                videos[side] = within
            alike, unlike = inconsistency.cosines(features, good)
            rows.append(
                {"side": side, "replaced": replaced, **inconsistency.ratio(within, between, e.bootstrap, e.seed)}
                | {"cosine_within": alike, "cosine_between": unlike}
            )
    return rows, videos


def answer(config: Config) -> Answer:
    """Measure and put the answer together."""
    trained = read_trained(config, PART)
    measured = measure(config, trained)
    splits, shares = load_splits(config), config.study.aggregation.replaced
    consistency, videos = inconsistency_rows(config, splits)
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
            {"pooling": NAMES[way], "side": side}
            | inconsistency.spearman(each, measured[way, 0].hardness(), config.eval.bootstrap, config.eval.seed)
            for way in WAYS
            for side, each in videos.items()
        ],
    }
    for name in ("differences", "degradation_differences"):
        tables[name].sort(key=lambda row: METRICS.index(row["metric"]))  # the page shows the first rows only
    return Answer(
        part=PART,
        title="Pooling segments into a video",
        question="How should the segments of a video become one vector, and does within-video inconsistency matter?",
        findings=findings(tables),
        method=method(config, {split: len(s.rows) for split, s in splits.items()}),
        limits=limits(config, tables),
        random_weights=[name for name, random in trained.same["random_weights"].items() if random],
        seeds=config.study.seeds,
        command="python -m eval.study.aggregation --config RESULTS/config.json",
        tables=tables,
    )


def main() -> None:
    """Command line."""
    args = parser(__doc__, "eval.study.aggregation", "cores to use").parse_args()
    torch.set_num_threads(args.threads)
    config = read(args.config)
    write_answer(Paths(Path(config.results)), answer(config))


if __name__ == "__main__":
    run(main)
