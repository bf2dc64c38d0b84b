"""Linear canonical correlation analysis with shrinkage: the fusion that costs nothing. Reads and writes nothing.

Hotelling 1936 (Relations between two sets of variates, Biometrika 28); with more features than videos covariances are
singular, so each is shrunk towards a multiple of the identity: (1 - γ) C + γ tr(C)/d · I, as in Ledoit & Wolf 2004 (J.
Multivariate Anal. 88), one γ for both sides (Vinod 1976's canonical ridge). γ is what correlates best on other videos.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CCA:
    """Directions of both sides, float64 [dim, components] each, and their means over the training videos."""

    means: tuple[np.ndarray, np.ndarray]
    directions: tuple[np.ndarray, np.ndarray]
    shrinkage: float
    correlations: np.ndarray
    """Of the (shrunk) training data, float64 [components], descending."""

    def project(self, audio: np.ndarray, video: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Float [videos, dim] of both sides → their canonical variates, float64 [videos, components] each."""
        a, v = ((x - mean) @ d for x, mean, d in zip((audio, video), self.means, self.directions, strict=True))
        return a, v


class Decomposed:
    """Both sides' covariances as eigenvectors, which any shrinkage leaves as they are: float [videos, dim] each."""

    def __init__(self, audio: np.ndarray, video: np.ndarray) -> None:
        self.means = audio.mean(axis=0), video.mean(axis=0)
        centred = [x.astype(np.float64) - mean for x, mean in zip((audio, video), self.means, strict=True)]
        # C = X'X/n = V diag(s²/n) V'. Outside the span of V there is no covariance with the other side.
        self.parts = [np.linalg.svd(x, full_matrices=False)[1:] for x in centred]
        left = [x @ v.T for x, (_, v) in zip(centred, self.parts, strict=True)]
        self.shared = left[0].T @ left[1] / len(audio)
        self.videos = len(audio)

    def cca(self, shrinkage: float, components: int) -> CCA:
        """The solution for one γ in [0, 1]; there are at most as many components as directions with variance."""
        whiten = []
        for values, vectors in self.parts:
            variance = values**2 / self.videos
            shrunk = (1 - shrinkage) * variance + shrinkage * variance.sum() / vectors.shape[1]
            real = variance > variance.max(initial=0) * 1e-10
            whiten.append(np.where(real, 1 / np.sqrt(np.where(real, shrunk, 1)), 0))
        u, s, w = np.linalg.svd(whiten[0][:, None] * self.shared * whiten[1], full_matrices=False)
        few = slice(min(components, int((s > 1e-10).sum())))
        directions = tuple(
            vectors.T @ (scale[:, None] * each[:, few])
            for (_, vectors), scale, each in zip(self.parts, whiten, (u, w.T), strict=True)
        )
        return CCA(self.means, (directions[0], directions[1]), shrinkage, s[few])


def held_out(cca: CCA, audio: np.ndarray, video: np.ndarray) -> float:
    """Mean correlation of the canonical variates on other videos, those without variance there counting as 0."""
    a, v = (x - x.mean(axis=0) for x in cca.project(audio, video))
    with np.errstate(invalid="ignore"):
        each = (a * v).sum(axis=0) / np.sqrt((a**2).sum(axis=0) * (v**2).sum(axis=0))
    return float(np.nan_to_num(each).mean())


def fit(
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    components: int,
    shrinkages: list[float],
) -> CCA:
    """The CCA of the training videos whose shrinkage gives the highest correlation on the validation videos.

    Sound and pictures, float [videos, dim] each.
    """
    decomposed = Decomposed(*train)
    found = [decomposed.cca(shrinkage, components) for shrinkage in shrinkages]
    return max(found, key=lambda cca: held_out(cca, *validation))
