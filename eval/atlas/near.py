"""The nearest videos of every video, by the mean of its audio's and its video's cosine.

Writes two files of vectors into the folder that it is given, float32 [videos, dim], so that memory does not grow with
them; reads them back in parts. Up to `EXACT` videos, all pairs are compared. Of more, a video is compared with those of
the `PROBED` nearest of many cells (k-means), which misses some neighbours: `recall` says how many were found, by an
exact search for some videos.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans

from config.cli import progress
from eval.atlas.vectors import directions

log = logging.getLogger("atlas")
NEAREST = 10
"""Neighbours of a video."""
EXACT = 50_000
"""All pairs of so many videos are compared: half a minute on two cores."""
CELL = 500
"""Videos a cell, on average."""
PROBED = 24
"""Cells that are searched for a cell's videos, its own included."""
TRAINING = 50_000
"""Videos that cells are fitted on."""
QUERIES = 512
"""Videos compared at a time."""
CHECKED = 500
"""Videos whose neighbours are also found exactly, to count what was missed."""


@dataclass(frozen=True)
class Neighbours:
    """The nearest of each video: `positions` int64 and `similarities` float32, both [videos, nearest], nearest first.

    `recall`: the share of the true nearest that was found; 1 if all pairs were compared.
    """

    positions: np.ndarray
    similarities: np.ndarray
    recall: float


class Vectors:
    """The vectors of all videos, in a file: `add` them in order, then `find` the neighbours."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path, self._sorted = folder / "vectors.f32", folder / "sorted.f32"
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
            found = self._within(np.arange(self.videos), self._read(self._path, 0, self.videos))
            return Neighbours(*found, 1.0)
        found = self._by_cells(seed)
        rng = np.random.default_rng(np.random.SeedSequence([seed % 2**64, 3]))
        checked = np.sort(rng.choice(self.videos, CHECKED, replace=False))
        exact = self._exactly(checked)
        shared = [len(np.intersect1d(a, b)) for a, b in zip(exact, found[0][checked], strict=True)]
        return Neighbours(*found, float(np.mean(shared)) / NEAREST)

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

    def _by_cells(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Search the nearest cells for each cell's videos."""
        cell, centres = self._cells(seed)
        order = np.argsort(cell, kind="stable")
        edges = np.searchsorted(cell[order], np.arange(len(centres) + 1))
        with open(self._sorted, "wb") as file:
            for start in range(0, self.videos, QUERIES):
                file.write(self._picked(order[start : start + QUERIES]).numpy().tobytes())
        between = torch.cdist(centres, centres)
        near = np.empty((self.videos, NEAREST), np.int64)
        similar = np.empty(near.shape, np.float32)
        for number in progress(range(len(centres)), len(centres), "neighbours", "cells"):
            if edges[number] == edges[number + 1]:
                continue
            nearest = between[number].argsort().numpy()
            # Small cells beside each other may hold too few videos: go on until there are enough.
            sizes = np.cumsum(edges[nearest + 1] - edges[nearest])
            probed = nearest[: max(PROBED, int(np.searchsorted(sizes, NEAREST + 1)) + 1)]
            spans = [(int(edges[c]), int(edges[c + 1])) for c in [number, *probed[probed != number].tolist()]]
            candidates = torch.cat([self._read(self._sorted, *span) for span in spans])
            places = np.concatenate([np.arange(*span) for span in spans])
            own = np.arange(spans[0][1] - spans[0][0])  # the cell's own videos come first
            for start in range(0, len(own), QUERIES):
                part = own[start : start + QUERIES]
                values, found = _top(candidates[part], candidates, part, NEAREST)
                videos = order[places[part]]
                similar[videos], near[videos] = values, order[places[found]]
        return near, similar

    def _cells(self, seed: int) -> tuple[np.ndarray, torch.Tensor]:
        """Return the cell of each video, int64 [videos], and the cells' centres, float32 [cells, dim]."""
        rng = np.random.default_rng(np.random.SeedSequence([seed % 2**64, 4]))
        drawn = np.sort(rng.choice(self.videos, TRAINING, replace=False))
        cells = self.videos // CELL
        log.info("fitting %d cells on %d videos", cells, TRAINING)
        kmeans = MiniBatchKMeans(cells, batch_size=8192, max_iter=10, n_init=1, random_state=seed % 2**32)
        centres = torch.from_numpy(kmeans.fit(self._picked(drawn).numpy()).cluster_centers_.astype(np.float32))
        lengths = (centres**2).sum(dim=1) / 2
        cell = np.empty(self.videos, np.int64)
        for start in range(0, self.videos, QUERIES):
            stop = min(start + QUERIES, self.videos)
            cell[start:stop] = (self._read(self._path, start, stop) @ centres.T - lengths).argmax(dim=1).numpy()
        return cell, centres

    def _exactly(self, queries: np.ndarray) -> np.ndarray:
        """Return the nearest of some videos among all, int64 [queries, NEAREST], in any order."""
        vectors = self._picked(queries)
        best, found = (
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
            found = torch.where(earlier, found.gather(1, numbers.clamp(max=NEAREST - 1)), numbers - NEAREST + start)
            best = products
        return found.numpy()


def _top(queries: torch.Tensor, candidates: torch.Tensor, own: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k greatest products of each query with the candidates, greatest first, and their numbers.

    `own` int64 [queries]: each query's own number among the candidates, which is left out.
    """
    products = queries @ candidates.T
    products[np.arange(len(own)), own] = -torch.inf
    values, numbers = products.topk(k)
    return values.numpy(), numbers.numpy()
