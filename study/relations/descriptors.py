"""Descriptors of whole videos, and how well cuts and motion follow the beat. Reads both descriptor arrays.

Each dask task reads one shard and keeps one row of numbers a video, so a cache of any size fits into memory. The
descriptor of a video is the mean over its segments; of a direction, that of the mean of the segments' unit vectors.

Synchrony of a segment is the largest correlation of its two envelopes (`pipeline/backbones/descriptors.py`: note onsets
and changes between frames) over lags of up to LAG bins. A maximum over lags is above 0 for any two envelopes, so it is
compared with the synchrony of the same audio with other videos' frames, drawn as in `pipeline.statistics.Joined`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from dask.base import compute
from dask.delayed import delayed

from pipeline.backbones.descriptors import DESCRIPTORS, ENVELOPES, columns
from pipeline.shards import Shards
from pipeline.statistics import Joined
from study.relations.associations import Table

AUDIO_DESCRIPTORS, VIDEO_DESCRIPTORS = DESCRIPTORS
"""Names of the backbones."""
LAG = 2
"""Bins of 0.1 s."""


@dataclass(frozen=True)
class Described:
    """Descriptors of the videos `rows` (int64 [n], ascending), and their synchrony.

    `synchrony` float32 [1 + re-pairings, n]: of the true pairs first; NaN where a re-pairing left a video no segment.
    """

    rows: np.ndarray
    audio: Table
    video: Table
    synchrony: np.ndarray


def describe(audio: Shards, video: Shards, rows: np.ndarray, repairings: int, bins: int, **how: Any) -> Described:
    """Read the descriptors of these rows from both arrays. `bins`: length of the envelopes.

    Videos without a segment that is undamaged in both modalities are left out. `how`: arguments of dask.compute.
    UserError for a damaged shard.
    """
    edges = np.flatnonzero(np.diff(rows // audio.shard_rows, prepend=-1, append=-1)).tolist()
    task = delayed(_block, pure=False)
    tasks = [task(audio, video, rows[low:high], repairings, bins) for low, high in zip(edges, edges[1:], strict=False)]
    blocks = compute(*tasks, **how)
    values = np.concatenate([block[0] for block in blocks])
    synchrony = np.concatenate([block[1] for block in blocks], axis=1)
    known = np.isfinite(values).all(axis=1)
    rows, values, synchrony = rows[known], values[known], synchrony[:, known]
    width = audio.shape[2]
    tables = _table(AUDIO_DESCRIPTORS, values[:, :width]), _table(VIDEO_DESCRIPTORS, values[:, width:])
    return Described(rows, *tables, synchrony)


def _block(audio: Shards, video: Shards, rows: np.ndarray, repairings: int, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean columns of one shard's rows, float32 [n, sum of widths], and synchrony [1 + repairings, n]."""
    means, synchrony = None, []
    for seed in (None, *range(repairings)):
        block = Joined((audio, video), seed).read(rows, threads=1).astype(np.float32)
        if means is None:
            count = np.maximum((~np.isnan(block[..., 0])).sum(axis=1), 1)[:, None]
            means = np.where(np.isnan(block[..., :1]).all(axis=1), np.nan, np.nansum(block, axis=1) / count)
        onset = _envelope(AUDIO_DESCRIPTORS, block, bins)
        change = _envelope(VIDEO_DESCRIPTORS, block[..., audio.shape[2] :], bins)
        kept = ~np.isnan(onset[..., 0])
        values, count = np.where(kept, synchrony_of(onset, change), 0), kept.sum(axis=1)
        synchrony.append(np.where(count, values.sum(axis=1) / np.maximum(count, 1), np.nan))
    assert means is not None
    return means, np.stack(synchrony).astype(np.float32)


def _envelope(backbone: str, block: np.ndarray, bins: int) -> np.ndarray:
    """Return the envelopes [n, segments, bins - 1]: no change between frames begins in the last bin."""
    return block[..., columns(backbone)[ENVELOPES[backbone]]][..., : bins - 1]


def synchrony_of(onset: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Return the largest correlation over lags of envelopes [..., bins] → [...]; 0 where an envelope is constant."""
    x, y = (envelope - envelope.mean(axis=-1, keepdims=True) for envelope in (onset, change))
    norm = np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1))
    n = x.shape[-1]
    products = [
        (x[..., max(0, -lag) : n - max(0, lag)] * y[..., max(0, lag) : n - max(0, -lag)]).sum(axis=-1)
        for lag in range(-LAG, LAG + 1)
    ]
    return np.asarray(np.max(products, axis=0) / np.where(norm > 0, norm, 1))


def _table(backbone: str, means: np.ndarray) -> Table:
    """Return {descriptor: float64 [n], or unit vectors [n, 2] of a direction, (0, 0) where there is none}."""
    table: Table = {}
    slices = columns(backbone)
    for descriptor in DESCRIPTORS[backbone]:
        values = means[:, slices[descriptor.name]].astype(np.float64)
        if descriptor.columns == 1:
            table[descriptor.name] = values[:, 0]
        else:
            length = np.hypot(*values.T)[:, None]
            table[descriptor.name] = values / np.where(length > 1e-6, length, np.inf)
    return table
