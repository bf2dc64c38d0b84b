"""The configuration of the study: the paper's open questions, one section a part. Reads and writes nothing.

Defaults are the full size; config/study_demo.yaml has what two cores finish in half an hour.
"""

from __future__ import annotations

from pydantic import Field

from config.section import Section


class Relations(Section):
    """Which relations between sound and picture exist: `eval/study/relations.py`."""

    false_discoveries: float = Field(0.05, gt=0, lt=1)
    """Share of false ones among the relations that are called significant (Benjamini and Hochberg)."""
    permutations: int = Field(5, ge=1)
    """Times that sound and picture are paired anew for the baselines between feature spaces; each reads the cache."""
    null_seeds: int = Field(20, ge=1)
    """Times that pictures are shuffled to count the relations that are found where there are none."""
    videos: int = Field(5000, ge=20)
    """Videos, drawn at random where there are more, for what needs all of them at once: probes and neighbours."""
    neighbours: int = Field(10, ge=1)
    """Nearest neighbours that are compared between feature spaces."""


class Study(Section):
    """What `snakemake study` runs. Every part reads the cache of this results folder."""

    seeds: list[int] = [0, 1, 2, 3, 4]
    """Every training of the study runs once with each."""
    relations: Relations = Relations()
