"""Rendered videos paired anew: one rendering at correlation 1 gives every lower one. Reads and writes nothing.

The latent factors of a rendered video are known (data/render/latents.py). Here every sound gets the pictures of some
video of its own split, one to one, such that the factors of sounds and pictures correlate by ρ: each sound wishes for
t · its own scores + sqrt(1 - t²) · those of a video drawn at random, one to one, and the pictures are assigned so that
the sum of squared distances to the wishes is least (`scipy.optimize.linear_sum_assignment`). At t = 0 the wishes are
all granted and nothing is shared; at t = 1 every sound has its own pictures. In between, the few videos of a split
grant wishes only roughly; so t is chosen by bisection, in each split, such that the mean correlation of the factors is
ρ. What was reached is measured (`achieved`).

A kind of link is made of some of the factors: only those count. It needs pictures of another video, because a video's
own are alike in every factor; so at ρ = 1 it reaches what the best assignment reaches, which is less than 1. "genre"
has no factors: with probability ρ a sound has the pictures of another video of its genre, otherwise of any.

Cuts fall on the beat of the music that the pictures were made with, not of the sound that they are paired with: tempo
and liveliness can agree, the phase of the beat cannot. Frozen features of a segment hold no phase across two files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from data.render.latents import GENRES, Factors, draw

KINDS: dict[str, tuple[str, ...]] = {
    "all": Factors._fields,
    "dance": ("energy", "tempo", "density"),
    "mood": ("energy", "brightness", "height", "sustain"),
    "genre": (),
}
"""Which factors a kind of link counts: all; cuts, flashes and motion at the pace of the music; its mood in the colours;
or none, but the genre."""
STEPS = 12
"""Of the bisection: t is known to 2⁻¹²."""


@dataclass(frozen=True)
class Known:
    """What rendered videos were made from: `scores` float64 [videos, factors], `genres` int64 [videos]."""

    scores: np.ndarray
    genres: np.ndarray


def known(seed: int, indices: Sequence[int]) -> Known:
    """The latents of the videos with these numbers, rendered with `render.seed: seed` and `render.correlation: 1`."""
    sounds = [draw(seed, index, 1.0).sound for index in indices]
    return Known(np.array([s.scores for s in sounds]), np.array([GENRES.index(s.genre) for s in sounds]))


def pair(of: Known, kind: str, correlation: float, seed: int) -> np.ndarray:
    """Whose pictures each sound gets: int64 [videos], a permutation of the videos of one split.

    A pure function. ValueError for fewer than two videos or an unknown kind.
    """
    videos = len(of.genres)
    if videos < 2 or kind not in KINDS:
        raise ValueError(f"cannot pair {videos} videos by {kind!r}")
    rng = np.random.default_rng(np.random.SeedSequence((seed, *kind.encode())))
    anyone = rng.permutation(videos)
    if kind == "genre":
        return _by_genre(of.genres, correlation, anyone, rng)
    columns = [Factors._fields.index(name) for name in KINDS[kind]]
    scores = of.scores[:, columns]
    scores = (scores - scores.mean(axis=0)) / scores.std(axis=0)
    own = kind == "all"
    low, high = 0.0, 1.0
    found = _assign(scores, scores[anyone], own)
    if correlation == 0:
        return found
    best = _assign(scores, scores, own)
    if correlation == 1 or _correlation(scores, best) <= correlation:
        return best
    for _ in range(STEPS):
        t = (low + high) / 2
        found = _assign(scores, t * scores + np.sqrt(1 - t**2) * scores[anyone], own)
        low, high = (t, high) if _correlation(scores, found) < correlation else (low, t)
    return found


def achieved(of: Known, pictures: np.ndarray) -> dict[str, float]:
    """Pearson's correlation of each factor's scores over the pairs, and the share of pairs of one genre (`same genre`).

    `pictures` int64 [videos], as `pair` gives them.
    """
    each = [np.corrcoef(column, column[pictures])[0, 1] for column in of.scores.T]
    found = {name: float(value) for name, value in zip(Factors._fields, each, strict=True)}
    return found | {"same genre": float((of.genres == of.genres[pictures]).mean())}


def _assign(scores: np.ndarray, wishes: np.ndarray, own: bool) -> np.ndarray:
    """The permutation with the least sum of squared distances; unless `own`, nobody keeps their pictures if avoidable.

    Both are [videos, factors].
    """
    cost = (wishes**2).sum(1)[:, None] - 2 * wishes @ scores.T + (scores**2).sum(1)
    if not own:
        np.fill_diagonal(cost, cost.max() * len(cost) + 1)
    return linear_sum_assignment(cost)[1]


def _correlation(scores: np.ndarray, pictures: np.ndarray) -> float:
    """Mean over the factors of their correlation; `scores` are standardised."""
    return float((scores * scores[pictures]).mean())


def _by_genre(genres: np.ndarray, share: float, anyone: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A share of the sounds, drawn at random, get pictures of another video of their genre, the others those left over.

    Those drawn form a ring in each genre; one who is alone in it is left to chance, as all others are.
    """
    pictures = np.arange(len(genres))
    drawn = rng.permutation(len(genres))[: round(share * len(genres))]
    alone = []
    for genre in np.unique(genres[drawn]):
        ring = drawn[genres[drawn] == genre]
        if len(ring) > 1:
            pictures[ring] = np.roll(ring, 1)
        else:
            alone += ring.tolist()
    rest = np.setdiff1d(np.arange(len(genres)), np.setdiff1d(drawn, alone))
    pictures[rest] = rest[np.argsort(anyone[rest])]
    return pictures
