"""Comparison of the cache's feature spaces with one another.

Reads the backbones' arrays shard by shard for covariances, and a sample of videos for neighbours; writes nothing.
Chance is computed here for neighbours, in study/relations/sign_test.py for measures of covariances.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from data.splits import SPLITS, Split
from eval.bootstrap import percentile_interval
from pipeline.backbones.descriptors import BINS, DESCRIPTORS
from pipeline.features import Features, good_segments
from pipeline.shards import Shards
from pipeline.statistics import Joined, Statistics, compute
from study.answer import Row
from study.groups import one_each
from study.relations.sign_test import p_value
from study.relations.similarity import Blocks, canonical, cka, mutual, mutual_repaired, nearest

Covariances = dict[str, Statistics]
"""{split: of all backbones joined}."""


def covariances(features: Features, names: list[str], splits: tuple[Split, ...], **how: Any) -> Covariances:
    """Compute the joint covariances of all backbones over the segments of each split.

    Each thread needs memory for a shard of all arrays and a covariance. `how`: arguments of dask.compute.
    """
    joined = Joined(tuple(Shards.open(features.folder / name) for name in names))
    return {split: compute(joined, features.rows(split, valid=names), **how) for split in splits}


def columns(features: Features, names: list[str]) -> dict[str, np.ndarray]:
    """Return {backbone: its columns of the joined array}, without the envelopes of descriptors."""
    indices, start = {}, 0
    for name in names:
        dim = features.dim(name)
        indices[name] = np.arange(start, start + dim - (BINS if name in DESCRIPTORS else 0))
        start += dim
    return indices


def blocks(statistics: Statistics, first: np.ndarray, second: np.ndarray) -> Blocks:
    """Return the covariances of and between two sets of columns, int64 [n] each."""
    pairs = (first, first), (first, second), (second, second)
    own, between, other = (statistics.covariance[np.ix_(rows, columns)] for rows, columns in pairs)
    return own, between, other


def linear(features: Features, names: list[str], **how: Any) -> tuple[list[Row], list[Row]]:
    """Measure CKA and canonical correlations of every two backbones: one row each, and one for each canonical pair.

    `study.relations.sign_test.add_chance` adds chance. `how`: arguments of dask.compute.
    """
    by_split = covariances(features, names, SPLITS, **how)
    indices = columns(features, names)
    rows: list[Row] = []
    spectra: list[Row] = []
    for first, second in combinations(names, 2):
        both = indices[first], indices[second]
        train, validation, test = (blocks(by_split[split], *both) for split in SPLITS)
        validated = canonical(train, validation)
        ridge = max(validated, key=lambda strength: float(validated[strength].mean()))
        cca = canonical(train, test, (ridge,))[ridge]
        pair: Row = {"first": first, "second": second}
        row = pair | {"segments": by_split["train"].count, "cka": cka(train), "cca": float(cca.mean())}
        rows.append(row | {"cca_first": float(cca[0]), "cca_pairs": len(cca), "ridge": ridge})
        spectra += [pair | {"pair": number, "held_out": float(value)} for number, value in enumerate(cca, 1)]
    return rows, spectra


def means(block: np.ndarray) -> np.ndarray:
    """Average the undamaged segments (at least one) of each video: [videos, segments, dim] → float32 [videos, dim]."""
    good = good_segments(block)[:, :, None]
    return np.asarray(np.where(good, block, 0).sum(axis=1, dtype=np.float32) / good.sum(axis=1))


def neighbours(
    spaces: dict[str, np.ndarray],
    pairs: list[tuple[str, str]],
    groups: np.ndarray,
    k: int,
    permutations: int,
    resamples: int,
    seed: int,
) -> list[Row]:
    """Measure mutual neighbours in every pair of spaces {name: [videos, dim]}: bootstrap interval and permutation p.

    `groups` int64 [videos]: the artist of each video. One video of each artist is drawn, because videos of one artist
    are neighbours in any space. k is at most a fifth of the drawn videos. No row for fewer than five artists.
    """
    rng = np.random.default_rng(seed)
    chosen = one_each(groups, rng)
    videos = len(chosen)
    k = min(k, videos // 5)
    if k == 0:
        return []
    near = {name: nearest(values[chosen], k) for name, values in spaces.items()}
    counts = rng.multinomial(videos, np.full(videos, 1 / videos), size=resamples) / videos
    orders = [rng.permutation(videos) for _ in range(permutations)]
    rows = []
    for first, second in pairs:
        shares = mutual(near[first], near[second])
        low, high = percentile_interval(counts @ shares, videos)
        chance = np.array([mutual_repaired(near[first], near[second], order) for order in orders])
        row = {"first": first, "second": second, "artists": videos, "k": k, "shared": float(shares.mean())}
        row |= {"low": low, "high": high, "chance": float(chance.mean())}
        row |= {"chance_high": float(chance.max()), "p": p_value(float(shares.mean()), chance)}
        rows.append(row | {"repairings": permutations})
    return rows
