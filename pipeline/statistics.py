"""Mean, variance and covariance of features over the whole cache, in bounded memory, with dask.

    python -m pipeline.statistics --config RESULTS/config.json --backbone musicnn [--split train] [--threads 2]

Reads `features.zarr` and the manifest; writes `statistics/<backbone>.safetensors`: `mean` [dim], `variance` [dim] and
`covariance` [dim, dim], float64. By default over the valid segments of the training split alone, so that what is
standardised with it has learned nothing of the others.

Every shard is one dask task, summed up in a tree; a task holds one shard. By default they run in threads here, with
`dask` in the configuration on a cluster (pipeline/computing.py).
The covariance between backbones is a part of the covariance of all of them `Joined`, by the same tree of tasks.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from config.cli import UserError, parser, run
from config.files import replacing
from config.model import Config, read
from config.paths import Paths
from pipeline.computing import computing
from pipeline.features import Split, open_features
from pipeline.shards import Shards

log = logging.getLogger("statistics")
TOGETHER = 8
"""Sums that one task of the tree adds up."""


@dataclass(frozen=True)
class Moments:
    """Sums over `count` segments x of x - shift, [dim], and of its outer products, [dim, dim]; all float64."""

    count: int
    shift: np.ndarray
    total: np.ndarray
    products: np.ndarray

    def __add__(self, other: Moments) -> Moments:
        """Sums over the segments of both, which have the same shift."""
        return Moments(self.count + other.count, self.shift, self.total + other.total, self.products + other.products)


@dataclass(frozen=True)
class Statistics:
    """Of `count` segments: `mean` and `variance` [dim], `covariance` [dim, dim] (divided by count - 1), float64."""

    count: int
    mean: np.ndarray
    variance: np.ndarray
    covariance: np.ndarray

    @property
    def std(self) -> np.ndarray:
        """[dim] float64: the square root of the variance."""
        return np.sqrt(self.variance)


@dataclass(frozen=True)
class Joined:
    """Several backbones' arrays read as one, [videos, segments, sum of dims], with which `compute` can do the same.

    A segment that is damaged in one of them is damaged. With a `seed`, every part but the first gives other videos'
    features instead, of the same read: as many re-pairings as there are seeds, for baselines. The videos of a read
    (in `compute`: the rows of one shard) move along by numbers that are drawn without replacement, so no two parts
    ever show one video; a read of fewer rows than there are parts is damaged throughout, because it cannot be paired.
    """

    parts: tuple[Shards, ...]
    seed: int | None = None

    @property
    def folder(self) -> Path:
        """The first part's, for messages."""
        return self.parts[0].folder

    @property
    def shard_rows(self) -> int:
        """Rows a shard, the same in all parts."""
        return self.parts[0].shard_rows

    def read(self, rows: np.ndarray, threads: int | None = None) -> np.ndarray:
        """[rows, segments, sum of dims] float16; `rows` int64 [n]."""
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
    """The undamaged segments of these rows, float32 [segments, dim]."""
    block = shards.read(rows, threads=1)
    return block[~np.isnan(block[:, :, 0])].astype(np.float32)  # a damaged segment is NaN throughout


def moments(shards: Shards | Joined, rows: np.ndarray, shift: np.ndarray) -> Moments:
    """The sums of one shard's rows.

    The products are float32, of numbers near 0 because of the shift; only the sums over shards grow, in float64.
    """
    x = segments_of(shards, rows) - shift.astype(np.float32)
    return Moments(len(x), shift, x.sum(axis=0, dtype=np.float64), (x.T @ x).astype(np.float64))


def _sum(parts: list[Moments]) -> Moments:
    return sum(parts[1:], parts[0])


def compute(shards: Shards | Joined, rows: np.ndarray, **how: Any) -> Statistics:
    """Statistics of the segments of these rows (int64, ascending). `how`: arguments of dask.compute.

    UserError for fewer than two segments, and for a damaged shard.
    """
    if len(rows) == 0:
        raise UserError(f"{shards.folder}: no video has features, so they have no mean")
    edges = np.flatnonzero(np.diff(rows // shards.shard_rows, prepend=-1, append=-1)).tolist()
    # Any point among the features would do: sums of squares far from 0 lose digits that sums near it keep.
    shift = segments_of(shards, rows[:100]).mean(axis=0, dtype=np.float64).astype(np.float32).astype(np.float64)
    block, add = dask.delayed(moments, pure=False), dask.delayed(_sum, pure=False)
    sums = [block(shards, rows[a:b], shift) for a, b in zip(edges, edges[1:], strict=False)]
    while len(sums) > 1:
        sums = [add(sums[at : at + TOGETHER]) for at in range(0, len(sums), TOGETHER)]
    (found,) = dask.compute(sums[0], **how)
    if found.count < 2:
        raise UserError(f"{shards.folder}: one segment has no variance; choose a larger split")
    off = found.total / found.count
    covariance = (found.products - found.count * np.outer(off, off)) / (found.count - 1)
    return Statistics(found.count, shift + off, covariance.diagonal().copy(), covariance)


def write_statistics(config: Config, backbone: str, split: Split | None = "train", threads: int = 1) -> Statistics:
    """Compute a backbone's statistics over a split (None: all videos) and write them."""
    paths = Paths(Path(config.results))
    features = open_features(paths)
    if backbone not in features.backbones:
        raise UserError(f"--backbone {backbone}: the cache has {features.backbones}")
    shards, rows = Shards.open(paths.features / backbone), features.rows(split, valid=[backbone])
    with computing(config, threads) as how:
        found = compute(shards, rows, **how)
    about = {"key": features.key(backbone), "split": split or "all", "count": found.count, "videos": len(rows)}
    tensors = {"mean": found.mean, "variance": found.variance, "covariance": found.covariance}
    with replacing(paths.statistics(backbone)) as temporary:
        save_file(tensors, temporary, {name: json.dumps(value) for name, value in about.items()})
    log.info("%s: %d segments of %d videos (%s)", backbone, found.count, len(rows), about["split"])
    return found


def read_statistics(paths: Paths, backbone: str, key: str) -> Statistics:
    """A backbone's statistics. UserError if there are none, or of features under another cache key than `key`."""
    path = paths.statistics(backbone)
    try:
        with safe_open(path, "numpy") as file:
            about = {name: json.loads(value) for name, value in file.metadata().items()}
            tensors = {name: file.get_tensor(name) for name in ("mean", "variance", "covariance")}
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run `snakemake statistics …`") from None
    except SafetensorError as error:
        raise UserError(f"{path} is damaged ({error}); delete it and run `snakemake statistics …`") from None
    if about["key"] != key:
        raise UserError(f"{path} is of other features than the cache has now; run `snakemake statistics …`")
    return Statistics(about["count"], **tensors)


def main() -> None:
    """Command line."""
    p = parser(__doc__, "pipeline.statistics", "cores to use")
    p.add_argument("--backbone", required=True, metavar="NAME", help="name of a backbone of the configuration")
    p.add_argument("--split", choices=("train", "validation", "test", "all"), default="train")
    arguments = p.parse_args()
    split = None if arguments.split == "all" else arguments.split
    write_statistics(read(arguments.config), arguments.backbone, split, arguments.threads)


if __name__ == "__main__":
    run(main)
