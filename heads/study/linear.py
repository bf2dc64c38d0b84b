"""A linear head: canonical correlation analysis on whitened principal components. Reads and writes nothing.

Hotelling 1936, Biometrika 28; on so few videos the widths of the backbones would make every correlation 1, so each side
is reduced to its leading principal components first. A direction counts by its canonical correlation, as in Gong et al.
2014 (IJCV 106(2), "A multi-view embedding space"), so that those that found nothing weigh nothing. What is embedded is
clipped to the range that was fitted on: a feature that hardly varied there would outweigh all others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler


@dataclass(frozen=True)
class Linear:
    """A fitted pair of projections into one space of as many dimensions as there are components."""

    whiten: tuple[Pipeline, Pipeline]
    directions: tuple[np.ndarray, np.ndarray]
    correlations: np.ndarray
    """On the training pairs, descending."""

    def embed(self, side: int, features: np.ndarray) -> np.ndarray:
        """Features [n, dim] of one side (0: audio, 1: video) → [n, components] float64."""
        return self.whiten[side].transform(features) @ self.directions[side] * self.correlations


def fit_linear(audio: np.ndarray, video: np.ndarray, components: int, seed: int) -> Linear:
    """Fit on pairs: row i of `audio` [n, a] belongs to row i of `video` [n, v]. At most n - 1 components are used."""
    keep = min(components, len(audio) - 1, audio.shape[1], video.shape[1])
    sides = [
        make_pipeline(MinMaxScaler(clip=True), StandardScaler(), PCA(keep, whiten=True, random_state=seed))
        for _ in range(2)
    ]
    white = [side.fit_transform(x) for side, x in zip(sides, (audio, video), strict=True)]
    left, correlations, right = np.linalg.svd(white[0].T @ white[1] / (len(audio) - 1))
    return Linear((sides[0], sides[1]), (left, right.T), correlations)
