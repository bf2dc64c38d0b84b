"""The configuration of the study: the paper's open questions, one section a part. Reads and writes nothing.

Defaults are the full size; config/study_demo.yaml has what two cores finish in half an hour.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from config.section import Section

Correlations = list[Annotated[float, Field(ge=0, le=1)]]
TENTHS = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]


class Simulated(Section):
    """Features made by a latent-factor model, without videos (heads/study/simulated.py)."""

    videos: int = Field(8000, ge=10)
    """Training videos of the curves."""
    gallery: int = Field(1000, ge=10)
    """Test videos, each a candidate for all."""
    factors: int = Field(16, ge=1)
    """Latent factors of a video."""
    noise: float = Field(1.0, ge=0)
    """Standard deviation of what is added to each feature, whose own values lie between -1 and 1."""
    max_epochs: int = Field(15, ge=1)
    """No recipe trains for longer on these; where its own `max_epochs` is smaller, that holds."""
    grid: Correlations = TENTHS
    """Correlations of the curves. 0 is always there."""
    sizes: list[Annotated[int, Field(ge=10)]] = [250, 500, 1000, 2000, 4000, 8000]
    """Training videos of the map."""
    map_grid: Correlations = TENTHS
    """Correlations of the map."""


class Paired(Section):
    """Rendered videos whose sounds are paired with pictures of other videos (heads/study/pairing.py)."""

    grid: Correlations = TENTHS
    """Correlations of the latent factors, all of them. 0 is always there."""
    kinds: list[Literal["dance", "mood", "genre"]] = ["dance", "mood", "genre"]
    """Kinds of link that are looked at besides."""
    kinds_grid: Correlations = TENTHS
    """Their correlations."""


class Correlation(Section):
    """At which correlation of sound and picture does each recipe of `heads.experiments` begin to find it?"""

    simulated: Simulated = Simulated()
    rendered: Paired = Paired()
    null_seeds: int = Field(20, ge=2)
    """Trainings of each recipe at correlation 0, with the seeds 0, 1, …: how often do they claim to beat chance?"""
    few: list[str] = []
    """Recipes for the map and for the kinds of link. Empty: the first and the last of `heads.experiments`."""


class Study(Section):
    """What `snakemake study` runs. Every part reads the cache of this results folder."""

    seeds: list[int] = [0, 1, 2, 3, 4]
    """Every training of the study runs once with each."""
    correlation: Correlation = Correlation()
