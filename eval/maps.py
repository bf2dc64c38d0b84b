"""Two-dimensional maps of audio and video vectors by principal components. Reads and writes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from config.heads import MODALITIES

DIGITS = 4


def maps(audio: np.ndarray, video: np.ndarray, shared: bool) -> list[dict[str, Any]]:
    """Return maps of `audio` and `video`, float [videos, dim] each: by one PCA where the space is `shared`, else two.

    Each is a dict of `method`, `shared`, `audio` and `video` (x and y of every video), and `explained`: by modality the
    share of the variance along each of the two axes.
    """
    if shared:
        points, share = _pca(np.concatenate([audio, video]))
        coordinates, shares = dict(zip(MODALITIES, np.split(points, 2), strict=True)), dict.fromkeys(MODALITIES, share)
    else:
        projected = {name: _pca(vectors) for name, vectors in zip(MODALITIES, (audio, video), strict=True)}
        coordinates = {name: points for name, (points, _) in projected.items()}
        shares = {name: share for name, (_, share) in projected.items()}
    rounded = {name: np.round(points, DIGITS).tolist() for name, points in coordinates.items()}
    return [{"method": "PCA", "shared": shared, **rounded, "explained": shares}]


def _pca(vectors: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Project on the first two principal components: float64 [vectors, 2], and their shares of the variance.

    Each component's sign is fixed, its largest coordinate being positive: a map must not flip from run to run.
    """
    centred = vectors.astype(np.float64) - vectors.mean(axis=0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    points = np.zeros((len(vectors), 2))
    kept = min(2, len(singular))
    points[:, :kept] = left[:, :kept] * singular[:kept]
    points *= np.where(points[np.abs(points).argmax(axis=0), [0, 1]] < 0, -1, 1)
    total = float((singular**2).sum())
    return points, [float(value**2) / total if total else 0.0 for value in [*singular, 0.0, 0.0][:2]]
