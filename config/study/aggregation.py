"""The configuration of the question `aggregation`. Reads and writes nothing."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from config.heads import Experiment
from config.section import Section
from config.study.common import recommended


class Aggregation(Section):
    """Poolings of a video's segments, each trained end to end with the heads (study/aggregation/train.py)."""

    recipe: Experiment = Field(default_factory=recommended)
    """Heads and training, the same for every pooling. `batch` counts videos; all of their segments are used."""
    replaced: list[Annotated[int, Field(ge=0)]] = [0, 1, 2, 3]
    """Numbers of each video's segments whose frames are replaced by other videos', in training and test: the points
    of a curve. 0 must be among them, and all are below `segments.count`."""
    videos: int = Field(20_000, ge=10)
    """The most videos of the training split, and of the validation split. All of their segments are held in memory."""
    gallery: int = Field(2000, ge=2)
    """The most test videos; each is ranked against all."""

    @field_validator("recipe")
    @classmethod
    def _trained_as_it_says(cls, recipe: Experiment) -> Experiment:
        wrong = [
            key
            for key, ignored in (
                ("shuffle: once", recipe.shuffle == "once"),
                ("repeat_step: true", recipe.repeat_step),
                ("segment_policy: first", recipe.segment_policy == "first"),
                ("normalise: false", not all(recipe.unit)),
            )
            if ignored
        ]
        if wrong:
            raise ValueError(f"{', '.join(wrong)}: poolings are not trained so; leave it out of this recipe")
        return recipe

    @field_validator("replaced")
    @classmethod
    def _begins_with_none(cls, replaced: list[int]) -> list[int]:
        if 0 not in replaced:
            raise ValueError("0 must be one of them: the videos as they are")
        return replaced
