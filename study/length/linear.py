"""A linear head: canonical correlation analysis on whitened principal components. Reads and writes nothing.

Hotelling 1936, Biometrika 28; on so few videos the widths of the backbones would make every correlation 1, so each
modality is reduced to its leading principal components first. Directions are weighted by their canonical correlation,
as in Gong et al. 2014 (IJCV 106(2), "A multi-view embedding space"), so that uncorrelated ones do not count. Features
are clipped to the range of the training data: one that hardly varied there would outweigh all others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from study.canonical import canonical_pairs


@dataclass(frozen=True)
class Linear:
    """A fitted pair of projections into one space of as many dimensions as there are components."""

    whiten: tuple[Pipeline, Pipeline]
    directions: tuple[np.ndarray, np.ndarray]
    correlations: np.ndarray
    """On the training pairs, descending."""

    def embed(self, modality: int, features: np.ndarray) -> np.ndarray:
        """Embed features [n, dim] of one modality (0: audio, 1: video): float64 [n, components]."""
        return np.asarray(self.whiten[modality].transform(features) @ self.directions[modality] * self.correlations)


def fit_linear(audio: np.ndarray, video: np.ndarray, components: int, seed: int) -> Linear:
    """Fit on pairs: row i of `audio` [n, a] belongs to row i of `video` [n, v]. At most n - 1 components are used.

    If the features of one modality are constant, everything is embedded as a single 0.
    """
    if any((features.max(axis=0) == features.min(axis=0)).all() for features in (audio, video)):
        scalers = [make_pipeline(StandardScaler()).fit(features) for features in (audio, video)]
        zeros = np.zeros((audio.shape[1], 1)), np.zeros((video.shape[1], 1))
        return Linear((scalers[0], scalers[1]), zeros, np.zeros(1))
    keep = min(components, len(audio) - 1, audio.shape[1], video.shape[1])
    whiten = [
        make_pipeline(MinMaxScaler(clip=True), StandardScaler(), PCA(keep, whiten=True, random_state=seed))
        for _ in range(2)
    ]
    white = [pipeline.fit_transform(features) for pipeline, features in zip(whiten, (audio, video), strict=True)]
    left, right, correlations = canonical_pairs(white[0].T @ white[1] / (len(audio) - 1))
    return Linear((whiten[0], whiten[1]), (left, right), correlations)
