"""Nearest neighbours of test videos and segments, labels they share, similarity within a video, and maps.

Reads the manifest, the cache, labels/ where these come from other files, and, with --experiment, that experiment's
embeddings (by the first of `heads.seeds`).
Writes eval/EXPERIMENT/neighbours.json, or eval/features/neighbours.json for the backbones' own features (with --space,
those of an experiment on other backbones):
  across       only with `normalise: false`: `dot product`, by which items are compared across modalities
  galleries    25 videos and 20 segments drawn by `eval.seed`, each with the three nearest by audio, by video and by
               both (the mean of the two cosines), always of other videos; and across modalities, where the positive
               may be among them, with the positive's rank
  agreement    the share of genre, tags and artist that all videos have in common with their three nearest, and chance;
               for genre and tags among videos of other groups (data/groups.py)
  consistency  similarity of a video's own segments, beside that of segments of other videos
  maps         principal components of whole videos, as unit vectors
  effective_rank   of features only: how many directions the videos' mean features use, raw and standardised
Features of two backbones have no common space, so features have no neighbours across modalities. Their mean over the
videos is subtracted first: raw features are not negative, and all nearly parallel.
A larger test split is represented by `MOST` videos drawn by `eval.seed`.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from config.cli import parser, run
from config.files import write_json
from config.heads import Sides
from config.model import Config, read
from data.columns import FILES
from data.groups import group_numbers
from data.labels import read_labels
from data.manifest import beside_path
from eval.diagnose.signs import effective_rank
from eval.maps import maps
from eval.ranks import UNIT, ranks
from eval.retrieval import load_test, pool
from eval.similarity import ACROSS, Items, Label, agreement, consistency, directed, nearest
from eval.spaces import space_arguments
from pipeline.features import Features, good_segments, open_features, segment_mean

log = logging.getLogger("neighbours")
MOST = 2000
QUERIES = {"video": 25, "segment": 20}
NEAREST = 3
TAGS = 1000
"""The most frequent tags are compared, not all: a collection has tens of thousands."""


@dataclass(frozen=True)
class Space:
    """Test videos with both modalities: `table`, of the manifest; `audio` and `video` float [videos, segments, dim] in
    its order, NaN where a segment has none; `start` float [videos, segments] in seconds; `facts` for the JSON.
    """

    table: pa.Table
    audio: np.ndarray
    video: np.ndarray
    start: np.ndarray
    shared: bool
    facts: dict[str, Any]
    unit: tuple[bool, bool] = UNIT
    """Whether audio and video are compared as unit vectors."""

    def items(self, level: str) -> Items:
        """Return whole videos or segments, by `level` `video` or `segment`, that have both modalities."""
        if level == "video":
            audio, video = (pool(x, unit) for x, unit in zip((self.audio, self.video), self.unit, strict=True))
            owner = np.arange(len(self.audio))
        else:
            good = good_segments(self.audio, self.video)
            audio, video = (
                _units(x[good]) if unit else x[good]
                for x, unit in zip((self.audio, self.video), self.unit, strict=True)
            )
            owner = np.nonzero(good)[0]
        groups = group_numbers(self.table)
        return Items(audio.astype(np.float32), video.astype(np.float32), owner, groups, self.shared, self.unit)


def _units(rows: np.ndarray) -> np.ndarray:
    """Scale rows [n, dim] to length 1, float32."""
    rows = rows.astype(np.float32)
    units: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return units


def load_embedded(config: Config, name: str) -> Space:
    """Return the embeddings of an experiment's first run. Raises as `load_test`."""
    test, view = load_test(config, name)
    chosen = representatives(test.table.num_rows, config.eval.seed)
    rows = test.table["row"].to_numpy()[chosen]
    facts = {"keys": test.record["keys"], "random_weights": test.record["random_weights"]}
    facts |= {"embeddings": test.record["digest"], "of": test.table.num_rows}
    table = test.table.take(pa.array(chosen))
    return Space(table, test.audio[chosen], test.video[chosen], view.start()[rows], True, facts, test.unit)


def load_features(config: Config, sides: Sides) -> Space:
    """Return the features of the test videos that all backbones could read, centred.

    Several backbones of a modality are concatenated, each divided by its standard deviation over all its features.
    """
    view = open_features(config.paths)
    table = view.manifest()
    known = view.rows("test", valid=config.used_backbones)
    chosen = known[representatives(len(known), config.eval.seed)]
    audio, video = (_side(view, names, chosen) for names in sides)
    paired = good_segments(audio, video).any(axis=1)
    chosen, audio, video = chosen[paired], audio[paired], video[paired]
    facts = {
        "keys": {name: view.key(name) for name in sides.backbones},
        "random_weights": {name: bool(view.random_weights(name)) for name in sides.backbones},
        "embeddings": None,
        "of": len(known),
        "effective_rank": {
            name: effective_ranks(features) for name, features in zip(sides.names, (audio, video), strict=True)
        },
    }
    constant = [name for name, features in zip(sides.names, (audio, video), strict=True) if _constant(features)]
    for name in constant:
        log.warning("%s: the features are constant: all videos are equally near to each other", name)
    if constant:
        facts["constant"] = constant
    audio, video = (
        directed(np.where(np.isnan(x), np.nan, 0) if _constant(x) else x - np.nanmean(x, axis=(0, 1)))
        for x in (audio, video)
    )
    return Space(table.take(pa.array(chosen)), audio, video, view.start()[chosen], False, facts)


def _side(view: Features, names: tuple[str, ...], rows: np.ndarray) -> np.ndarray:
    blocks = [view.numpy(name, rows).astype(np.float32) for name in names]
    if len(blocks) == 1:
        return blocks[0]
    return np.concatenate([block / (np.nanstd(block) or 1) for block in blocks], axis=2)


def effective_ranks(features: np.ndarray) -> dict[str, float]:
    """Return the effective rank of the videos' mean features, and of the same standardised; [videos, segments, dim].

    NaN in missing segments. Near 1, nearly all that differs between videos is one number (eval/diagnose/signs.py).
    """
    means = segment_mean(np.nan_to_num(features), good_segments(features), np.float64)
    scale = means.std(axis=0)
    standardised = (means - means.mean(axis=0))[:, scale > 0] / scale[scale > 0]
    return {"raw": effective_rank(means), "standardised": effective_rank(standardised)}


def _constant(features: np.ndarray) -> bool:
    """Whether all valid segments of [videos, segments, dim] are the same."""
    return (
        bool(np.all(np.nanmax(features, axis=(0, 1)) == np.nanmin(features, axis=(0, 1)))) if len(features) else False
    )


def representatives(videos: int, seed: int) -> np.ndarray:
    """Return the positions of all of so many videos, or of `MOST` of them drawn by `seed`: int64, ascending."""
    if videos <= MOST:
        return np.arange(videos)
    rng = np.random.default_rng(np.random.SeedSequence([seed, 1]))
    return np.sort(rng.choice(videos, size=MOST, replace=False))


class Shown:
    """The videos and segments that galleries show, without repetition; `lines` are their JSON."""

    def __init__(self, space: Space, known: list[Label]) -> None:
        self._videos = space.table.select(["row", "video_id", "path", "artist", "title"]).to_pylist()
        for video, files in zip(self._videos, space.table.select(FILES).to_pylist(), strict=True):
            video |= beside_path(files)
        names = {label.name: label.names() for label in known}
        for i, video in enumerate(self._videos):
            video |= {"genre": next(iter(names["genre"][i]), None), "tags": names["tags"][i]}
        self._start = space.start
        self._numbers: dict[tuple[int, int], int] = {}
        self.lines: list[dict[str, Any]] = []

    def number(self, video: int, segment: int | None) -> int:
        """Return the line of a segment, adding it if it is new; a whole video (None) is shown by its middle segment.

        Its first would not do: openings are often black.
        """
        segment = self._start.shape[1] // 2 if segment is None else segment
        key = (video, segment)
        if key not in self._numbers:
            self._numbers[key] = len(self.lines)
            start = float(self._start[video, segment])
            line = {"segment": segment, "start": start if math.isfinite(start) else None}
            self.lines.append(self._videos[video] | line)
        return self._numbers[key]


def gallery(space: Space, level: str, shown: Shown, seed: int) -> dict[str, Any]:
    """Return some items of a level and the nearest to each, as JSON; adds all of them to `shown`."""
    items = space.items(level)
    segment = np.nonzero(good_segments(space.audio, space.video))[1] if level == "segment" else None

    def number(item: int) -> int:
        return shown.number(int(items.owner[item]), None if segment is None else int(segment[item]))

    rng = np.random.default_rng(np.random.SeedSequence([seed, 0]))
    size = min(QUERIES[level], len(items.owner))
    chosen = np.sort(rng.choice(len(items.owner), size=size, replace=False))
    queries: list[dict[str, Any]] = [{"item": number(item), "ranks": {}, "nearest": {}} for item in chosen.tolist()]
    if space.shared:
        for way, rank in zip(ACROSS, ranks(items.audio, items.video, unit=items.unit), strict=True):
            for query, item in zip(queries, chosen.tolist(), strict=True):
                query["ranks"][way] = float(rank[item])
    for way in items.ways:
        # Across modalities the positive is of the same video, which must not be left out.
        blocks = nearest(items, chosen, way, NEAREST, "nothing" if way in ACROSS else "video")
        lines = [line for block in blocks for line in zip(*block, strict=True)]
        for query, (item, near, cosine) in zip(queries, lines, strict=True):
            query["nearest"][way] = [
                {"item": number(j), "similarity": float(c), "is_partner": bool(j == item)}
                for j, c in zip(near.tolist(), cosine.tolist(), strict=True)
                if c > -math.inf
            ]
    return {"level": level, "size": len(items.owner), "queries": queries}


def labels(table: pa.Table) -> list[Label]:
    """Return the table's labels of the videos: genre, tags (the `TAGS` most frequent) and artist."""
    kinds = []
    for kind in ("genre", "tags", "artist"):
        by_video = [{name.strip() for name in _several(value)} - {""} for value in table[kind].to_pylist()]
        count = Counter(name for names in by_video for name in names)
        classes = sorted(count, key=lambda name: (-count[name], name))[: TAGS if kind == "tags" else None]
        column = {name: i for i, name in enumerate(classes)}
        values = np.zeros((len(by_video), len(classes)), dtype=bool)
        for i, names in enumerate(by_video):
            values[i, [column[name] for name in names if name in column]] = True
        kinds.append(Label(kind, classes, values))
    return kinds


def with_labels(config: Config, table: pa.Table) -> pa.Table:
    """Return this part of the manifest with genre and tags from labels/, for tasks of another source than it."""
    paths, row = config.paths, table["row"].to_numpy()
    for task, column in (("genre", "genre"), ("tagging", "tags")):
        if task not in config.labels.tasks or config.labels.task(task).source == "manifest":
            continue
        known = read_labels(paths, task)
        by_row = dict(zip(known.rows.tolist(), known.values, strict=True))
        names = [[known.classes[i] for i in np.flatnonzero(by_row.get(r, []))] for r in row.tolist()]
        values = names if column == "tags" else [next(iter(of_video), None) for of_video in names]
        table = table.set_column(table.column_names.index(column), column, pa.array(values, table[column].type))
    return table


def _several(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else value or []


def neighbours(config: Config, name: str) -> dict[str, Any]:
    """Measure neighbours of an experiment's embeddings, or of the features of a space of `config.spaces`.

    Write the JSON and return it.
    """
    sides = config.spaces.get(name)
    space = load_features(config, sides) if sides else load_embedded(config, name)
    known, seed, resamples = labels(with_labels(config, space.table)), config.eval.seed, config.eval.bootstrap
    shown = Shown(space, known)
    levels = {level: space.items(level) for level in QUERIES}
    galleries = [gallery(space, level, shown, seed) for level in levels]
    # Where all items are equally near, the first of the table count as nearest: what they share means nothing.
    constant = space.facts.get("constant", [])
    named = zip(("audio", "video"), sides.names, strict=True) if sides else ()
    equal = {modality for modality, side in named if side in constant}
    agreements = [
        {"level": level} | measured | ({"better_than_chance": False} if way in equal else {})
        for level, items in levels.items()
        for label in known
        for way in items.ways
        if (measured := agreement(items, label, way, NEAREST, resamples, seed))
    ]
    consistencies = [consistency(levels["segment"], modality, resamples, seed) for modality in ("audio", "video")]
    written = {
        "experiment": None if sides else name,
        "space": "features" if sides else "embeddings",
        **space.facts,
        "videos": space.table.num_rows,
        "groups": len(np.unique(group_numbers(space.table))),
        "seed": seed,
        "bootstrap": resamples,
        "nearest": NEAREST,
        "items": shown.lines,
        "galleries": galleries,
        "agreement": agreements,
        "consistency": [line for line in consistencies if line],
        "genres": [next(iter(names), None) for label in known if label.name == "genre" for names in label.names()],
        "maps": maps(*levels["video"].directions, space.shared),
    }
    if not all(space.unit):
        written["across"] = "dot product"
    write_json(config.paths.eval(name) / "neighbours.json", written)
    return written


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "eval.neighbours", "cores to use")
    space_arguments(command_line)
    arguments = command_line.parse_args()
    torch.set_num_threads(arguments.threads)
    for a in neighbours(read(arguments.config), arguments.experiment or arguments.space)["agreement"]:
        log.info(
            "%ss, %s of the %d nearest by %s: %.3f [%.3f, %.3f], chance %.3f",
            *(a["level"], a["label"], a["k"], a["by"], a["value"], a["low"], a["high"], a["chance"]),
        )


if __name__ == "__main__":
    run(main)
