"""The configuration of the study: the paper's open questions, one section a part. Reads and writes nothing.

Defaults are the full size; config/study_demo.yaml has what two cores finish in half an hour.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from config.heads import Experiment
from config.labels import Classifier
from config.section import Section

Correlations = list[Annotated[float, Field(ge=0, le=1)]]
TENTHS = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]


class Simulated(Section):
    """Features made by a latent-factor model, without videos (heads/study/simulated.py)."""

    videos: int = Field(8000, ge=10)
    """Training videos of the curves."""
    gallery: int = Field(1000, ge=10)
    """Test videos, each a candidate for all."""
    factors: int = Field(16, ge=1)
    """Latent factors of a video."""
    noise: float = Field(1.0, ge=0)
    """Standard deviation of what is added to each feature, whose own values lie between -1 and 1."""
    max_epochs: int = Field(15, ge=1)
    """No recipe trains for longer on these; where its own `max_epochs` is smaller, that holds."""
    grid: Correlations = TENTHS
    """Correlations of the curves. 0 is always there."""
    sizes: list[Annotated[int, Field(ge=10)]] = [250, 500, 1000, 2000, 4000, 8000]
    """Training videos of the map."""
    map_grid: Correlations = TENTHS
    """Correlations of the map."""


class Paired(Section):
    """Rendered videos whose sounds are paired with pictures of other videos (heads/study/pairing.py)."""

    grid: Correlations = TENTHS
    """Correlations of the latent factors, all of them. 0 is always there."""
    kinds: list[Literal["dance", "mood", "genre"]] = ["dance", "mood", "genre"]
    """Kinds of link that are looked at besides."""
    kinds_grid: Correlations = TENTHS
    """Their correlations."""


class Correlation(Section):
    """At which correlation of sound and picture does each recipe of `heads.experiments` begin to find it?"""

    simulated: Simulated = Simulated()
    rendered: Paired = Paired()
    null_seeds: int = Field(20, ge=2)
    """Trainings of each recipe at correlation 0, with the seeds 0, 1, …: how often do they claim to beat chance?"""
    few: list[str] = []
    """Recipes for the map and for the kinds of link. Empty: the first and the last of `heads.experiments`."""


class Variant(Section):
    """Segments to look at the videos with once more."""

    seconds: float = Field(ge=3, le=60)
    """Length of a segment. MusicNN needs at least 3."""
    count: int = Field(ge=1, le=1000)
    """Segments a video."""

    @property
    def name(self) -> str:
        """Its folder within study/length/."""
        return f"{self.seconds:g}s_{self.count}"


class Length(Section):
    """How long segments should be, and how many: some of the videos are extracted again with each variant."""

    videos: int = Field(2000, ge=20)
    """Videos that are looked at again, the same with every variant, chosen by their ids alone."""
    variants: list[Variant] = Field(
        [Variant(seconds=3, count=12), Variant(seconds=5, count=12), Variant(seconds=10, count=12)], min_length=2
    )
    """One for each length; smaller numbers of segments are drawn among the extracted ones."""
    counts: list[int] = [1, 3, 6, 12]
    """Numbers of segments to compare all lengths at, up to what a variant has."""
    totals: list[float] = [10.0, 15.0, 30.0, 60.0]
    """Seconds a video to compare all lengths at, by the number of segments that gives them within a tenth."""
    folds: int = Field(4, ge=2)
    """Parts of the videos: each is ranked and predicted by what was fitted on the others."""

    components: int = Field(64, ge=1)
    """Principal components of each side that the linear head sees."""

    @property
    def least(self) -> int:
        """Segments that all variants have."""
        return min(variant.count for variant in self.variants)

    def counts_of(self, variant: Variant) -> list[int]:
        """The numbers of segments that are tried with a variant, ascending."""
        known = (self.count_for(total, variant) for total in self.totals)
        return sorted({n for n in self.counts if n <= variant.count} | {n for n in known if n is not None})

    def count_for(self, total: float, variant: Variant) -> int | None:
        """How many of the variant's segments give so many seconds within a tenth; None if no number does."""
        count = round(total / variant.seconds)
        fits = 1 <= count <= variant.count and abs(count * variant.seconds - total) <= 0.1 * total + 1e-9
        return count if fits else None

    @model_validator(mode="after")
    def _lengths_differ(self) -> Length:
        if len({variant.seconds for variant in self.variants}) < len(self.variants):
            raise ValueError("study.length.variants: two have the same seconds; the larger count has the smaller one")
        return self


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


class Fusion(Classifier):
    """Networks that predict genre and tags from both sides together (heads/study/fusion.py)."""

    hidden: int = Field(256, ge=8)
    """Width of the perceptron on concatenated features; the others have about as many parameters."""
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
    length: Length = Length()
    correlation: Correlation = Correlation()
    aggregation: Aggregation = Aggregation()
    """How segments become a video."""
    fusion: Fusion = Fusion()
    """Both sides together."""
    relations: Relations = Relations()
