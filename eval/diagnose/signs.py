"""Measured signs of failed embeddings: spread, collapse, modality gap, labels of neighbours. Reads and writes nothing.

All take unit vectors [n, d] (see `eval.ranks.unit_rows`).
"""

from __future__ import annotations

import numpy as np

from eval.similarity import closest


def spread(units: np.ndarray) -> float:
    """Return the RMS distance from the mean vector: 0 for a constant output, 1 for vectors in all directions."""
    return float(np.sqrt(max(0.0, 1 - np.square(units.mean(axis=0)).sum())))


def mean_cosine(units: np.ndarray) -> float:
    """Return the mean cosine of two different rows."""
    count = len(units)
    return float((np.square(units.sum(axis=0)).sum() - count) / (count * (count - 1)))


def effective_rank(units: np.ndarray) -> float:
    """Return exp of the entropy of the covariance's normalised eigenvalues (after Roy & Vetterli 2007, EUSIPCO).

    It counts the directions that the vectors use: between 1 and min(n - 1, d); 0 if they do not vary.
    """
    share = np.square(np.linalg.svd(units - units.mean(axis=0), compute_uv=False))
    if share.sum() == 0:
        return 0.0
    share = share[share > 0] / share.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def modality_gap(audio: np.ndarray, video: np.ndarray) -> dict[str, float]:
    """Measure how far apart the two modalities lie (Liang et al. 2022, arXiv 2203.02053).

    `distance` of the centroids, `spread` of the rows round their own, and `separability`: the share of held-out rows
    whose modality the nearer centroid of the other rows tells; 0.5 is chance.
    """
    middle = [[units[half::2].mean(axis=0) for half in (0, 1)] for units in (audio, video)]
    right = []
    for number, units in enumerate((audio, video)):
        for half in (0, 1):
            near, far = (
                ((units[half::2] - middle[modality][1 - half]) ** 2).sum(axis=1) for modality in (number, 1 - number)
            )
            right.append((near < far) + 0.5 * (near == far))
    inner = float(np.sqrt((spread(audio) ** 2 + spread(video) ** 2) / 2))
    distance = float(np.linalg.norm(audio.mean(axis=0) - video.mean(axis=0)))
    return {"distance": distance, "spread": inner, "separability": float(np.concatenate(right).mean())}


def label_agreement(
    units: np.ndarray, labels: np.ndarray, groups: np.ndarray, nearest: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of each row's `nearest` neighbours with its label, and of all rows: two float [n].

    Rows of its own group (`groups` int [n]) never count: they are near and have its label whatever the embedding
    knows. NaN where there are no others.
    """
    similar, other = units @ units.T, groups[:, None] != groups
    similar[~other] = -np.inf
    near = closest(similar, min(nearest, len(units)), ordered=False)
    alike = labels[:, None] == labels
    shares = []
    for same, counted in ((np.take_along_axis(alike, near, 1), np.take_along_axis(other, near, 1)), (alike, other)):
        with np.errstate(invalid="ignore"):
            shares.append((same & counted).sum(axis=1) / counted.sum(axis=1))
    return shares[0], shares[1]
