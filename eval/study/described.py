"""What the descriptors say of whole videos, and how well cuts and motion keep the beat. Reads both descriptor arrays.

Shard by shard in dask tasks, each of which holds one shard: of a cache of any size only a row of numbers a video stays.
A video's descriptor is the mean of its segments', and of directions the direction of the mean of their unit vectors.

Synchrony of a segment is the largest correlation of its two envelopes (`pipeline/backbones/descriptors.py`: beginnings
of notes, changes of the picture) where either may come up to LAG bins later than the other. It is compared with that of
the same sound beside the pictures of other videos, drawn as in `pipeline.statistics.Joined`, because a maximum over
lags is above 0 for any two envelopes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dask
import numpy as np

from eval.study.associations import Table
from pipeline.backbones.descriptors import DESCRIPTORS, ENVELOPES, places
from pipeline.shards import Shards
from pipeline.statistics import Joined

SOUND, PICTURE = DESCRIPTORS
LAG = 2
"""Bins of 0.1 s."""


@dataclass(frozen=True)
class Described:
    """Of `rows` (int64 [n], ascending): tables of either side; `synchrony` float32 [1 + re-pairings, n], true first.

    Synchrony is NaN where a re-pairing left a video no segment.
    """

    rows: np.ndarray
    sound: Table
    picture: Table
    synchrony: np.ndarray


def describe(sound: Shards, picture: Shards, rows: np.ndarray, repairings: int, bins: int, **how: Any) -> Described:
    """Read both arrays' descriptors of these rows. `bins`: of the envelopes, that the segments have.

    `how`: arguments of dask.compute. UserError for a damaged shard.
    """
    edges = np.flatnonzero(np.diff(rows // sound.shard_rows, prepend=-1, append=-1)).tolist()
    task = dask.delayed(_block, pure=False)
    tasks = [task(sound, picture, rows[a:b], repairings, bins) for a, b in zip(edges, edges[1:], strict=False)]
    blocks = dask.compute(*tasks, **how)
    values = np.concatenate([block[0] for block in blocks])
    synchrony = np.concatenate([block[1] for block in blocks], axis=1)
    known = np.isfinite(values).all(axis=1)  # of a video whose good segments of either side are others, nothing is left
    rows, values, synchrony = rows[known], values[known], synchrony[:, known]
    width = sound.shape[2]
    tables = [_table(name, part) for name, part in ((SOUND, values[:, :width]), (PICTURE, values[:, width:]))]
    return Described(rows, tables[0], tables[1], synchrony)


def _block(
    sound: Shards, picture: Shards, rows: np.ndarray, repairings: int, bins: int
) -> tuple[np.ndarray, np.ndarray]:
    """One shard's rows: mean columns float32 [n, sum of widths], synchrony [1 + repairings, n]."""
    means, synchrony = None, []
    for seed in (None, *range(repairings)):
        block = Joined((sound, picture), seed).read(rows, threads=1).astype(np.float32)
        if means is None:
            count = np.maximum((~np.isnan(block[..., 0])).sum(axis=1), 1)[:, None]
            means = np.where(np.isnan(block[..., :1]).all(axis=1), np.nan, np.nansum(block, axis=1) / count)
        onset = block[..., places(SOUND)[ENVELOPES[SOUND]]][..., : bins - 1]  # no change begins in the last bin
        change = block[..., sound.shape[2] :][..., places(PICTURE)[ENVELOPES[PICTURE]]][..., : bins - 1]
        kept = ~np.isnan(onset[..., 0])
        each, count = np.where(kept, synchrony_of(onset, change), 0), kept.sum(axis=1)
        synchrony.append(np.where(count, each.sum(axis=1) / np.maximum(count, 1), np.nan))
    assert means is not None
    return means, np.stack(synchrony).astype(np.float32)


def synchrony_of(onset: np.ndarray, change: np.ndarray) -> np.ndarray:
    """[..., bins] twice → [...]: the largest correlation over lags; 0 where either envelope is constant."""
    x, y = (each - each.mean(axis=-1, keepdims=True) for each in (onset, change))
    norm = np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1))
    n = x.shape[-1]
    products = [
        (x[..., max(0, -lag) : n - max(0, lag)] * y[..., max(0, lag) : n - max(0, -lag)]).sum(axis=-1)
        for lag in range(-LAG, LAG + 1)
    ]
    return np.max(products, axis=0) / np.where(norm > 0, norm, 1)


def _table(backbone: str, means: np.ndarray) -> Table:
    """{descriptor: float64 [n] or, of a direction, unit vectors [n, 2] ((0, 0) where there is none)}."""
    found: Table = {}
    where = places(backbone)
    for each in DESCRIPTORS[backbone]:
        values = means[:, where[each.name]].astype(np.float64)
        if each.columns == 1:
            found[each.name] = values[:, 0]
        else:
            length = np.hypot(*values.T)[:, None]
            found[each.name] = values / np.where(length > 1e-6, length, np.inf)
    return found
