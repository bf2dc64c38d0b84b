"""The nearest videos of every video, by the mean of its audio's and its video's cosine.

Writes a file of vectors into the folder that it is given, float32 [videos, dim], so that memory does not grow with
them; reads it back in parts. Up to `EXACT` videos, all pairs are compared. Of more, a graph (HNSW: Malkov & Yashunin
2020, TPAMI, as faiss builds it) on the vectors' largest principal components gives candidates, which are then compared
by the whole vectors. That misses some neighbours: `recall` says how many were found, by an exact search for some.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from config.cli import progress
from eval.atlas.axes import fit
from eval.atlas.vectors import directions, draw

log = logging.getLogger("atlas")
NEAREST = 10
"""Neighbours of a video."""
EXACT = 50_000
"""All pairs of so many videos are compared: half a minute on two cores."""
COMPONENTS, SAMPLE = 64, 20_000
"""Principal components in the graph, and videos that they are fitted on."""
LINKS, BUILDING, SEARCHING = 16, 64, 96
"""Of the graph: links a video, and videos that are kept in sight while it is built and searched."""
CANDIDATES = 30
"""Videos that are compared with a video by the whole vectors."""
QUERIES = 512
"""Videos compared at a time."""
CHECKED = 500
"""Videos whose neighbours are also found exactly, to count what was missed."""


@dataclass(frozen=True)
class Neighbours:
    """The nearest of each video: `positions` int64 and `similarities` float32, both [videos, nearest], nearest first.

    Where the graph found fewer, the last similarities are −inf and their positions mean nothing. `recall`: the share
    of the true nearest that was found; 1 if all pairs were compared.
    """

    positions: np.ndarray
    similarities: np.ndarray
    recall: float


class Vectors:
    """The vectors of all videos, in a file: `add` them in order, then `find` the neighbours."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "vectors.f32"
        self._file = open(self._path, "wb")
        self.videos = self.dim = 0

    def add(self, positions: np.ndarray, vectors: dict[str, np.ndarray]) -> None:
        """Append the vectors of the next videos: {part: float [videos, dim]}."""
        both = np.concatenate([directions(block) for block in vectors.values()], axis=1) / np.sqrt(len(vectors))
        self._file.write(np.ascontiguousarray(both, np.float32).tobytes())
        self.videos, self.dim = self.videos + len(positions), both.shape[1]

    def find(self, seed: int) -> Neighbours:
        """Return the neighbours of all videos, on as many cores as torch has threads."""
        self._file.close()
        if self.videos <= EXACT:
            neighbours = self._within(np.arange(self.videos), self._read(self._path, 0, self.videos))
            return Neighbours(*neighbours, 1.0)
        neighbours = self._by_graph(seed)
        rng = np.random.default_rng(np.random.SeedSequence([seed, 3]))
        checked = np.sort(rng.choice(self.videos, CHECKED, replace=False))
        exact = self._exactly(checked)
        shared = [len(np.intersect1d(*both)) for both in zip(exact, neighbours[0][checked], strict=True)]
        return Neighbours(*neighbours, float(np.mean(shared)) / NEAREST)

    def _read(self, path: Path, start: int, stop: int) -> torch.Tensor:
        """Return consecutive vectors of a file, float32 [stop - start, dim]."""
        count = (stop - start) * self.dim
        flat = np.fromfile(path, np.float32, count, offset=start * self.dim * 4)
        return torch.from_numpy(flat.reshape(-1, self.dim))

    def _picked(self, positions: np.ndarray) -> torch.Tensor:
        # Mapped for the call alone: pages that were read would count as memory of this process.
        whole = np.memmap(self._path, np.float32, "r", shape=(self.videos, self.dim))
        return torch.from_numpy(np.array(whole[positions]))

    def _within(self, queries: np.ndarray, vectors: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Compare these videos with all of `vectors`, among which they are themselves at the same numbers."""
        near = np.empty((len(queries), min(NEAREST, self.videos - 1)), np.int64)
        similar = np.empty(near.shape, np.float32)
        starts = range(0, len(queries), QUERIES)
        for start in progress(starts, len(starts), "neighbours", "blocks"):
            part = queries[start : start + QUERIES]
            here = slice(start, start + len(part))
            similar[here], near[here] = _top(vectors[part], vectors, part, near.shape[1])
        return near, similar

    def _by_graph(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Search candidates in a graph of all videos, and compare these."""
        import faiss  # only here: most collections are small

        faiss.omp_set_num_threads(torch.get_num_threads())
        axes = fit(self._picked(draw(self.videos, SAMPLE, seed)).numpy(), min(COMPONENTS, self.dim))
        graph = faiss.IndexHNSWFlat(axes.axes.shape[1], LINKS)
        graph.hnsw.efConstruction, graph.hnsw.efSearch = BUILDING, SEARCHING
        starts = range(0, self.videos, 8 * QUERIES)
        for start in progress(starts, len(starts), "graph", "blocks"):
            graph.add(axes(self._read(self._path, start, min(start + 8 * QUERIES, self.videos)).numpy()))
        near = np.empty((self.videos, NEAREST), np.int64)
        similar = np.empty(near.shape, np.float32)
        starts = range(0, self.videos, QUERIES)
        for start in progress(starts, len(starts), "neighbours", "blocks"):
            stop = min(start + QUERIES, self.videos)
            vectors = self._read(self._path, start, stop)
            _, candidates = graph.search(axes(vectors.numpy()), CANDIDATES + 1)
            compared = self._picked(np.maximum(candidates, 0).ravel()).view(len(vectors), -1, self.dim)
            products = torch.bmm(compared, vectors[:, :, None])[:, :, 0]
            products[torch.from_numpy((candidates == np.arange(start, stop)[:, None]) | (candidates < 0))] = -torch.inf
            values, numbers = products.topk(NEAREST)
            similar[start:stop], near[start:stop] = values, np.take_along_axis(candidates, numbers.numpy(), axis=1)
        return near, similar

    def _exactly(self, queries: np.ndarray) -> np.ndarray:
        """Return the nearest of some videos among all, int64 [queries, NEAREST], in any order."""
        vectors = self._picked(queries)
        best, nearest = (
            torch.full((len(queries), NEAREST), -torch.inf),
            torch.zeros((len(queries), NEAREST), dtype=torch.long),
        )
        for start in range(0, self.videos, 8 * QUERIES):
            stop = min(start + 8 * QUERIES, self.videos)
            products = vectors @ self._read(self._path, start, stop).T
            inside = (queries >= start) & (queries < stop)
            products[np.flatnonzero(inside), queries[inside] - start] = -torch.inf
            products, numbers = torch.cat([best, products], dim=1).topk(NEAREST)
            earlier = numbers < NEAREST
            nearest = torch.where(earlier, nearest.gather(1, numbers.clamp(max=NEAREST - 1)), numbers - NEAREST + start)
            best = products
        return nearest.numpy()


def _top(queries: torch.Tensor, candidates: torch.Tensor, own: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the `count` greatest products of each query with the candidates, greatest first, and their numbers.

    `own` int64 [queries]: each query's own number among the candidates, which is left out.
    """
    products = queries @ candidates.T
    products[np.arange(len(own)), own] = -torch.inf
    values, numbers = products.topk(count)
    return values.numpy(), numbers.numpy()
