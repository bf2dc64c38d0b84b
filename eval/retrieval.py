"""Cross-modal retrieval on the test split: whose pictures belong to this sound, and the reverse.

Reads the manifest, the plan and an experiment's embeddings, one seed after the other. Writes into eval/EXPERIMENT/:
  retrieval.json         for segments and for whole videos, which are different tables, in both directions, over the
                         full test split and (where that is larger) over drawn galleries of `eval.gallery` items as in
                         the paper: the true ranks' summary, what chance would give, a histogram, and the published
                         code's formula beside them, which is not a rank (eval/published.py)
  retrieval.safetensors  the bootstrap's values for the full galleries, of which eval/compare.py takes differences
Values are means over the seeds, with two 95 % intervals: by bootstrap over videos and by Student's t over the seeds.
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
from safetensors.numpy import save_file

from config.cli import UserError, experiment_parser, run
from config.files import replacing, write_json
from config.model import Config, read
from config.paths import Paths
from data.manifest import read_manifest
from eval.bootstrap import resampled
from eval.published import LARGEST, NAME, published_formula
from eval.rankings import Key, Ranking, entry
from eval.ranks import ranks, unit_rows
from heads.embed import load_embeddings
from heads.runs import Run, runs
from pipeline.features import Features, open_features

log = logging.getLogger("retrieval")
DRAWS = 20
"""Galleries drawn where the test split is larger than `eval.gallery`."""
BLOCK = 4096
"""Videos pooled at a time."""
LEVELS = ("segment", "video")
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
            return mean_unit(self.audio), mean_unit(self.video), np.arange(len(self.audio))
        good = both(self.audio, self.video)
        return self.audio[good], self.video[good], np.nonzero(good)[0]


def both(audio: np.ndarray, video: np.ndarray) -> np.ndarray:
    """Which segments have both sides, bool [videos, segments]: all, unless `decoding.partial` kept damaged videos."""
    return ~(np.isnan(audio[:, :, 0]) | np.isnan(video[:, :, 0]))


def mean_unit(segments: np.ndarray) -> np.ndarray:
    """[videos, segments, d] → [videos, d] float64: the mean of each video's unit vectors, scaled to unit length."""
    found = np.empty((len(segments), segments.shape[2]))
    for at in range(0, len(segments), BLOCK):
        block = segments[at : at + BLOCK]
        known = ~np.isnan(block[:, :, 0])
        units = np.zeros(block.shape)
        units[known] = unit_rows(block[known])
        found[at : at + BLOCK] = unit_rows(units.sum(axis=1) / known.sum(axis=1, keepdims=True))
    return found


def load_test(config: Config, name: str, training: Run | None = None) -> tuple[TestSet, Features]:
    """The test split's embeddings by one of the experiment's trainings (default: the first), and the open cache.

    UserError if anything is missing, of other keys, or too small.
    """
    training = training or runs(config, name)[0]
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
    found = load_embeddings(training, row[chosen], {side: view.key(side) for side in sides})
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


def collect(test: TestSet, gallery: int, seed: int, found: dict[Key, Ranking]) -> None:
    """Rank one training's test embeddings and add the ranks to `found`."""
    for level in LEVELS:
        audio, video, owner = test.level(level)
        drawn = {"full": np.arange(len(owner))[None]}
        if len(owner) > gallery:
            drawn["drawn"] = draw(len(owner), gallery, seed)
        for kind, items in drawn.items():
            pairs = [ranks(audio[chosen], video[chosen]) for chosen in items]
            for number, direction in enumerate(DIRECTIONS):
                size = items.shape[1]
                into = found.setdefault((level, direction, kind), Ranking(owner[items].ravel(), size, [], []))
                into.ranks.append(np.concatenate([pair[number] for pair in pairs]))
                if size <= LARGEST:
                    sides = (audio, video) if number == 0 else (video, audio)
                    each = [np.median(published_formula(sides[0][chosen], sides[1][chosen])) for chosen in items]
                    into.formula.append(float(np.mean(each)))


def notes_on(found: dict[Key, Ranking], gallery: int) -> list[str]:
    """What was left out, and why."""
    notes = []
    for level in LEVELS:
        full = found[level, DIRECTIONS[0], "full"]
        if (level, DIRECTIONS[0], "drawn") not in found:
            notes.append(
                f"no galleries of {gallery} {level}s were drawn: the test split has {full.size}, "
                "so the full gallery is the only one"
            )
        if not full.formula:
            notes.append(f"the published formula was left out for the full gallery of {full.size} {level}s: too many")
    return notes


def draw(items: int, gallery: int, seed: int) -> np.ndarray:
    """Galleries drawn at random: item numbers int64 [DRAWS, gallery], none twice in one gallery."""
    rng = np.random.default_rng(np.random.SeedSequence([seed % 2**64, items]))
    return np.stack([rng.choice(items, size=gallery, replace=False) for _ in range(DRAWS)])


def retrieval(config: Config, name: str) -> dict[str, Any]:
    """Evaluate one experiment with all its seeds and write its files; returns the JSON."""
    e, found, records = config.eval, dict[Key, Ranking](), []
    for training in runs(config, name):
        test, _ = load_test(config, name, training)
        records.append(test.record)
        collect(test, e.gallery, e.seed, found)
    tensors, results = {"rows": test.table["row"].to_numpy().copy()}, []
    for (level, direction, kind), ranking in found.items():
        each = [resampled(rank, ranking.owner, e.bootstrap, e.seed) for rank in ranking.ranks]
        values = np.mean(each, axis=0)
        results.append({"level": level, "direction": direction, "gallery": kind, **entry(ranking, values)})
        if kind == "full":
            tensors[f"{level}/{direction}"] = values
    written = {
        "experiment": name,
        "keys": records[0]["keys"],
        "random_weights": records[0]["random_weights"],
        "seeds": config.heads.seeds,
        "embeddings": [record["digest"] for record in records],
        "seed": e.seed,
        "bootstrap": e.bootstrap,
        "test_videos": test.total,
        "test_videos_valid": test.table.num_rows,
        "segments": test.audio.shape[1],
        "published_formula": f"median of {NAME}, which is not a rank: see eval/published.py",
        "notes": notes_on(found, e.gallery),
        "results": results,
    }
    folder = Paths(Path(config.results)).eval(name)
    with replacing(folder / "retrieval.safetensors") as temporary:
        save_file(tensors, temporary)
    write_json(folder / "retrieval.json", written)
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
