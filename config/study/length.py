"""The configuration of the question `length`. Reads and writes nothing."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from config.section import Section, left_out


class Variant(Section):
    """Length and number of segments of one extraction."""

    seconds: float = Field(ge=3, le=60)
    """Length of a segment in seconds. MusicNN needs at least 3."""
    count: int = Field(ge=1, le=1000)
    """Number of segments a video."""
    start: Literal["random", "keyframe"] | None = None
    """Where segments start. Default: as `segments.start` says."""

    @model_serializer(mode="wrap")
    def _without_later_options(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out `start` at its default: rules know variants by this, and results are older than that option."""
        return left_out(handler(self), "start", None)

    @property
    def name(self) -> str:
        """Name of its folder in study/length/."""
        return f"{self.seconds:g}s_{self.count}" + (f"_{self.start}" if self.start else "")


class Length(Section):
    """How long segments should be, and how many: a part of the videos is extracted again with each variant."""

    videos: int = Field(2000, ge=20)
    """Number of videos that are extracted again, the same for every variant, chosen by a hash of their ids."""
    variants: list[Variant] = Field(
        [Variant(seconds=3, count=12), Variant(seconds=5, count=12), Variant(seconds=10, count=12)], min_length=2
    )
    """One for each length: `seconds` and `count`. Smaller numbers of segments are drawn at random from the extracted
    ones. A further one of the same `seconds`, with `start: keyframe` or `start: random`, is compared with the first."""
    counts: list[Annotated[int, Field(ge=1)]] = [1, 3, 6, 12]
    """Numbers of segments at which the lengths are compared, as far as a variant has so many."""
    totals: list[Annotated[float, Field(gt=0)]] = [10.0, 15.0, 30.0, 60.0]
    """Total seconds a video at which the lengths are compared, by the number of segments that comes within 10 %."""
    folds: int = Field(4, ge=2)
    """Folds of cross-validation over the videos."""
    components: int = Field(64, ge=1)
    """Principal components of each modality, the input of the linear head."""

    @property
    def lengths(self) -> list[Variant]:
        """The first variant of each length: those that are compared with each other."""
        first: dict[float, Variant] = {}
        for variant in self.variants:
            first.setdefault(variant.seconds, variant)
        return list(first.values())

    @property
    def least(self) -> int:
        """Number of segments that all variants have."""
        return min(variant.count for variant in self.variants)

    def counts_of(self, variant: Variant) -> list[int]:
        """Return the numbers of segments that are evaluated with a variant, ascending."""
        known = (self.count_for(total, variant) for total in self.totals)
        counted = {count for count in self.counts if count <= variant.count}
        return sorted(counted | {count for count in known if count is not None})

    def count_for(self, total: float, variant: Variant) -> int | None:
        """Return the number of the variant's segments that sums to `total` seconds within 10 %, or None."""
        count = round(total / variant.seconds)
        fits = 1 <= count <= variant.count and abs(count * variant.seconds - total) <= 0.1 * total + 1e-9
        return count if fits else None

    @model_validator(mode="after")
    def _lengths_differ(self) -> Length:
        if len({(variant.seconds, variant.start) for variant in self.variants}) < len(self.variants):
            raise ValueError(
                "study.length.variants: two have the same seconds and start; the larger count has the smaller one"
            )
        for variant in self.variants:
            if not self.counts_of(variant):
                raise ValueError(
                    f"study.length: neither counts nor totals has a number of segments for the variant {variant.name}"
                )
        return self
