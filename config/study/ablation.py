"""The configuration of the question `ablation`. Reads and writes nothing."""

from __future__ import annotations

from pydantic import Field, model_validator

from config.heads import Seeds
from config.section import Section, Width
from config.study.common import Correlations


class TrainMode(Section):
    """Backbones whose features were extracted in training mode, beside the same ones in evaluation mode."""

    audio: str | None = None
    """Name in `backbones` of the audio backbone in training mode."""
    video: str | None = None
    """Name in `backbones` of the video backbone in training mode, such as one of kind `timm` with `mode: train`."""


class Ablation(Section):
    """From the published code to another recipe, one change at a time (study/ablation/train.py)."""

    first: str = "paper_code"
    """Name in `heads.experiments` of the experiment where the chain of changes begins."""
    last: str = "recommended"
    """Name in `heads.experiments` of the experiment where it ends."""
    seeds: Seeds = Field([0, 1, 2, 3, 4], min_length=2)
    """Random seeds of the trainings, of the simulated features and of the pairings of rendered videos."""
    steps: int = Field(2000, ge=1)
    """Optimiser steps of every training."""
    checks: int = Field(20, ge=1)
    """Number of validations in a training, equally spaced; the weights with the lowest validation loss are kept."""
    simulated: Correlations = Field([0.25, 0.5])
    """Correlations of simulated features (`study.correlation.simulated` has their factors and noise)."""
    videos: int = Field(5000, ge=10)
    """Simulated training videos; an eighth as many are for validation."""
    gallery: int = Field(1000, ge=10)
    """Simulated test videos; each is ranked against all."""
    dims: tuple[Width, Width] | None = None
    """Widths of simulated features, audio and video. Default: those of the cache."""
    rendered: Correlations = Field([0.5], min_length=1)
    """Correlations at which rendered videos are paired anew. Other videos are used as they are."""
    train_mode: TrainMode | None = None
    """Features of backbones in training mode, as in the published code: where the chain begins. Default: none."""

    @model_validator(mode="after")
    def _checks_are_steps(self) -> Ablation:
        if self.checks > self.steps:
            raise ValueError(f"checks ({self.checks}) are more than steps ({self.steps})")
        return self
