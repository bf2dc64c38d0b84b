"""Features without videos: a latent-factor model of music videos in memory. Reads and writes nothing.

Every video has `factors` standard normal latents for its audio and as many for its video modality, which are
ρ · audio + sqrt(1 - ρ²) · independent, so each factor correlates by ρ. The features of a modality are
tanh(latents · W) + noise, with its own random layer W: the factors are encoded nonlinearly and spread over all
dimensions, as in a frozen backbone. A video has one segment. `data.render` does the same with real videos, `bench.fill`
with a cache on disk.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from config.study.correlation import Simulated
from heads.features import InMemory, PairedFeatures, Split

VALIDATION_SHARE = 0.125
"""Validation videos as a share of the training videos."""


class Drawn(NamedTuple):
    """Simulated videos: latents float32 [videos, factors] and features float16 [videos, 1, dim] of both modalities."""

    latents: tuple[np.ndarray, np.ndarray]
    features: tuple[np.ndarray, np.ndarray]


def draw(spec: Simulated, dims: tuple[int, int], videos: int, correlation: float, seed: int) -> Drawn:
    """Draw `videos` videos whose latents correlate by `correlation`; `dims` are the features' widths, audio first.

    A pure function. With one seed, the first videos of a larger draw are not those of a smaller one.
    """
    rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence((seed, 0))))
    audio, independent = rng.standard_normal((2, videos, spec.factors), np.float32)
    video = np.float32(correlation) * audio + np.float32(np.sqrt(1 - correlation**2)) * independent
    features = []
    for latents, dim in zip((audio, video), dims, strict=True):
        layer = rng.standard_normal((spec.factors, dim), np.float32) / np.float32(np.sqrt(spec.factors))
        noise = np.float32(spec.noise) * rng.standard_normal((videos, dim), np.float32)
        features.append((np.tanh(latents @ layer) + noise).astype(np.float16)[:, None])
    return Drawn((audio, video), (features[0], features[1]))


def simulate(spec: Simulated, dims: tuple[int, int], train: int, correlation: float, seed: int) -> PairedFeatures:
    """Simulate `train` training videos, an eighth of that for validation, and `spec.gallery` test videos."""
    counts = {"train": train, "validation": max(2, round(VALIDATION_SHARE * train)), "test": spec.gallery}
    audio, video = draw(spec, dims, sum(counts.values()), correlation, seed).features
    edges = np.cumsum([0, *counts.values()])
    splits = {
        name: Split(np.arange(first, last), np.ones((last - first, 1), bool), last - first)
        for name, first, last in zip(counts, edges, edges[1:], strict=False)
    }
    names = ("sound", "picture")
    return PairedFeatures(
        arrays=(InMemory(audio), InMemory(video)),
        splits=splits,
        shard_videos=sum(counts.values()),
        keys=dict.fromkeys(names, f"simulated-{seed}-{correlation}"),
        random_weights=dict.fromkeys(names, False),
    )
