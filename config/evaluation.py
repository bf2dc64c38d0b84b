"""The configuration of the evaluation on the test split. Reads and writes nothing."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from config.section import Section, Seed


class Atlas(Section):
    """The map of all videos to browse: `snakemake atlas`, `make explore` (docs/atlas.md)."""

    experiment: str | None = None
    """The experiment of `heads.experiments` whose space is shown first, and by whose embeddings neighbours are found;
    default: the first."""
    media_videos: int = Field(2000, ge=0)
    """A collection of up to so many videos has a frame and a few seconds of audio of each in its rows, and clips
    beside it. A larger one plays the videos' own files while `make explore` serves them."""
    seconds: float = Field(3.0, ge=1, le=10)
    """Length of these clips in seconds, from the beginning of a video's middle segment on."""


class Evaluation(Section):
    """Evaluation on the test split."""

    galleries: list[Annotated[int, Field(ge=2)]] = [1000, 2000]
    """Gallery sizes in videos, drawn at random from the test split if it is larger; the paper's is 1,000. The report's
    first table shows the first size. `gallery: 1000`, the older form, means `galleries: [1000]`."""
    bootstrap: int = Field(1000, ge=100, le=1_000_000)
    """Bootstrap resamples for confidence intervals."""
    seed: Seed = 0
    """Random seed of galleries and bootstrap resamples."""
    atlas: Atlas = Atlas()
    """The map of all videos to browse."""

    @model_validator(mode="before")
    @classmethod
    def _one_gallery(cls, raw: Any) -> Any:
        """Read the key `gallery` of older configurations as a list of one size."""
        if not isinstance(raw, dict) or "gallery" not in raw:
            return raw
        if "galleries" in raw:
            raise ValueError("set `galleries` alone: `gallery` is its older form")
        return {key: value for key, value in raw.items() if key != "gallery"} | {"galleries": [raw["gallery"]]}

    @model_validator(mode="after")
    def _once(self) -> Evaluation:
        if len(set(self.galleries)) < len(self.galleries):
            raise ValueError(f"eval.galleries {self.galleries} has a size twice")
        return self
