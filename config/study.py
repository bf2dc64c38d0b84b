"""The configuration of the study: the paper's open questions, one section a part. Reads and writes nothing.

Defaults are the full size; config/study_demo.yaml has what two cores finish in half an hour.
"""

from __future__ import annotations

from pydantic import Field

from config.heads import Experiment
from config.section import Section


def _recommended() -> Experiment:
    """`recommended` of config/paper.yaml."""
    return Experiment(
        output="linear",
        temperature=0.07,
        learned_temperature=True,
        optimiser="adamw",
        learning_rate=0.001,
        weight_decay=0.1,
        schedule="cosine",
        warmup=2,
        batch=2000,
        segment_policy="all",
        patience=5,
        max_epochs=30,
    )


class Aggregation(Section):
    """Ways to pool a video's segments, each trained end to end (heads/study/aggregation.py)."""

    recipe: Experiment = Field(default_factory=_recommended)
    """Heads and training, the same for every pooling. `batch` counts videos, of which all segments are used."""
    replaced: list[int] = [0, 1, 2, 3]
    """How many of each video's picture segments are replaced by other videos', in training and test: as many curves'
    points. 0 must be one of them, and all are below `segments.count`."""
    videos: int = Field(20_000, ge=10)
    """The most videos of the training and of the validation split; all of their segments are in memory."""
    gallery: int = Field(2000, ge=2)
    """The most test videos, which are ranked against one another."""


class Fusion(Section):
    """Networks that predict genre and tags from both sides together (heads/study/fusion.py)."""

    hidden: int = Field(256, ge=8)
    """Width of the perceptron on concatenated features; the others have about as many parameters."""
    dropout: float = Field(0.3, ge=0, lt=1)
    """Of the hidden layer."""
    learning_rate: float = Field(0.001, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    batch: int = Field(128, ge=1)
    """Videos a batch."""
    patience: int = Field(10, ge=1)
    """Stop after this many epochs without a lower validation loss."""
    max_epochs: int = Field(60, ge=1)
    lost: float = Field(0.3, gt=0, lt=1)
    """Modality dropout, which every fusion is also trained with: the share of videos that lose one side in a batch."""
    components: int = Field(64, ge=1)
    """Canonical variates of each side."""
    shrinkages: list[float] = Field([0.001, 0.01, 0.03, 0.1, 0.3, 0.6, 0.9], min_length=1)
    """What CCA's covariances are shrunk by, of which the best on the validation split is taken; above 0, at most 1."""
    videos: int = Field(20_000, ge=10)
    """The most videos of the training and of the validation split; all of their segments are in memory."""
    test_videos: int = Field(5000, ge=2)
    """The most test videos."""


class Study(Section):
    """What `snakemake study` runs. Every part reads the cache of this results folder."""

    seeds: list[int] = [0, 1, 2, 3, 4]
    """Every training of the study runs once with each."""
    aggregation: Aggregation = Aggregation()
    """How segments become a video."""
    fusion: Fusion = Fusion()
    """Both sides together."""
