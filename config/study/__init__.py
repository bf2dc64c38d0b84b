"""The configuration of the study of the paper's open questions: a module a question. Reads and writes nothing.

Defaults are the full size; config/study_demo.yaml has a size for two cores and about half an hour.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from config.heads import Seeds
from config.section import Section
from config.study.ablation import Ablation
from config.study.aggregation import Aggregation
from config.study.correlation import Correlation
from config.study.fusion import Fusion
from config.study.length import Length
from config.study.paper_code import PaperCode
from config.study.relations import Relations
from config.study.sources import Sources

Question = Literal["correlation", "length", "aggregation", "fusion", "relations", "ablation", "paper_code", "sources"]
"""All questions, in the page's order; each has a folder in study/ and a field of its name in `Study`."""


class Study(Section):
    """What `snakemake study` runs. Every question reads the cache of this results folder."""

    questions: list[Question] = Field(["correlation", "length", "aggregation", "fusion", "relations"], min_length=1)
    """Questions that are asked. The page has them in an order of its own."""
    seeds: Seeds = Field([0, 1, 2, 3, 4], min_length=1)
    """Random seeds; every training of the study runs once with each."""
    length: Length = Length()
    """How long segments should be, and how many."""
    correlation: Correlation = Correlation()
    """From which correlation on experiments find it."""
    aggregation: Aggregation = Aggregation()
    """How the segments of a video are pooled."""
    fusion: Fusion = Fusion()
    """Genre and tags from both modalities together."""
    relations: Relations = Relations()
    """Which relations between audio and video exist."""
    ablation: Ablation = Ablation()
    """From the published code to the recommended recipe, one change at a time."""
    paper_code: PaperCode = PaperCode()
    """What the authors' own code measures. Asked only where `questions` names it."""
    sources: Sources = Sources()
    """A small collection of real videos, by whole sources. Asked only where `questions` names it."""

    @property
    def needs_videos(self) -> bool:
        """Whether any question that is asked reads the cache of videos."""
        return self.questions != ["paper_code"] or self.paper_code.cache
