"""Linear canonical correlation analysis with shrinkage: a fusion without labels. Reads and writes nothing.

Hotelling 1936 (Relations between two sets of variates, Biometrika 28). With more features than videos, covariances are
singular, so each is shrunk towards a multiple of the identity: (1 - γ) C + γ tr(C)/d · I, as in Ledoit & Wolf 2004 (J.
Multivariate Anal. 88), with one γ for both modalities (the canonical ridge of Vinod 1976). γ is the one whose variates
correlate best on the validation videos.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from study.canonical import canonical_pairs


@dataclass(frozen=True)
class CCA:
    """Directions of audio and video, float64 [dim, components] each, and the means of the training videos."""

    means: tuple[np.ndarray, np.ndarray]
    directions: tuple[np.ndarray, np.ndarray]
    shrinkage: float
    correlations: np.ndarray
    """Canonical correlations of the (shrunk) training data, float64 [components], descending."""

    def project(self, audio: np.ndarray, video: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the canonical variates of audio and video, float [videos, dim]: float64 [videos, components] each."""
        sides = zip((audio, video), self.means, self.directions, strict=True)
        audio_variates, video_variates = ((features - mean) @ directions for features, mean, directions in sides)
        return audio_variates, video_variates


class Decomposed:
    """Covariances of audio and video decomposed into eigenvectors, which are the same for every shrinkage."""

    def __init__(self, audio: np.ndarray, video: np.ndarray) -> None:
        """Decompose the covariances of audio and video features, float [videos, dim] each."""
        self.means = audio.mean(axis=0), video.mean(axis=0)
        centred = [
            features.astype(np.float64) - mean for features, mean in zip((audio, video), self.means, strict=True)
        ]
        # C = X'X/n = V diag(s²/n) V'. Outside the span of V there is no covariance with the other modality.
        self.parts = [np.linalg.svd(features, full_matrices=False)[1:] for features in centred]
        variates = [features @ v.T for features, (_, v) in zip(centred, self.parts, strict=True)]
        self.shared = variates[0].T @ variates[1] / len(audio)
        self.videos = len(audio)

    def cca(self, shrinkage: float, components: int) -> CCA:
        """Return the solution for one γ in [0, 1], with no more components than directions with variance."""
        whiten = []
        for values, vectors in self.parts:
            variance = values**2 / self.videos
            shrunk = (1 - shrinkage) * variance + shrinkage * variance.sum() / vectors.shape[1]
            nonzero = variance > variance.max(initial=0) * 1e-10
            whiten.append(np.where(nonzero, 1 / np.sqrt(np.where(nonzero, shrunk, 1)), 0))
        # Constant features give one component of correlation 0.
        left, right, correlations = canonical_pairs(self.shared, (whiten[0], whiten[1]), components, smallest=1e-10)
        directions = self.parts[0][1].T @ left, self.parts[1][1].T @ right
        return CCA(self.means, directions, shrinkage, correlations)


def held_out(cca: CCA, audio: np.ndarray, video: np.ndarray) -> float:
    """Return the mean correlation of the variates on other videos; variates without variance there count as 0."""
    a, v = (features - features.mean(axis=0) for features in cca.project(audio, video))
    with np.errstate(invalid="ignore"):
        correlations = (a * v).sum(axis=0) / np.sqrt((a**2).sum(axis=0) * (v**2).sum(axis=0))
    return float(np.nan_to_num(correlations).mean())


def fit(
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    components: int,
    shrinkages: list[float],
) -> CCA:
    """Return the CCA of the training videos with the shrinkage that correlates best on the validation videos.

    `train` and `validation` are audio and video, float [videos, dim] each.
    """
    decomposed = Decomposed(*train)
    candidates = [decomposed.cca(shrinkage, components) for shrinkage in shrinkages]
    return max(candidates, key=lambda cca: held_out(cca, *validation))
