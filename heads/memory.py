"""A split's features where training finds them: all in memory, or a window of shards at a time.

Reads the cache's arrays shard by shard, two at a time; writes nothing. Only videos that are needed are kept, as
float16; a batch is gathered by index and becomes float32 there. On a GPU the features lie in the GPU's memory.

PyTorch is imported where it is used: its import takes seconds, in which the reading goes on.
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

from config.cli import UserError
from config.model import SegmentPolicy
from heads.batches import cut, draw, generator
from heads.features import Features
from pipeline.shards import Shards

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("memory")
READERS = 2
OVERHEAD = 10**9
"""Bytes for all but the features: the libraries, a batch with its gradients, shards that are being read."""


class Block:
    """Features of some videos: audio and video, float16 [videos, segments held, dim], in memory or a GPU's."""

    def __init__(self, videos: int, held: int, dims: tuple[int, int], device: str) -> None:
        shapes = [(videos, held, dim) for dim in dims]
        self._stored: list[Any]  # arrays, or tensors on a GPU
        if device == "cpu":
            self._stored = [np.empty(shape, np.float16) for shape in shapes]
        else:
            import torch

            self._stored = [torch.empty(shape, dtype=torch.float16, device=device) for shape in shapes]
        self.held = held
        self._reading: list[Future[None]] = []
        self._gathered: list[list[Tensor]] = []

    def read(self, pool: ThreadPoolExecutor, features: Features, rows: np.ndarray, chosen: np.ndarray | None) -> None:
        """Have the pool fill the block with these rows (int64, each shard's together and ascending); see `wait`.

        With `chosen` (int64 [videos]) only that segment of each video is kept.
        """
        shards = rows // features.shard_videos
        edges = [0, *(np.flatnonzero(np.diff(shards)) + 1).tolist(), len(rows)]
        self._reading = [
            pool.submit(_read_shard, array, rows[at:end], None if chosen is None else chosen[at:end], side[at:end])
            for at, end in zip(edges, edges[1:], strict=False)
            for array, side in zip(features.arrays, self._stored, strict=True)
        ]

    def wait(self) -> None:
        """Until all is read. UserError for a shard that is damaged or missing."""
        for done in self._reading:
            done.result()
        self._reading = []

    @cached_property
    def sides(self) -> list[Tensor]:
        """Audio and video, where they lie."""
        import torch

        return [torch.from_numpy(side) if isinstance(side, np.ndarray) else side for side in self._stored]

    def pairs(self, videos: np.ndarray, segments: np.ndarray) -> list[Tensor]:
        """Audio and video [pairs, dim] float32 of these videos' segments, in buffers that the next call reuses."""
        import torch

        index = torch.from_numpy(videos * self.held + segments).to(self.sides[0].device)
        return [
            full.copy_(torch.index_select(side.flatten(0, 1), 0, index, out=half))
            for side, (half, full) in zip(self.sides, self._buffers(len(videos)), strict=True)
        ]

    def _buffers(self, pairs: int) -> list[list[Tensor]]:
        """For each side a float16 and a float32 [pairs, dim]: making them anew would cost more than filling them."""
        import torch

        if not self._gathered or len(self._gathered[0][0]) < pairs:
            kinds = (torch.float16, torch.float32)
            self._gathered = [[side.new_empty((pairs, side.shape[2]), dtype=k) for k in kinds] for side in self.sides]
        return [[buffer[:pairs] for buffer in buffers] for buffers in self._gathered]

    def means(self, videos: np.ndarray, good: np.ndarray) -> list[Tensor]:
        """Audio and video [pairs, dim] float32: the mean of each video's `good` segments (bool [pairs, segments])."""
        import torch

        device = self.sides[0].device
        index, known = torch.from_numpy(videos).to(device), torch.from_numpy(good).to(device)[:, :, None]
        return [
            side.index_select(0, index).float().masked_fill_(~known, 0).sum(dim=1) / known.sum(dim=1)
            for side in self.sides
        ]


def _read_shard(array: Shards, rows: np.ndarray, chosen: np.ndarray | None, target: np.ndarray | Tensor) -> None:
    """Rows of one shard, or the chosen segment of each, into [rows, segments held, dim]."""
    first, last = int(rows[0]), int(rows[-1]) + 1
    block, wanted = array[first:last], rows - first
    if isinstance(target, np.ndarray) and chosen is None:
        np.take(block, wanted, axis=0, out=target, mode="clip")  # "raise" would go through a copy
        return
    ready = block[wanted] if chosen is None else block[wanted, chosen][:, None]
    if isinstance(target, np.ndarray):
        target[:] = ready
    else:  # from pinned memory, so that the copy does not wait for the work that is queued
        import torch

        target.copy_(torch.from_numpy(ready).pin_memory(), non_blocking=True)


@dataclass
class Data:
    """One split's pairs, epoch by epoch: streamed in windows of `window` bytes, or all in memory.

    Then `block` holds all of the split's videos (and maybe others), the split's i-th at `places[i]`.
    """

    features: Features
    split: str
    device: str
    window: int | None = None
    block: Block | None = None
    places: np.ndarray | None = None

    def batches(self, policy: SegmentPolicy, batch: int, seed: int, epoch: int) -> Iterator[list[Tensor]]:
        """An epoch's batches: audio and video [pairs, dim] float32 each. A batch is overwritten by the next one.

        Never two segments of one video in a batch. The same arguments give the same batches; another `window` gives
        the same pairs in others.
        """
        good = self.features.splits[self.split].good
        segments = draw(good, policy, seed, epoch)
        number = 0
        for block, videos, places in self._windows(segments, policy, seed, epoch):
            for chosen, segment in cut(segments[videos], batch, seed, epoch, number):
                if policy == "mean":
                    yield block.means(places[chosen], good[videos[chosen]])
                else:
                    yield block.pairs(places[chosen], segment if block.held > 1 else np.zeros_like(segment))
            number += 1
            del block  # lest it lives on while the window after the next is read

    def _windows(
        self, segments: np.ndarray, policy: SegmentPolicy, seed: int, epoch: int
    ) -> Iterator[tuple[Block, np.ndarray, np.ndarray]]:
        """Blocks, which of the split's videos each holds, and where; the next window is read while one is used."""
        if self.block is not None and self.places is not None:
            self.block.wait()
            yield self.block, np.arange(len(segments)), self.places
            return
        assert self.window is not None
        rows, f = self.features.splits[self.split].rows, self.features
        held = 1 if policy == "one" else f.segments
        windows = self._shuffled(self.window // (held * 2 * sum(f.dims)), generator(seed, epoch, 0, 1))
        pool = ThreadPoolExecutor(READERS)

        def start(videos: np.ndarray) -> Block:
            block = Block(len(videos), held, f.dims, self.device)
            block.read(pool, f, rows[videos], segments[videos, 0] if held == 1 else None)
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

    def _shuffled(self, most: int, rng: np.random.Generator) -> list[np.ndarray]:
        """The split's videos by shards in a random order, in windows of at most `most` videos (or one shard)."""
        rows = self.features.splits[self.split].rows
        shards = np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows // self.features.shard_videos)) + 1)
        order = [shards[number] for number in rng.permutation(len(shards))]
        # By the largest shard, so that windows can have equally many, whichever they are.
        a_window = max(1, most // max(map(len, order)))
        windows = np.array_split(np.arange(len(order)), -(-len(order) // a_window))
        return [np.concatenate([order[number] for number in window]) for window in windows]


def load(features: Features, names: tuple[str, ...], device: str) -> dict[str, Data]:
    """These splits in memory, read in one pass over the shards, which goes on after this has returned."""
    rows = np.sort(np.concatenate([features.splits[name].rows for name in names]))
    block = Block(len(rows), features.segments, features.dims, device)
    pool = ThreadPoolExecutor(READERS)
    block.read(pool, features, rows, None)
    pool.shutdown(wait=False)
    places = {name: np.searchsorted(rows, features.splits[name].rows) for name in names}
    return {name: Data(features, name, device, block=block, places=places[name]) for name in names}


def open_data(features: Features, device: str, memory_gb: float | None) -> dict[str, Data]:
    """Training and validation data: in memory where they fit, otherwise streamed; which of the two is logged.

    `memory_gb` is the memory (of the GPU, where there is one) that training may take in 10^9 bytes; None: what is
    available. Raises UserError if not even streaming fits.
    """
    allowed = available(device) if memory_gb is None else int(memory_gb * 1e9)
    room = allowed - OVERHEAD
    a_video = features.segments * 2 * sum(features.dims)
    need = {name: len(features.splits[name].rows) * a_video for name in ("train", "validation")}
    said = f"of {allowed / 1e9:.1f} GB ({'heads.memory_gb' if memory_gb is not None else 'available'})"
    if sum(need.values()) <= room:
        log.info("holding %.2f GB of features in memory, %s", sum(need.values()) / 1e9, said)
        return load(features, ("train", "validation"), device)
    # Validation comes after every epoch: read once where that leaves the windows more than half of the room.
    keep = need["validation"] <= 0.45 * room
    window = (room - keep * need["validation"]) // 2
    least = features.shard_videos * a_video
    if window < least:
        raise UserError(
            f"heads.memory_gb: training needs at least {(OVERHEAD + 4 * least) / 1e9:.1f} GB of memory to stream "
            f"shards of {features.shard_videos} videos, and has {allowed / 1e9:.1f} GB"
        )
    log.info(
        "streaming: %.2f GB of features do not fit; two windows of %.2f GB and validation %s, %s",
        *(sum(need.values()) / 1e9, window / 1e9, "in memory" if keep else "the same way", said),
    )
    streamed = {name: Data(features, name, device, window) for name in need}
    return streamed | load(features, ("validation",), device) if keep else streamed


def best_device() -> str:
    """`cuda` where PyTorch sees a GPU, otherwise `cpu`. A PyTorch without CUDA need not be imported to know."""
    if version("torch").endswith("+cpu"):
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def available(device: str) -> int:
    """Bytes that training may take: 0.9 of what the GPU, or the machine and this job's cgroup, has free."""
    if device != "cpu":
        import torch

        return int(0.9 * torch.cuda.mem_get_info()[0])
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(0.9 * min(int(lines["MemAvailable"].split()[0]) * 1024, _left_in_cgroup()))


def _left_in_cgroup() -> float:
    """Bytes left under the memory limits of this process's cgroup (v2) and those above it; inf where there is none."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    group = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    folder, left = Path("/sys/fs/cgroup") / group, float("inf")
    for each in (folder, *folder.parents):
        try:
            limit = (each / "memory.max").read_text().strip()
            used = int((each / "memory.current").read_text())
            cached = dict(line.split() for line in (each / "memory.stat").read_text().splitlines())
        except OSError:  # the top has no limit, and above it is no cgroup
            continue
        if limit != "max":  # files that the system keeps in memory count as used, but it gives them up
            left = min(left, int(limit) - used + int(cached["active_file"]) + int(cached["inactive_file"]))
    return left
