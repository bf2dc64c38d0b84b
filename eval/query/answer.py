"""What a query gives: by each direction that was searched the videos that match best, and where they do.

Reads and writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from config.heads import Modality
from pipeline.records import Failure


@dataclass(frozen=True)
class Moment:
    """Where two items match best: seconds at which the segments begin in the query and in the match, their cosine.

    None is the second of a video that was not opened: features that exist already (`kind: precomputed`) need no file.
    """

    query_start: float | None
    start: float | None
    cosine: float


@dataclass(frozen=True)
class Match:
    """A video of the collection that a query found. `own`: it is the query itself. `row` is that of the manifest."""

    rank: int
    row: int
    video_id: str
    title: str | None
    artist: str | None
    path: str
    cosine: float
    own: bool
    moment: Moment


@dataclass(frozen=True)
class Search:
    """One modality of the query against one of the collection.

    `gallery` counts the videos compared. `own_rank`: where the query's own video came, ties sharing their middle rank;
    None for a query that is not of the gallery, and within one modality, where it is left out.
    """

    source: Modality
    target: Modality
    gallery: int
    own_rank: float | None
    matches: list[Match]


@dataclass(frozen=True)
class Answer:
    """What one query gave.

    `query` is what was asked, a file or an id, and `path` its file; `video_id` is set for videos of the collection.
    `failures`: by modality, why it was not searched by it. `starts` of the query's segments in seconds.
    """

    query: str
    path: str
    video_id: str | None
    starts: list[float]
    failures: dict[Modality, list[Failure]] = field(default_factory=dict)
    searches: list[Search] = field(default_factory=list)
