"""The configuration of the question `correlation`. Reads and writes nothing."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from config.section import Section, left_out
from config.study.common import TENTHS, Correlations


class Simulated(Section):
    """Features simulated by a latent-factor model, without videos (study/correlation/simulated.py)."""

    videos: int = Field(8000, ge=10)
    """Training videos for the curves over correlations."""
    gallery: int = Field(1000, ge=10)
    """Test videos; each is ranked against all."""
    factors: int = Field(16, ge=1)
    """Number of latent factors of a video."""
    noise: float = Field(1.0, ge=0)
    """Standard deviation of the noise that is added to each feature; without noise, features lie between -1 and 1."""
    max_epochs: int = Field(15, ge=1)
    """The most epochs on simulated features; the smaller of this and the experiment's own `max_epochs` holds."""
    grid: Correlations = TENTHS
    """Correlations of the curves, 0 to 1. 0 is always included."""
    sizes: list[Annotated[int, Field(ge=10)]] = Field([250, 500, 1000, 2000, 4000, 8000], min_length=1)
    """Numbers of training videos for the map over correlations and numbers of videos."""
    map_grid: Correlations = Field(TENTHS, min_length=1)
    """Correlations of the map, 0 to 1."""


class Paired(Section):
    """Rendered videos whose audio is paired with the frames of other videos (study/correlation/pairing.py)."""

    grid: Correlations = TENTHS
    """Correlations, 0 to 1, of all latent factors together. 0 is always included."""
    own_frames: bool = False
    """Whether audio may keep its own frames below ρ = 1. By default it does only where ρ cannot be reached
    otherwise."""
    kinds: list[Literal["dance", "mood", "genre"]] = ["dance", "mood", "genre"]
    """Kinds of link that are studied besides, each through some of the latent factors or the genre."""
    kinds_grid: Correlations = TENTHS
    """Correlations of these kinds, 0 to 1."""

    @model_serializer(mode="wrap")
    def _without_later_options(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out `own_frames` at its default: studies that are older than it are not repeated for it."""
        return left_out(handler(self), "own_frames", False)


class Correlation(Section):
    """From which correlation of audio and video on does each experiment of `heads.experiments` find it?"""

    simulated: Simulated = Simulated()
    """Simulated features, without videos."""
    rendered: Paired = Paired()
    """Rendered videos, paired anew. Left out if the videos of the cache were not rendered."""
    null_seeds: int = Field(20, ge=2)
    """Runs of each experiment at correlation 0, with the seeds 0, 1, …, to count how often one seems to beat chance."""
    few: list[str] = []
    """Experiments for the map and for the kinds of link. Empty: the first and the last of `heads.experiments`."""
