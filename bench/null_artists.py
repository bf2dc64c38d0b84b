"""Simulated artists whose videos are alike, for bench/nulls.py and the tests. Reads and writes nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

SIZES: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "60 artists with 5 videos each": lambda rng: np.full(60, 5),
    "60 artists with 1 to 40 videos": lambda rng: np.clip(np.exp(rng.normal(1.1, 1, 60)).round(), 1, 40).astype(int),
    "12 artists with 20 videos each": lambda rng: np.full(12, 20),
    "6 artists with 20 videos each": lambda rng: np.full(6, 20),
}
"""How many videos the artists of a run have. The last is fewer than eval/bootstrap.py calls reliable."""
ALIKE = (0.5, 0.3, 0.0)
"""Intraclass correlations of an artist's videos; at 0 all videos are independent."""


class Artists:
    """One run's videos: `groups` int64 [videos]; `draw` gives something that is alike within an artist."""

    def __init__(self, sizes: str, alike: float, seed: int) -> None:
        self.rng = np.random.default_rng([seed, *sizes.encode(), round(100 * alike)])
        counts = SIZES[sizes](self.rng)
        self.groups, self.alike = np.repeat(np.arange(len(counts)), counts), alike

    @property
    def count(self) -> int:
        """Number of artists."""
        return int(self.groups.max()) + 1

    def draw(self, dim: int = 1) -> np.ndarray:
        """Draw float64 [videos, dim], standard normal."""
        individual = self.rng.standard_normal((len(self.groups), dim))
        shared = self.rng.standard_normal((self.count, dim))[self.groups]
        return np.asarray(np.sqrt(self.alike) * shared + np.sqrt(1 - self.alike) * individual)
