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
A larger test split is represented by some of its videos (eval/spaces.py).
"""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import torch

from config.cli import parser, run
from config.files import write_json
from config.heads import MODALITIES
from config.model import Config, read
from data.columns import FILES
from data.groups import group_numbers
from data.manifest import beside_path
from eval.maps import maps
from eval.ranks import DIRECTIONS, ranks
from eval.similarity import Label, agreement, consistency, nearest
from eval.spaces import Space, load_embedded, load_features, space_arguments
from eval.video_labels import labels, with_labels
from pipeline.features import good_segments

log = logging.getLogger("neighbours")
QUERIES = {"video": 25, "segment": 20}
NEAREST = 3


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
        for way, rank in zip(DIRECTIONS, ranks(items.audio, items.video, unit=items.unit), strict=True):
            for query, item in zip(queries, chosen.tolist(), strict=True):
                query["ranks"][way] = float(rank[item])
    for way in items.ways:
        # Across modalities the positive is of the same video, which must not be left out.
        blocks = nearest(items, chosen, way, NEAREST, "nothing" if way in DIRECTIONS else "video")
        lines = [line for block in blocks for line in zip(*block, strict=True)]
        for query, (item, near, cosine) in zip(queries, lines, strict=True):
            query["nearest"][way] = [
                {"item": number(neighbour), "similarity": float(similar), "is_partner": bool(neighbour == item)}
                for neighbour, similar in zip(near.tolist(), cosine.tolist(), strict=True)
                if similar > -math.inf
            ]
    return {"level": level, "size": len(items.owner), "queries": queries}


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
    named = zip(MODALITIES, sides.names, strict=True) if sides else ()
    equal = {modality for modality, side in named if side in constant}
    agreements = [
        {"level": level} | measured | ({"better_than_chance": False} if way in equal else {})
        for level, items in levels.items()
        for label in known
        for way in items.ways
        if (measured := agreement(items, label, way, NEAREST, resamples, seed))
    ]
    consistencies = [consistency(levels["segment"], modality, resamples, seed) for modality in MODALITIES]
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
    for line in neighbours(read(arguments.config), arguments.experiment or arguments.space)["agreement"]:
        log.info(
            "%ss, %s of the %d nearest by %s: %.3f [%.3f, %.3f], chance %.3f",
            *(line[column] for column in ("level", "label", "k", "by", "value", "low", "high", "chance")),
        )


if __name__ == "__main__":
    run(main)
