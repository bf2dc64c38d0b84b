"""The feature spaces of the cache compared with one another, each measure beside its baseline.

Reads the backbones' arrays, shard by shard for what covariances give, and a sample of videos for their neighbours;
writes nothing. The baseline pairs videos anew: inside a shard for covariances, over the whole sample for neighbours.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from eval.study.answer import Row
from eval.study.spaces import Blocks, canonical, cka, mutual, nearest, paired_anew
from pipeline.backbones.descriptors import BINS, DESCRIPTORS
from pipeline.features import Features, Split
from pipeline.shards import Shards
from pipeline.statistics import Joined, Statistics, compute

Covariances = dict[str, Statistics]
"""{split: of all backbones joined}."""


def covariances(
    features: Features, names: list[str], splits: tuple[Split, ...], seed: int | None = None, **how: Any
) -> Covariances:
    """Of the backbones' segments, all joined, in each split; with a seed those of videos paired anew.

    Memory: a shard of all arrays and a covariance a thread. `how`: arguments of dask.compute.
    """
    joined = Joined(tuple(Shards.open(features.folder / name) for name in names), seed)
    return {split: compute(joined, features.rows(split, valid=names), **how) for split in splits}


def columns(features: Features, names: list[str]) -> dict[str, np.ndarray]:
    """{backbone: its columns of the joined array}; of descriptors only themselves, not the envelopes."""
    found, at = {}, 0
    for name in names:
        dim = features.dim(name)
        found[name] = np.arange(at, at + dim - (BINS if name in DESCRIPTORS else 0))
        at += dim
    return found


def blocks(found: Statistics, a: np.ndarray, b: np.ndarray) -> Blocks:
    """The covariances of the joined columns a and b."""
    c = found.covariance
    return c[np.ix_(a, a)], c[np.ix_(a, b)], c[np.ix_(b, b)]


def linear(features: Features, names: list[str], permutations: int, **how: Any) -> tuple[list[Row], list[Row]]:
    """CKA and canonical correlations of every two backbones: a row a pair, and a row a canonical pair of each."""
    true = covariances(features, names, ("train", "validation", "test"), **how)
    anew = [covariances(features, names, ("train", "test"), seed, **how) for seed in range(permutations)]
    where = columns(features, names)
    rows: list[Row] = []
    spectra: list[Row] = []
    for one, other in combinations(names, 2):
        a, b = where[one], where[other]
        train, validation, test = (blocks(true[split], a, b) for split in ("train", "validation", "test"))
        tried = canonical(train, validation)
        ridge = max(tried, key=lambda each: float(tried[each].mean()))
        held_out = canonical(train, test, (ridge,))[ridge]
        null = [(blocks(each["train"], a, b), blocks(each["test"], a, b)) for each in anew]
        chance = np.array([canonical(*each, (ridge,))[ridge] for each in null])
        alike = [cka(each) for each, _ in null]
        rows.append(
            {
                "first": one,
                "second": other,
                "segments": true["train"].count,
                "cka": cka(train),
                "cka_chance": float(np.mean(alike)),
                "cka_chance_high": float(np.max(alike)),
                "cca": float(held_out.mean()),
                "cca_first": float(held_out[0]),
                "cca_chance": float(chance.mean()),
                "cca_chance_high": float(chance.mean(axis=1).max()),
                "cca_first_chance_high": float(chance[:, 0].max()),
                "cca_pairs": len(held_out),
                "ridge": ridge,
                "repairings": permutations,
            }
        )
        for k, value in enumerate(held_out):
            line = {"first": one, "second": other, "pair": k + 1, "held_out": float(value)}
            low, high = float(chance[:, k].min()), float(chance[:, k].max())
            spectra.append(line | {"chance_low": low, "chance_high": high})
    return rows, spectra


def means(block: np.ndarray) -> np.ndarray:
    """[videos, segments, dim] → float32 [videos, dim]: the mean of a video's undamaged segments (at least one)."""
    known = ~np.isnan(block[..., :1])
    return np.where(known, block, 0).sum(axis=1, dtype=np.float32) / known.sum(axis=1)


def neighbours(
    spaces: dict[str, np.ndarray], pairs: list[tuple[str, str]], k: int, permutations: int, resamples: int, seed: int
) -> list[Row]:
    """Mutual neighbours of videos [videos, dim] in every pair of spaces, with a bootstrap interval over videos."""
    videos = len(next(iter(spaces.values())))
    k = min(k, videos - 1)
    near = {name: nearest(values, k) for name, values in spaces.items()}
    counts = np.random.default_rng(seed).multinomial(videos, np.full(videos, 1 / videos), size=resamples) / videos
    rows = []
    for one, other in pairs:
        shares = mutual(near[one], near[other])
        low, high = np.percentile(counts @ shares, [2.5, 97.5])
        rng = np.random.default_rng(seed)
        chance = [paired_anew(near[one], near[other], rng) for _ in range(permutations)]
        row = {"first": one, "second": other, "videos": videos, "k": k, "shared": float(shares.mean())}
        row |= {"low": float(low), "high": float(high)}
        rows.append(row | {"chance": float(np.mean(chance)), "chance_high": float(np.max(chance))})
    return rows
