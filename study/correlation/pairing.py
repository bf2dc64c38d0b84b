"""Re-pair rendered videos: one rendering at correlation 1 gives every lower one. Reads and writes nothing.

The latent factors of a rendered video are known (data/render/latents.py). The audio of every video is paired with the
frames of some video of its split, one to one, such that the factors of both modalities correlate by ρ. The target of
each audio is t · its own scores + sqrt(1 - t²) · those of a random video (one to one), and frames are assigned so that
the sum of squared distances to the targets is least (`scipy.optimize.linear_sum_assignment`). At t = 0 every target is
met and nothing is shared, and the pairing is a random permutation; at ρ = 1 every audio keeps its own frames. In
between, the videos of a split match the targets only roughly, so t is found by bisection in each split, such that the
mean correlation of the factors is ρ.

In between no audio keeps its own frames: a rendered ρ would be a mixture of pairs that agree in everything and others.
A split of n videos reaches only so much without them (mean correlation .73 for 97 videos, .85 for 776). Above that, as
few videos as are needed for ρ keep their own, and the others get the best of another's. With `own_frames` they may
always keep them, as in earlier versions. `achieved` measures what was reached, and the share of videos with their own
frames.

A kind of link uses only some of the factors. It needs the frames of another video, because a video's own agree in every
factor; so at ρ = 1 it reaches what the best assignment reaches, which is less than 1. "genre" has no factors: with
probability ρ an audio gets the frames of another video of its genre, otherwise of any video.

Cuts fall on the beat of the music that the frames were rendered with: after re-pairing, tempo and liveliness can agree,
the phase of the beat cannot. Frozen features of a segment hold no phase across two files.
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
"""The factors of each kind of link: all; pace (cuts, flashes, motion); mood (colours); none, only the genre."""
STEPS = 12
"""Steps of the bisection, which finds t within 2⁻¹²."""


@dataclass(frozen=True)
class Known:
    """Latents of rendered videos: `scores` float64 [videos, factors], `genres` int64 [videos]."""

    scores: np.ndarray
    genres: np.ndarray


def known(seed: int, indices: Sequence[int]) -> Known:
    """Return the latents of the videos with these numbers, rendered with this `render.seed` at correlation 1."""
    audio = [draw(seed, index, 1.0).audio for index in indices]
    return Known(
        np.array([scored.scores for scored in audio]), np.array([GENRES.index(scored.genre) for scored in audio])
    )


def pair(known: Known, kind: str, correlation: float, seed: int, own_frames: bool = False) -> np.ndarray:
    """Return whose frames the audio of each video is paired with: int64 [videos], a permutation of one split.

    `own_frames`: whether an audio may keep its own between ρ = 0 and 1 (only of kind `all`). A pure function.
    ValueError for fewer than two videos or an unknown kind.
    """
    videos = len(known.genres)
    if videos < 2 or kind not in KINDS:
        raise ValueError(f"cannot pair {videos} videos by {kind!r}")
    rng = np.random.default_rng(np.random.SeedSequence((seed, *kind.encode())))
    anyone = rng.permutation(videos)
    if kind == "genre":
        return _by_genre(known.genres, correlation, anyone, rng)
    columns = [Factors._fields.index(name) for name in KINDS[kind]]
    scores = known.scores[:, columns]
    scores = (scores - scores.mean(axis=0)) / scores.std(axis=0)
    if correlation == 0:
        return _assign(scores, scores[anyone], 0.0 if kind == "all" else np.inf)
    if kind == "all" and correlation == 1:
        return np.arange(videos)
    price = 0.0 if kind == "all" and own_frames else np.inf
    low, high = 0.0, 1.0
    best = _assign(scores, scores, price)
    if correlation == 1 or _correlation(scores, best) <= correlation:
        return _with_some_own(scores, correlation) if kind == "all" and not own_frames else best
    order = best
    for _ in range(STEPS):
        t = (low + high) / 2
        order = _assign(scores, t * scores + np.sqrt(1 - t**2) * scores[anyone], price)
        low, high = (t, high) if _correlation(scores, order) < correlation else (low, t)
    return order


def _with_some_own(scores: np.ndarray, correlation: float) -> np.ndarray:
    """Let the fewest videos keep their own frames with which the mean correlation reaches `correlation`.

    Keeping them costs a price, found by bisection: the higher it is, the fewer do, those that no other frames suit.
    """
    low, high = 0.0, float(4 * (scores**2).sum(axis=1).max())  # free, and more than any other frames cost
    order = np.arange(len(scores))
    for _ in range(STEPS):
        price = (low + high) / 2
        tried = _assign(scores, scores, price)
        if _correlation(scores, tried) < correlation:
            high = price
        else:
            low, order = price, tried
    return order


def achieved(known: Known, order: np.ndarray) -> dict[str, float]:
    """Measure Pearson's correlation of each factor over the pairs, and the share of pairs of one genre (`same genre`).

    `own frames` is the share of videos that keep their own. `order` int64 [videos], as `pair` returns it.
    """
    values = [float(np.corrcoef(column, column[order])[0, 1]) for column in known.scores.T]
    same_genre = float((known.genres == known.genres[order]).mean())
    return dict(zip(Factors._fields, values, strict=True)) | {
        "same genre": same_genre,
        "own frames": float((order == np.arange(len(order))).mean()),
    }


def _assign(scores: np.ndarray, targets: np.ndarray, price: float = 0.0) -> np.ndarray:
    """Return the permutation with the least sum of squared distances and, for each video that keeps its own, `price`.

    Both are [videos, factors]. With an infinite price none keeps its own if that can be avoided.
    """
    cost = (targets**2).sum(1)[:, None] - 2 * targets @ scores.T + (scores**2).sum(1)
    most = cost.max() * len(cost) + 1
    cost[np.diag_indices_from(cost)] += price if np.isfinite(price) else most
    return np.asarray(linear_sum_assignment(cost)[1])


def _correlation(scores: np.ndarray, order: np.ndarray) -> float:
    """Return the mean over the factors of their correlation; `scores` are standardised."""
    return float((scores * scores[order]).mean())


def _by_genre(genres: np.ndarray, share: float, anyone: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give a random share of the videos the frames of another video of their genre, and the rest those left over.

    The drawn videos of a genre form a ring; one that is alone in its genre is paired at random, as all others are.
    """
    order = np.arange(len(genres))
    drawn = rng.permutation(len(genres))[: round(share * len(genres))]
    alone = []
    for genre in np.unique(genres[drawn]):
        ring = drawn[genres[drawn] == genre]
        if len(ring) > 1:
            order[ring] = np.roll(ring, 1)
        else:
            alone += ring.tolist()
    rest = np.setdiff1d(np.arange(len(genres)), np.setdiff1d(drawn, alone))
    order[rest] = rest[np.argsort(anyone[rest])]
    return order
