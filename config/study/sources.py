"""The configuration of the question `sources`. Reads and writes nothing."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from config.heads import Experiment
from config.section import Section
from config.study.common import FEWEST_PERMUTATIONS, Correlations, recommended


def _small_recommended() -> Experiment:
    """Return `recommended` for some tens of videos: small batches, no warm-up, and width, temperature and weight decay
    as they were when the protocol was fixed."""
    changes = {"batch": 32, "warmup": 0, "patience": 10, "hidden": [512], "temperature": 0.07, "weight_decay": 0.1}
    return Experiment(**(recommended().model_dump() | changes))


class Sources(Section):
    """A small collection of real videos: does what is found go beyond the look and the sound of its sources?

    The protocol of study/sources/. Its sources are the groups of the videos. The primary pair of backbones is
    `heads.audio` and `heads.video`.
    """

    near_duplicate: float = Field(0.95, gt=0, le=1)
    """Cosine of two videos' standardised features, in either modality, from which the later one is left out."""
    folds: int = Field(5, ge=2)
    """Folds of whole sources; each is ranked by a head that was fitted on the others."""
    repeats: int = Field(10, ge=1)
    """Assignments of sources to folds; a video's rank is the mean over them."""
    components: int = Field(32, ge=1)
    """Principal components of each modality."""
    dimensions: int = Field(8, ge=1)
    """Canonical variates that are compared."""
    shrinkages: list[Annotated[float, Field(gt=0, le=1)]] = Field([0.1, 0.3, 0.6, 0.9], min_length=1)
    """Shrinkages of the covariances; each fit chooses one by folds of whole sources within its training sources."""
    inner_folds: int = Field(3, ge=2)
    """Folds within the training sources for that choice."""
    permutations: int = Field(999, ge=FEWEST_PERMUTATIONS)
    """Random permutations for the primary analysis."""
    secondary_permutations: int = Field(199, ge=FEWEST_PERMUTATIONS)
    """Random permutations for each secondary analysis."""
    others: list[Annotated[list[str], Field(min_length=2, max_length=2)]] = []
    """Secondary pairs of backbones, `[audio, video]` each."""
    tag: str | None = None
    """A tag of the table of videos: a secondary analysis of the videos that have it."""
    recipe: Experiment = Field(default_factory=_small_recommended)
    """Projection heads of a secondary analysis; with each of `study.seeds` they are trained for every fold."""
    power: Correlations = [0.3, 0.5, 0.7]
    """Correlations of simulated videos, paired within their sources, at which the power of the primary test is
    estimated."""
    power_runs: int = Field(50, ge=2)
    """Simulated collections for each correlation, and for none."""
