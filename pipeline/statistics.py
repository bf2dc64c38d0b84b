"""Mean, variance and covariance of features over the whole cache, in bounded memory, with dask.

Reads `features.zarr`; writes nothing. Every shard is one dask task that holds only this shard; the tasks' sums are
added up in a tree. `pipeline.computing` says where the tasks run. The covariance between backbones is a block of the
covariance of all of them `Joined`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.base
import numpy as np
from dask.delayed import delayed

from config.cli import UserError
from pipeline.features import good_segments
from pipeline.shards import Shards

TOGETHER = 8
"""Number of sums that one task of the tree adds up."""


@dataclass(frozen=True)
class Moments:
    """Sums over `count` segments x: of x - shift, [dim], and of its outer products, [dim, dim]; float64."""

    count: int
    shift: np.ndarray
    total: np.ndarray
    products: np.ndarray

    def __add__(self, other: Moments) -> Moments:
        """Return the sums over the segments of both, which must have the same shift."""
        return Moments(self.count + other.count, self.shift, self.total + other.total, self.products + other.products)


@dataclass(frozen=True)
class Statistics:
    """`mean` and `variance` [dim] and `covariance` [dim, dim] (divided by count - 1) of `count` segments, float64."""

    count: int
    mean: np.ndarray
    variance: np.ndarray
    covariance: np.ndarray


@dataclass(frozen=True)
class Joined:
    """Several backbones' arrays read as one, [videos, segments, sum of dims]; `compute` takes it like one array.

    A segment that is damaged in one part is damaged. With a `seed`, pairs are broken for baselines by chance: every
    part but the first gives the features of other videos of the same read (in `compute`: of the same shard). Each part
    is shifted by its own number of rows, drawn without replacement, so no two parts show the same video in one row. A
    read of fewer rows than parts cannot be shifted so, and is damaged throughout.
    """

    parts: tuple[Shards, ...]
    seed: int | None = None

    @property
    def folder(self) -> Path:
        """Folder of the first part, for messages."""
        return self.parts[0].folder

    @property
    def shard_rows(self) -> int:
        """Rows per shard, the same in all parts."""
        return self.parts[0].shard_rows

    def read(self, rows: np.ndarray, threads: int | None = None) -> np.ndarray:
        """Return the features of `rows` (int64 [n]), [n, segments, sum of dims] float16; damaged segments are NaN."""
        steps = np.zeros(len(self.parts), np.int64)
        if self.seed is not None:
            if len(rows) < len(self.parts):
                first = self.parts[0].read(rows, threads)
                return np.full((*first.shape[:2], sum(part.shape[2] for part in self.parts)), np.nan, first.dtype)
            rng = np.random.default_rng([self.seed, int(rows[0])])
            steps[1:] = 1 + rng.permutation(len(rows) - 1)[: len(steps) - 1]
        blocks = [part.read(np.roll(rows, step), threads) for part, step in zip(self.parts, steps, strict=True)]
        block = np.concatenate(blocks, axis=2)
        block[np.isnan(block).any(axis=2)] = np.nan
        return block


def segments_of(shards: Shards | Joined, rows: np.ndarray) -> np.ndarray:
    """Return the undamaged segments of these rows, float32 [segments, dim]."""
    block = shards.read(rows, threads=1)
    return block[good_segments(block)].astype(np.float32)


def moments(shards: Shards | Joined, rows: np.ndarray, shift: np.ndarray) -> Moments:
    """Return the sums over one shard's rows.

    A shard's products are summed in float32: `shift` keeps the numbers near 0. Sums over shards are float64.
    """
    shifted = segments_of(shards, rows) - shift.astype(np.float32)
    products = (shifted.T @ shifted).astype(np.float64)
    return Moments(len(shifted), shift, shifted.sum(axis=0, dtype=np.float64), products)


def _sum(parts: list[Moments]) -> Moments:
    return sum(parts[1:], parts[0])


def compute(shards: Shards | Joined, rows: np.ndarray, **how: Any) -> Statistics:
    """Return the statistics of the undamaged segments of `rows` (int64, ascending). `how`: arguments of dask.compute.

    Raise UserError for fewer than two segments, and for a damaged shard.
    """
    if len(rows) == 0:
        raise UserError(f"{shards.folder}: no video has features, so they have no mean")
    edges = np.flatnonzero(np.diff(rows // shards.shard_rows, prepend=-1, append=-1)).tolist()
    # Sums of squares of numbers far from 0 lose digits; any point among the features will do as the shift.
    shift = segments_of(shards, rows[:100]).mean(axis=0, dtype=np.float64).astype(np.float32).astype(np.float64)
    block, add = delayed(moments, pure=False), delayed(_sum, pure=False)
    sums = [block(shards, rows[low:high], shift) for low, high in zip(edges, edges[1:], strict=False)]
    while len(sums) > 1:
        sums = [add(sums[start : start + TOGETHER]) for start in range(0, len(sums), TOGETHER)]
    (whole,) = dask.base.compute(sums[0], **how)
    if whole.count < 2:
        raise UserError(f"{shards.folder}: one segment has no variance; choose a larger split")
    offset = whole.total / whole.count
    covariance = (whole.products - whole.count * np.outer(offset, offset)) / (whole.count - 1)
    return Statistics(whole.count, shift + offset, covariance.diagonal().copy(), covariance)
