"""Fit a linear head on segments of every length and number, for the study of which of them align best.

Reads the variants of the cache in study/length/SECONDSs_COUNT/ (pipeline/variant.py), of those videos that all of them
could read. Writes study/length/SECONDSs_COUNT.safetensors: for each number of segments and seed the embeddings of all
videos, each by a head that was fitted without it, on as many segments a video (`own`) or on as many as all lengths have
(`equal`), lest more pairs to learn from be taken for better ones; and, last, study/length/trained.json, which lists
them. A variant that is finished is kept when this is run again.

Smaller numbers than the extracted one are drawn among the cached segments, evenly spaced from a random start. A
segment's place is random within its equal part of the video, so every second of twelve parts is what an extraction with
six would have drawn, but that no window straddles two of the twelve.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from config.cli import UserError, parser, run
from config.files import write_json
from config.model import Config, read
from config.paths import Paths
from config.study import Variant
from heads.checkpoint import read_if_whole, write_tensors
from heads.study.linear import fit_linear
from pipeline.features import Features, open_features

log = logging.getLogger("length")
FITTED = ("own", "equal")
"""What heads are fitted on: the segments that are looked at, or as many of each video at all lengths."""


@dataclass(frozen=True)
class Looks:
    """What all variants saw of the same videos.

    `names` are the videos' ids; `sound` and `picture` float32 [videos, count, dim] by the variant's name; `keys` are
    the cache keys by variant, then backbone; `random_weights` names backbones.
    """

    names: list[str]
    sound: dict[str, np.ndarray]
    picture: dict[str, np.ndarray]
    keys: dict[str, dict[str, str]]
    random_weights: list[str]


def load_looks(config: Config) -> Looks:
    """Read all variants. UserError if one is not extracted, or fewer than four videos a fold are in all of them."""
    sides = (config.heads.audio, config.heads.video)
    views = {v.name: _open(config, v) for v in config.study.length.variants}
    whole = {name: {side: view.numpy(side) for side in sides} for name, view in views.items()}
    rows: dict[str, dict[str, int]] = {}
    for name, view in views.items():
        good = np.logical_and.reduce([np.isfinite(whole[name][side]).all(axis=(1, 2)) for side in sides])
        ids = view.labels()["video_id"].to_pylist()
        rows[name] = {video: row for row, video in enumerate(ids) if good[row]}
    names = [video for video in next(iter(rows.values())) if all(video in known for known in rows.values())]
    if len(names) < 4 * config.study.length.folds:
        raise UserError(
            f"study.length: {len(names)} videos could be read with all lengths, too few for "
            f"{config.study.length.folds} folds; raise study.length.videos, or look into the variants' failures.csv"
        )
    found = [
        {name: whole[name][side][[rows[name][v] for v in names]].astype(np.float32) for name in views} for side in sides
    ]
    keys = {name: {side: view.key(side) for side in sides} for name, view in views.items()}
    first = next(iter(views.values()))
    return Looks(names, found[0], found[1], keys, [side for side in sides if first.random_weights(side)])


def _open(config: Config, variant: Variant) -> Features:
    return open_features(Paths(Paths(Path(config.results)).study_variant(variant.name)))


def drawn(videos: int, extracted: int, count: int, seed: int) -> np.ndarray:
    """Which of a video's segments are used: int64 [videos, count], ascending, evenly spaced from a random start."""
    start = np.random.default_rng([seed % 2**64, extracted, count]).random((videos, 1))
    return np.minimum((np.arange(count) + start) * extracted / count, extracted - 1).astype(np.int64)


def fold_of(videos: int, folds: int, seed: int) -> np.ndarray:
    """The fold of each video, int64 [videos]: as equal as can be, and the same for all lengths."""
    return np.random.default_rng([seed % 2**64, videos]).permutation(videos) % folds


def pooled(segments: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Mean of the chosen segments: [videos, segments, d], int [videos, count] → [videos, d]."""
    return np.take_along_axis(segments, chosen[:, :, None], axis=1).mean(axis=1)


def embeddings(
    sides: tuple[np.ndarray, np.ndarray],
    chosen: np.ndarray,
    fitted: np.ndarray,
    fold: np.ndarray,
    components: int,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Each video's sound and picture by heads that were fitted on the other folds' segments, float32 [videos,
    components] each.

    `sides`, sound and picture, are [videos, segments, dim]; `chosen` and `fitted`, int [videos, count], say which
    segments are looked at and which heads are fitted on. A video's features are the mean over those looked at; a linear
    head makes of it the mean of the segments' embeddings.
    """
    whole = [pooled(side, chosen) for side in sides]
    found = np.zeros((2, len(fold), components), np.float32)  # dimensions that too few videos cannot fill stay 0
    for held in range(fold.max() + 1):
        train, rest = np.flatnonzero(fold != held), fold == held
        pairs = [side[train[:, None], fitted[train]].reshape(-1, side.shape[2]) for side in sides]
        head = fit_linear(pairs[0], pairs[1], components, seed)
        for side in range(2):
            found[side, rest, : len(head.correlations)] = head.embed(side, whole[side][rest])
    return found[0], found[1]


def trained_path(config: Config, variant: Variant) -> Path:
    """Where a variant's embeddings are."""
    return Paths(Path(config.results)).study_work("length") / f"{variant.name}.safetensors"


def train(config: Config, threads: int = 1) -> None:
    """Fit and write what is not there yet."""
    settings, looks = config.study.length, load_looks(config)
    record = {}
    for variant in settings.variants:
        path, name = trained_path(config, variant), variant.name
        counts = settings.counts_of(variant)
        about: dict[str, Any] = {"version": 2, "keys": looks.keys[name], "videos": looks.names, "counts": counts}
        about |= {"seeds": config.study.seeds, "folds": settings.folds, "components": settings.components}
        about["fitted"] = settings.least
        record[name] = about
        kept = read_if_whole(path)
        if kept is not None and kept[1] == about:
            log.info("%s: kept", name)
            continue
        sides, videos, tensors = (looks.sound[name], looks.picture[name]), len(looks.names), {}
        with threadpool_limits(threads):
            for count, seed in product(counts, config.study.seeds):
                chosen, fold = drawn(videos, variant.count, count, seed), fold_of(videos, settings.folds, seed)
                equal = drawn(videos, variant.count, settings.least, seed)
                for kind, fitted in zip(FITTED, (chosen, equal), strict=True):
                    both = embeddings(sides, chosen, fitted, fold, settings.components, seed)
                    for side, found in zip(("audio", "video"), both, strict=True):
                        tensors[f"{kind}/{count}/{seed}/{side}"] = torch.from_numpy(found)
        write_tensors(path, tensors, about)
        log.info("%s: %d videos, %s segments of each, seeds %s", name, videos, counts, config.study.seeds)
    write_json(Paths(Path(config.results)).study_work("length") / "trained.json", record)


def main() -> None:
    """Command line."""
    args = parser(__doc__, "heads.study.length", "cores to use").parse_args()
    train(read(args.config), args.threads)


if __name__ == "__main__":
    run(main)
