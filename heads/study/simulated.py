"""Features without videos: a latent-factor model of music videos, made in memory. Reads and writes nothing.

Every video has `factors` latent numbers for its sound and as many for its pictures, all standard normal. Those of the
pictures are ρ · sound + sqrt(1 - ρ²) · independent, so each factor correlates by ρ. A side's features are
tanh(latents · W) + noise, with a random layer W of its own: what the factors say is there, but not linearly, and spread
over all of the side's channels, as in a frozen backbone. A video has one segment. `data.render` does the same to real
videos, `bench.fill` to a cache on disk.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from config.study import Simulated
from heads.features import Features, Held, Split

VALIDATION_SHARE = 0.125
"""Validation videos beside those for training."""


class Drawn(NamedTuple):
    """Simulated videos: latents float32 [videos, factors] and features float16 [videos, 1, dim] of both sides."""

    latents: tuple[np.ndarray, np.ndarray]
    features: tuple[np.ndarray, np.ndarray]


def draw(spec: Simulated, dims: tuple[int, int], videos: int, correlation: float, seed: int) -> Drawn:
    """Draw `videos` videos whose latents correlate by `correlation`; `dims` are the features' widths, sound first.

    A pure function. Of two calls with one seed the first videos of the larger are not the smaller's.
    """
    rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence((seed, 0))))
    sound, other = rng.standard_normal((2, videos, spec.factors), np.float32)
    picture = np.float32(correlation) * sound + np.float32(np.sqrt(1 - correlation**2)) * other
    seen = []
    for latents, dim in zip((sound, picture), dims, strict=True):
        layer = rng.standard_normal((spec.factors, dim), np.float32) / np.float32(np.sqrt(spec.factors))
        noise = np.float32(spec.noise) * rng.standard_normal((videos, dim), np.float32)
        seen.append((np.tanh(latents @ layer) + noise).astype(np.float16)[:, None])
    return Drawn((sound, picture), (seen[0], seen[1]))


def simulate(spec: Simulated, dims: tuple[int, int], train: int, correlation: float, seed: int) -> Features:
    """`train` training videos, an eighth of that for validation, and a test split of `gallery` videos."""
    counts = {"train": train, "validation": max(2, round(VALIDATION_SHARE * train)), "test": spec.gallery}
    sides = draw(spec, dims, sum(counts.values()), correlation, seed).features
    edges = np.cumsum([0, *counts.values()])
    splits = {
        name: Split(np.arange(first, last), np.ones((last - first, 1), bool), last - first)
        for name, first, last in zip(counts, edges, edges[1:], strict=False)
    }
    names = ("sound", "picture")
    return Features(
        arrays=(Held(sides[0]), Held(sides[1])),
        splits=splits,
        shard_videos=sum(counts.values()),
        keys=dict.fromkeys(names, f"simulated-{seed}-{correlation}"),
        random_weights=dict.fromkeys(names, False),
    )
