"""Cross-modal retrieval on the test split: whose pictures belong to this sound, and the reverse.

Reads the manifest, the plan and an experiment's embeddings. Writes eval/EXPERIMENT/retrieval.json: for segments and for
whole videos, in both directions, over the full test split and (where that is larger) over drawn galleries of
`eval.gallery` items as in the paper: the true ranks' summary with 95 % intervals, what chance would give, a
histogram, and the published code's formula beside them, which is not a rank (eval/published.py).
A video's embedding is the mean of its segments' unit vectors, scaled to unit length.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from config.cli import UserError, experiment_parser, run
from config.files import write_json
from config.model import Config, read
from config.paths import Paths
from data.manifest import read_manifest
from eval.bootstrap import intervals
from eval.published import LARGEST, NAME, published_formula
from eval.ranks import chance, histogram, ranks, summary, unit_rows
from heads.embed import load_embeddings
from heads.runs import runs
from pipeline.store import Features, open_features

log = logging.getLogger("retrieval")
DRAWS = 20
"""Galleries drawn where the test split is larger than `eval.gallery`."""
DIRECTIONS = ("audio_to_video", "video_to_audio")


@dataclass(frozen=True)
class TestSet:
    """The test videos that both backbones could read.

    `table` is their part of the manifest, `audio` and `video` are float16 [videos, segments, embedding] in its order;
    `total` counts the split's videos, readable or not; `record` is that of the embeddings.
    """

    __test__ = False  # not for pytest

    table: pa.Table
    audio: np.ndarray
    video: np.ndarray
    total: int
    record: dict[str, Any]

    def level(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sound and pictures [items, embedding] and the video of each item, int [items], for `segment` or `video`."""
        if name == "video":
            return pooled(self.audio), pooled(self.video), np.arange(len(self.audio))
        good = both(self.audio, self.video)
        return self.audio[good], self.video[good], np.nonzero(good)[0]


def both(audio: np.ndarray, video: np.ndarray) -> np.ndarray:
    """Which segments have both sides, bool [videos, segments]: all, unless `decoding.partial` kept damaged videos."""
    return ~(np.isnan(audio[:, :, 0]) | np.isnan(video[:, :, 0]))


def pooled(segments: np.ndarray) -> np.ndarray:
    """[videos, segments, d] → [videos, d] float64: the mean of each video's unit vectors, scaled to unit length."""
    known = ~np.isnan(segments[:, :, 0])
    units = np.zeros(segments.shape)
    units[known] = unit_rows(segments[known])
    return unit_rows(units.sum(axis=1) / known.sum(axis=1, keepdims=True))


def load_test(config: Config, name: str) -> tuple[TestSet, Features]:
    """The test split's embeddings and the open cache. UserError if anything is missing, of other keys, or too small."""
    first, *_ = runs(config, name)
    paths = Paths(Path(config.results))
    view, table = open_features(paths), read_manifest(paths.manifest)
    sides = (config.heads.audio, config.heads.video)
    valid = view.valid(sides[0]) & view.valid(sides[1])
    row = table["row"].to_numpy()
    if len(row) > len(valid):
        raise UserError(f"{paths.manifest} has {len(row)} videos, the cache {len(valid)}; run `snakemake extract …`")
    test = np.array([split == "test" for split in table["split"].to_pylist()], dtype=bool)
    chosen = np.flatnonzero(test & valid[row])
    _check(int(test.sum()), len(chosen))
    found = load_embeddings(first, row[chosen], {side: view.key(side) for side in sides})
    paired = both(found.audio, found.video).any(axis=1)
    chosen, audio, video = chosen[paired], found.audio[paired], found.video[paired]
    _check(int(test.sum()), len(chosen))
    return TestSet(table.take(pa.array(chosen)), audio, video, int(test.sum()), found.record), view


def _check(total: int, usable: int) -> None:
    """UserError unless there are at least two test videos to rank."""
    if usable < 2:
        raise UserError(
            f"the test split has {total} videos, of which {usable} have features of both backbones; a "
            "ranking needs at least 2. Add videos, or give `splits.test` a larger share."
        )


def evaluate(test: TestSet, gallery: int, resamples: int, seed: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Every entry of the JSON's `results`, and its `notes`. See `entry`."""
    results, notes = [], []
    for level in ("segment", "video"):
        audio, video, owner = test.level(level)
        galleries = [np.arange(len(owner))[None]]
        if len(owner) > gallery:
            galleries.append(draw(len(owner), gallery, seed))
        else:
            notes.append(
                f"no galleries of {gallery} {level}s were drawn: the test split has {len(owner)}, "
                "so the full gallery is the only one"
            )
        for items in galleries:
            found = [ranks(audio[chosen], video[chosen]) for chosen in items]
            for number, direction in enumerate(DIRECTIONS):
                sides = (audio, video) if number == 0 else (video, audio)
                formula = None
                if items.shape[1] <= LARGEST:
                    each = [np.median(published_formula(sides[0][chosen], sides[1][chosen])) for chosen in items]
                    formula = float(np.mean(each))
                rank = np.concatenate([pair[number] for pair in found])
                results.append(
                    {"level": level, "direction": direction, "gallery": "full" if len(items) == 1 else "drawn"}
                    | entry(rank, owner[items].ravel(), items.shape[1], len(items), resamples, seed)
                    | {"published_formula": formula}
                )
        if len(owner) > LARGEST:
            notes.append(f"the published formula was left out for the full gallery of {len(owner)} {level}s: too many")
    return results, notes


def draw(items: int, gallery: int, seed: int) -> np.ndarray:
    """Galleries drawn at random: item numbers int64 [DRAWS, gallery], none twice in one gallery."""
    rng = np.random.default_rng(np.random.SeedSequence([seed % 2**64, items]))
    return np.stack([rng.choice(items, size=gallery, replace=False) for _ in range(DRAWS)])


def entry(rank: np.ndarray, owner: np.ndarray, size: int, draws: int, resamples: int, seed: int) -> dict[str, Any]:
    """One measured ranking as JSON. `rank` float [draws · size] of all galleries together, `owner` the video of each.

    For each of `metrics`: `value`, `low` and `high` (95 % bootstrap interval over videos), `chance`.
    `better_than_chance`: the whole interval of the median rank lies below the chance level. `histogram`: counts of the
    rank's share of the gallery in 20 bins; `histogram_chance`: what a guess would give (uneven in a small gallery).
    """
    value, interval, guess = summary(rank), intervals(rank, owner, resamples, seed), chance(size)
    metrics = {
        name: {"value": value[name], "low": interval[name][0], "high": interval[name][1], "chance": guess[name]}
        for name in value
    }
    return {
        "size": size,
        "draws": draws,
        "queries": len(rank),
        "metrics": metrics,
        "better_than_chance": metrics["median"]["high"] < metrics["median"]["chance"],
        "histogram": histogram(rank, size),
        "histogram_chance": [count * len(rank) / size for count in histogram(np.arange(1.0, size + 1), size)],
    }


def retrieval(config: Config, name: str) -> dict[str, Any]:
    """Evaluate one experiment and write its JSON; returns it."""
    test, _ = load_test(config, name)
    e = config.eval
    results, notes = evaluate(test, e.gallery, e.bootstrap, e.seed)
    written = {
        "experiment": name,
        "keys": test.record["keys"],
        "random_weights": test.record["random_weights"],
        "embeddings": test.record["digest"],
        "seed": e.seed,
        "bootstrap": e.bootstrap,
        "test_videos": test.total,
        "test_videos_valid": test.table.num_rows,
        "segments": test.audio.shape[1],
        "published_formula": f"median of {NAME}, which is not a rank: see eval/published.py",
        "notes": notes,
        "results": results,
    }
    write_json(Paths(Path(config.results)).eval(name) / "retrieval.json", written)
    return written


def main() -> None:
    args = experiment_parser(__doc__, "eval.retrieval").parse_args()
    torch.set_num_threads(args.threads)
    for r in retrieval(read(args.config), args.experiment)["results"]:
        median = r["metrics"]["median"]
        log.info(
            "%s %s, gallery of %d: median rank %.1f [%.1f, %.1f], chance %.1f",
            *(r["level"], r["direction"], r["size"], median["value"], median["low"], median["high"], median["chance"]),
        )


if __name__ == "__main__":
    run(main)
