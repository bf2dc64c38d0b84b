"""The configuration of the question `fusion`. Reads and writes nothing."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from config.labels import Classifier


class Fusion(Classifier):
    """Networks that predict genre and tags from both modalities together (study/fusion/train.py)."""

    hidden: int = Field(256, ge=8)
    """Hidden width of the perceptron on concatenated features; the other networks have about as many parameters."""
    max_epochs: int = Field(60, ge=1)
    """The most epochs; early stopping usually ends the training earlier."""
    lost: float = Field(0.3, gt=0, lt=1)
    """Rate of the modality dropout that every fusion is also trained with: share of videos that lose one modality."""
    components: int = Field(64, ge=1)
    """Number of canonical variates of each modality."""
    shrinkages: list[Annotated[float, Field(gt=0, le=1)]] = Field([0.001, 0.01, 0.03, 0.1, 0.3, 0.6, 0.9], min_length=1)
    """Shrinkages of CCA's covariances, above 0, at most 1. The best on the validation split is taken."""
    videos: int = Field(20_000, ge=10)
    """The most videos of the training split, and of the validation split. All of their segments are held in memory."""
    test_videos: int = Field(5000, ge=2)
    """The most test videos."""
