"""What lies near what: neighbours of test videos and segments, their labels, a video's own segments, flat maps.

Reads the manifest, the cache, labels/ where these come from other files, and, with --experiment, that experiment's
embeddings (by the first of `heads.seeds`).
Writes eval/EXPERIMENT/neighbours.json, or eval/features/neighbours.json for the backbones' own features:
  galleries    25 videos and 20 segments drawn by `eval.seed`, each with the three nearest by its sound, by its pictures
               and by both (the mean of the two cosines), always of other videos; and between the sides, where its own
               partner may be among them, with the partner's rank
  agreement    how much of genre, tags and artist all videos share with their three nearest, beside chance
  consistency  how alike a video's own segments are, beside segments of other videos
  maps         principal components of whole videos (and UMAP where it is installed)
Features of two networks have no common space, so there are no neighbours between the sides of features. They are
compared after their mean over the videos is taken away: raw ones are not negative, and all nearly parallel.
Of a larger test split, `MOST` videos drawn by `eval.seed` stand for all.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from config.cli import parser, run
from config.files import write_json
from config.labels import FEATURES
from config.model import Config, read
from config.paths import Paths
from data.labels import read_labels
from data.manifest import read_manifest
from eval.maps import maps
from eval.ranks import ranks
from eval.retrieval import both, load_test, mean_unit
from eval.similarity import ACROSS, Items, Label, agreement, consistency, nearest
from pipeline.features import open_features

log = logging.getLogger("neighbours")
MOST = 2000
QUERIES = {"video": 25, "segment": 20}
NEAREST = 3
TAGS = 1000
"""The most frequent tags are compared, not all: a collection has tens of thousands."""


@dataclass(frozen=True)
class Space:
    """Test videos with both sides: `table` their part of the manifest; `audio` and `video` float [videos, segments,
    dim] in its order, NaN where a segment has none; `start` float [videos, segments] in seconds; `facts` for the JSON.
    """

    table: pa.Table
    audio: np.ndarray
    video: np.ndarray
    start: np.ndarray
    shared: bool
    facts: dict[str, Any]

    def items(self, level: str) -> Items:
        """The whole videos or all their segments, as far as both sides are there."""
        if level == "video":
            audio, video, owner = mean_unit(self.audio), mean_unit(self.video), np.arange(len(self.audio))
        else:
            good = both(self.audio, self.video)
            audio, video, owner = _units(self.audio[good]), _units(self.video[good]), np.nonzero(good)[0]
        return Items(audio.astype(np.float32), video.astype(np.float32), owner, self.shared)


def _units(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def load_embedded(config: Config, name: str) -> Space:
    """The embeddings of an experiment's first training. Raises as `load_test`."""
    test, view = load_test(config, name)
    chosen = _draw(test.table.num_rows, config.eval.seed)
    rows = test.table["row"].to_numpy()[chosen]
    facts = {"keys": test.record["keys"], "random_weights": test.record["random_weights"]}
    facts |= {"embeddings": test.record["digest"], "of": test.table.num_rows}
    table = test.table.take(pa.array(chosen))
    return Space(table, test.audio[chosen], test.video[chosen], view.start()[rows], True, facts)


def load_features(config: Config) -> Space:
    """The features of the test videos that both backbones could read, centred."""
    paths = Paths(Path(config.results))
    view, table = open_features(paths), read_manifest(paths.manifest)
    sides = (config.heads.audio, config.heads.video)
    row = table["row"].to_numpy()
    test = np.array([split == "test" for split in table["split"].to_pylist()], dtype=bool)
    known = np.flatnonzero(test & view.valid(sides[0])[row] & view.valid(sides[1])[row])
    chosen = known[_draw(len(known), config.eval.seed)]
    audio, video = (view.numpy(side, row[chosen]).astype(np.float32) for side in sides)
    paired = both(audio, video).any(axis=1)
    chosen, audio, video = chosen[paired], audio[paired], video[paired]
    facts = {
        "keys": {side: view.key(side) for side in sides},
        "random_weights": {side: bool(view.random_weights(side)) for side in sides},
        "embeddings": None,
        "of": len(known),
    }
    audio, video = (side - np.nanmean(side, axis=(0, 1)) for side in (audio, video))
    return Space(table.take(pa.array(chosen)), audio, video, view.start()[row[chosen]], False, facts)


def _draw(videos: int, seed: int) -> np.ndarray:
    """All videos, or `MOST` of them drawn, ascending."""
    if videos <= MOST:
        return np.arange(videos)
    rng = np.random.default_rng(np.random.SeedSequence([seed % 2**64, 1]))
    return np.sort(rng.choice(videos, size=MOST, replace=False))


class Shown:
    """The videos and segments that galleries show, each once: `lines` as JSON, `number` finds or adds one."""

    def __init__(self, space: Space, known: list[Label]) -> None:
        self._videos = space.table.select(["row", "video_id", "path", "artist", "title"]).to_pylist()
        names = {label.name: label.names() for label in known}
        for i, video in enumerate(self._videos):
            video |= {"genre": next(iter(names["genre"][i]), None), "tags": names["tags"][i]}
        self._start = space.start
        self._numbers: dict[tuple[int, int], int] = {}
        self.lines: list[dict[str, Any]] = []

    def number(self, video: int, segment: int | None) -> int:
        """Of a segment, or of a whole video, which is shown by its middle segment: openings are often black."""
        which = self._start.shape[1] // 2 if segment is None else segment
        key = (video, which)
        if key not in self._numbers:
            self._numbers[key] = len(self.lines)
            start = float(self._start[video, which])
            line = {"segment": which, "start": start if math.isfinite(start) else None}
            self.lines.append(self._videos[video] | line)
        return self._numbers[key]


def gallery(space: Space, level: str, shown: Shown, seed: int) -> dict[str, Any]:
    """Some items of a level and what lies nearest to each, as JSON; `shown` gets what is in it."""
    items = space.items(level)
    segment = np.nonzero(both(space.audio, space.video))[1] if level == "segment" else None

    def number(item: int) -> int:
        return shown.number(int(items.owner[item]), None if segment is None else int(segment[item]))

    rng = np.random.default_rng(np.random.SeedSequence([seed % 2**64, 0]))
    size = min(QUERIES[level], len(items.owner))
    chosen = np.sort(rng.choice(len(items.owner), size=size, replace=False))
    queries: list[dict[str, Any]] = [{"item": number(item), "ranks": {}, "nearest": {}} for item in chosen.tolist()]
    if space.shared:
        for way, rank in zip(ACROSS, ranks(items.audio, items.video), strict=True):
            for query, item in zip(queries, chosen.tolist(), strict=True):
                query["ranks"][way] = float(rank[item])
    for way in items.ways:
        # Between the sides, the video's own other half is the right answer and must not be left out.
        found = nearest(items, chosen, way, NEAREST, "nothing" if way in ACROSS else "video")
        lines = [line for here, near, cosine in found for line in zip(here, near, cosine, strict=True)]
        for query, (item, near, cosine) in zip(queries, lines, strict=True):
            query["nearest"][way] = [
                {"item": number(j), "similarity": float(c), "is_partner": bool(j == item)}
                for j, c in zip(near.tolist(), cosine.tolist(), strict=True)
            ]
    return {"level": level, "size": len(items.owner), "queries": queries}


def labels(table: pa.Table) -> list[Label]:
    """What the table says of the videos: genre, tags (the `TAGS` most frequent) and artist."""
    found = []
    for name in ("genre", "tags", "artist"):
        said = [{one.strip() for one in _several(each)} - {""} for each in table[name].to_pylist()]
        count = Counter(one for each in said for one in each)
        classes = sorted(count, key=lambda one: (-count[one], one))[: TAGS if name == "tags" else None]
        number = {one: i for i, one in enumerate(classes)}
        values = np.zeros((len(said), len(classes)), dtype=bool)
        for i, each in enumerate(said):
            values[i, [number[one] for one in each if one in number]] = True
        found.append(Label(name, classes, values))
    return found


def told(config: Config, table: pa.Table) -> pa.Table:
    """This part of the manifest with genre and tags from labels/ for tasks whose `source` is not the manifest."""
    paths, row = Paths(Path(config.results)), table["row"].to_numpy()
    for task, column in (("genre", "genre"), ("tagging", "tags")):
        if task not in config.labels.tasks or config.labels.task(task).source == "manifest":
            continue
        found = read_labels(paths, task)
        names = dict(zip(found.rows.tolist(), found.values, strict=True))
        said = [[found.classes[i] for i in np.flatnonzero(names.get(r, []))] for r in row.tolist()]
        values = said if column == "tags" else [next(iter(each), None) for each in said]
        table = table.set_column(table.column_names.index(column), column, pa.array(values, table[column].type))
    return table


def _several(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else value or []


def neighbours(config: Config, name: str | None) -> dict[str, Any]:
    """Look at one experiment's embeddings, or at the features without one, and write the JSON; returns it."""
    space = load_embedded(config, name) if name else load_features(config)
    known, seed, resamples = labels(told(config, space.table)), config.eval.seed, config.eval.bootstrap
    shown = Shown(space, known)
    levels = {level: space.items(level) for level in QUERIES}
    galleries = [gallery(space, level, shown, seed) for level in levels]
    agreements = [
        {"level": level} | found
        for level, items in levels.items()
        for label in known
        for way in items.ways
        if (found := agreement(items, label, way, NEAREST, resamples, seed))
    ]
    consistencies = [consistency(levels["segment"], side, resamples, seed) for side in ("audio", "video")]
    written = {
        "experiment": name,
        "space": "embeddings" if name else "features",
        **space.facts,
        "videos": space.table.num_rows,
        "seed": seed,
        "bootstrap": resamples,
        "nearest": NEAREST,
        "items": shown.lines,
        "galleries": galleries,
        "agreement": agreements,
        "consistency": [each for each in consistencies if each],
        "genres": [next(iter(each), None) for label in known if label.name == "genre" for each in label.names()],
        "maps": maps(levels["video"].audio, levels["video"].video, space.shared, seed),
    }
    write_json(Paths(Path(config.results)).eval(name or FEATURES) / "neighbours.json", written)
    return written


def main() -> None:
    p = parser(__doc__, "eval.neighbours", "cores to use")
    p.add_argument("--experiment", metavar="NAME", help="one of heads.experiments; without it, the backbones' features")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    for a in neighbours(read(args.config), args.experiment)["agreement"]:
        log.info(
            "%ss, %s of the %d nearest by %s: %.3f [%.3f, %.3f], chance %.3f",
            *(a["level"], a["label"], a["k"], a["by"], a["value"], a["low"], a["high"], a["chance"]),
        )


if __name__ == "__main__":
    run(main)
