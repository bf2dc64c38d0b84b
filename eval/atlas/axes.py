"""Two coordinates of every video in each space: principal components, and UMAP where its package is installed.

Reads vectors a block of videos at a time, writes nothing. Components are fitted on up to `SAMPLE` videos; for UMAP all
videos are first brought to `KEPT` components, which is all of them that is in memory at once. Audio and video of an
experiment share their axes: both are points of one space. All vectors are scaled to length 1, as the report's maps are.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg

from config.cli import progress
from eval.atlas.vectors import Space, blocks, directions
from heads.embed import BLOCK

log = logging.getLogger("atlas")
SAMPLE = 20_000
"""Videos that components are fitted on, at most: their error is far below what a map shows."""
KEPT = 50
"""Components that UMAP is given, at most."""
METHODS = ("pca", "umap")


def has_umap() -> bool:
    """Return whether UMAP's package is installed here."""
    return importlib.util.find_spec("umap") is not None


@dataclass(frozen=True)
class Axes:
    """Principal axes: x ↦ (x - `mean`) · `axes`, float32 [dim] and [dim, components]; the largest variance first.

    `explained`: each component's share of the variance.
    """

    mean: np.ndarray
    axes: np.ndarray
    explained: list[float]

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Return coordinates float32 [videos, components]; NaN where a vector has NaN."""
        return (vectors.astype(np.float32) - self.mean) @ self.axes


def fit(vectors: np.ndarray, components: int) -> Axes:
    """Fit axes on float [vectors, dim] without NaN, at most `components` of them and at least two.

    Each has the sign that makes the largest coordinate positive: a map must not flip from run to run. Where there are
    fewer directions than two, the others are zeros.
    """
    mean = vectors.mean(axis=0, dtype=np.float64)
    centred = (vectors - mean).astype(np.float32)
    dim = centred.shape[1]
    count = min(max(components, 2), dim)
    covariance = (centred.T @ centred).astype(np.float64) / max(len(centred), 1)
    variances, axes = scipy.linalg.eigh(covariance, subset_by_index=[dim - count, dim - 1])
    variances, axes = np.maximum(variances[::-1], 0), axes[:, ::-1]
    total = float(np.trace(covariance))
    axes = np.where(variances > total * 1e-12, axes, 0)
    points = centred @ axes.astype(np.float32)
    axes *= np.where(points[np.abs(points).argmax(axis=0), np.arange(count)] < 0, -1, 1)
    if count < 2:
        axes, variances = np.pad(axes, ((0, 0), (0, 2 - count))), np.pad(variances, (0, 2 - count))
    explained = [float(variance) / total if total else 0.0 for variance in variances]
    return Axes(mean.astype(np.float32), axes.astype(np.float32), explained)


class Map:
    """The map of one space while its vectors go by: `add` each block, then take the `columns`."""

    def __init__(self, space: Space, videos: int, sample: np.ndarray, umap: bool) -> None:
        self.space, self._umap = space, umap
        drawn = [space.vectors(positions) for positions in blocks(sample)]
        vectors = directions(np.concatenate([block[part] for block in drawn for part in space.parts]))
        vectors = vectors[~np.isnan(vectors[:, 0])]
        self.axes = fit(vectors, KEPT if umap else 2) if len(vectors) else None
        width = 2 if self.axes is None else self.axes.axes.shape[1]
        self._points = {part: np.full((videos, width), np.nan, np.float32) for part in space.parts}

    def add(self, positions: np.ndarray, vectors: dict[str, np.ndarray]) -> None:
        """Place the vectors of the videos at `positions` (int64) on the axes."""
        if self.axes is not None:
            for part, block in vectors.items():
                self._points[part][positions] = self.axes(directions(block))

    def columns(self, seed: int) -> dict[str, np.ndarray]:
        """Return {column: float32 [videos]}: x and y of each part and method; NaN for videos without a vector."""
        methods = {"pca": {part: points[:, :2] for part, points in self._points.items()}}
        if self._umap:
            log.info("%s: UMAP of %d videos, which has no progress of its own", self.space.name, len(self._length()))
            methods["umap"] = _umap(self._points, seed)
        named = {}
        for method, parts in methods.items():
            for part, points in parts.items():
                for axis, values in zip("xy", points.T, strict=True):
                    named["_".join(filter(None, (self.space.name, part, method, axis)))] = values.copy()
        return named

    def _length(self) -> np.ndarray:
        return next(iter(self._points.values()))


def _umap(parts: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """Lay out all points, {part: float32 [videos, components]}, together; rows of NaN stay NaN."""
    stacked = np.concatenate(list(parts.values()))
    known = ~np.isnan(stacked[:, 0])
    points = np.full((len(stacked), 2), np.nan, np.float32)
    if known.sum() > 3:
        umap: Any = importlib.import_module("umap")
        neighbours = min(15, int(known.sum()) - 1)
        # One core: with several it gives another map each time.
        layout = umap.UMAP(n_components=2, n_neighbors=neighbours, random_state=seed % 2**32, n_jobs=1)
        points[known] = layout.fit_transform(stacked[known])
    return dict(zip(parts, np.split(points, len(parts)), strict=True))


def place(space: Space, videos: int, sample: np.ndarray, umap: bool, *taking: Any) -> Map:
    """Return the finished map of a space; `taking`: functions of (positions, vectors) that also get each block."""
    made = Map(space, videos, sample, umap)
    for start in progress(range(0, videos, BLOCK), -(-videos // BLOCK), space.name, "blocks"):
        positions = np.arange(start, min(start + BLOCK, videos))
        vectors = space.vectors(positions)
        for take in (made.add, *taking):
            take(positions, vectors)
    return made
