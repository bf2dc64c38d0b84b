"""The configuration of the question `relations`. Reads and writes nothing."""

from __future__ import annotations

from pydantic import Field

from config.section import Section

RELATED_BACKBONES = ("sound_descriptors", "picture_descriptors")
"""The backbones of named descriptors, which `relations` needs."""


class Relations(Section):
    """Which relations between audio and video exist (study/relations/measure.py)."""

    false_discoveries: float = Field(0.05, gt=0, lt=1)
    """False discovery rate: expected share of false relations among the significant ones (Benjamini and Hochberg)."""
    permutations: int = Field(99, ge=1)
    """Random draws for the chance of feature spaces: of artists' signs, or of pairings. At least 19."""
    null_seeds: int = Field(20, ge=1)
    """Number of times that video descriptors are shuffled between artists, to count false discoveries."""
    videos: int = Field(5000, ge=20)
    """The most videos, drawn at random, for ridge regression, neighbours and the chance of feature spaces."""
    neighbours: int = Field(10, ge=1)
    """Number of nearest neighbours that are compared between feature spaces."""
