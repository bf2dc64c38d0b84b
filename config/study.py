"""The configuration of the study: the paper's open questions, one section a part. Reads and writes nothing.

Defaults are the full size; config/study_demo.yaml has what two cores finish in half an hour.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from config.section import Section


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


class Study(Section):
    """What `snakemake study` runs. Every part reads the cache of this results folder."""

    seeds: list[int] = [0, 1, 2, 3, 4]
    """Every training of the study runs once with each."""
    length: Length = Length()
