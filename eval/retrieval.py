"""Cross-modal retrieval on the test split: find the video that belongs to an audio query, and the reverse.

Reads the manifest, the plan and an experiment's embeddings, one seed after the other. Writes into eval/EXPERIMENT/:
  retrieval.json         for segments and for whole videos, which are different tables, in both directions, over the
                         full test split and (where that has more) over drawn galleries of `eval.galleries` videos, of
                         1,000 as in the paper: the metrics of the true ranks (heads/metrics.py), their chance levels, a
                         histogram, and for video → audio the published code's formula, which is not a rank
                         (eval/published.py)
  retrieval.safetensors  the bootstrap's values for the full galleries, of which eval/compare.py takes differences: for
                         each level and direction [resamples, metrics], columns in the order of the JSON's `metrics`
Values are means over the seeds, with two 95 % intervals: by bootstrap over groups (data/groups.py) and by Student's t
over the seeds. A video's embedding is the mean of its segments' unit vectors, scaled to unit length; with `normalise:
false` it is the mean of the segments' vectors as they are, and items are compared by dot products. A drawn gallery of
segments has one of each video, at random, so that no two segments of one video compete; the paper's code takes the
first. The full gallery has all segments.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from safetensors.numpy import save_file

from config.cli import UserError, experiment_parser, run
from config.files import replacing, write_json
from config.model import Config, read
from data.groups import group_numbers
from eval.bootstrap import few_groups, resampled_metrics
from eval.published import LARGEST, NAME, published_formula
from eval.rankings import Key, Ranking, entry
from eval.ranks import DIRECTIONS, UNIT, ranks, unit_rows
from heads.embed import load_embeddings
from heads.features import mark_damaged
from heads.runs import Run, runs
from pipeline.features import Features, good_segments, open_features, segment_mean
from pipeline.shards import Shards

log = logging.getLogger("retrieval")
DRAWS = 20
"""Galleries drawn of each of `eval.galleries` that is smaller than the test split."""
BLOCK = 4096
"""Videos pooled at a time."""
LEVELS = ("segment", "video")
PUBLISHED = "video_to_audio"
"""The direction of the published code's number: it prints it for both."""


@dataclass(frozen=True)
class TestSet:
    """The test videos that the backbones of all experiments could read.

    `table` is their part of the manifest, `audio` and `video` are float16 [videos, segments, embedding] in its order;
    `total` counts the split's videos, readable or not; `record` is that of the embeddings; `unit`: whether audio and
    video are unit vectors.
    """

    __test__ = False  # not for pytest

    table: pa.Table
    audio: np.ndarray
    video: np.ndarray
    total: int
    record: dict[str, Any]
    unit: tuple[bool, bool] = UNIT

    @property
    def groups(self) -> np.ndarray:
        """Groups of the videos, numbered from 0: int64 [videos]."""
        return group_numbers(self.table)

    def level(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return audio and video [items, embedding] and each item's video, int [items], for `segment` or `video`."""
        if name == "video":
            audio, video = (pool(one, unit) for one, unit in zip((self.audio, self.video), self.unit, strict=True))
            return audio, video, np.arange(len(self.audio))
        good = good_segments(self.audio, self.video)
        return self.audio[good], self.video[good], np.nonzero(good)[0]


def mean_unit(segments: np.ndarray) -> np.ndarray:
    """Pool [videos, segments, d] to [videos, d] float64: mean of each video's unit vectors, scaled to unit length."""
    pooled = np.empty((len(segments), segments.shape[2]))
    for start in range(0, len(segments), BLOCK):
        block = segments[start : start + BLOCK]
        good = good_segments(block)
        units = np.zeros(block.shape)
        units[good] = unit_rows(block[good])
        pooled[start : start + BLOCK] = unit_rows(segment_mean(units, good, np.float64))
    return pooled


def pool(segments: np.ndarray, unit: bool) -> np.ndarray:
    """Pool [videos, segments, d] to [videos, d] float64: `mean_unit`, or without `unit` the mean of what is there."""
    return mean_unit(segments) if unit else segment_mean(segments, good_segments(segments), np.float64)


def load_test(config: Config, name: str, training: Run | None = None) -> tuple[TestSet, Features]:
    """Return the test split's embeddings by one of the experiment's runs (default: the first), and the open cache.

    UserError if anything is missing, of other keys, or too small.
    """
    training = training or runs(config, name)[0]
    paths = config.paths
    view = open_features(paths)
    table = view.manifest()
    test = view.rows("test")
    # Of every experiment, so that all of them rank the same gallery.
    chosen = test[view.valid(*config.used_backbones)[test]]
    _check(len(test), len(chosen))
    keys = {backbone: view.key(backbone) for backbone in config.sides(name).backbones}
    embedded = load_embeddings(training, chosen, keys)
    good = np.ones((view.videos, view.segments), bool)
    for backbone in config.used_backbones:
        mark_damaged(paths, backbone, Shards.open(paths.features / backbone), config.shard_videos, good)
    embedded.audio[~good[chosen]] = np.nan
    paired = good_segments(embedded.audio, embedded.video).any(axis=1)
    chosen, audio, video = chosen[paired], embedded.audio[paired], embedded.video[paired]
    _check(len(test), len(chosen))
    unit = config.experiment(name).unit
    return TestSet(table.take(pa.array(chosen)), audio, video, len(test), embedded.record, unit), view


def _check(total: int, usable: int) -> None:
    """Raise UserError unless there are at least two test videos to rank."""
    if usable < 2:
        raise UserError(
            f"the test split has {total} videos, of which {usable} have features of all backbones; a "
            "ranking needs at least 2. Add videos, or give `splits.test` a larger share."
        )


def collect(test: TestSet, galleries: list[int], seed: int, rankings: dict[Key, Ranking]) -> None:
    """Rank one training's test embeddings and add the ranks to `rankings`."""
    groups = test.groups
    for level in LEVELS:
        audio, video, owner = test.level(level)
        group = groups[owner]
        chosen_items = [("full", np.arange(len(owner))[None])]
        chosen_items += [("drawn", draw(owner, size, seed)) for size in galleries if fits(size, owner)]
        for kind, items in chosen_items:
            pairs = [ranks(audio[chosen], video[chosen], unit=test.unit) for chosen in items]
            size = items.shape[1]
            for number, direction in enumerate(DIRECTIONS):
                new = Ranking(group[items].ravel(), size, [], [])
                ranking = rankings.setdefault((level, direction, kind, size), new)
                ranking.ranks.append(np.concatenate([pair[number] for pair in pairs]))
                if direction == PUBLISHED and size <= LARGEST:
                    medians = [np.median(published_formula(video[chosen], audio[chosen])) for chosen in items]
                    ranking.formula.append(float(np.mean(medians)))


def notes_on(rankings: dict[Key, Ranking], galleries: list[int], videos: int, groups: int) -> list[str]:
    """Return sentences on what is wrong with so few test videos and groups, and on what was left out."""
    notes = few_groups(groups, "the test split")
    drawn = {key[3] for key in rankings if key[2] == "drawn"}
    missing = [str(size) for size in galleries if size not in drawn]
    if missing:
        only = "" if drawn else ", so the full gallery is the only one"
        sizes = " or ".join(missing)
        notes.append(f"no galleries of {sizes} videos were drawn: the test split has {videos}{only}")
    for level in LEVELS:
        full = next(ranking for key, ranking in rankings.items() if key[:3] == (level, PUBLISHED, "full"))
        if not full.formula:
            notes.append(f"the published formula was left out for the full gallery of {full.size} {level}s: too many")
    return notes


def fits(gallery: int, owner: np.ndarray) -> bool:
    """Return whether galleries of so many videos are drawn from items of the videos `owner`, int [items].

    There must be so many videos, and another gallery than the full one.
    """
    return gallery < len(owner) and gallery <= len(np.unique(owner))


def draw(owner: np.ndarray, gallery: int, seed: int) -> np.ndarray:
    """Draw galleries of one item of each of `gallery` videos: item numbers int64 [DRAWS, gallery].

    `owner` int [items], ascending, is the video of each item. Videos are drawn first, then an item of each, all with
    equal chances; no video stands twice in one gallery.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, len(owner)]))
    _, first, count = np.unique(owner, return_index=True, return_counts=True)
    videos = np.stack([rng.choice(len(first), size=gallery, replace=False) for _ in range(DRAWS)])
    return np.asarray(first[videos] + rng.integers(count[videos]))


def retrieval(config: Config, name: str) -> dict[str, Any]:
    """Evaluate one experiment over all its seeds, write its files, and return the JSON."""
    settings, rankings, records = config.eval, dict[Key, Ranking](), []
    for training in runs(config, name):
        test, _ = load_test(config, name, training)
        records.append(test.record)
        collect(test, settings.galleries, settings.seed, rankings)
    groups = len(np.unique(test.groups))
    tensors, results = {"rows": test.table["row"].to_numpy().copy()}, []
    for (level, direction, kind, _), ranking in rankings.items():
        by_seed = [resampled_metrics(rank, ranking.group, settings.bootstrap, settings.seed) for rank in ranking.ranks]
        values = np.mean(by_seed, axis=0)
        results.append({"level": level, "direction": direction, "gallery": kind, **entry(ranking, values)})
        if kind == "full":
            tensors[f"{level}/{direction}"] = values
    written = {
        "experiment": name,
        "keys": records[0]["keys"],
        "random_weights": records[0]["random_weights"],
        "seeds": config.heads.seeds,
        "embeddings": [record["digest"] for record in records],
        "seed": settings.seed,
        "bootstrap": settings.bootstrap,
        "test_videos": test.total,
        "test_videos_valid": test.table.num_rows,
        "test_groups": groups,
        "segments": test.audio.shape[1],
        "published_formula": f"median of {NAME}, video → audio, which is not a rank: see eval/published.py",
        "notes": notes_on(rankings, settings.galleries, test.table.num_rows, groups),
        "results": results,
    }
    folder = config.paths.eval(name)
    with replacing(folder / "retrieval.safetensors") as temporary:
        save_file(tensors, temporary)
    write_json(folder / "retrieval.json", written)
    return written


def main() -> None:
    """Run the command line."""
    arguments = experiment_parser(__doc__, "eval.retrieval").parse_args()
    torch.set_num_threads(arguments.threads)
    for ranked in retrieval(read(arguments.config), arguments.experiment)["results"]:
        median = ranked["metrics"]["median"]
        log.info(
            "%s %s, gallery of %d: median rank %.1f [%.1f, %.1f], chance %.1f",
            *(
                ranked["level"],
                ranked["direction"],
                ranked["size"],
                median["value"],
                median["low"],
                median["high"],
                median["chance"],
            ),
        )


if __name__ == "__main__":
    run(main)
