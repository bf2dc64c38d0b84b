"""The spaces that test videos are measured in: an experiment's embeddings, or the backbones' own features.

Reads the manifest, the cache and an experiment's embeddings (by the first of `heads.seeds`); writes nothing. A test
split of more than `MOST` videos is represented by that many of them, drawn by `eval.seed`. Features are centred: their
mean over the videos is subtracted, because raw features are not negative, and all nearly parallel.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from config.heads import Sides
from config.labels import FEATURES
from config.model import Config
from data.groups import group_numbers
from eval.diagnose.signs import effective_rank
from eval.ranks import UNIT
from eval.retrieval import load_test, pool
from eval.similarity import Items, directed
from pipeline.features import Features, good_segments, open_features, segment_mean

log = logging.getLogger("neighbours")
MOST = 2000


def space_arguments(command_line: argparse.ArgumentParser) -> None:
    """Add the arguments that say in which space something is measured: embeddings, or the features themselves."""
    command_line.add_argument("--experiment", metavar="NAME", help="the embeddings of one of heads.experiments")
    command_line.add_argument(
        "--space",
        metavar="NAME",
        default=FEATURES,
        help=f"without --experiment: the features of these backbones, {FEATURES} (heads.audio and heads.video) or "
        f"{FEATURES}-AUDIO-VIDEO for backbones of an experiment; default: {FEATURES}",
    )


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
            audio, video = (pool(one, unit) for one, unit in zip((self.audio, self.video), self.unit, strict=True))
            owner = np.arange(len(self.audio))
        else:
            good = good_segments(self.audio, self.video)
            audio, video = (
                _units(one[good]) if unit else one[good]
                for one, unit in zip((self.audio, self.video), self.unit, strict=True)
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
        directed(np.where(np.isnan(one), np.nan, 0) if _constant(one) else one - np.nanmean(one, axis=(0, 1)))
        for one in (audio, video)
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
    """Return whether all valid segments of [videos, segments, dim] are the same; False without any video."""
    return len(features) > 0 and bool((np.nanmax(features, axis=(0, 1)) == np.nanmin(features, axis=(0, 1))).all())


def representatives(videos: int, seed: int) -> np.ndarray:
    """Return the positions of all of so many videos, or of `MOST` of them drawn by `seed`: int64, ascending."""
    if videos <= MOST:
        return np.arange(videos)
    rng = np.random.default_rng(np.random.SeedSequence([seed, 1]))
    return np.sort(rng.choice(videos, size=MOST, replace=False))
