"""What several questions of the study share. Reads and writes nothing."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from config.heads import Experiment

Correlations = list[Annotated[float, Field(ge=0, le=1)]]
TENTHS = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]
FEWEST_PERMUTATIONS = 19
"""The fewest random draws for p = 0.05, because p is at least 1 / (1 + draws)."""


def recommended() -> Experiment:
    """Return the experiment `recommended` of config/paper.yaml."""
    return Experiment(
        standardise=True,
        hidden=[1024],
        output="linear",
        temperature=0.4,
        learned_temperature=True,
        optimiser="adamw",
        learning_rate=0.001,
        weight_decay=1.0,
        schedule="cosine",
        warmup=2,
        batch=2000,
        segment_policy="all",
        patience=5,
        max_epochs=30,
    )
