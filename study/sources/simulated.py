"""Simulated collections with the sources of a real one, for the power of its test. Reads and writes nothing."""

from __future__ import annotations

import numpy as np

FACTORS = 8
"""Latent factors of a modality: of each source, and of each video within its source, with equal variances."""
WIDTH = 64
"""Features of a modality."""


def simulate(sources: np.ndarray, correlation: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return audio and video features, float64 [videos, WIDTH] each, of videos of these sources (int64 [videos]).

    A source has a look and a sound, which are independent of each other and equal for its videos: half of the variance
    of the factors. The other half are the videos' own factors, which have this `correlation` between the modalities. A
    third of the features' variance is noise.
    """
    count = int(sources.max()) + 1
    shared = rng.normal(size=(len(sources), FACTORS))
    own = correlation * shared + np.sqrt(1 - correlation**2) * rng.normal(size=shared.shape)
    features = []
    for factors in (shared, own):
        factors = factors + rng.normal(size=(count, FACTORS))[sources]
        mixed = factors @ rng.normal(size=(FACTORS, WIDTH)) / np.sqrt(FACTORS)
        features.append(mixed + rng.normal(size=mixed.shape))
    return features[0], features[1]
