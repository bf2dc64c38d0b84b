"""Fit linear heads on segments of every length and number.

Reads the variants' caches in study/length/SECONDSs_COUNT/ (variant.py); only videos that are valid in all of them are
used. Writes study/length/SECONDSs_COUNT.safetensors: for each number of segments and each seed the embeddings of all
videos, each by a head that was fitted on other groups' videos. `own` heads are fitted on that number of segments,
`equal` heads on the number that all lengths have, so that lengths can be compared at equal amounts of training data.
Writes last study/length/trained.json, which lists them. Finished variants are kept when this is run again.

Smaller numbers of segments are drawn among the cached ones, evenly spaced from a random start. A segment lies at random
within its equal part of the video, so every second of twelve parts is what an extraction of six would have drawn,
except that no window straddles two of the twelve parts.
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
from config.study.length import Variant
from data.groups import group_numbers
from heads.checkpoint import read_if_whole, write_tensors
from heads.features import contents
from pipeline.features import Features, open_features
from study.groups import folds
from study.length.linear import fit_linear

log = logging.getLogger("length")
VERSION = 3
"""Version of the files. Since 3 the videos of a group are in one fold."""
FITTED = ("own", "equal")
"""What heads are fitted on: the segments that are embedded, or an equal number at all lengths."""


@dataclass(frozen=True)
class Variants:
    """Features of the same videos in all variants.

    `names` are the videos' ids, `groups` int64 [videos] their groups; `audio` and `video` float32 [videos, count, dim]
    by the variant's name; `keys` are the cache keys and `contents` the digests of the features (heads/features.py) by
    variant, then backbone; `random_weights` names backbones.
    """

    names: list[str]
    groups: np.ndarray
    audio: dict[str, np.ndarray]
    video: dict[str, np.ndarray]
    keys: dict[str, dict[str, str]]
    contents: dict[str, dict[str, str]]
    random_weights: list[str]


def load_variants(config: Config) -> Variants:
    """Read the features of all variants.

    UserError if a variant is not extracted, or if they share fewer than four videos or one group a fold.
    """
    backbones = (config.heads.audio, config.heads.video)
    views = {variant.name: _open(config, variant) for variant in config.study.length.variants}
    values = {name: {backbone: view.numpy(backbone) for backbone in backbones} for name, view in views.items()}
    rows: dict[str, dict[str, int]] = {}
    for name, view in views.items():
        good = np.logical_and.reduce([np.isfinite(array).all(axis=(1, 2)) for array in values[name].values()])
        ids, active = view.labels()["video_id"].to_pylist(), set(view.rows().tolist())
        rows[name] = {video: row for row, video in enumerate(ids) if good[row] and row in active}
    names = [video for video in next(iter(rows.values())) if all(video in valid for valid in rows.values())]
    if len(names) < 4 * config.study.length.folds:
        raise UserError(
            f"study.length: {len(names)} videos could be read with all lengths, too few for "
            f"{config.study.length.folds} folds; raise study.length.videos, or look into the variants' failures.csv"
        )
    first, row_of = next(iter(views.values())), next(iter(rows.values()))
    groups = group_numbers(first.labels(np.array([row_of[name] for name in names])))
    if groups.max() + 1 < config.study.length.folds:
        raise UserError(
            f"study.length: the {len(names)} videos are of {groups.max() + 1} groups, too few for "
            f"{config.study.length.folds} folds of whole groups; lower study.length.folds or raise study.length.videos"
        )
    audio, video = (
        {
            name: values[name][backbone][[rows[name][name_of_video] for name_of_video in names]].astype(np.float32)
            for name in views
        }
        for backbone in backbones
    )
    keys = {name: {backbone: view.key(backbone) for backbone in backbones} for name, view in views.items()}
    digests = {name: contents(Paths(config.paths.study_variant(name)), backbones) for name in views}
    random_weights = [name for name in backbones if first.random_weights(name)]
    return Variants(names, groups, audio, video, keys, digests, random_weights)


def _open(config: Config, variant: Variant) -> Features:
    return open_features(Paths(config.paths.study_variant(variant.name)))


def drawn(videos: int, extracted: int, count: int, seed: int) -> np.ndarray:
    """Draw `count` of each video's segments: int64 [videos, count], ascending, evenly spaced from a random start."""
    start = np.random.default_rng([seed, extracted, count]).random((videos, 1))
    return np.minimum((np.arange(count) + start) * extracted / count, extracted - 1).astype(np.int64)


def pooled(segments: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Average the chosen segments: [videos, segments, dim] and int [videos, count] → [videos, dim]."""
    return np.asarray(np.take_along_axis(segments, chosen[:, :, None], axis=1).mean(axis=1))


def embeddings(
    features: tuple[np.ndarray, np.ndarray],
    chosen: np.ndarray,
    fitted: np.ndarray,
    fold: np.ndarray,
    components: int,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Embed both modalities by heads that were fitted on the other folds: float32 [videos, components] each.

    `features`, audio and video, are [videos, segments, dim]; `chosen` and `fitted`, int [videos, count], are the
    segments that are embedded and those that heads are fitted on. A video is embedded by its segments' mean features,
    which with a linear head is the mean of their embeddings.
    """
    means = [pooled(segments, chosen) for segments in features]
    embedded = np.zeros((2, len(fold), components), np.float32)  # with few videos there are fewer dimensions: 0
    for number in range(fold.max() + 1):
        train, rest = np.flatnonzero(fold != number), fold == number
        pairs = [segments[train[:, None], fitted[train]].reshape(-1, segments.shape[2]) for segments in features]
        head = fit_linear(pairs[0], pairs[1], components, seed)
        for modality in range(2):
            embedded[modality, rest, : len(head.correlations)] = head.embed(modality, means[modality][rest])
    return embedded[0], embedded[1]


def trained_path(config: Config, variant: Variant) -> Path:
    """Return the path of a variant's embeddings."""
    return config.paths.study_work("length") / f"{variant.name}.safetensors"


def train(config: Config, threads: int = 1) -> None:
    """Fit and write the variants that are not finished."""
    settings, variants = config.study.length, load_variants(config)
    record = {}
    for variant in settings.variants:
        path, name = trained_path(config, variant), variant.name
        counts = settings.counts_of(variant)
        about: dict[str, Any] = {
            "version": VERSION,
            "keys": variants.keys[name],
            "features": variants.contents[name],
            "videos": variants.names,
            "counts": counts,
            "seeds": config.study.seeds,
            "folds": settings.folds,
            "components": settings.components,
            "fitted": settings.least,
            "groups": variants.groups.tolist(),
        }
        record[name] = about
        kept = read_if_whole(path)
        if kept is not None and kept[1] == about:
            log.info("%s: kept", name)
            continue
        features, videos, tensors = (variants.audio[name], variants.video[name]), len(variants.names), {}
        with threadpool_limits(threads):
            for count, seed in product(counts, config.study.seeds):
                chosen, fold = drawn(videos, variant.count, count, seed), folds(variants.groups, settings.folds, seed)
                equal = drawn(videos, variant.count, settings.least, seed)
                for kind, fitted in zip(FITTED, (chosen, equal), strict=True):
                    embedded = embeddings(features, chosen, fitted, fold, settings.components, seed)
                    for modality, vectors in zip(("audio", "video"), embedded, strict=True):
                        tensors[f"{kind}/{count}/{seed}/{modality}"] = torch.from_numpy(vectors)
        write_tensors(path, tensors, about)
        log.info("%s: %d videos, %s segments of each, seeds %s", name, videos, counts, config.study.seeds)
    write_json(config.paths.study_work("length") / "trained.json", record)


def main() -> None:
    """Run the command line."""
    arguments = parser(__doc__, "study.length.train", "cores to use").parse_args()
    train(read(arguments.config), arguments.threads)


if __name__ == "__main__":
    run(main)
