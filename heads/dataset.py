"""A split's features for training: all in memory, or a window of shards at a time.

Reads the cache's arrays shard by shard, two at a time; writes nothing. Only videos that are needed are kept, as
float16; a batch is gathered by index and becomes float32 there. On a GPU the features lie in the GPU's memory.

PyTorch is imported where it is used: its import takes seconds, during which the reading goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from config.cli import UserError
from config.heads import SegmentPolicy
from data.groups import group_numbers
from data.manifest import read_manifest
from heads.batches import cut, draw, generator
from heads.features import FeatureArray, PairedFeatures

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("dataset")
READERS = 2
CLUMPED = 0.1
"""By how much the share of neighbours of one group may exceed chance."""
OVERHEAD = 10**9
"""Bytes for all but the features: the libraries, a batch with its gradients, shards that are being read."""


class Block:
    """Features of some videos: audio and video, float16 [videos, segments, dim], in main memory or on a GPU."""

    def __init__(self, videos: int, segments: int, dims: tuple[int, int], device: str) -> None:
        shapes = [(videos, segments, dim) for dim in dims]
        self._stored: list[Any]  # arrays, or tensors on a GPU
        if device == "cpu":
            self._stored = [np.empty(shape, np.float16) for shape in shapes]
        else:
            import torch

            self._stored = [torch.empty(shape, dtype=torch.float16, device=device) for shape in shapes]
        self.segments = segments
        self._reading: list[Future[None]] = []
        self._gathered: list[list[Tensor]] = []

    def read(
        self, pool: ThreadPoolExecutor, features: PairedFeatures, rows: np.ndarray, chosen: np.ndarray | None
    ) -> None:
        """Start filling the block with `rows` (int64, by shards, ascending in each); see `wait`.

        With `chosen` (int64 [videos]) only that segment of each video is kept.
        """
        shards = rows // features.shard_videos
        edges = [0, *(np.flatnonzero(np.diff(shards)) + 1).tolist(), len(rows)]
        self._reading = [
            pool.submit(_read_shard, array, rows[part], None if chosen is None else chosen[part], target[part])
            for part in map(slice, edges, edges[1:])
            for array, target in zip(features.arrays, self._stored, strict=True)
        ]

    def wait(self) -> None:
        """Wait until all rows are read. Raises UserError for a shard that is damaged or missing."""
        for reading in self._reading:
            reading.result()
        self._reading = []

    @cached_property
    def modalities(self) -> list[Tensor]:
        """Audio and video, float16 [videos, segments, dim], without a copy."""
        import torch

        return [torch.from_numpy(array) if isinstance(array, np.ndarray) else array for array in self._stored]

    def pairs(self, videos: np.ndarray, segments: np.ndarray) -> list[Tensor]:
        """Return audio and video float32 [pairs, dim] of videos' segments, in buffers that the next call reuses."""
        import torch

        index = torch.from_numpy(videos * self.segments + segments).to(self.modalities[0].device)
        return [
            full.copy_(torch.index_select(array.flatten(0, 1), 0, index, out=half))
            for array, (half, full) in zip(self.modalities, self._buffers(len(videos)), strict=True)
        ]

    def _buffers(self, pairs: int) -> list[list[Tensor]]:
        """Return a float16 and a float32 [pairs, dim] a modality: allocating would cost more than filling them."""
        import torch

        if not self._gathered or len(self._gathered[0][0]) < pairs:
            kinds = (torch.float16, torch.float32)
            self._gathered = [
                [array.new_empty((pairs, array.shape[2]), dtype=dtype) for dtype in kinds] for array in self.modalities
            ]
        return [[buffer[:pairs] for buffer in buffers] for buffers in self._gathered]

    def means(self, videos: np.ndarray, good: np.ndarray) -> list[Tensor]:
        """Return audio and video float32 [pairs, dim]: means of the `good` segments (bool [pairs, segments])."""
        import torch

        device = self.modalities[0].device
        index, mask = torch.from_numpy(videos).to(device), torch.from_numpy(good).to(device)[:, :, None]
        return [
            array.index_select(0, index).float().masked_fill_(~mask, 0).sum(dim=1) / mask.sum(dim=1)
            for array in self.modalities
        ]


def _read_shard(array: FeatureArray, rows: np.ndarray, chosen: np.ndarray | None, target: np.ndarray | Tensor) -> None:
    """Copy rows of one shard, or the chosen segment of each, into `target` [rows, segments, dim]."""
    first, last = int(rows[0]), int(rows[-1]) + 1
    block, offsets = array[first:last], rows - first
    if isinstance(target, np.ndarray) and chosen is None:
        np.take(block, offsets, axis=0, out=target, mode="clip")  # "raise" would go through a copy
        return
    ready = block[offsets] if chosen is None else block[offsets, chosen][:, None]
    if isinstance(target, np.ndarray):
        target[:] = ready
    else:  # from pinned memory, so that the copy does not wait for the work that is queued
        import torch

        target.copy_(torch.from_numpy(ready).pin_memory(), non_blocking=True)


@dataclass
class Data:
    """One split's pairs, epoch by epoch: streamed in windows of `window` bytes, or all in memory.

    In memory, `block` holds all of the split's videos (and maybe others), the split's i-th at `places[i]`.
    """

    features: PairedFeatures
    split: str
    device: str
    window: int | None = None
    block: Block | None = None
    places: np.ndarray | None = None

    def batches(self, policy: SegmentPolicy, batch: int, seed: int, epoch: int) -> Iterator[list[Tensor]]:
        """Yield an epoch's batches: audio and video float32 [pairs, dim]. The next batch overwrites the one before.

        A batch has at most one segment of a video. The same arguments give the same batches; another `window` gives
        the same pairs in other batches.
        """
        good = self.features.splits[self.split].good
        segments = draw(good, policy, seed, epoch)
        number = 0
        for block, videos, places in self._windows(segments, policy, seed, epoch):
            for chosen, segment in cut(segments[videos], batch, seed, epoch, number):
                if policy == "mean":
                    yield block.means(places[chosen], good[videos[chosen]])
                else:
                    yield block.pairs(places[chosen], segment if block.segments > 1 else np.zeros_like(segment))
            number += 1
            del block  # so that it is freed before the window after the next is read

    def _windows(
        self, segments: np.ndarray, policy: SegmentPolicy, seed: int, epoch: int
    ) -> Iterator[tuple[Block, np.ndarray, np.ndarray]]:
        """Yield blocks, the split's videos in each and their places; the next window is read while one is used."""
        if self.block is not None and self.places is not None:
            self.block.wait()
            yield self.block, np.arange(len(segments)), self.places
            return
        assert self.window is not None
        features = self.features
        rows = features.splits[self.split].rows
        segments_read = 1 if policy in ("one", "first") else features.segments
        windows = self._shuffled(self.window // (segments_read * 2 * sum(features.dims)), generator(seed, epoch, 0, 1))
        pool = ThreadPoolExecutor(READERS)

        def start(videos: np.ndarray) -> Block:
            block = Block(len(videos), segments_read, features.dims, self.device)
            block.read(pool, features, rows[videos], segments[videos, 0] if segments_read == 1 else None)
            return block

        try:
            coming = start(windows[0])
            for number, videos in enumerate(windows):
                block = coming
                block.wait()
                if number + 1 < len(windows):
                    coming = start(windows[number + 1])
                yield block, videos, np.arange(len(videos))
                del block
        finally:
            pool.shutdown(cancel_futures=True)

    def _shuffled(self, limit: int, rng: np.random.Generator) -> list[np.ndarray]:
        """Return the split's videos by shards in random order, in windows of at most `limit` videos (or one shard)."""
        rows = self.features.splits[self.split].rows
        shards = np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows // self.features.shard_videos)) + 1)
        order = [shards[number] for number in rng.permutation(len(shards))]
        # By the largest shard, so that all windows can have equally many shards in any order.
        shards_per_window = max(1, limit // max(map(len, order)))
        windows = np.array_split(np.arange(len(order)), -(-len(order) // shards_per_window))
        return [np.concatenate([order[number] for number in window]) for window in windows]


def load(features: PairedFeatures, names: tuple[str, ...], device: str) -> dict[str, Data]:
    """Return these splits in memory; one pass over the shards reads them in threads that go on after the return."""
    rows = np.sort(np.concatenate([features.splits[name].rows for name in names]))
    block = Block(len(rows), features.segments, features.dims, device)
    pool = ThreadPoolExecutor(READERS)
    block.read(pool, features, rows, None)
    pool.shutdown(wait=False)
    places = {name: np.searchsorted(rows, features.splits[name].rows) for name in names}
    return {name: Data(features, name, device, block=block, places=places[name]) for name in names}


def warn_if_sorted(manifest: Path, rows: np.ndarray) -> None:
    """Warn if neighbours among the `rows` (int64, ascending) of the manifest are of one group more than by chance.

    A window holds few shards, and a batch is drawn from one window: if the table was sorted by artist, a query's
    negatives are of its own artist much more often than they would be among all videos.
    """
    table = read_manifest(manifest, ["video_id", "artist", "group"]).take(pa.array(rows))
    groups = group_numbers(table)
    sizes = np.bincount(groups)
    by_chance = float((sizes * (sizes - 1)).sum() / max(1, len(rows) * (len(rows) - 1)))
    share = float((groups[1:] == groups[:-1]).mean()) if len(rows) > 1 else 0.0
    if share > by_chance + CLUMPED:
        log.warning(
            "the table of videos is sorted: %.0f %% of neighbouring training videos are of one group (by chance %.2g "
            "%%), and their features are streamed in windows of shards, so that a batch has many more negatives of the "
            "query's own group than if all fitted into memory. Shuffle the table before the first run of a results "
            "folder (videos keep their order after that), or give `heads.memory_gb` more",
            100 * share,
            100 * by_chance,
        )


def open_data(
    features: PairedFeatures, device: str, memory_gb: float | None, manifest: Path | None = None
) -> dict[str, Data]:
    """Return training and validation data: in memory where they fit, otherwise streamed; logs which of the two.

    `memory_gb` is the memory (the GPU's, where there is one) that training may take, in 10^9 bytes; None: all that
    is available. With `manifest`, warns where it streams a table that is sorted by groups. Raises UserError if not even
    streaming fits.
    """
    allowed = available(device) if memory_gb is None else int(memory_gb * 1e9)
    room = allowed - OVERHEAD
    video_bytes = features.segments * 2 * sum(features.dims)
    need = {name: len(features.splits[name].rows) * video_bytes for name in ("train", "validation")}
    budget = f"of {allowed / 1e9:.1f} GB ({'heads.memory_gb' if memory_gb is not None else 'available'})"
    if sum(need.values()) <= room:
        log.info("holding %.2f GB of features in memory, %s", sum(need.values()) / 1e9, budget)
        return load(features, ("train", "validation"), device)
    # Validation comes after every epoch: read once where that leaves the windows more than half of the room.
    keep = need["validation"] <= 0.45 * room
    window = (room - keep * need["validation"]) // 2
    least = features.shard_videos * video_bytes
    if window < least:
        raise UserError(
            f"heads.memory_gb: training needs at least {(OVERHEAD + 4 * least) / 1e9:.1f} GB of memory to stream "
            f"shards of {features.shard_videos} videos, and has {allowed / 1e9:.1f} GB"
        )
    log.info(
        "streaming: %.2f GB of features do not fit; two windows of %.2f GB and validation %s, %s",
        *(sum(need.values()) / 1e9, window / 1e9, "in memory" if keep else "the same way", budget),
    )
    if manifest is not None:
        warn_if_sorted(manifest, features.splits["train"].rows)
    streamed = {name: Data(features, name, device, window) for name in need}
    return streamed | load(features, ("validation",), device) if keep else streamed


def best_device() -> str:
    """Return `cuda` where PyTorch sees a GPU, otherwise `cpu`; a PyTorch without CUDA is not imported for that."""
    if version("torch").endswith("+cpu"):
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def available(device: str) -> int:
    """Return the bytes for a training: 0.9 of what the GPU, or the machine and this job's cgroup, has free."""
    if device != "cpu":
        import torch

        return int(0.9 * torch.cuda.mem_get_info()[0])
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines())
    return int(0.9 * min(int(lines["MemAvailable"].split()[0]) * 1024, _left_in_cgroup()))


def _left_in_cgroup() -> float:
    """Return the bytes left under the limits of this process's cgroup (v2) and those above it; inf without a limit."""
    lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    group = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    folder, remaining = Path("/sys/fs/cgroup") / group, float("inf")
    for directory in (folder, *folder.parents):
        try:
            limit = (directory / "memory.max").read_text(encoding="utf-8").strip()
            used = int((directory / "memory.current").read_text(encoding="utf-8"))
            cached = dict(line.split() for line in (directory / "memory.stat").read_text(encoding="utf-8").splitlines())
        except OSError:  # the top has no limit, and above it is no cgroup
            continue
        if limit != "max":  # files that the system keeps in memory count as used, but it gives them up
            remaining = min(remaining, int(limit) - used + int(cached["active_file"]) + int(cached["inactive_file"]))
    return remaining
