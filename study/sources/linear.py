"""The linear head of `sources`: regularised canonical correlations, out of fold, for many pairings at once.

Reads and writes nothing. Hotelling 1936 (Biometrika 28). Each modality is standardised and reduced to its leading
principal components on the training videos; held-out features are clipped to the range of the training videos.
Covariances are shrunk towards a multiple of the identity (Ledoit and Wolf 2004, J. Multivariate Anal. 88; one shrinkage
for both modalities, as in the canonical ridge of Vinod 1976). Variates are weighted by their canonical correlation
(Gong et al. 2014, IJCV 106(2)) and compared by cosine.

A pairing says which video item goes with each audio item: int64 [videos]. All fits of a permutation test, the choice of
the shrinkage included, are repeated for every pairing; pairings with the same training items share what does not depend
on who goes with whom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from config.study.sources import Sources
from study.groups import folds

CHANCE = 0.5
_CACHED = 400
"""Bases that are kept; a permutation that moves items between folds makes new ones all the time."""


@dataclass(frozen=True)
class Basis:
    """Principal components of training items: `scores` float64 [all items, k], their `variance` [k] in training."""

    scores: np.ndarray
    variance: np.ndarray

    def white(self, shrinkage: float) -> np.ndarray:
        """Return the scores with the shrunk covariance of the training items as identity: float64 [all items, k]."""
        shrunk = (1 - shrinkage) * self.variance + shrinkage * self.variance.mean()
        return self.scores / np.sqrt(shrunk)


def basis(features: np.ndarray, train: np.ndarray, components: int) -> Basis:
    """Return the principal components of the items `train` (int64 [n]) of features float64 [items, dim]."""
    fitted = features[train]
    low, high = fitted.min(axis=0), fitted.max(axis=0)
    varying = high - low > 1e-9 * np.maximum(1, np.abs(high))
    mean, deviation = fitted[:, varying].mean(axis=0), fitted[:, varying].std(axis=0)
    standard = (np.clip(features[:, varying], low[varying], high[varying]) - mean) / deviation
    x = standard[train]
    # The eigenvectors of the Gram matrix: there are fewer videos than features.
    values, vectors = np.linalg.eigh(x @ x.T)
    kept = np.argsort(values)[::-1][: min(components, len(train) - 1)]
    kept = kept[values[kept] > 1e-9 * max(values.max(), 1e-300)]
    directions = x.T @ vectors[:, kept] / np.sqrt(values[kept])
    return Basis(standard @ directions, values[kept] / len(train))


class Pair:
    """Audio and video features of the same videos, float64 [videos, dim] each, ranked out of fold by pairings."""

    def __init__(self, audio: np.ndarray, video: np.ndarray, settings: Sources) -> None:
        self.features, self.settings = (np.asarray(audio, np.float64), np.asarray(video, np.float64)), settings
        self._bases: dict[tuple[int, bytes], Basis] = {}

    def ranks(self, units: np.ndarray, pairings: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
        """Return where the positive stands among the held-out videos: float64 [pairings, videos].

        0 is first, 1 last, chance is CHANCE: the mean of both directions, and of a random assignment of `units` (int64
        [videos], whole in a fold) to folds for each of `seeds`. `pairings` are int64 [pairings, videos]; a gallery are
        the items of a fold.
        """
        total = np.zeros(pairings.shape)
        for seed in seeds:
            fold = folds(units, self.settings.folds, seed)
            for number in np.unique(fold):
                train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
                total[:, test] += self._held_out(units, train, test, pairings, seed)
        return total / len(seeds)

    def _held_out(
        self, units: np.ndarray, train: np.ndarray, test: np.ndarray, pairings: np.ndarray, seed: int
    ) -> np.ndarray:
        """Return the ranks of the test videos, [pairings, test], by fits whose shrinkage was chosen in training."""
        inner = folds(np.unique(units[train], return_inverse=True)[1], self.settings.inner_folds, seed)
        losses = np.zeros((len(self.settings.shrinkages), len(pairings)))
        for number in np.unique(inner):
            fitted, held = train[inner != number], train[inner == number]
            for which, shrinkage in enumerate(self.settings.shrinkages):
                losses[which] += self._ranked(fitted, held, pairings, shrinkage).sum(axis=1)
        best = losses.argmin(axis=0)
        ranks = np.empty((len(pairings), len(test)))
        for which in np.unique(best):
            shrinkage = self.settings.shrinkages[which]
            ranks[best == which] = self._ranked(train, test, pairings[best == which], shrinkage)
        return ranks

    def _ranked(self, train: np.ndarray, test: np.ndarray, pairings: np.ndarray, shrinkage: float) -> np.ndarray:
        """Fit on the audio items `train` and their video items, and rank the `test` ones: float64 [pairings, test]."""
        audio = self._basis(0, train).white(shrinkage)
        ranks = np.empty((len(pairings), len(test)))
        sets = np.sort(pairings[:, train], axis=1)
        _, kind = np.unique(sets, axis=0, return_inverse=True)
        for one in np.unique(kind):
            chosen = np.flatnonzero(kind.ravel() == one)
            video = self._basis(1, sets[chosen[0]]).white(shrinkage)
            between = audio[train].T @ video[pairings[chosen][:, train]] / len(train)  # [chosen, k, k]
            left, correlations, right = np.linalg.svd(between, full_matrices=False)
            kept = slice(min(self.settings.dimensions, correlations.shape[1]))
            weights = correlations[:, None, kept]
            audio_variates = audio[test] @ (left[:, :, kept] * weights)
            video_variates = video[pairings[chosen][:, test]] @ (right[:, kept].transpose(0, 2, 1) * weights)
            ranks[chosen] = normalised_ranks(_unit(audio_variates) @ _unit(video_variates).transpose(0, 2, 1))
        return ranks

    def _basis(self, modality: int, train: np.ndarray) -> Basis:
        key = modality, train.tobytes()
        if key not in self._bases:
            if len(self._bases) >= _CACHED:
                self._bases.clear()
            self._bases[key] = basis(self.features[modality], train, self.settings.components)
        return self._bases[key]


def normalised_ranks(similar: np.ndarray) -> np.ndarray:
    """Return the normalised ranks of the positives, on the diagonal: 0 first, 1 last, mean of both directions.

    `similar` is [..., n, n] → float64 [..., n]; equal ones count half. Raises ValueError for n < 2: in a gallery of one
    video it is always first.
    """
    if similar.shape[-1] < 2:
        raise ValueError(f"a gallery of {similar.shape[-1]} videos: at least two are needed to rank them")
    own = np.diagonal(similar, axis1=-2, axis2=-1)
    both = []
    for line, axis in ((own[..., :, None], -1), (own[..., None, :], -2)):
        above, equal = (similar > line).sum(axis=axis), (similar == line).sum(axis=axis) - 1
        both.append(above + equal / 2)
    return (both[0] + both[1]) / 2 / (similar.shape[-1] - 1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-30)


def within_sources(sources: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw pairings within the sources (int64 [videos]), after the true one: int64 [1 + count, videos]."""
    by_source = np.argsort(sources, kind="stable")
    pairings = np.empty((count + 1, len(sources)), np.int64)
    pairings[0] = np.arange(len(sources))
    for row in pairings[1:]:
        # Random keys sorted within each source: a random order of its videos.
        row[by_source] = np.lexsort((rng.random(len(sources)), sources))
    return pairings


def shifted(sources: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw pairings in which no video that shares its source has its own frames, after the true one.

    Returns int64 [1 + count, videos]. Each source's videos are put in random order, and each gets the frames of the
    video a random number of positions further (at least 1), cyclically. A video alone in its source keeps its own.
    """
    by_source = np.argsort(sources, kind="stable")
    pairings = np.tile(np.arange(len(sources)), (count + 1, 1))
    for row in pairings[1:]:
        order = np.lexsort((rng.random(len(sources)), sources))
        for members in np.split(order, np.flatnonzero(np.diff(sources[by_source])) + 1):
            if len(members) > 1:
                row[members] = np.roll(members, rng.integers(1, len(members)))
    return pairings


def freely(videos: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw pairings of all videos, after the true one: int64 [1 + count, videos]."""
    return np.stack([np.arange(videos), *(rng.permutation(videos) for _ in range(count))])


def p_value(values: np.ndarray) -> float:
    """Return the one-sided p of the first value, the true pairing's, among all: smaller is more extreme."""
    return float((values <= values[0] + 1e-12).sum() / len(values))
