"""How alike two feature spaces are: linear CKA, canonical correlations, mutual nearest neighbours.

Reads and writes nothing. The first two need only covariances, so they can be computed for a cache of any size
(`pipeline.statistics.Joined`). Features are standardised, because the scales of MusicNN's differ by a factor of 1,000.

- Linear CKA (Kornblith et al. 2019, arXiv 1905.00414, eq. 3): 1 for spaces that are equal up to rotation. It is above 0
  for unrelated ones, the more so the fewer segments and the more dimensions: compare it with chance.
- Canonical correlations: pairs of directions are fitted on the training split with a ridge, whose strength is chosen
  on the validation split; reported are their correlations on the test split.
- Mutual nearest neighbours (Huh et al. 2024, arXiv 2405.07987): the share of a video's k nearest, by cosine, that are
  among its k nearest in both spaces; k / (videos − 1) for unrelated spaces.
"""

from __future__ import annotations

import numpy as np

from eval.similarity import closest
from study.canonical import canonical_pairs

Blocks = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Covariances of the first space, between the two, and of the second."""
RIDGES = (1e-3, 1e-2, 1e-1, 1.0)
"""In units of a standardised feature's variance."""
PAIRS = 20
"""Number of canonical pairs, at most."""


def cka(blocks: Blocks) -> float:
    """Compute linear CKA of standardised features from their covariances; 0 if a space is constant."""
    xx, xy, yy = standardised(blocks, blocks)
    norm = np.linalg.norm(xx) * np.linalg.norm(yy)
    return float((xy**2).sum() / norm) if norm else 0.0


def standardised(blocks: Blocks, by: Blocks) -> Blocks:
    """Return the covariances of the features divided by their standard deviations in `by`; 0 of constant ones."""
    xx, xy, yy = blocks
    with np.errstate(divide="ignore"):
        a, b = (np.where(v > 1e-12, 1 / np.sqrt(v), 0) for v in (by[0].diagonal(), by[2].diagonal()))
    return xx * np.outer(a, a), xy * np.outer(a, b), yy * np.outer(b, b)


def canonical(train: Blocks, test: Blocks, ridges: tuple[float, ...] = RIDGES) -> dict[float, np.ndarray]:
    """Fit canonical pairs on `train`; return {ridge: their correlations in `test`, float64 [at most PAIRS]}."""
    test, train = standardised(test, train), standardised(train, train)
    spectra = spectra_of(train)
    return {ridge: held_out(test, *directions(train[1], spectra, ridge)) for ridge in ridges}


def spectra_of(blocks: Blocks) -> list[tuple[np.ndarray, ...]]:
    """Return the eigenvalues and eigenvectors of each space's covariance, which no re-pairing changes."""
    return [tuple(np.linalg.eigh(covariance)) for covariance in (blocks[0], blocks[2])]


def directions(between: np.ndarray, spectra: list[tuple[np.ndarray, ...]], ridge: float) -> tuple[np.ndarray, ...]:
    """Return the directions [dim, pairs] of each space that correlate most, with `ridge` added to every variance."""
    whiten = [vectors / np.sqrt(np.maximum(values, 0) + ridge) for values, vectors in spectra]
    return canonical_pairs(between, (whiten[0], whiten[1]), PAIRS)[:2]


def held_out(blocks: Blocks, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the correlations in `blocks` of pairs of directions [dim, pairs], float64 [pairs]."""
    xx, xy, yy = blocks
    inner = np.einsum("ip,ij,jp->p", left, xy, right, optimize=True)
    norms = [np.einsum("ip,ij,jp->p", d, c, d, optimize=True) for d, c in ((left, xx), (right, yy))]
    norm = np.sqrt(np.maximum(norms[0] * norms[1], 0))
    return np.asarray(inner / np.where(norm > 1e-12, norm, np.inf))


def nearest(x: np.ndarray, k: int) -> np.ndarray:
    """Return the k nearest other rows of each row by cosine of standardised features x [n, dim]: int [n, k]."""
    x = x.astype(np.float32)
    scale = x.std(axis=0)
    x = (x - x.mean(axis=0)) / np.where(scale > 1e-6, scale, np.inf)
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    cosines = x @ x.T
    np.fill_diagonal(cosines, -np.inf)
    return closest(cosines, k, ordered=False)


def mutual(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the share of each row's neighbours in `a` (int [n, k]) that are its neighbours in `b` too: float [n]."""
    return np.asarray((a[:, :, None] == b[:, None, :]).any(axis=2).mean(axis=1))


def mutual_repaired(a: np.ndarray, b: np.ndarray, order: np.ndarray) -> float:
    """Return the mean of `mutual` if video i of the first space is paired with video `order`[i] of the second."""
    inverse = np.empty(len(b), np.int64)
    inverse[order] = np.arange(len(b))
    return float(mutual(a, inverse[b[order]]).mean())
