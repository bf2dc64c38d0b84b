"""Train, validation and test: a pure function of a video's artist, or its id where the artist is unknown. No files."""

from __future__ import annotations

from collections.abc import Sequence

from config.model import Splits
from data.segments import uniform


def split_of(video_id: str, artist: str | None, shares: Splits) -> str:
    """The split of one video: all videos of an artist fall into the same one, and adding videos moves nobody.

    Artists are compared without regard to case and surrounding blanks.
    """
    name = f"artist\0{artist.strip().casefold()}" if artist and artist.strip() else f"video\0{video_id}"
    draw = uniform(f"split\0{name}")
    if draw < shares.train:
        return "train"
    return "validation" if draw < shares.train + shares.validation else "test"


def splits_of(video_ids: Sequence[str], artists: Sequence[str | None], shares: Splits) -> list[str]:
    """The splits of many videos, as `split_of`, each artist drawn once."""
    by_artist = {artist: split_of("", artist, shares) for artist in set(artists) if artist and artist.strip()}
    pairs = zip(video_ids, artists, strict=True)
    return [by_artist.get(artist or "") or split_of(video_id, None, shares) for video_id, artist in pairs]
