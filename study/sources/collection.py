"""The videos of `sources`: mean features of every video, its source, its tags, and which are near-duplicates.

Reads the cache and the manifest; writes nothing. Sources are the groups of the videos (data/groups.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from config.cli import UserError
from config.model import Config
from config.study.sources import Sources
from data.groups import group_numbers
from eval.ranks import unit_rows
from pipeline.backbones.descriptors import BINS, DESCRIPTORS
from pipeline.features import good_segments, open_features, segment_mean
from study.answer import Row

BLOCK = 1024
"""Videos that are compared with all others at a time."""


@dataclass(frozen=True)
class Collection:
    """Videos that all backbones of the question could read, without near-duplicates, ascending by row.

    `rows` int64 and `sources` int64 [videos], numbered from 0; `means` {backbone: float64 [videos, dim]}; `tags` of
    each video; `left_out`: a row for each near-duplicate; `random_weights` names backbones.
    """

    rows: np.ndarray
    sources: np.ndarray
    means: dict[str, np.ndarray]
    tags: list[list[str]]
    left_out: list[Row]
    random_weights: list[str]


def pairs_of(config: Config) -> list[tuple[str, str]]:
    """Return the pairs of backbones, audio and video: the primary one, then the others."""
    return [(config.heads.audio, config.heads.video)] + [(audio, video) for audio, video in config.study.sources.others]


def fewest_sources(settings: Sources) -> int:
    """Return how many sources are needed for the folds and the folds within them.

    Two are needed in each of the smallest parts, so that every gallery has a negative.
    """
    return 2 * settings.folds * settings.inner_folds


def load(config: Config) -> Collection:
    """Read the collection. UserError where it has too few sources for the folds."""
    settings, features = config.study.sources, open_features(config.paths)
    names = list(dict.fromkeys(name for pair in pairs_of(config) for name in pair))
    rows = features.rows(valid=names)
    blocks = {name: features.numpy(name, rows) for name in names}
    good = good_segments(*blocks.values())
    whole = np.flatnonzero(good.any(axis=1))
    rows, good = rows[whole], good[whole]
    means = {name: segment_mean(_columns(name, block[whole]), good, np.float64) for name, block in blocks.items()}
    videos = features.labels(rows)
    primary = {name: means[name] for name in pairs_of(config)[0]}
    twins = near_duplicates(list(primary.values()), settings.near_duplicate)
    ids = videos["video_id"].to_pylist()
    left_out: list[Row] = [
        {"video": ids[later], "earlier": ids[earlier]}
        | {f"{name}_cosine": value for name, value in zip(primary, cosines, strict=True)}
        for later, (earlier, cosines) in twins.items()
    ]
    kept = np.array([i for i in range(len(rows)) if i not in twins], np.int64)
    sources = np.unique(group_numbers(videos)[kept], return_inverse=True)[1]
    needed = fewest_sources(settings)
    if not len(kept) or sources.max() + 1 < needed:
        raise UserError(
            f"study.sources: {len(kept)} videos of {sources.max(initial=-1) + 1} sources can be used; {needed} sources "
            "are needed for so many folds. Name the sources in the column `group` of the table of videos, or lower "
            "study.sources.folds and study.sources.inner_folds"
        )
    tags = [list(videos["tags"][i].as_py() or []) for i in kept.tolist()]
    random = [name for name in names if features.random_weights(name)]
    return Collection(
        rows[kept], sources, {name: values[kept] for name, values in means.items()}, tags, left_out, random
    )


def near_duplicates(spaces: list[np.ndarray], threshold: float) -> dict[int, tuple[int, list[float]]]:
    """Return {video: the first earlier one that it is a near-duplicate of, and their cosine in each space}.

    `spaces` are features float [videos, dim] each. Two videos are near-duplicates if the cosine of their standardised
    features is at least `threshold` in any of the spaces. Compares blocks of videos, so memory grows with their number
    only linearly.
    """
    standard = [unit_rows(standardised(space)) for space in spaces]
    twins: dict[int, tuple[int, list[float]]] = {}
    for start in range(0, len(spaces[0]), BLOCK):
        cosines = np.stack([space[start : start + BLOCK] @ space[: start + BLOCK].T for space in standard])
        later, earlier = np.nonzero(np.tril(cosines.max(axis=0) >= threshold, start - 1))
        for row, original in zip(later.tolist(), earlier.tolist(), strict=True):
            twins.setdefault(start + row, (original, [float(value) for value in cosines[:, row, original]]))
    return twins


def standardised(features: np.ndarray) -> np.ndarray:
    """Return features [videos, dim] with mean 0 and variance 1 in every column, float64; constant columns are 0."""
    centred = features - features.mean(axis=0, dtype=np.float64)
    deviation = centred.std(axis=0)
    return np.asarray(np.where(deviation > 1e-9, centred / np.where(deviation > 1e-9, deviation, 1), 0))


def _columns(name: str, block: np.ndarray) -> np.ndarray:
    """Return the features [videos, segments, dim] without the envelope over time that descriptors have."""
    return block[:, :, :-BINS] if name in DESCRIPTORS else block
