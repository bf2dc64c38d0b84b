"""The space in which features are compared: standardised, partly whitened and reduced, one a backbone.

Reads the cache. Writes two raw files a backbone into a folder that it is given, so that memory does not grow with the
number of videos: `means`, float32 [videos, components], and `segments`, float16 [videos, segments, components].

Features of a network are all nearly parallel, so their plain cosines are near 1 whether two videos are alike or not.
Here they are centred and divided by their standard deviations, turned onto the principal components, and each component
is divided by a power of its standard deviation (`WHITENING`): 0 leaves them as they are, 1 makes all equally large
(Jégou & Chum 2012, ECCV, "Negative evidences and co-occurences in image retrieval"). Then all are scaled to length 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from config.cli import UserError, progress
from pipeline.features import Features, good_segments

COMPONENTS = 128
FEW_COMPONENTS, SEGMENTS_A_COMPONENT = 16, 10
"""Principal components that are kept, at most; in small collections one for ten segments. With more, each video has
directions of its own, in which it differs from its copies."""
WHITENING = 0.5
"""Measured by bench.duplicates. With more, small collections lose copies; with less, large ones merge more."""
SAMPLE = 20_000
"""Segments that mean, deviations and components are computed of."""
SEED = 0
BLOCK = 1000
"""Videos in memory at a time."""


@dataclass(frozen=True)
class Space:
    """A linear map of one backbone's features: (x - `mean`) · `axes`, float32 [dim] and [dim, components]."""

    backbone: str
    mean: np.ndarray
    axes: np.ndarray

    def segments(self, features: np.ndarray) -> np.ndarray:
        """Map features, float16 [videos, segments, dim], to unit vectors, float32 [videos, segments, components].

        NaN stands where a segment is damaged. A segment without any deviation from the mean is all zeros.
        """
        good = good_segments(features)
        mapped = (features.reshape(-1, features.shape[2]).astype(np.float32) - self.mean) @ self.axes
        units = unit(mapped).reshape(*features.shape[:2], -1)
        units[~good] = np.nan
        return units


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scale float32 [n, d] to length 1; vectors of zeros stay."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: np.ndarray = vectors / np.where(length == 0, np.float32(1), length)
    return scaled


def fit(features: Features, backbone: str, rows: np.ndarray, whitening: float = WHITENING) -> Space:
    """Return the space of a backbone, computed of up to `SAMPLE` segments of the videos `rows` (int64, ascending).

    UserError for fewer than two undamaged segments, and for features that are the same everywhere.
    """
    rng = np.random.default_rng(SEED)
    most = max(SAMPLE // features.segments, 1)
    drawn = rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))
    block = features.numpy(backbone, drawn)
    sample = block[good_segments(block)].astype(np.float32)
    del block
    mean = sample.mean(axis=0, dtype=np.float64) if len(sample) else np.zeros(sample.shape[1])
    sample -= mean.astype(np.float32)
    squares = np.square(sample).sum(axis=0, dtype=np.float64)
    deviation = np.sqrt(squares / max(len(sample), 1))
    if len(sample) < 2 or not deviation.any():
        raise UserError(
            f"{features.folder}: the features of {backbone} are the same in all {len(sample)} segments, so nothing can "
            "be told apart by them; leave them out (--on)"
        )
    # Features that never change are left out: their deviation is 0.
    scale = np.where(deviation == 0, 0, 1 / np.where(deviation == 0, 1, deviation))
    sample *= scale.astype(np.float32)
    variances, directions = np.linalg.eigh((sample.T @ sample).astype(np.float64) / len(sample))
    # Directions of less than a millionth of the variance are rounding.
    most = min(COMPONENTS, max(FEW_COMPONENTS, len(sample) // SEGMENTS_A_COMPONENT))
    kept = np.flatnonzero(variances > variances.sum() * 1e-6)[::-1][:most]
    axes = directions[:, kept] * variances[kept] ** (-whitening / 2)
    return Space(backbone, mean.astype(np.float32), (scale[:, None] * axes).astype(np.float32))


@dataclass(frozen=True)
class Stored:
    """The videos of one space on disk, by their position among the compared ones."""

    folder: Path
    backbone: str
    videos: int
    segments: int
    components: int

    @classmethod
    def write(cls, folder: Path, features: Features, space: Space, rows: np.ndarray) -> Stored:
        """Map the features of `rows` (int64, ascending) and write both files into `folder`."""
        stored = cls(folder, space.backbone, len(rows), features.segments, space.axes.shape[1])
        starts = range(0, len(rows), BLOCK)
        with open(stored.path("means"), "wb") as means, open(stored.path("segments"), "wb") as segments:
            for start in progress(starts, len(starts), space.backbone, "blocks"):
                units = space.segments(features.numpy(space.backbone, rows[start : start + BLOCK]))
                means.write(unit(np.nanmean(units, axis=1)).tobytes())
                segments.write(units.astype(np.float16).tobytes())
        return stored

    def path(self, what: str) -> Path:
        """Return the path of the file `means` or `segments`."""
        return self.folder / f"{self.backbone}.{what}"

    def block(self, start: int, stop: int) -> np.ndarray:
        """Return the mean vectors of consecutive videos, float32 [stop - start, components]."""
        count = (min(stop, self.videos) - start) * self.components
        flat = np.fromfile(self.path("means"), np.float32, count, offset=start * self.components * 4)
        return flat.reshape(-1, self.components)

    def means(self, positions: np.ndarray) -> np.ndarray:
        """Return the mean vectors of these videos, int64 [n], float32 [n, components]."""
        return self._picked("means", np.float32, (self.components,), positions)

    def of_segments(self, positions: np.ndarray) -> np.ndarray:
        """Return the segments of these videos, int64 [n], float32 [n, segments, components]; NaN where damaged."""
        return self._picked("segments", np.float16, (self.segments, self.components), positions).astype(np.float32)

    def _picked(self, what: str, dtype: type[np.floating], shape: tuple[int, ...], positions: np.ndarray) -> np.ndarray:
        # Mapped for the call alone: pages that were read would count as memory of this process.
        whole = np.memmap(self.path(what), dtype, "r", shape=(self.videos, *shape))
        return np.array(whole[positions])


def blocks(videos: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of consecutive blocks."""
    for start in range(0, videos, size):
        yield start, min(start + size, videos)
