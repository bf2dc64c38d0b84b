"""How alike two feature spaces are: linear CKA, canonical correlations, mutual nearest neighbours.

Reads and writes nothing. The first two need covariances alone, so that a cache of any size gives them
(`pipeline.statistics.Joined`). Features are standardised, because MusicNN's range from tenths to a hundred.

- Linear CKA (Kornblith et al. 2019, arXiv 1905.00414, eq. 3): 1 for spaces that are equal up to rotation. It is above 0
  for unrelated ones, the more so the fewer segments and the more dimensions: read it beside that of videos paired anew.
- Canonical correlations: fitted with a ridge on the training split, its strength chosen on the validation split, and
  measured on the test split: the correlations there of the pairs of directions that were found in training.
- Mutual nearest neighbours (Huh et al. 2024, arXiv 2405.07987): the share of a video's k nearest, by cosine, that are
  its nearest in both spaces; between unrelated ones k / (videos − 1).
"""

from __future__ import annotations

import numpy as np

Blocks = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Covariances of the first space, between the two, and of the second."""
RIDGES = (1e-3, 1e-2, 1e-1, 1.0)
"""In units of a standardised feature's variance."""
PAIRS = 20
"""Canonical pairs that are measured."""


def cka(blocks: Blocks) -> float:
    """Linear CKA of standardised features, from their covariances; 0 where a space is constant."""
    xx, xy, yy = standardised(blocks, blocks)
    norm = np.linalg.norm(xx) * np.linalg.norm(yy)
    return float((xy**2).sum() / norm) if norm else 0.0


def standardised(blocks: Blocks, by: Blocks) -> Blocks:
    """Covariances of the features divided by their standard deviations in `by`; constant ones become 0."""
    xx, xy, yy = blocks
    with np.errstate(divide="ignore"):
        a, b = (np.where(v > 1e-12, 1 / np.sqrt(v), 0) for v in (by[0].diagonal(), by[2].diagonal()))
    return xx * np.outer(a, a), xy * np.outer(a, b), yy * np.outer(b, b)


def canonical(train: Blocks, test: Blocks, ridges: tuple[float, ...] = RIDGES) -> dict[float, np.ndarray]:
    """{ridge: correlations in `test` of the pairs found in `train`, float64 [at most PAIRS], in that order}."""
    test, train = standardised(test, train), standardised(train, train)
    spectra = [tuple(np.linalg.eigh(each)) for each in (train[0], train[2])]
    return {ridge: _held_out(test, *_fit(train[1], spectra, ridge)) for ridge in ridges}


def _fit(between: np.ndarray, spectra: list[tuple[np.ndarray, ...]], ridge: float) -> tuple[np.ndarray, ...]:
    """Directions [dim, pairs] of either side that correlate most, with `ridge` added to every variance."""
    whiten = [vectors / np.sqrt(np.maximum(values, 0) + ridge) for values, vectors in spectra]
    u, _, vt = np.linalg.svd(whiten[0].T @ between @ whiten[1], full_matrices=False)
    return whiten[0] @ u[:, :PAIRS], whiten[1] @ vt[:PAIRS].T


def _held_out(blocks: Blocks, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    xx, xy, yy = blocks
    inner = np.einsum("ip,ij,jp->p", left, xy, right, optimize=True)
    norms = [np.einsum("ip,ij,jp->p", d, c, d, optimize=True) for d, c in ((left, xx), (right, yy))]
    norm = np.sqrt(np.maximum(norms[0] * norms[1], 0))
    return inner / np.where(norm > 1e-12, norm, np.inf)


def nearest(x: np.ndarray, k: int) -> np.ndarray:
    """int [n, k]: each row's k nearest others by cosine of standardised features x [n, dim]."""
    x = x.astype(np.float32)
    scale = x.std(axis=0)
    x = (x - x.mean(axis=0)) / np.where(scale > 1e-6, scale, np.inf)
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    near = x @ x.T
    np.fill_diagonal(near, -np.inf)
    return np.argpartition(-near, k, axis=1)[:, :k]


def mutual(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """float [n]: the share of each row's neighbours in `a` (int [n, k]) that are its neighbours in `b` too."""
    return (a[:, :, None] == b[:, None, :]).any(axis=2).mean(axis=1)


def paired_anew(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> float:
    """The mean of `mutual` where the second space's videos are shuffled: their neighbours keep their relations."""
    order = rng.permutation(len(b))
    place = np.empty(len(b), np.int64)
    place[order] = np.arange(len(b))
    return float(mutual(a, place[b[order]]).mean())
